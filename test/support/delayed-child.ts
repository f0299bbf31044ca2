import { RedisStreamer } from '../../lib/engine/streamer.js';
import type { RedisStreamsConnection } from '../../lib/redis/connection/connection-target.js';

export interface DelayedInput {
  connection: RedisStreamsConnection;
  stream: string;
  /** The numbers to schedule, each with its delay; without them the process only moves what is due. */
  messages?: ReadonlyArray<readonly [number: number, delay: number]>;
}

/** Numbers that Redis has, and when each is due. */
export type DelayedLine = ReadonlyArray<readonly [number: number, due: number]>;

const CHUNK = 100;

// The program of a producer of delayed messages, or of a consumer that moves them, which is killed at any time.
const { connection, stream, messages } = JSON.parse(process.argv[2] as string) as DelayedInput;

async function run(): Promise<void> {
  process.stdin.on('close', () => process.exit()).resume();
  const streamer = await RedisStreamer.connect(connection, { blockTimeout: 500 });
  if (!messages) {
    await streamer.createConsumer(stream, { mode: 'load-balanced', group: 'movers', mkStream: true, prefetch: 1 });
    return;
  }
  const producer = await streamer.createProducer(stream);
  for (let at = 0; at < messages.length; at += CHUNK) {
    const sends = messages.slice(at, at + CHUNK).map(async ([number, delay]) => {
      const deduplication = { id: String(number), within: 3_600_000 };
      const { deliverAt } = await producer.send(String(number), { delay, deduplication });
      return [number, Number(deliverAt)] as const;
    });
    const line: DelayedLine = await Promise.all(sends);
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }
}

void run();
