import { setImmediate as turn } from 'node:timers/promises';

import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { monotonicNow } from '../../lib/shared/clock.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { MessageBuffer } from '../../lib/engine/consuming/message-buffer.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { BufferShares } from '../../lib/engine/consuming/reading/buffer-shares.js';
import { ReadLoop } from '../../lib/engine/consuming/reading/read-loop.js';
import type { PeriodicTask } from '../../lib/engine/consuming/reading/periodic-task.js';
import type { EntryWatch, ReadBuffer, ReadLoopOptions } from '../../lib/engine/consuming/reading/read-loop-options.js';
import type { ReadPage } from '../../lib/engine/consuming/reading/stream-reader.js';
import { ClosedError, ConnectionError, ReadLoopStalledError } from '../../lib/errors.js';
import type { RedisStreamsError } from '../../lib/errors.js';
import { until } from '../support/until.js';
import { ReplyError } from '../../lib/redis/wire/resp-reader.js';

const BLOCK = 1_000;
const LIMIT = 2 * BLOCK + 5_000;

const EMPTY: ReadBuffer = {
  credit: 10,
  batchSize: 10,
  hasRoom: true,
  isStarved: false,
  mustNotBlock: false,
  mayReadAhead: false,
  room: async () => undefined,
  reserve: () => () => undefined,
};

const nothing = (): void => undefined;

/** A read loop whose reader answers when the test resolves the read. */
class Scene {
  readonly partition = new Partition('orders', 0, 'orders');
  readonly reads: Array<ReturnType<typeof withResolvers<ReadPage[]>>> = [];
  readonly pages: Array<{ id: string; isLate: boolean }> = [];
  readonly errors: RedisStreamsError[] = [];
  readonly dropped: number[] = [];
  liveSince: number | undefined = monotonicNow();
  readonly loop: ReadLoop;

  constructor(overrides: Partial<ReadLoopOptions> = {}) {
    this.loop = new ReadLoop({
      reader: {
        open: async () => undefined,
        heal: async () => undefined,
        read: () => {
          const read = withResolvers<ReadPage[]>();
          this.reads.push(read);
          return read.promise;
        },
      },
      connection: {
        epoch: 1,
        ready: async () => undefined,
        close: async () => {
          for (const read of this.reads) read.reject(new ClosedError('The connection'));
        },
        drop: (epoch) => this.dropped.push(epoch),
      },
      interrupt: { isPossible: true, interrupt: async () => undefined },
      refused: { separate: async () => [], retain: () => undefined },
      tasks: [],
      buffer: EMPTY,
      listener: {
        onPages: (pages, isLate) => {
          for (const { entries } of pages) for (const { id } of entries) this.pages.push({ id, isLate });
        },
        onPartitionFailure: () => undefined,
        onError: (error) => this.errors.push(error),
      },
      blockTimeout: BLOCK,
      isPolling: false,
      liveSince: () => this.liveSince,
      ...overrides,
    });
    void this.loop.read([this.partition]);
  }

  page(id: string): ReadPage[] {
    return [{ partition: this.partition, generation: 0, entries: [{ id, fields: [], deliveryCount: 1 }] }];
  }
}

describe('read loop: a watch', () => {
  /** A watch that a test invalidates. */
  class Watch implements EntryWatch {
    isArmed = true;
    readonly asked: boolean[] = [];
    invalidate: () => void = () => undefined;
    #invalidated = Promise.resolve();

    begin(wantsInvalidation: boolean): void {
      this.asked.push(wantsInvalidation);
      const { promise, resolve } = withResolvers<void>();
      this.#invalidated = promise;
      this.invalidate = resolve;
    }

    invalidated(): Promise<void> {
      return this.#invalidated;
    }
  }

  let scene: Scene;
  let watch: Watch;
  const turns = async (): Promise<void> => {
    for (let count = 0; count < 5; count += 1) await turn();
  };
  const start = async (blockTimeout = 60_000): Promise<void> => {
    watch = new Watch();
    scene = new Scene({ watch, blockTimeout, buffer: { ...EMPTY, credit: 2 } });
    await turns();
  };
  const answer = async (pages: ReadPage[]): Promise<void> => {
    scene.reads.at(-1)?.resolve(pages);
    await turns();
  };

  afterEach(() => scene.loop.stop());

  it('lets the loop read again when entries are announced', async () => {
    await start();
    await answer([]);
    expect(scene.reads).toHaveLength(1);
    watch.invalidate();
    await turns();
    expect(scene.reads).toHaveLength(2);
    // Fewer than it asked for: the next one is announced.
    await answer(scene.page('1-1'));
    expect(scene.reads).toHaveLength(2);
  });

  it('does not keep the loop from a look when the longest block time is over', async () => {
    await start(20);
    await answer([]);
    await until('the loop has looked', () => scene.reads.length === 2);
    expect(scene.loop.report()).toMatchObject({ isHealthy: true, restarts: 0 });
  });

  it('an announcement that comes before the reply is not lost', async () => {
    await start();
    watch.invalidate();
    await answer([]);
    expect(scene.reads).toHaveLength(2);
  });

  it('is not asked for an announcement by the read that follows a full one, nor waited for after it', async () => {
    await start();
    await answer([...scene.page('1-1'), ...scene.page('1-2')]);
    expect(scene.reads).toHaveLength(2);
    watch.isArmed = false;
    await answer([]);
    expect(scene.reads).toHaveLength(3);
    expect(watch.asked).toEqual([true, false, true]);
  });

  it('that cannot announce the next entry leaves the loop to look again by itself', async () => {
    await start();
    watch.isArmed = false;
    await answer([]);
    await until('the loop has looked', () => scene.reads.length === 2);
  });
});

describe('read loop: the watchdog', () => {
  let scene: Scene;

  beforeEach(() => {
    jest.useFakeTimers();
  });
  afterEach(async () => {
    jest.useRealTimers();
    await scene.loop.stop();
  });

  it('abandons a read that never comes back, drops its connection, and starts the next read', async () => {
    scene = new Scene();
    await jest.advanceTimersByTimeAsync(LIMIT / 2);
    expect(scene.loop.report()).toMatchObject({ state: 'reading', isHealthy: true, isStalled: false, restarts: 0 });
    await jest.advanceTimersByTimeAsync(LIMIT);

    expect(scene.errors).toEqual([expect.any(ReadLoopStalledError)]);
    expect(scene.dropped).toEqual([1]);
    expect(scene.reads).toHaveLength(2);
    expect(scene.loop.report()).toMatchObject({
      isHealthy: false,
      isStalled: true,
      restarts: 1,
      lastReadAge: undefined,
    });

    scene.reads[1]?.resolve(scene.page('1-1'));
    await jest.advanceTimersByTimeAsync(1);
    expect(scene.pages).toEqual([{ id: '1-1', isLate: false }]);
    const read = { lastReadAge: expect.any(Number) };
    expect(scene.loop.report()).toMatchObject({ state: 'reading', isHealthy: true, isStalled: false, ...read });
  });

  it('reports a loop that it has restarted as stalled until a read succeeds, but not while the connection is away', async () => {
    scene = new Scene();
    await jest.advanceTimersByTimeAsync(1.5 * LIMIT);
    expect(scene.loop.report()).toMatchObject({ restarts: 1, isStalled: true });
    scene.liveSince = undefined;
    expect(scene.loop.report()).toMatchObject({ isHealthy: false, isStalled: false });
  });

  it('does not report a loop as stalled that has not read for long because the connection was away', async () => {
    scene = new Scene();
    scene.liveSince = undefined;
    await jest.advanceTimersByTimeAsync(5 * LIMIT);
    expect(scene.loop.report()).toMatchObject({ isHealthy: false, isStalled: false, restarts: 0 });
    scene.liveSince = monotonicNow();
    await jest.advanceTimersByTimeAsync(LIMIT / 2);
    expect(scene.loop.report()).toMatchObject({ isHealthy: false, isStalled: false, restarts: 0 });
  });

  it('delivers the entries of an abandoned read as late, and starts no read because of them', async () => {
    scene = new Scene();
    await jest.advanceTimersByTimeAsync(2 * LIMIT);
    const reads = scene.reads.length;
    scene.reads[0]?.resolve(scene.page('1-1'));
    await jest.advanceTimersByTimeAsync(1);

    expect(scene.pages).toEqual([{ id: '1-1', isLate: true }]);
    expect(scene.reads).toHaveLength(reads);
  });

  it('does not abandon a round while the connection is down, but reports the loop as unhealthy after the limit', async () => {
    scene = new Scene();
    scene.liveSince = undefined;
    await jest.advanceTimersByTimeAsync(10 * LIMIT);
    expect(scene.errors).toEqual([]);
    expect(scene.loop.report()).toMatchObject({ state: 'reading', isHealthy: false });
  });

  it('abandons a round that waits for room only when there is room, which means a missed wake-up', async () => {
    let hasRoom = false;
    const buffer: ReadBuffer = {
      ...EMPTY,
      ...EMPTY,
      room: () => new Promise(() => undefined),
      get hasRoom() {
        return hasRoom;
      },
    };
    scene = new Scene({ buffer });
    await jest.advanceTimersByTimeAsync(10 * LIMIT);
    expect(scene.errors).toEqual([]);
    expect(scene.loop.report()).toMatchObject({ state: 'full', isHealthy: true });

    hasRoom = true;
    await jest.advanceTimersByTimeAsync(LIMIT / 2);
    expect(scene.errors).toEqual([expect.any(ReadLoopStalledError)]);
  });

  it('ends when the loop is stopped, even if the read never comes back', async () => {
    const read = jest.fn(() => new Promise<never>(() => undefined));
    scene = new Scene({ reader: { open: async () => undefined, heal: async () => undefined, read } });
    await jest.advanceTimersByTimeAsync(1);
    const stopped = scene.loop.stop();
    await jest.advanceTimersByTimeAsync(10 * LIMIT);
    await stopped;
    expect(scene.errors).toEqual([]);
    expect(read).toHaveBeenCalledTimes(1);
  });
});

describe('read loop: the next page', () => {
  let scene: Scene;
  /** How many reads had been sent when each page was handed on. */
  let readsAtPages: number[];
  const turns = async (): Promise<void> => {
    for (let count = 0; count < 5; count += 1) await turn();
  };
  const start = async (buffer: Partial<ReadBuffer> = {}, overrides: Partial<ReadLoopOptions> = {}): Promise<void> => {
    readsAtPages = [];
    scene = new Scene({
      buffer: { ...EMPTY, batchSize: 1, mayReadAhead: true, ...buffer },
      listener: {
        onPages: () => void readsAtPages.push(scene.reads.length),
        onPartitionFailure: () => undefined,
        onError: (error) => scene.errors.push(error),
      },
      ...overrides,
    });
    await turns();
  };
  const answer = async (pages: ReadPage[]): Promise<void> => {
    scene.reads.at(-1)?.resolve(pages);
    await turns();
  };

  afterEach(() => scene.loop.stop());

  it('is asked for before a whole page is handed on', async () => {
    await start();
    await answer(scene.page('1-1'));
    await answer(scene.page('1-2'));
    expect(readsAtPages).toEqual([2, 3]);
    await answer([]);
    expect(readsAtPages).toEqual([2, 3, 3]);
    expect(scene.reads).toHaveLength(4);
  });

  it.each<[string, Partial<ReadBuffer>]>([
    ['the page was not whole', { batchSize: 2 }],
    ['there is no room', { mayReadAhead: false }],
  ])('is asked for afterwards when %s', async (_, buffer) => {
    await start(buffer);
    await answer(scene.page('1-1'));
    expect(readsAtPages).toEqual([1]);
  });

  it('is not asked for from a partition that has failed in between', async () => {
    await start();
    scene.partition.failure = new ConnectionError('halted');
    await answer(scene.page('1-1'));
    expect(readsAtPages).toEqual([1]);
    expect(scene.reads).toHaveLength(1);
  });

  it('counts on no place that the one before it may fill', async () => {
    const buffer = new MessageBuffer<string>(10, 2);
    const credits: number[] = [];
    const all: Scene = new Scene({
      buffer: new BufferShares(() => 1).create(buffer),
      reader: {
        open: async () => undefined,
        heal: async () => undefined,
        // As entries are recovered: as many as there are places.
        read: async (_, { credit }): Promise<ReadPage[]> => {
          credits.push(credit);
          const entry = { id: '1-1', fields: [], deliveryCount: 1 };
          return [{ partition: all.partition, generation: 0, entries: Array.from({ length: credit }, () => entry) }];
        },
      },
      listener: {
        onPages: (pages) => buffer.push(pages.flatMap(({ entries }) => entries.map(({ id }) => id))),
        onPartitionFailure: nothing,
        onError: nothing,
      },
    });
    await turns();
    expect(buffer.size).toBe(10);
    expect(credits).toEqual([2, 2, 2, 2, 2]);
    await all.loop.stop();
  });

  it.each<[string, number, number, number[]]>([
    ['one batch of all streams', 64, 128, [128, 64, 64]],
    ['one batch of all streams, also where they cannot share it evenly', 65, 130, [130, 65, 65]],
    ['a batch of each stream where the buffer has places for one more', 64, 192, [128, 128, 128]],
    ['as large as leaves places for one more', 64, 160, [128, 96, 96]],
    ['a batch of each stream where one batch would leave them too few entries', 62, 124, [124, 124, 124]],
  ])('is, after a full one, %s', async (_, batchSize, credit, asked) => {
    const credits: number[] = [];
    const all: Scene = new Scene({
      buffer: { ...EMPTY, credit, batchSize },
      reader: {
        open: async () => undefined,
        heal: async () => undefined,
        read: async (partitions, { credit }): Promise<ReadPage[]> => {
          if (partitions.length < 2) return [];
          if (credits.push(credit) === asked.length) void all.loop.stop();
          const entry = { id: '1-1', fields: [], deliveryCount: 1 };
          const length = credit - (credit % partitions.length);
          return [{ partition: all.partition, generation: 0, entries: Array.from({ length }, () => entry) }];
        },
      },
    });
    await all.loop.read([all.partition, new Partition('orders', 1, 'orders:1')]);
    await until('it has read', () => credits.length >= asked.length);
    expect(credits).toEqual(asked);
  });

  it.each(['due', 'full'])('is asked for afterwards when a task has become %s', async (state) => {
    let hasChanged = false;
    const task: PeriodicTask = {
      dueIn: () => (hasChanged && state === 'due' ? 0 : Infinity),
      get isFull() {
        return hasChanged && state === 'full';
      },
      run: () => Promise.resolve([]),
    };
    await start({}, { tasks: [task] });
    hasChanged = true;
    scene.reads[0]?.resolve(scene.page('1-1'));
    await until('the page is handed on', () => readsAtPages.length > 0);
    expect(readsAtPages[0]).toBe(1);
  });

  it('is not asked for before a change that must not find a read in flight', async () => {
    await start();
    const change = jest.fn(async () => expect(scene.reads).toHaveLength(1));
    const changed = scene.loop.betweenReads(change);
    await turns();
    expect(change).not.toHaveBeenCalled();
    await answer(scene.page('1-1'));
    await changed;
    expect(change).toHaveBeenCalledTimes(1);
    await turns();
    expect(scene.reads).toHaveLength(2);
  });

  it('keeps what was handed on when it fails, and is asked for again without the delay of earlier failures', async () => {
    await start();
    const fail = async (): Promise<number> => {
      const { length } = scene.reads;
      const failedAt = monotonicNow();
      scene.reads.at(-1)?.reject(new ConnectionError('lost'));
      await until('it reads again', () => scene.reads.length > length);
      return monotonicNow() - failedAt;
    };
    const delays = [await fail(), await fail(), await fail(), await fail()];
    await answer(scene.page('1-1'));
    const delay = await fail();
    expect(readsAtPages).toEqual([6]);
    expect(delay).toBeLessThan(delays[3] as number);
  });

  it('is not asked for by a round that was abandoned', async () => {
    jest.useFakeTimers();
    const pages: boolean[] = [];
    const listener = { onPages: (_: unknown, isLate: boolean) => void pages.push(isLate), onPartitionFailure: nothing };
    scene = new Scene({
      buffer: { ...EMPTY, batchSize: 1, mayReadAhead: true },
      listener: { ...listener, onError: nothing },
    });
    await jest.advanceTimersByTimeAsync(2 * LIMIT);
    const { length } = scene.reads;
    scene.reads[0]?.resolve(scene.page('1-1'));
    await jest.advanceTimersByTimeAsync(1);
    jest.useRealTimers();
    expect(pages).toEqual([true]);
    expect(scene.reads).toHaveLength(length);
  });
});

describe('read loop: error reports', () => {
  const refusal = (message: string): Error => new ReplyError(message);

  it('reports a refusal once, also one that follows a lost connection, and again after a read has succeeded', async () => {
    const scene = new Scene();
    const next = async (settle: (read: Scene['reads'][number]) => void): Promise<void> => {
      const count = scene.reads.length;
      settle(scene.reads[count - 1] as Scene['reads'][number]);
      await until('it reads again', () => scene.reads.length > count);
    };
    await until('it reads', () => scene.reads.length === 1);
    const words = (): string[] => scene.errors.map(({ cause }) => (cause as Error).message);

    await next((read) => read.reject(new ConnectionError('lost')));
    await next((read) => read.reject(refusal('MASTERDOWN Link with MASTER is down')));
    await next((read) => read.reject(refusal('MASTERDOWN Link with MASTER is down')));
    expect(words()).toEqual(['MASTERDOWN Link with MASTER is down']);
    await next((read) => read.reject(refusal('OOM command not allowed')));
    await next((read) => read.resolve([]));
    await next((read) => read.reject(refusal('OOM command not allowed')));
    expect(words()).toEqual([
      'MASTERDOWN Link with MASTER is down',
      'OOM command not allowed',
      'OOM command not allowed',
    ]);
    await scene.loop.stop();
  });

  it.each([
    ['an unknown reply', refusal('ERR upstream failure'), 'ERR_SERVER_REPLY'],
    ['a quota', refusal('QUOTA exceeded'), 'ERR_SERVER_REPLY'],
    ['a missing permission', refusal('NOPERM no permissions'), 'ERR_PERMISSION'],
    ['a mistake', new TypeError('undefined'), 'ERR_INTERNAL'],
  ])('%s ends no loop: it reads again, and report() shows the refusal until then', async (_, error, code) => {
    const scene = new Scene();
    await until('it reads', () => scene.reads.length === 1);
    scene.reads[0]?.reject(error);
    await until('it has a refusal', () => scene.loop.report().refusal !== undefined);
    expect(scene.loop.report()).toMatchObject({ isHealthy: false, refusal: { code } });
    await until('it reads again', () => scene.reads.length === 2);
    expect(scene.partition.failure).toBeUndefined();
    scene.reads[1]?.resolve([]);
    await until('it reads on', () => scene.reads.length === 3);
    expect(scene.loop.report()).toMatchObject({ isHealthy: true, refusal: undefined });
    expect(scene.errors.map((reported) => reported.code)).toEqual([code]);
    await scene.loop.stop();
  });

  it('a task that is refused does not keep new entries from being read', async () => {
    const run = jest.fn(async () => Promise.reject(refusal('ERR unknown to this proxy')));
    const scene = new Scene({ tasks: [{ dueIn: () => 0, run }] });
    await until('it reads', () => scene.reads.length === 1);
    scene.reads[0]?.resolve(scene.page('1-1'));
    await until('it tries the task again', () => run.mock.calls.length > 1);

    expect(scene.pages).toEqual([{ id: '1-1', isLate: false }]);
    expect(scene.loop.report()).toMatchObject({ isHealthy: false, refusal: { code: 'ERR_SERVER_REPLY' } });
    await scene.loop.stop();
  });
});
