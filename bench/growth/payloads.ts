import { appendCopies, restartGroup } from '../contenders/backlog.js';
import { expectAcknowledged, expectAppended } from '../contenders/checks.js';
import type { Row, Setting } from '../row.js';
import { growthRow, scaled, streamOf } from './growing.js';
import { consume, GROUP, tail } from './reading.js';

const SIZES = [64, 256, 1_024, 4_096, 16_384, 65_536];
/** So many bytes in a round, but no more messages than this. */
const BYTES = 128 * 1_024 * 1_024;
const MESSAGES = 50_000;

const series = { sizes: SIZES, unit: 'bytes', isScaled: false, rate: 'byteRate' } as const;
const count = '50,000 messages, or as many as have 128 MiB of payload';

function messagesOf(setting: Setting, size: number): number {
  return scaled(Math.min(MESSAGES, BYTES / size), setting);
}

export const produced: Row = growthRow({
  ...series,
  title: 'A producer of growing payloads',
  note: `${count}, appended with enqueue() and one flush().`,
  async open({ setting, redis, streamer, size }) {
    const key = streamOf(setting, 'payloads-produced', size);
    const messages = messagesOf(setting, size);
    const payload = 'x'.repeat(size);
    const producer = await streamer.createProducer(key, { maxQueuedBytes: 4 * BYTES });
    return {
      reset: async () => void (await redis.del(key)),
      async work() {
        for (let sent = 0; sent < messages; sent += 1) producer.enqueue(payload);
        await producer.flush();
        return { messages, bytes: messages * size };
      },
      check: () => expectAppended(redis, [key], messages),
    };
  },
});

export const consumed: Row = growthRow({
  ...series,
  title: 'A group that reads growing payloads',
  note: `${count}, read with next() and ack(), rolling commits.`,
  setUp: (setting, size) => fill(setting, 'payloads-consumed', size),
  async open({ setting, redis, streamer, size }) {
    const key = streamOf(setting, 'payloads-consumed', size);
    const messages = messagesOf(setting, size);
    return {
      reset: () => restartGroup(redis, key, GROUP),
      async work() {
        await consume(streamer, key, messages);
        return { messages, bytes: messages * size };
      },
      check: () => expectAcknowledged(redis, key, GROUP),
    };
  },
});

export const tailed: Row = growthRow({
  ...series,
  title: 'A real-time consumer of growing payloads',
  note: `${count}, read with for await, batches of 1,000.`,
  setUp: (setting, size) => fill(setting, 'payloads-tailed', size),
  async open({ setting, streamer, size }) {
    const messages = messagesOf(setting, size);
    return {
      async work() {
        await tail(streamer, streamOf(setting, 'payloads-tailed', size), messages);
        return { messages, bytes: messages * size };
      },
    };
  },
});

function fill(setting: Setting, name: string, size: number): Promise<void> {
  return appendCopies(setting, streamOf(setting, name, size), messagesOf(setting, size), 'x'.repeat(size));
}
