import type { ConsumerOptions, StreamConsumer, StreamMessage } from '../../lib/index.js';
import { RedisStreamer } from '../../lib/index.js';
import type { Answer, ConsumerReport, ConsumerSetting, Question } from './consumer-setting.js';
import { now, STREAM } from './consumer-setting.js';

type Consumer = StreamConsumer & { ack?(message: StreamMessage): void };

// The program of a consumer process, see consumer-process.ts.
const setting = JSON.parse(process.argv[2] as string) as ConsumerSetting;
const logger = { error: console.error, warn: console.error, log: (): void => undefined };
const streamer = await RedisStreamer.connect(setting.connection, { logger });
let consumer: Consumer | undefined;
/** While messages are held. */
let held: Promise<void> | undefined;
let resume = (): void => undefined;
let count = 0;
let lastAt = 0;
let cpu = process.cpuUsage();
let busy: number[] = [];
let quiet: number[] = [];

process.on('message', (question) => void answer(question as Question));
process.once('disconnect', () => process.exit());
report();

async function answer(question: Question): Promise<void> {
  if (question === 'end') {
    await consumer?.end();
    await streamer.disconnect();
    process.disconnect();
    return;
  }
  if (question === 'open') {
    consumer = await open(setting);
    void run(consumer);
  }
  if (question === 'hold') held ??= new Promise((resolve) => (resume = resolve));
  if (question === 'start') {
    resume();
    held = undefined;
  }
  if (question === 'reset') reset();
  report();
}

async function open({ shards, mode, shardOwnership, batchSize }: ConsumerSetting): Promise<Consumer> {
  const common = { shards, ...(batchSize !== undefined && { batchSize }) };
  const group = {
    group: 'bench',
    autoStreamReset: 'earliest',
    autoCommit: 'rolling',
    mkStream: true,
    ...(shardOwnership && { shardOwnership }),
  };
  const options = { ...common, mode, ...(mode !== 'real-time' && group) } as ConsumerOptions;
  const opened = (await streamer.createConsumer(STREAM, options as never)) as unknown as Consumer;
  for (const change of ['assigned', 'revoked'] as const) {
    opened.on(change, ({ shardId }: { shardId: number }) => tell({ move: { change, shard: shardId, at: now() } }));
  }
  return opened;
}

async function run(source: Consumer): Promise<void> {
  for await (const message of source) {
    if (held) await held;
    const text = message.payload.toString('latin1');
    lastAt = now();
    const waited = lastAt - Number(text.slice(2, text.indexOf(' ', 2)));
    if (text[0] === 'q') quiet.push(waited);
    if (text[0] === 'b') busy.push(waited);
    count += 1;
    source.ack?.(message);
  }
}

function reset(): void {
  count = 0;
  busy = [];
  quiet = [];
  cpu = process.cpuUsage();
}

function report(): void {
  const { user, system } = process.cpuUsage(cpu);
  tell({ report: { count, lastAt, cpu: user + system, busy: quantilesOf(busy), quiet: quantilesOf(quiet) } });
}

function tell(message: Answer): void {
  process.send?.(message);
}

function quantilesOf(latencies: readonly number[]): ConsumerReport['busy'] {
  const sorted = latencies.toSorted((one, other) => one - other);
  const at = (part: number): number => sorted[Math.floor(sorted.length * part)] ?? 0;
  return { p50: at(0.5), p99: at(0.99) };
}
