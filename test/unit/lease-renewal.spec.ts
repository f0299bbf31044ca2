import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Partition } from '../../lib/engine/consuming/partition.js';
import type { OwnedState } from '../../lib/engine/consuming/partition.js';
import { LeaseRenewal } from '../../lib/engine/consuming/recovery/lease-renewal.js';

const open: LeaseRenewal[] = [];
beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  for (const renewal of open.splice(0)) renewal.stop();
  expect(jest.getTimerCount()).toBe(0);
  jest.useRealTimers();
});

function setUp(
  partitions: Partition[],
  keep: (key: string, ids: readonly string[]) => Promise<string[]>,
  unlisted: readonly string[] = [],
) {
  const restored: string[] = [];
  const asked: Array<[string, string[]]> = [];
  const lost: Array<[string, string[]]> = [];
  const errors: unknown[] = [];
  const renewal = new LeaseRenewal({
    pending: {
      async keepAlive(key, _group, _consumer, ids) {
        asked.push([key, [...ids]]);
        return keep(key, ids);
      },
      async restore(_key, _group, _consumer, entries) {
        const free = entries.map(({ id }) => id).filter((id) => unlisted.includes(id));
        restored.push(...free);
        return { restored: free, gone: [] };
      },
    },
    group: 'g',
    consumer: 'me',
    claimIdle: 300,
    partitions: { owning: partitions },
    retries: { retriesOf: () => undefined },
    listener: {
      onLeaseLost: (partition, ids) => lost.push([partition.key, [...ids]]),
      onRenewalFailure: (error) => errors.push(error),
    },
  });
  open.push(renewal);
  return { renewal, asked, lost, errors, restored };
}

function partitionWith(key: string, owned: Record<string, OwnedState>): Partition {
  const partition = new Partition(key, 0, key);
  for (const [id, state] of Object.entries(owned)) partition.owned.set(id, state);
  return partition;
}

const all = async (_key: string, ids: readonly string[]): Promise<string[]> => [...ids];

describe('lease renewal', () => {
  it('renews buffered, running and settled entries at a third of the claim idle, and no others', async () => {
    const owned = {
      '1-0': 'buffered',
      '2-0': 'running',
      '3-0': 'settled',
      '4-0': 'waiting',
      '5-0': 'skipped',
    } as const;
    const { renewal, asked, lost } = setUp([partitionWith('a', owned)], all);
    renewal.start();
    await jest.advanceTimersByTimeAsync(99);
    expect(asked).toEqual([]);
    await jest.advanceTimersByTimeAsync(1);
    expect(asked).toEqual([['a', ['1-0', '2-0', '3-0']]]);
    await jest.advanceTimersByTimeAsync(100);
    expect(asked).toHaveLength(2);
    expect(lost).toEqual([]);
  });

  it('reports the entries that another consumer has claimed', async () => {
    const partition = partitionWith('a', { '1-0': 'buffered', '2-0': 'running' });
    const { renewal, lost } = setUp([partition], async () => ['2-0']);
    renewal.start();
    await jest.advanceTimersByTimeAsync(100);
    expect(lost).toEqual([['a', ['1-0']]]);
  });

  it('does not report one that was acknowledged and delivered again while the answer came', async () => {
    const partition = partitionWith('a', { '1-0': 'settled', '2-0': 'running', '3-0': 'running' });
    const { renewal, lost, restored } = setUp([partition], async () => {
      partition.owned.set('1-0', 'buffered');
      partition.owned.set('2-0', 'buffered');
      return [];
    });
    renewal.start();
    await jest.advanceTimersByTimeAsync(100);
    expect([lost, restored]).toEqual([[['a', ['3-0']]], []]);
  });

  it('puts back entries that are pending for no consumer and not settled, and keeps them', async () => {
    const partition = partitionWith('a', { '1-0': 'buffered', '2-0': 'running', '3-0': 'settled', '4-0': 'buffered' });
    const { renewal, lost, restored } = setUp([partition], async () => [], ['1-0', '2-0', '3-0']);
    renewal.start();
    await jest.advanceTimersByTimeAsync(100);
    expect(restored).toEqual(['1-0', '2-0']);
    expect(lost).toEqual([['a', ['3-0', '4-0']]]);
  });

  it('puts back nothing when a renewal comes too late: another consumer may have handled the entries since', async () => {
    const partition = partitionWith('a', { '1-0': 'buffered' });
    const { renewal, lost, restored } = setUp([partition], async () => [], ['1-0']);
    renewal.start();
    // The process stood still, as under SIGSTOP: the clock has moved, the timer has not fired.
    jest.spyOn(performance, 'now').mockReturnValue(performance.now() + 10_000);
    await jest.advanceTimersByTimeAsync(100);
    jest.restoreAllMocks();
    expect([restored, lost]).toEqual([[], [['a', ['1-0']]]]);
  });

  it('splits many entries into commands of at most 500 ids', async () => {
    const ids = Array.from({ length: 1_001 }, (_, index) => [`${index}-0`, 'running'] as const);
    const { renewal, asked } = setUp([partitionWith('a', Object.fromEntries(ids))], all);
    renewal.start();
    await jest.advanceTimersByTimeAsync(100);
    expect(asked.map(([, batch]) => batch.length)).toEqual([500, 500, 1]);
  });

  it('renews the leases of the other partitions when one fails', async () => {
    const partitions = [partitionWith('broken', { '1-0': 'running' }), partitionWith('good', { '1-0': 'running' })];
    const { renewal, asked, errors } = setUp(partitions, async (key, ids) => {
      if (key === 'broken') throw new Error('wrong type');
      return [...ids];
    });
    renewal.start();
    await jest.advanceTimersByTimeAsync(200);
    expect(asked.map(([key]) => key)).toEqual(['broken', 'good', 'broken', 'good']);
    expect(errors).toHaveLength(2);
  });

  it('renews the leases of the other partitions when the server of one stands still', async () => {
    const partitions = [partitionWith('stuck', { '1-0': 'running' }), partitionWith('good', { '1-0': 'running' })];
    const { renewal, asked } = setUp(partitions, async (key, ids) =>
      key === 'stuck' ? new Promise(() => undefined) : [...ids],
    );
    renewal.start();
    await jest.advanceTimersByTimeAsync(300);
    expect(asked.map(([key]) => key)).toEqual(['stuck', 'good', 'good', 'good']);
  });

  it('never has two renewals of a partition under way, even when one hangs', async () => {
    const { renewal, asked } = setUp([partitionWith('a', { '1-0': 'running' })], () => new Promise(() => undefined));
    renewal.start();
    await jest.advanceTimersByTimeAsync(1_000);
    expect(asked).toHaveLength(1);
  });
});
