import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { withResolvers } from '../../lib/shared/deferred.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { CommitScheduler } from '../../lib/engine/settling/commit-scheduler.js';
import { ConnectionError } from '../../lib/errors.js';
import { stays, until } from '../support/until.js';
import { ReplyError } from '../../lib/redis/wire/resp-reader.js';

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
  const ack = ({ key: streamKey }: Partition, ids: readonly string[]): Promise<number> => {
    const { promise, resolve, reject } = withResolvers<number>();
    acks.push({ streamKey, ids, answer: (count = ids.length) => resolve(count), fail: reject });
    return promise;
  };
  const scheduler = new CommitScheduler({
    ack,
    interval,
    onError: (error) => errors.push(error.code),
    onMissed: (streamKey, count) => missed.push([streamKey, count]),
  });
  open.push(scheduler);
  return { scheduler, acks, missed, errors };
}

const partitionOf = (key: string): Partition => new Partition(key, 0, key);
const reply = (message: string): Error => new ReplyError(message);
const isSettled = async (promise: Promise<unknown>): Promise<boolean> => {
  const pending = Symbol('pending');
  return (await Promise.race([promise, turn(pending)])) !== pending;
};

describe('commit scheduler', () => {
  it('sends many ids of a partition in one command, and one command for each partition', async () => {
    const { scheduler, acks } = setUp(undefined);
    const [a, b] = [partitionOf('a'), partitionOf('b')];
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

  it('without an interval sends nothing before a flush', async () => {
    const { scheduler, acks } = setUp(undefined);
    for (let index = 0; index < 2_000; index += 1) scheduler.add(partitionOf('a'), `${index}-0`);
    await turn();
    expect(acks).toHaveLength(0);
  });

  it('sends after the interval; with 0, the acks of one turn of the event loop together', async () => {
    const slow = setUp(20);
    slow.scheduler.add(partitionOf('a'), '1-0');
    await turn();
    expect(slow.acks).toHaveLength(0);
    await until('the interval is over', () => slow.acks.length === 1);

    const fast = setUp(0);
    const partition = partitionOf('a');
    for (const id of ['1-0', '2-0']) fast.scheduler.add(partition, id);
    await turn();
    expect(fast.acks.map(({ ids }) => ids)).toEqual([['1-0', '2-0']]);
    // An ack that is added while a send is under way waits for it.
    fast.scheduler.add(partition, '3-0');
    await turn();
    expect(fast.acks).toHaveLength(1);
    fast.acks[0]?.answer();
    await until('the rest is sent', () => fast.acks.length === 2);
    expect(fast.acks[1]?.ids).toEqual(['3-0']);
  });

  it('sends before the interval is over when many acks were collected', async () => {
    const { scheduler, acks } = setUp(60_000);
    const partition = partitionOf('a');
    for (let index = 0; index < 1_000; index += 1) scheduler.add(partition, `${index}-0`);
    await turn();
    expect(acks.map(({ ids }) => ids.length)).toEqual([1_000]);
  });

  it('acks of many partitions wait until an XACK has fifty of them', async () => {
    const { scheduler, acks } = setUp(60_000);
    const partitions = Array.from({ length: 40 }, (_, index) => partitionOf(`p${index}`));
    for (let index = 0; index < 1_999; index += 1) scheduler.add(partitions[index % 40] as Partition, `${index}-0`);
    await turn();
    expect(acks).toHaveLength(0);
    scheduler.add(partitions[39] as Partition, '1999-0');
    await turn();
    expect(acks.map(({ ids }) => ids.length)).toEqual(partitions.map(() => 50));
  });

  it('sends a batch that failed again, and later acks after it', async () => {
    const { scheduler, acks, errors } = setUp(undefined);
    const partition = partitionOf('a');
    partition.owned.set('1-0', 'settled');
    scheduler.add(partition, '1-0');
    const flush = scheduler.flush();
    await turn();
    acks[0]?.fail(new ConnectionError('lost'));
    scheduler.add(partition, '2-0');
    await until('it is sent again', () => acks.length === 2);
    expect(acks[1]?.ids).toEqual(['1-0']);
    expect(partition.owned.has('1-0')).toBe(true);
    acks[1]?.answer();
    await until('the next one is sent', () => acks.length === 3);
    acks[2]?.answer();

    await flush;
    expect(partition.owned.size).toBe(0);
    expect(errors).toEqual([]);
  });

  it('leaves an entry to this process that was read again before its ack was confirmed', async () => {
    const { scheduler, acks } = setUp(undefined);
    const partition = partitionOf('a');
    for (const id of ['1-0', '2-0']) {
      partition.owned.set(id, 'settled');
      scheduler.add(partition, id);
    }
    const flush = scheduler.flush();
    await turn();
    partition.owned.set('1-0', 'buffered');
    acks[0]?.answer();
    await flush;
    expect([...partition.owned]).toEqual([['1-0', 'buffered']]);
  });

  it('a flush waits for a send that is under way', async () => {
    const { scheduler, acks } = setUp(0);
    scheduler.add(partitionOf('a'), '1-0');
    await turn();
    expect(acks).toHaveLength(1);
    const flush = scheduler.flush();
    expect(await isSettled(flush)).toBe(false);
    acks[0]?.answer();
    await flush;
  });

  it('acks of entries that are not pending are reported and not sent again', async () => {
    const { scheduler, acks, missed } = setUp(undefined);
    const partition = partitionOf('a');
    for (const id of ['1-0', '2-0', '3-0']) scheduler.add(partition, id);
    const flush = scheduler.flush();
    await turn();
    acks[0]?.answer(1);
    await flush;

    expect(missed).toEqual([['a', 2]]);
    expect(acks).toHaveLength(1);
    expect(scheduler.size).toBe(0);
  });

  it('acks on a key that is no stream any more fail the flush, are reported, and do not delay other partitions', async () => {
    const { scheduler, acks, errors } = setUp(undefined);
    scheduler.add(partitionOf('a'), '1-0');
    scheduler.add(partitionOf('b'), '1-0');
    const flush = scheduler.flush();
    await turn();
    acks[0]?.fail(reply('WRONGTYPE no stream'));
    acks[1]?.answer();

    await expect(flush).rejects.toMatchObject({ code: 'ERR_WRONG_TYPE', streamKey: 'a' });
    expect(errors).toEqual(['ERR_WRONG_TYPE']);
    expect(scheduler.size).toBe(0);
    await expect(scheduler.flush()).resolves.toBeUndefined();
  });

  it.each([
    ['-ERR upstream failure of a proxy', 'ERR upstream failure', 'ERR_SERVER_REPLY'],
    ['NOPERM', 'NOPERM this user has no permissions', 'ERR_PERMISSION'],
  ])(
    'a reply that says nothing about the entries (%s) fails the flush, is reported once, and the next flush sends again',
    async (_, text, code) => {
      const { scheduler, acks, errors } = setUp(undefined);
      const partition = partitionOf('a');
      for (const id of ['1-0', '2-0']) {
        partition.owned.set(id, 'settled');
        scheduler.add(partition, id);
      }
      for (let attempt = 0; attempt < 3; attempt += 1) {
        const flush = scheduler.flush();
        await turn();
        acks[attempt]?.fail(reply(text));
        await expect(flush).rejects.toMatchObject({ code });
        expect(scheduler.refusalOf(partition)).toMatchObject({ code });
      }
      expect(acks.map(({ ids }) => ids)).toEqual([1, 2, 3].map(() => ['1-0', '2-0']));
      expect([errors, scheduler.size, partition.owned.size]).toEqual([[code], 2, 2]);

      const flush = scheduler.flush();
      await turn();
      acks[3]?.answer();
      await flush;
      expect([scheduler.size, partition.owned.size, scheduler.refusalOf(partition)]).toEqual([0, 0, undefined]);
    },
  );

  it('refused acks are sent again with a slow back-off, together with later ones, while other partitions go on', async () => {
    const { scheduler, acks, errors } = setUp(0);
    const [refused, other] = [partitionOf('refused'), partitionOf('other')];
    scheduler.add(refused, '1-0');
    await turn();
    const before = performance.now();
    acks[0]?.fail(reply('ERR upstream failure'));
    await turn();
    scheduler.add(refused, '2-0');
    scheduler.add(other, '1-0');
    await turn();
    expect(acks.map(({ streamKey }) => streamKey)).toEqual(['refused', 'other']);
    acks[1]?.answer();
    await until('they are sent again', () => acks.length === 3);
    expect(performance.now() - before).toBeGreaterThan(150);
    expect(acks[2]?.ids).toEqual(['1-0', '2-0']);
    acks[2]?.answer();
    await turn();
    expect([errors, scheduler.size]).toEqual([['ERR_SERVER_REPLY'], 0]);

    scheduler.add(refused, '3-0');
    await until('the next one is sent at once', () => acks.length === 4);
  });

  it('a refusal of one command does not lose the acks of the next ones', async () => {
    const { scheduler, acks } = setUp(undefined);
    const partition = partitionOf('a');
    for (let index = 0; index < 2_500; index += 1) scheduler.add(partition, `${index}-0`);
    const flush = scheduler.flush();
    await turn();
    acks[0]?.answer();
    await until('the others are sent', () => acks.length === 3);
    acks[1]?.fail(reply('ERR upstream failure'));
    acks[2]?.answer();
    await expect(flush).rejects.toMatchObject({ code: 'ERR_SERVER_REPLY' });
    expect(scheduler.size).toBe(1_000);
    const again = scheduler.flush();
    await turn();
    expect([acks[3]?.ids[0], acks[3]?.ids.length]).toEqual(['1000-0', 1_000]);
    acks[3]?.answer();
    await again;
    expect([acks.length, scheduler.size]).toEqual([4, 0]);
  });

  it('sends the first of many commands alone, and then a few at a time', async () => {
    const { scheduler, acks } = setUp(undefined);
    const partition = partitionOf('a');
    const count = 12_345;
    for (let index = 0; index < count; index += 1) scheduler.add(partition, `${index}-0`);
    const flush = scheduler.flush();
    for (const sent of [1, 9, 13]) {
      await until(`${sent} commands are sent`, () => acks.length === sent);
      await stays('no more are sent', () => acks.length === sent, 20);
      for (const ack of acks) ack.answer();
    }
    await flush;
    expect(acks.flatMap(({ ids }) => ids)).toEqual(Array.from({ length: count }, (_, index) => `${index}-0`));
    expect(scheduler.size).toBe(0);
  });

  it('while acks are refused for long, about 100,000 of them are kept; the entries of older ones stay pending', async () => {
    const { scheduler, acks } = setUp(undefined);
    const partition = partitionOf('a');
    for (let index = 0; index < 100_500; index += 1) scheduler.add(partition, `${index}-0`);
    const flush = scheduler.flush();
    await turn();
    acks[0]?.fail(reply('ERR upstream failure'));
    await expect(flush).rejects.toMatchObject({ code: 'ERR_SERVER_REPLY' });
    expect(scheduler.size).toBe(100_000);
    void scheduler.flush().catch(() => undefined);
    await turn();
    expect(acks[1]?.ids[0]).toBe('500-0');
  });

  it('close() ends the repetition of refused acks', async () => {
    const { scheduler, acks } = setUp(0);
    scheduler.add(partitionOf('a'), '1-0');
    await turn();
    acks[0]?.fail(reply('ERR upstream failure'));
    await turn();
    scheduler.close();
    await stays('the ack is not repeated', () => acks.length === 1, 500);
  });

  it('sends, repeats and flushes the acks of a partition while the send of another hangs', async () => {
    const { scheduler, acks } = setUp(0);
    const [stuck, other] = [partitionOf('stuck'), partitionOf('other')];
    for (const partition of [stuck, other]) scheduler.add(partition, '1-0');
    await turn();
    scheduler.add(other, '2-0');
    acks.find(({ streamKey }) => streamKey === 'other')?.answer();
    await until('the next acks of the other one are sent', () => acks.length === 3);
    acks[2]?.answer();
    await turn();
    expect(scheduler.size).toBe(1);

    scheduler.add(other, '3-0');
    scheduler.add(stuck, '2-0');
    const abort = new AbortController();
    const flush = scheduler.flush(abort.signal);
    await turn();
    expect(acks.map(({ streamKey, ids }) => [streamKey, ...ids])).toEqual([
      ['stuck', '1-0'],
      ['other', '1-0'],
      ['other', '2-0'],
      ['other', '3-0'],
    ]);
    abort.abort(new Error('time is over'));
    await expect(flush).rejects.toThrow('time is over');
  });

  it('a flush that is aborted leaves its acks queued', async () => {
    const { scheduler, acks } = setUp(undefined);
    scheduler.add(partitionOf('a'), '1-0');
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
