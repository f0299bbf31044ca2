import type { ConsumerOptions, RedisStreamsConnection, StreamConsumer, StreamMessage } from '../lib/index.js';
import { RedisStreamer } from '../lib/index.js';

/** The consumer process of `shards.ts`. */
export interface ShardsSetting {
  readonly connection: RedisStreamsConnection;
  readonly keys: readonly string[];
  readonly mode: string;
  readonly batchSize: number | undefined;
}

export interface ShardsReport {
  readonly count: number;
  /** Microseconds of this process. */
  readonly cpu: number;
  /** Milliseconds from `enqueue` to the message, for streams that are busy and for the others. */
  readonly busy: Quantiles;
  readonly quiet: Quantiles;
}

interface Quantiles {
  readonly p50: number;
  readonly p99: number;
}

const { connection, keys, mode, batchSize } = JSON.parse(process.argv[2] as string) as ShardsSetting;
const logger = { error: console.error, warn: console.error, log: (): void => undefined };
const streamer = await RedisStreamer.connect(connection, { logger });
const size = batchSize === undefined ? {} : { batchSize };
const options: ConsumerOptions =
  mode === 'real-time'
    ? { mode, ...size }
    : {
        mode: 'load-balanced',
        group: 'bench',
        autoCommit: 'rolling',
        mkStream: true,
        shardDiscoveryInterval: false,
        ...size,
      };
const consumer = (await streamer.createConsumer(keys, options as never)) as unknown as StreamConsumer & {
  ack?(message: StreamMessage): void;
};
let count = 0;
let cpu = process.cpuUsage();
let busy: number[] = [];
let quiet: number[] = [];
process.on('message', (question) => {
  if (question === 'reset') {
    count = 0;
    busy = [];
    quiet = [];
    cpu = process.cpuUsage();
  }
  if (question === 'end') return void streamer.disconnect().then(() => process.disconnect());
  const used = process.cpuUsage(cpu);
  const report: ShardsReport = {
    count,
    cpu: used.user + used.system,
    busy: quantilesOf(busy),
    quiet: quantilesOf(quiet),
  };
  process.send?.(report);
});
process.send?.('ready');
for await (const message of consumer) {
  const text = message.payload.toString('latin1');
  const latency = performance.timeOrigin + performance.now() - Number(text.slice(2, text.indexOf(' ', 2)));
  (text[0] === 'q' ? quiet : busy).push(latency);
  count += 1;
  if (mode !== 'real-time') consumer.ack?.(message);
}

function quantilesOf(latencies: readonly number[]): Quantiles {
  const sorted = latencies.toSorted((one, other) => one - other);
  const at = (part: number): number => sorted[Math.floor(sorted.length * part)] ?? 0;
  return { p50: at(0.5), p99: at(0.99) };
}
