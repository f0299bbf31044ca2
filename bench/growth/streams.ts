import type { AcknowledgingConsumer, BasicConsumer } from '../../lib/index.js';
import { expectAcknowledged, expectAppended } from '../contenders/checks.js';
import { restartGroup } from '../contenders/backlog.js';
import { openClient } from '../contenders/setting.js';
import type { Row, Setting } from '../row.js';
import { growthRow, streamOf } from './growing.js';
import { drain, GROUP, handle, join, openTail } from './reading.js';

const SIZES = [1, 10, 100, 1_000];
/** The most streams of a size. */
export const MOST_STREAMS = Math.max(...SIZES);
const MESSAGES = 200_000;
/** Less than a producer may hold. */
const QUEUED = 50_000;
const PAYLOAD = 'x'.repeat(256);
const FILL = `for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'msg', ARGV[2]) end`;

const unit = 'streams';

/** In a cluster with a hash tag each, so that every master has as many. */
function keysOf(setting: Setting, name: string, count: number): string[] {
  const tags = setting.hashTags?.map((tag) => `{${tag}}`);
  return Array.from({ length: count }, (_, index) => `${streamOf(setting, name, count)}-${tags?.[index] ?? index}`);
}

/** Whole messages for each stream. */
function messagesOf(setting: Setting, count: number, all = MESSAGES): number {
  return Math.max(1, Math.round((all * setting.scale) / count)) * count;
}

async function fill(setting: Setting, name: string, count: number): Promise<void> {
  const redis = openClient(setting);
  const each = messagesOf(setting, count) / count;
  for (const key of keysOf(setting, name, count)) await redis.eval(FILL, 1, key, each, PAYLOAD);
  await redis.quit();
}

export const produced: Row = growthRow({
  title: 'One producer of a growing number of streams',
  note: `50,000 messages of 256 bytes, appended to all streams in turn with enqueueTo() and one flush().`,
  sizes: SIZES,
  unit,
  isScaled: false,
  async open({ setting, redis, streamer, size }) {
    const keys = keysOf(setting, 'produced', size);
    const messages = messagesOf(setting, size, QUEUED);
    const producer = await streamer.createGenericProducer();
    return {
      reset: async () => void (await Promise.all(keys.map((key) => redis.del(key)))),
      async work() {
        for (let sent = 0; sent < messages; sent += 1) producer.enqueueTo(keys[sent % size] as string, PAYLOAD);
        await producer.flush();
        return { messages };
      },
      check: () => expectAppended(redis, keys, messages),
    };
  },
});

export const consumed: Row = growthRow({
  title: 'One consumer of a growing number of streams',
  note: `200,000 messages of 256 bytes, as many in each stream, read by one consumer of all streams with next() and ack(), rolling
commits. Leaving all groups is part of the time, joining them is not.`,
  sizes: SIZES,
  unit,
  isScaled: false,
  setUp: (setting, size) => fill(setting, 'consumed', size),
  async open({ setting, redis, streamer, size }) {
    const keys = keysOf(setting, 'consumed', size);
    const messages = messagesOf(setting, size);
    let consumer: AcknowledgingConsumer;
    return {
      async reset() {
        for (const key of keys) await restartGroup(redis, key, GROUP);
        consumer = await join(streamer, keys);
      },
      async work() {
        await handle(consumer, messages);
        return { messages };
      },
      async check() {
        for (const key of keys) await expectAcknowledged(redis, key, GROUP);
      },
    };
  },
});

export const tailed: Row = growthRow({
  title: 'One real-time consumer of a growing number of streams',
  note: `200,000 messages of 256 bytes, as many in each stream, read by one consumer of all streams with for await, batches of 1,000.
Its creation is not part of the time.`,
  sizes: SIZES,
  unit,
  isScaled: false,
  setUp: (setting, size) => fill(setting, 'tailed', size),
  async open({ setting, streamer, size }) {
    const keys = keysOf(setting, 'tailed', size);
    const messages = messagesOf(setting, size);
    let consumer: BasicConsumer;
    return {
      async reset() {
        consumer = await openTail(streamer, keys);
      },
      async work() {
        await drain(consumer, messages);
        return { messages };
      },
    };
  },
});
