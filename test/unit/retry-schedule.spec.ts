import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { RetrySchedule } from '../../lib/engine/consuming/recovery/retry-schedule.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import type { PendingEntry } from '../../lib/redis/commands/stream-commands.js';

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

/** A pending list from which the entries named by `deleted` and `taken` are gone. */
function setUp({ deleted = [], taken = [] }: { deleted?: string[]; taken?: string[] } = {}) {
  const claims: PendingEntry[][] = [];
  const acked: string[] = [];
  const takenAway: string[] = [];
  const silent = { error: () => undefined, warn: () => undefined, log: () => undefined };
  const pending = {
    async claimOwn(_key: string, _group: string, _consumer: string, entries: readonly PendingEntry[]) {
      claims.push([...entries]);
      const there = entries.filter(({ id }) => !deleted.includes(id) && !taken.includes(id));
      return {
        entries: there.map(({ id, deliveryCount }) => ({ id, fields: [], deliveryCount: deliveryCount + 1 })),
        deleted: entries.map(({ id }) => id).filter((id) => deleted.includes(id)),
      };
    },
    async ack(_key: string, _group: string, ids: readonly string[]) {
      acked.push(...ids);
      return ids.length;
    },
  };
  const schedule = new RetrySchedule(pending, 'g', 'me', silent, ({ id }) => takenAway.push(id));
  return { schedule, claims, acked, takenAway };
}

const stream = (key = 's'): Partition => new Partition(key, 0, key);
const message = (of: Partition, id: string, deliveryCount = 1): StreamMessage =>
  new StreamMessage(of, { id, fields: [], deliveryCount }, 'msg');

describe('retry schedule', () => {
  it('is due when its first entry is, and tells whether an entry became the first', () => {
    const { schedule } = setUp();
    const s = stream();
    expect(schedule.dueIn()).toBe(Infinity);
    expect(schedule.add(s, message(s, '1-0'), 500)).toBe(true);
    expect(schedule.add(s, message(s, '2-0'), 900)).toBe(false);
    expect(schedule.add(s, message(s, '3-0'), 100)).toBe(true);
    expect(schedule.dueIn()).toBe(100);
    jest.advanceTimersByTime(400);
    expect(schedule.dueIn()).toBe(0);
    expect(s.held.get('1-0')).toBe('waiting');
  });

  it('hands out what is due, earliest first, and leaves the rest', async () => {
    const { schedule } = setUp();
    const s = stream();
    schedule.add(s, message(s, '1-0', 3), 300);
    schedule.add(s, message(s, '2-0'), 100);
    schedule.add(s, message(s, '3-0'), 1_000);
    jest.advanceTimersByTime(300);

    const [page, ...others] = await schedule.run([s], 10);
    expect(others).toEqual([]);
    expect(page?.entries.map(({ id, deliveryCount }) => [id, deliveryCount])).toEqual([
      ['2-0', 2],
      ['1-0', 4],
    ]);
    expect([...s.held]).toEqual([['3-0', 'waiting']]);
    expect(schedule.dueIn()).toBe(700);
  });

  it('fills half of the room, and leaves the rest to what is new', async () => {
    const { schedule } = setUp();
    const s = stream();
    for (const id of ['1-0', '2-0', '3-0']) schedule.add(s, message(s, id), 0);

    expect((await schedule.run([s], 4))[0]?.entries).toHaveLength(2);
    expect(schedule.dueIn()).toBe(0);
    expect((await schedule.run([s], 4))[0]?.entries).toHaveLength(1);
    expect(schedule.dueIn()).toBe(Infinity);
  });

  it('takes the only place every other time', async () => {
    const { schedule } = setUp();
    const s = stream();
    for (const id of ['1-0', '2-0']) schedule.add(s, message(s, id), 0);

    const taken: string[][] = [];
    for (let round = 0; round < 4; round += 1) {
      taken.push((await schedule.run([s], 1)).flatMap(({ entries }) => entries.map(({ id }) => id)));
    }
    expect(taken).toEqual([['1-0'], [], ['2-0'], []]);
  });

  it('tells of entries that are no longer ours, and acknowledges those that were deleted', async () => {
    const { schedule, acked, takenAway } = setUp({ deleted: ['1-0'], taken: ['2-0'] });
    const s = stream();
    for (const id of ['1-0', '2-0', '3-0']) schedule.add(s, message(s, id), 0);

    const [page] = await schedule.run([s], 10);
    expect(page?.entries.map(({ id }) => id)).toEqual(['3-0']);
    expect(acked).toEqual(['1-0']);
    expect(takenAway).toEqual(['1-0', '2-0']);
    expect(s.held.size).toBe(0);
  });

  it('a stream that is not read any more does not hold up the others', async () => {
    const { schedule } = setUp();
    const [broken, good] = [stream('broken'), stream('good')];
    schedule.add(broken, message(broken, '1-0'), 0);
    schedule.add(good, message(good, '1-0'), 0);
    broken.failure = new Error('wrong type') as never;

    const pages = await schedule.run([good], 10);
    expect(pages.map((page) => page.stream.key)).toEqual(['good']);
    expect(schedule.dueIn()).toBe(Infinity);
  });

  it('keeps its entries when claiming them fails', async () => {
    const { schedule } = setUp();
    const failing = new RetrySchedule(
      { claimOwn: () => Promise.reject(new Error('lost')), ack: () => Promise.resolve(0) },
      'g',
      'me',
      { error: () => undefined, warn: () => undefined, log: () => undefined },
      () => undefined,
    );
    const s = stream();
    failing.add(s, message(s, '1-0'), 0);
    await expect(failing.run([s], 10)).rejects.toThrow('lost');
    expect(failing.dueIn()).toBe(0);
    expect(s.held.get('1-0')).toBe('waiting');
    expect(schedule.dueIn()).toBe(Infinity);
  });
});
