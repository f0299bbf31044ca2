import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { withResolvers } from '../../lib/shared/deferred.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { CommitScheduler } from '../../lib/engine/settling/commit-scheduler.js';
import { ConnectionError } from '../../lib/errors.js';
import { until } from '../support/until.js';

interface Ack {
  readonly streamKey: string;
  readonly ids: readonly string[];
  answer(count?: number): void;
  fail(error: Error): void;
}

const open: CommitScheduler[] = [];
afterEach(() => {
  for (const scheduler of open.splice(0)) scheduler.close();
});

function setUp(interval: number | undefined) {
  const acks: Ack[] = [];
  const missed: Array<[string, number]> = [];
  const errors: string[] = [];
  const ack = (streamKey: string, _group: string, ids: readonly string[]): Promise<number> => {
    const { promise, resolve, reject } = withResolvers<number>();
    acks.push({ streamKey, ids, answer: (count = ids.length) => resolve(count), fail: reject });
    return promise;
  };
  const scheduler = new CommitScheduler({
    pending: { ack },
    group: 'g',
    interval,
    onError: (error) => errors.push(error.code),
    onMissed: (streamKey, count) => missed.push([streamKey, count]),
  });
  open.push(scheduler);
  return { scheduler, acks, missed, errors };
}

const streamOf = (key: string): Partition => new Partition(key, 0, key);
const reply = (message: string): Error => Object.assign(new Error(message), { name: 'ReplyError' });
const isSettled = async (promise: Promise<unknown>): Promise<boolean> => {
  const pending = Symbol('pending');
  return (await Promise.race([promise, turn(pending)])) !== pending;
};

describe('commit scheduler', () => {
  it('sends many ids of a stream in one command, each stream its own', async () => {
    const { scheduler, acks } = setUp(undefined);
    const [a, b] = [streamOf('a'), streamOf('b')];
    for (const id of ['1-0', '2-0']) scheduler.add(a, id);
    scheduler.add(b, '9-0');
    const flush = scheduler.flush();
    await turn();

    expect(acks.map(({ streamKey, ids }) => [streamKey, ...ids])).toEqual([
      ['a', '1-0', '2-0'],
      ['b', '9-0'],
    ]);
    for (const ack of acks) ack.answer();
    await flush;
    expect(scheduler.size).toBe(0);
  });

  it('sends nothing by itself without an interval', async () => {
    const { scheduler, acks } = setUp(undefined);
    for (let index = 0; index < 2_000; index += 1) scheduler.add(streamOf('a'), `${index}-0`);
    await turn();
    expect(acks).toHaveLength(0);
  });

  it('sends by itself after the interval, and in the same turn together when it is 0', async () => {
    const slow = setUp(20);
    slow.scheduler.add(streamOf('a'), '1-0');
    await turn();
    expect(slow.acks).toHaveLength(0);
    await until('the interval is over', () => slow.acks.length === 1);

    const fast = setUp(0);
    const stream = streamOf('a');
    for (const id of ['1-0', '2-0']) fast.scheduler.add(stream, id);
    await turn();
    expect(fast.acks.map(({ ids }) => ids)).toEqual([['1-0', '2-0']]);
    // What is added while one is under way waits for it.
    fast.scheduler.add(stream, '3-0');
    await turn();
    expect(fast.acks).toHaveLength(1);
    fast.acks[0]?.answer();
    await until('the rest is sent', () => fast.acks.length === 2);
    expect(fast.acks[1]?.ids).toEqual(['3-0']);
  });

  it('sends ahead of the interval when many have gathered', async () => {
    const { scheduler, acks } = setUp(60_000);
    const stream = streamOf('a');
    for (let index = 0; index < 1_000; index += 1) scheduler.add(stream, `${index}-0`);
    await turn();
    expect(acks.map(({ ids }) => ids.length)).toEqual([1_000]);
  });

  it('keeps a batch that failed and sends it again; acks made meanwhile come after it', async () => {
    const { scheduler, acks, errors } = setUp(undefined);
    const stream = streamOf('a');
    stream.held.set('1-0', 'settled');
    scheduler.add(stream, '1-0');
    const flush = scheduler.flush();
    await turn();
    acks[0]?.fail(new ConnectionError('lost'));
    scheduler.add(stream, '2-0');
    await until('it is sent again', () => acks.length === 2);
    expect(acks[1]?.ids).toEqual(['1-0']);
    expect(stream.held.has('1-0')).toBe(true);
    acks[1]?.answer();
    await until('the next one is sent', () => acks.length === 3);
    acks[2]?.answer();

    await flush;
    expect(stream.held.size).toBe(0);
    expect(errors).toEqual([]);
  });

  it('a flush waits for a sending that is under way', async () => {
    const { scheduler, acks } = setUp(0);
    scheduler.add(streamOf('a'), '1-0');
    await turn();
    expect(acks).toHaveLength(1);
    const flush = scheduler.flush();
    expect(await isSettled(flush)).toBe(false);
    acks[0]?.answer();
    await flush;
  });

  it('what the server counts as 0 is reported and not sent again', async () => {
    const { scheduler, acks, missed } = setUp(undefined);
    const stream = streamOf('a');
    for (const id of ['1-0', '2-0', '3-0']) scheduler.add(stream, id);
    const flush = scheduler.flush();
    await turn();
    acks[0]?.answer(1);
    await flush;

    expect(missed).toEqual([['a', 2]]);
    expect(acks).toHaveLength(1);
    expect(scheduler.size).toBe(0);
  });

  it('what is refused for good fails the flush, is reported, and does not hold up other streams', async () => {
    const { scheduler, acks, errors } = setUp(undefined);
    scheduler.add(streamOf('a'), '1-0');
    scheduler.add(streamOf('b'), '1-0');
    const flush = scheduler.flush();
    await turn();
    acks[0]?.fail(reply('WRONGTYPE no stream'));
    acks[1]?.answer();

    await expect(flush).rejects.toMatchObject({ code: 'ERR_WRONG_TYPE', streamKey: 'a' });
    expect(errors).toEqual(['ERR_WRONG_TYPE']);
    expect(scheduler.size).toBe(0);
    await expect(scheduler.flush()).resolves.toBeUndefined();
  });

  it('a flush that is given up leaves its acks queued', async () => {
    const { scheduler, acks } = setUp(undefined);
    scheduler.add(streamOf('a'), '1-0');
    const abort = new AbortController();
    const flush = scheduler.flush(abort.signal);
    await turn();
    abort.abort(new Error('time is over'));
    await expect(flush).rejects.toThrow('time is over');
    expect(scheduler.size).toBe(1);

    acks[0]?.answer();
    await scheduler.flush();
    expect(scheduler.size).toBe(0);
  });
});
