import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { Claims } from '../../lib/engine/consuming/recovery/claims.js';
import type { ClaimsOptions } from '../../lib/engine/consuming/recovery/claims.js';
import { RetrySchedule } from '../../lib/engine/consuming/recovery/retry-schedule.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import type { PendingEntry } from '../../lib/redis/commands/stream-commands.js';

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

const MARGIN = 1_000;

function scheduleOn(
  pending: Omit<ClaimsOptions['pending'], 'claimIdle' | 'takeIdle' | 'setIdle'>,
  takenAway: string[] = [],
): RetrySchedule {
  const claimIdle = (): never => {
    throw new Error('a retry claims its own entries only');
  };
  const logger = { warn: () => undefined };
  const claims = new Claims({
    pending: { ...pending, claimIdle, takeIdle: claimIdle, setIdle: claimIdle },
    countsStarts: false,
    group: 'g',
    consumer: 'me',
    noAck: false,
    logger,
  });
  return new RetrySchedule(claims, 'me', MARGIN, { onTakenAway: ({ id }) => takenAway.push(id) });
}

/**
 * A schedule on a pending entries list from which the entries named by `deleted` and `taken` are gone; `unlisted` are pending
 * for no consumer, and `gone` are not even in the stream.
 */
function setUp({
  deleted = [],
  taken = [],
  unlisted = [],
  gone = [],
}: { deleted?: string[]; taken?: string[]; unlisted?: string[]; gone?: string[] } = {}) {
  const restored: Array<Pick<PendingEntry, 'id' | 'deliveryCount'>> = [];
  const claims: PendingEntry[][] = [];
  const acked: string[] = [];
  const takenAway: string[] = [];
  const schedule = scheduleOn(
    {
      async claimOwn(_key: string, _group: string, _consumer: string, entries: readonly PendingEntry[]) {
        claims.push([...entries]);
        const isRestored = (id: string): boolean => restored.some((entry) => entry.id === id);
        const missing = [...deleted, ...taken, ...gone, ...unlisted.filter((id) => !isRestored(id))];
        const there = entries.filter(({ id }) => !missing.includes(id));
        return {
          entries: there.map(({ id, deliveryCount }) => ({ id, fields: [], deliveryCount: deliveryCount + 1 })),
          deleted: entries.map(({ id }) => id).filter((id) => deleted.includes(id)),
        };
      },
      async restore(_key, _group, _consumer, entries) {
        const free = entries.filter(({ id }) => unlisted.includes(id));
        restored.push(...free);
        const ids = entries.map(({ id }) => id);
        return { restored: free.map(({ id }) => id), gone: gone.filter((id) => ids.includes(id)) };
      },
      async ack(_key: string, _group: string, ids: readonly string[]) {
        acked.push(...ids);
        return ids.length;
      },
    },
    takenAway,
  );
  return { schedule, claims, acked, takenAway, restored };
}

const partition = (key = 's'): Partition => new Partition(key, 0, key);
const message = (of: Partition, id: string, deliveryCount = 1): StreamMessage =>
  StreamMessage.create(of, { id, fields: [], deliveryCount }, DEFAULTS.streamer);

describe('retry schedule', () => {
  it('is due when its earliest entry is, and add() returns whether the new entry is the earliest', () => {
    const { schedule } = setUp();
    const p = partition();
    expect(schedule.dueIn()).toBe(Infinity);
    expect(schedule.add(p, message(p, '1-0'), 500)).toBe(true);
    expect(schedule.add(p, message(p, '2-0'), 900)).toBe(false);
    expect(schedule.add(p, message(p, '3-0'), 100)).toBe(true);
    expect(schedule.dueIn()).toBe(100);
    jest.advanceTimersByTime(400);
    expect(schedule.dueIn()).toBe(0);
    expect(p.owned.get('1-0')).toBe('waiting');
  });

  it('returns the entries that are due, earliest first, and keeps the others', async () => {
    const { schedule } = setUp();
    const p = partition();
    schedule.add(p, message(p, '1-0', 3), 300);
    schedule.add(p, message(p, '2-0'), 100);
    schedule.add(p, message(p, '3-0'), 1_000);
    jest.advanceTimersByTime(300);

    const [page, ...others] = await schedule.run([p], 10);
    expect(others).toEqual([]);
    expect(page?.entries.map(({ id, deliveryCount }) => [id, deliveryCount])).toEqual([
      ['2-0', 2],
      ['1-0', 4],
    ]);
    expect([...p.owned]).toEqual([['3-0', 'waiting']]);
    expect(schedule.dueIn()).toBe(700);
  });

  it('fills half of the places, and leaves the others to new entries', async () => {
    const { schedule } = setUp();
    const p = partition();
    for (const id of ['1-0', '2-0', '3-0']) schedule.add(p, message(p, id), 0);

    expect((await schedule.run([p], 4))[0]?.entries).toHaveLength(2);
    expect(schedule.dueIn()).toBe(0);
    expect((await schedule.run([p], 4))[0]?.entries).toHaveLength(1);
    expect(schedule.dueIn()).toBe(Infinity);
  });

  it('takes a single place every second time', async () => {
    const { schedule } = setUp();
    const p = partition();
    for (const id of ['1-0', '2-0']) schedule.add(p, message(p, id), 0);

    const taken: string[][] = [];
    for (let round = 0; round < 4; round += 1) {
      taken.push((await schedule.run([p], 1)).flatMap(({ entries }) => entries.map(({ id }) => id)));
    }
    expect(taken).toEqual([['1-0'], [], ['2-0'], []]);
  });

  it('reports entries that were deleted or claimed by another consumer, and acknowledges the deleted ones', async () => {
    const { schedule, acked, takenAway } = setUp({ deleted: ['1-0'], taken: ['2-0'] });
    const p = partition();
    for (const id of ['1-0', '2-0', '3-0']) {
      p.failedFirst.set(id, 1);
      schedule.add(p, message(p, id), 0);
    }

    const [page] = await schedule.run([p], 10);
    expect(page?.entries.map(({ id }) => id)).toEqual(['3-0']);
    expect(acked).toEqual(['1-0']);
    expect(takenAway).toEqual(['1-0', '2-0']);
    expect(p.owned.size).toBe(0);
    expect([...p.failedFirst.keys()]).toEqual(['3-0']);
  });

  it('a partition that failed does not delay the others, and its entries are reported as taken away', async () => {
    const { schedule, takenAway } = setUp();
    const [broken, good] = [partition('broken'), partition('good')];
    schedule.add(broken, message(broken, '1-0'), 0);
    schedule.add(good, message(good, '1-0'), 0);
    broken.failure = new Error('wrong type') as never;

    const pages = await schedule.run([good], 10);
    expect(pages.map((page) => page.partition.key)).toEqual(['good']);
    expect(schedule.dueIn()).toBe(Infinity);
    expect([takenAway, broken.owned.size]).toEqual([['1-0'], 0]);
  });

  it('a partition that is refused does not delay the others, and keeps its entries until it may be read again', async () => {
    const { schedule, takenAway } = setUp();
    const [refused, good] = [partition('refused'), partition('good')];
    schedule.add(refused, message(refused, '1-0'), 0);
    schedule.add(good, message(good, '1-0'), 0);
    refused.refusal = new Error('not permitted') as never;

    const pages = await schedule.run([good], 10);
    expect(pages.map((page) => page.partition.key)).toEqual(['good']);
    expect([schedule.dueIn(), takenAway, refused.owned.get('1-0')]).toEqual([Infinity, [], 'waiting']);
    refused.refusal = undefined;
    expect(schedule.dueIn()).toBe(0);
    expect((await schedule.run([refused], 10)).map((page) => page.partition.key)).toEqual(['refused']);
  });

  it('keeps its entries when the claim fails', async () => {
    const failing = scheduleOn({
      claimOwn: () => Promise.reject(new Error('lost')),
      restore: () => Promise.resolve({ restored: [], gone: [] }),
      ack: () => Promise.resolve(0),
    });
    const p = partition();
    failing.add(p, message(p, '1-0'), 0);
    await expect(failing.run([p], 10)).rejects.toThrow('lost');
    expect(failing.dueIn()).toBe(0);
    expect(p.owned.get('1-0')).toBe('waiting');
  });

  it('forgets the entries of a partition that is removed: they stay pending and are no longer owned', async () => {
    const { schedule, claims, takenAway } = setUp();
    const [removed, kept] = [partition('removed'), partition('kept')];
    schedule.add(removed, message(removed, '1-0'), 0);
    schedule.add(kept, message(kept, '2-0'), 0);
    schedule.forget(removed);

    expect(takenAway).toEqual(['1-0']);
    expect(removed.owned.size).toBe(0);
    const pages = await schedule.run([kept], 10);
    expect(pages.map((page) => page.partition.key)).toEqual(['kept']);
    expect(claims.flat().map(({ id }) => id)).toEqual(['2-0']);
  });

  it('puts back an entry that is pending for no consumer, with its delivery count, and hands it out', async () => {
    const { schedule, takenAway, restored } = setUp({ unlisted: ['1-0'] });
    const p = partition();
    schedule.add(p, message(p, '1-0', 3), 100);
    await jest.advanceTimersByTimeAsync(100);
    const [page] = await schedule.run([p], 10);
    expect(restored).toMatchObject([{ id: '1-0', deliveryCount: 3 }]);
    expect(page?.entries).toMatchObject([{ id: '1-0', deliveryCount: 4 }]);
    expect(takenAway).toEqual([]);
  });

  it('puts back nothing so late that another consumer may have handled it since', async () => {
    const { schedule, takenAway, restored } = setUp({ unlisted: ['1-0'] });
    const p = partition();
    schedule.add(p, message(p, '1-0'), 100);
    await jest.advanceTimersByTimeAsync(100 + MARGIN);
    await schedule.run([p], 10);
    expect([restored, takenAway]).toEqual([[], ['1-0']]);
  });

  it('hands out its copy of an entry whose stream was deleted', async () => {
    const { schedule, takenAway } = setUp({ gone: ['1-0'] });
    const p = partition();
    const fields = [Buffer.from('msg'), Buffer.from('content')];
    schedule.add(p, StreamMessage.create(p, { id: '1-0', fields, deliveryCount: 1 }, DEFAULTS.streamer), 100);
    await jest.advanceTimersByTimeAsync(100);
    const [page] = await schedule.run([p], 10);
    expect(page?.entries).toEqual([{ id: '1-0', fields, deliveryCount: 2 }]);
    expect(takenAway).toEqual([]);
  });

  it('puts back what waits before it is due, so that it is not lost with this process', async () => {
    const { schedule, restored } = setUp({ unlisted: ['1-0', '2-0'] });
    const [p, other] = [partition('s'), partition('t')];
    schedule.add(p, message(p, '1-0'), 60_000);
    schedule.add(other, message(other, '2-0'), 60_000);
    await schedule.restore(p);
    expect(restored.map(({ id }) => id)).toEqual(['1-0']);
  });
});
