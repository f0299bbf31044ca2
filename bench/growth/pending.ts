import { setTimeout as pause } from 'node:timers/promises';

import type { Cluster, Redis } from 'ioredis';

import { appendCopies } from '../contenders/backlog.js';
import type { Row, Setting } from '../row.js';
import { growthRow, scaled, streamOf } from './growing.js';
import { consume, GROUP } from './reading.js';

const SIZES = [1_000, 10_000, 100_000, 1_000_000];
const MESSAGES = 50_000;
const PAYLOAD = 'x'.repeat(64);
const OTHER = 'other';
/** Idle times in milliseconds: one that no entry reaches, and one that the entries reach, but not those that the consumer holds. */
const NEVER = 24 * 3_600_000;
const SOON = 2_000;
/** One script reads so many for the other consumer; the server answers nothing else until it ends. */
const READ_AT_ONCE = 20_000;
const READ = `
  local left = tonumber(ARGV[1])
  while left > 0 do
    redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', math.min(left, 1000), 'STREAMS', KEYS[1], '>')
    left = left - 1000
  end`;

const series = { sizes: SIZES, unit: 'pending', isScaled: true } as const;

/** The group begins again, and the other consumer has that many entries. */
async function leavePending(redis: Redis | Cluster, key: string, entries: number): Promise<void> {
  await redis.xgroup('DESTROY', key, GROUP);
  await redis.xgroup('CREATE', key, GROUP, '0');
  for (let left = entries; left > 0; left -= READ_AT_ONCE) {
    await redis.eval(READ, 1, key, Math.min(left, READ_AT_ONCE), GROUP, OTHER);
  }
}

async function expectPending(redis: Redis | Cluster, key: string, entries: number): Promise<void> {
  const [pending] = (await redis.xpending(key, GROUP)) as [number];
  if (pending !== entries) throw new Error(`${pending} entries are pending in place of ${entries}`);
}

/** @param isRead whether there are only entries that the other consumer reads, no new ones after them */
const fill =
  (name: string, isRead: boolean) =>
  (setting: Setting, size: number): Promise<void> =>
    appendCopies(setting, streamOf(setting, name, size), size + (isRead ? 0 : scaled(MESSAGES, setting)), PAYLOAD);

export const besidePending: Row = growthRow({
  ...series,
  title: 'New messages beside a growing pending list',
  note: `50,000 new messages of 64 bytes, read with next() and ack(), rolling commits, in a group in which another consumer has the size of
entries pending, none of which is idle. The first look for idle ones is part of it.`,
  setUp: fill('beside-pending', false),
  async open({ setting, redis, streamer, size }) {
    const key = streamOf(setting, 'beside-pending', size);
    const messages = scaled(MESSAGES, setting);
    return {
      reset: () => leavePending(redis, key, size),
      async work() {
        await consume(streamer, key, messages, { autoClaimIdle: NEVER });
        return { messages };
      },
      check: () => expectPending(redis, key, size),
    };
  },
});

export const takeOver: Row = growthRow({
  ...series,
  title: 'Taking over a growing pending list',
  note: `All entries of another consumer, 64 bytes each, that have been idle for longer than autoClaimIdle, read with next() and ack(),
rolling commits.`,
  rounds: 3,
  warmUps: 1,
  setUp: fill('take-over', true),
  async open({ setting, redis, streamer, size }) {
    const key = streamOf(setting, 'take-over', size);
    return {
      async reset() {
        await leavePending(redis, key, size);
        await pause(1.1 * SOON);
      },
      async work() {
        await consume(streamer, key, size, { autoClaimIdle: SOON });
        return { messages: size };
      },
      check: () => expectPending(redis, key, 0),
    };
  },
});
