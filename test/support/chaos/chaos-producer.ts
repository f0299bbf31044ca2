import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

import type { Delivery } from '../../../lib/engine/options/options.js';
import type { StreamProducer } from '../../../lib/engine/producing/stream-producer.js';
import { RedisStreamer } from '../../../lib/engine/streamer.js';
import { ReplicasMissingError, RedisStreamsError } from '../../../lib/errors.js';
import type { RedisStreamsConnection } from '../../../lib/redis/connection/connection-target.js';

export interface ChaosProducerInput {
  readonly connection: RedisStreamsConnection;
  readonly name: string;
  readonly streams: readonly string[];
  readonly delivery: Delivery;
  /** Keys, each with a stream and an order of its own: the next message of a key is sent when the one before has its outcome. */
  readonly keys: number;
  /** Milliseconds between the outcome of a message and the next one of its key. */
  readonly interval: number;
}

export type ChaosProducerLine =
  | { readonly sent: string; readonly stream: string }
  | { readonly confirmed: string; readonly id: string }
  /** The code of its error; `id` where it is stored, but not on the replica. */
  | { readonly failed: string; readonly code: string; readonly id?: string }
  | { readonly ended: true };

// A producer of the chaos test. It reports each message before it sends it, and each outcome; a line on its input ends it.
const input = JSON.parse(process.argv[2] as string) as ChaosProducerInput;
const silent = { error: () => undefined, warn: () => undefined, log: () => undefined };
/** Only the failover to a replica that has the message keeps it: there is one replica for each master. */
const WAIT_REPLICAS = { count: 1, timeout: 1_000 };
let isStopping = false;

function report(line: ChaosProducerLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function sendAll(producer: StreamProducer, key: number): Promise<void> {
  const stream = input.streams[key % input.streams.length] as string;
  for (let n = 0; !isStopping; n += 1) {
    const payload = `${input.name}/${key}/${n}`;
    report({ sent: payload, stream });
    try {
      const { id } = await producer.sendTo(stream, payload);
      report({ confirmed: payload, id });
    } catch (error) {
      const code = error instanceof RedisStreamsError ? error.code : String(error);
      report({ failed: payload, code, ...(error instanceof ReplicasMissingError && { id: error.receipt.id }) });
    }
    await pause(input.interval);
  }
}

async function run(): Promise<void> {
  createInterface({ input: process.stdin })
    .on('line', () => (isStopping = true))
    .on('close', () => process.exit());
  const streamer = await RedisStreamer.connect(input.connection, { timeout: 30_000, logger: silent });
  const { delivery } = input;
  const producer = await streamer.createGenericProducer({ delivery, waitReplicas: WAIT_REPLICAS, maxBatch: 20 });
  await Promise.all(Array.from({ length: input.keys }, (_, key) => sendAll(producer, key)));
  report({ ended: true });
}

void run();
