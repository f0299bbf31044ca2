import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Partition } from '../../lib/engine/consuming/partition.js';
import type { HeldState } from '../../lib/engine/consuming/partition.js';
import { LeaseRenewal } from '../../lib/engine/consuming/recovery/lease-renewal.js';

const open: LeaseRenewal[] = [];
beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  for (const keepAlive of open.splice(0)) keepAlive.stop();
  expect(jest.getTimerCount()).toBe(0);
  jest.useRealTimers();
});

function setUp(streams: Partition[], keep: (key: string, ids: readonly string[]) => Promise<string[]>) {
  const asked: Array<[string, string[]]> = [];
  const lost: Array<[string, string[]]> = [];
  const errors: unknown[] = [];
  const keepAlive = new LeaseRenewal({
    pending: {
      async keepAlive(key, _group, _consumer, ids) {
        asked.push([key, [...ids]]);
        return keep(key, ids);
      },
    },
    group: 'g',
    consumer: 'me',
    claimIdle: 300,
    streams: () => streams,
    onLost: (stream, ids) => lost.push([stream.key, [...ids]]),
    onError: (error) => errors.push(error),
  });
  open.push(keepAlive);
  return { keepAlive, asked, lost, errors };
}

function streamWith(key: string, held: Record<string, HeldState>): Partition {
  const stream = new Partition(key, 0, key);
  for (const [id, state] of Object.entries(held)) stream.held.set(id, state);
  return stream;
}

const all = async (_key: string, ids: readonly string[]): Promise<string[]> => [...ids];

describe('keep-alive', () => {
  it('renews what is buffered, running or settled at a third of the claim idle, and nothing else', async () => {
    const held = { '1-0': 'buffered', '2-0': 'running', '3-0': 'settled', '4-0': 'waiting', '5-0': 'skipped' } as const;
    const { keepAlive, asked, lost } = setUp([streamWith('a', held)], all);
    keepAlive.start();
    await jest.advanceTimersByTimeAsync(99);
    expect(asked).toEqual([]);
    await jest.advanceTimersByTimeAsync(1);
    expect(asked).toEqual([['a', ['1-0', '2-0', '3-0']]]);
    await jest.advanceTimersByTimeAsync(100);
    expect(asked).toHaveLength(2);
    expect(lost).toEqual([]);
  });

  it('tells which entries somebody else has meanwhile', async () => {
    const stream = streamWith('a', { '1-0': 'buffered', '2-0': 'running' });
    const { keepAlive, lost } = setUp([stream], async () => ['2-0']);
    keepAlive.start();
    await jest.advanceTimersByTimeAsync(100);
    expect(lost).toEqual([['a', ['1-0']]]);
  });

  it('asks in commands of bounded size', async () => {
    const ids = Array.from({ length: 1_001 }, (_, index) => [`${index}-0`, 'running'] as const);
    const { keepAlive, asked } = setUp([streamWith('a', Object.fromEntries(ids))], all);
    keepAlive.start();
    await jest.advanceTimersByTimeAsync(100);
    expect(asked.map(([, batch]) => batch.length)).toEqual([500, 500, 1]);
  });

  it('a stream that fails does not cost the others their entries', async () => {
    const streams = [streamWith('broken', { '1-0': 'running' }), streamWith('good', { '1-0': 'running' })];
    const { keepAlive, asked, errors } = setUp(streams, async (key, ids) => {
      if (key === 'broken') throw new Error('wrong type');
      return [...ids];
    });
    keepAlive.start();
    await jest.advanceTimersByTimeAsync(200);
    expect(asked.map(([key]) => key)).toEqual(['broken', 'good', 'broken', 'good']);
    expect(errors).toHaveLength(2);
  });

  it('never has two renewals under way', async () => {
    const { keepAlive, asked } = setUp([streamWith('a', { '1-0': 'running' })], () => new Promise(() => undefined));
    keepAlive.start();
    await jest.advanceTimersByTimeAsync(1_000);
    expect(asked).toHaveLength(1);
  });
});
