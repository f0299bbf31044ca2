import type { LoadBalancedOptions } from '../../../lib/engine/options/options.js';
import { RedisStreamer } from '../../../lib/engine/streamer.js';
import type { RedisStreamsConnection } from '../../../lib/redis/connection/connection-target.js';

export interface ChaosConsumerInput {
  readonly connection: RedisStreamsConnection;
  readonly name: string;
  readonly group: string;
  readonly streams: readonly string[];
  readonly mode: 'load-balanced' | 'resumable';
}

/** One handling, reported before its acknowledgement. */
export interface ChaosHandling {
  readonly stream: string;
  readonly id: string;
  readonly payload: string;
  /** By the clock of the machine. */
  readonly at: number;
}

// A consumer of the chaos test, which reports each handling before it acknowledges the message, until it is killed.
const input = JSON.parse(process.argv[2] as string) as ChaosConsumerInput;
const silent = { error: () => undefined, warn: () => undefined, log: () => undefined };

async function run(): Promise<void> {
  process.stdin.on('close', () => process.exit()).resume();
  const streamer = await RedisStreamer.connect(input.connection, { blockTimeout: 500, logger: silent });
  const consumer = await streamer.createConsumer(input.streams, {
    mode: input.mode as 'load-balanced',
    group: input.group,
    consumer: input.name,
    autoStreamReset: 'earliest',
    mkStream: true,
    autoCommit: 'rolling',
    autoCommitInterval: 50,
    ...(input.mode === 'load-balanced' && { autoClaimIdle: 5_000, autoClaimInterval: 250 }),
  } as LoadBalancedOptions & { autoCommit: 'rolling' });
  for await (const message of consumer) {
    const { streamKey: stream, id } = message;
    const handling: ChaosHandling = { stream, id, payload: message.text(), at: Date.now() };
    process.stdout.write(`${JSON.stringify(handling)}\n`);
    consumer.ack(message);
  }
}

void run();
