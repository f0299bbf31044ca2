import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { monotonicNow } from '../../lib/shared/clock.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { ReadLoop } from '../../lib/engine/consuming/reading/read-loop.js';
import type { ReadLoopOptions } from '../../lib/engine/consuming/reading/read-loop-options.js';
import type { ReadPage } from '../../lib/engine/consuming/reading/stream-reader.js';
import { ClosedError, ConnectionError, ReadLoopStalledError } from '../../lib/errors.js';
import type { RedisStreamsError } from '../../lib/errors.js';
import { until } from '../support/until.js';

const BLOCK = 1_000;
const LIMIT = 2 * BLOCK + 5_000;

/** A read loop on a reader that answers when the test says so. */
class Scene {
  readonly stream = new Partition('orders', 0, 'orders');
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
      duties: [],
      batchSize: () => 10,
      blockTimeout: BLOCK,
      credit: () => 10,
      room: async () => undefined,
      hasRoom: () => true,
      isStuck: () => false,
      liveSince: () => this.liveSince,
      onPages: (pages, isLate) => {
        for (const { entries } of pages) for (const { id } of entries) this.pages.push({ id, isLate });
      },
      onStreamFailure: () => undefined,
      onError: (error) => this.errors.push(error),
      ...overrides,
    });
    this.loop.start([this.stream]);
  }

  page(id: string): ReadPage[] {
    return [{ stream: this.stream, generation: 0, entries: [{ id, fields: [], deliveryCount: 1 }] }];
  }
}

describe('the watchdog of a read loop', () => {
  let scene: Scene;

  beforeEach(() => {
    jest.useFakeTimers();
  });
  afterEach(async () => {
    jest.useRealTimers();
    await scene.loop.stop();
  });

  it('gives up a read that never comes back, with its connection, and reads anew', async () => {
    scene = new Scene();
    await jest.advanceTimersByTimeAsync(LIMIT / 2);
    expect(scene.loop.report()).toMatchObject({ state: 'reading', isHealthy: true, restarts: 0 });
    await jest.advanceTimersByTimeAsync(LIMIT);

    expect(scene.errors).toEqual([expect.any(ReadLoopStalledError)]);
    expect(scene.dropped).toEqual([1]);
    expect(scene.reads).toHaveLength(2);
    expect(scene.loop.report()).toMatchObject({ isHealthy: false, restarts: 1, lastReadAge: undefined });

    scene.reads[1]?.resolve(scene.page('1-1'));
    await jest.advanceTimersByTimeAsync(1);
    expect(scene.pages).toEqual([{ id: '1-1', isLate: false }]);
    expect(scene.loop.report()).toMatchObject({ state: 'reading', isHealthy: true, lastReadAge: expect.any(Number) });
  });

  it('hands on what a read that was given up brings in the end, marked as late, and does not read with it', async () => {
    scene = new Scene();
    await jest.advanceTimersByTimeAsync(2 * LIMIT);
    const reads = scene.reads.length;
    scene.reads[0]?.resolve(scene.page('1-1'));
    await jest.advanceTimersByTimeAsync(1);

    expect(scene.pages).toEqual([{ id: '1-1', isLate: true }]);
    expect(scene.reads).toHaveLength(reads);
  });

  it('leaves a loop alone whose connection is down, and calls it unhealthy after a time', async () => {
    scene = new Scene();
    scene.liveSince = undefined;
    await jest.advanceTimersByTimeAsync(10 * LIMIT);
    expect(scene.errors).toEqual([]);
    expect(scene.loop.report()).toMatchObject({ state: 'reading', isHealthy: false });
  });

  it('leaves a loop alone that waits for its messages to be taken, unless it missed that they were', async () => {
    let hasRoom = false;
    scene = new Scene({ room: () => new Promise(() => undefined), hasRoom: () => hasRoom });
    await jest.advanceTimersByTimeAsync(10 * LIMIT);
    expect(scene.errors).toEqual([]);
    expect(scene.loop.report()).toMatchObject({ state: 'full', isHealthy: true });

    hasRoom = true;
    await jest.advanceTimersByTimeAsync(LIMIT / 2);
    expect(scene.errors).toEqual([expect.any(ReadLoopStalledError)]);
  });

  it('ends with the loop, even if the read never comes back', async () => {
    const read = jest.fn(() => new Promise<never>(() => undefined));
    scene = new Scene({ reader: { open: async () => undefined, heal: async () => undefined, read } });
    await jest.advanceTimersByTimeAsync(1);
    await scene.loop.stop();
    await jest.advanceTimersByTimeAsync(10 * LIMIT);
    expect(scene.errors).toEqual([]);
    expect(read).toHaveBeenCalledTimes(1);
  });
});

describe('what a read loop reports', () => {
  const refusal = (message: string): Error => Object.assign(new Error(message), { name: 'ReplyError' });

  it('is a refusal once, also one that follows a lost connection, and again after a read has succeeded', async () => {
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
});
