import { appendCopies, restartGroup } from '../contenders/backlog.js';
import { expectAcknowledged } from '../contenders/checks.js';
import type { Row } from '../row.js';
import { growthRow, scaled, streamOf } from './growing.js';
import { consume, GROUP, tail } from './reading.js';

const SIZES = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const MESSAGES = 50_000;
/** Small, because ten million entries of 256 bytes would need more memory than many machines have. */
const PAYLOAD = 'x'.repeat(64);
/** With fewer entries the time to join and to leave would be most of it. */
const WHOLE_SIZES = SIZES.filter((size) => size >= 100_000);

const unit = 'entries';

export const head: Row = growthRow({
  title: 'A group at the head of a growing backlog',
  note: `50,000 messages of 64 bytes at the beginning of a stream, behind which the size more of them are, read with next() and ack(),
rolling commits.`,
  sizes: SIZES,
  unit,
  isScaled: true,
  setUp: (setting, size) =>
    appendCopies(setting, streamOf(setting, 'head', size), size + scaled(MESSAGES, setting), PAYLOAD),
  async open({ setting, redis, streamer, size }) {
    const key = streamOf(setting, 'head', size);
    const messages = scaled(MESSAGES, setting);
    return {
      reset: () => restartGroup(redis, key, GROUP),
      async work() {
        await consume(streamer, key, messages);
        return { messages };
      },
    };
  },
});

export const headTail: Row = growthRow({
  title: 'A real-time consumer at the head of a growing backlog',
  note: `50,000 messages of 64 bytes at the beginning of a stream, behind which the size more of them are, read with for await, batches of
1,000.`,
  sizes: SIZES,
  unit,
  isScaled: true,
  setUp: (setting, size) =>
    appendCopies(setting, streamOf(setting, 'head-tail', size), size + scaled(MESSAGES, setting), PAYLOAD),
  async open({ setting, streamer, size }) {
    const messages = scaled(MESSAGES, setting);
    return {
      async work() {
        await tail(streamer, streamOf(setting, 'head-tail', size), messages);
        return { messages };
      },
    };
  },
});

export const whole: Row = growthRow({
  title: 'A group that reads a whole backlog',
  note: `All entries of a stream, 64 bytes each, read with next() and ack(), rolling commits.`,
  sizes: WHOLE_SIZES,
  unit,
  isScaled: true,
  rounds: 3,
  warmUps: 1,
  setUp: (setting, size) => appendCopies(setting, streamOf(setting, 'whole', size), size, PAYLOAD),
  async open({ setting, redis, streamer, size }) {
    const key = streamOf(setting, 'whole', size);
    return {
      reset: () => restartGroup(redis, key, GROUP),
      async work() {
        await consume(streamer, key, size);
        return { messages: size };
      },
      check: () => expectAcknowledged(redis, key, GROUP),
    };
  },
});

export const wholeTail: Row = growthRow({
  title: 'A real-time consumer that reads a whole backlog',
  note: `All entries of a stream, 64 bytes each, read with for await, batches of 1,000.`,
  sizes: WHOLE_SIZES,
  unit,
  isScaled: true,
  rounds: 3,
  warmUps: 1,
  setUp: (setting, size) => appendCopies(setting, streamOf(setting, 'whole-tail', size), size, PAYLOAD),
  async open({ setting, streamer, size }) {
    return {
      async work() {
        await tail(streamer, streamOf(setting, 'whole-tail', size), size);
        return { messages: size };
      },
    };
  },
});
