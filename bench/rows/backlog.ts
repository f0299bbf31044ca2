import { appendCopies } from '../contenders/backlog.js';
import { connectionOf, keyOf } from '../contenders/setting.js';
import { RedisStreamer } from '../library.js';
import type { Entrant, Row, Setting } from '../row.js';

const SIZES = [10_000, 100_000, 1_000_000, 10_000_000];
const MESSAGES = 50_000;
const BATCH = 1_000;
const GROUP = 'readers';
/** Small, because ten million entries of 256 bytes would need more memory than many machines have. */
const PAYLOAD = 'x'.repeat(16);

const [SMALLEST = 0, ...LARGER] = SIZES;

function streamOf(setting: Setting, size: number): string {
  return keyOf(setting, `backlog:${size}`);
}

function nameOf(size: number): string {
  return `${size.toLocaleString('en')} entries`;
}

/**
 * Appends at the end of a backlog, and reads and acknowledges as many messages at its beginning, so that its length
 * stays the same.
 */
function working(size: number): Entrant {
  return {
    name: nameOf(size),
    async open(setting) {
      const streamer = await RedisStreamer.connect(connectionOf(setting));
      const key = streamOf(setting, size);
      const producer = await streamer.createProducer(key);
      const consumer = await streamer.createConsumer(key, {
        mode: 'load-balanced',
        group: GROUP,
        autoStreamReset: 'earliest',
        autoCommit: 'disabled',
        batchSize: BATCH,
      });
      const messages = MESSAGES * setting.scale;
      return {
        async work() {
          for (let sent = 0; sent < messages; sent += 1) producer.enqueue(PAYLOAD);
          await producer.flush();
          for (let seen = 0; seen < messages; seen += 1) consumer.ack(await consumer.next());
          await consumer.commit();
          return { messages };
        },
        close: () => streamer.disconnect(),
      };
    },
  };
}

async function fill(setting: Setting): Promise<void> {
  for (const size of SIZES) await appendCopies(setting, streamOf(setting, size), size * setting.scale, PAYLOAD);
}

export const row: Row = {
  title: 'Cost of a message beside a growing backlog',
  note: `Streams with 10 thousand to 10 million entries that no group has read. 50,000 messages are appended with enqueue(), then as
many are read with next(), ack() and one commit() at the end, batches of 1,000. Payloads of 16 bytes, to need less memory.`,
  metrics: ['cost'],
  baseline: nameOf(SMALLEST),
  setUp: fill,
  entrants: SIZES.map(working),
  targets: LARGER.map((size) => ({ entrant: nameOf(size), metric: 'cost', atMost: 1.2 })),
};
