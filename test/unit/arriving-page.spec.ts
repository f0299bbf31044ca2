import { setImmediate as turn } from 'node:timers/promises';

import { afterEach, describe, expect, it, jest } from '@jest/globals';

import { MessageBuffer } from '../../lib/engine/consuming/message-buffer.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { BufferShares } from '../../lib/engine/consuming/reading/buffer-shares.js';
import { ReadLoop } from '../../lib/engine/consuming/reading/read-loop.js';
import type { ReadLoopOptions } from '../../lib/engine/consuming/reading/read-loop-options.js';
import type { ReadBudget, ReadPage } from '../../lib/engine/consuming/reading/stream-reader.js';
import { ClosedError, ConnectionError } from '../../lib/errors.js';
import { monotonicNow } from '../../lib/shared/clock.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import type { Deferred } from '../../lib/shared/deferred.js';
import { until } from '../support/until.js';

const BATCH = 2;
const nothing = (): void => undefined;

async function turns(): Promise<void> {
  for (let count = 0; count < 5; count += 1) await turn();
}

/** A loop over a buffer with places for three pages; the test says when a page begins to arrive, and when all of it is there. */
class Scene {
  readonly partition = new Partition('orders', 0, 'orders');
  readonly buffer = new MessageBuffer<string>(3 * BATCH, BATCH);
  readonly reads: Array<Deferred<ReadPage[]> & { readonly budget: ReadBudget }> = [];
  mayReadAhead = true;
  readonly #startedAt = monotonicNow();
  readonly loop: ReadLoop;

  constructor(overrides: Partial<ReadLoopOptions> = {}) {
    this.loop = new ReadLoop({
      reader: {
        open: async () => undefined,
        heal: async () => undefined,
        mayReadAhead: () => this.mayReadAhead,
        read: (_, budget) => {
          const read = { ...withResolvers<ReadPage[]>(), budget };
          this.reads.push(read);
          return read.promise;
        },
      },
      connection: {
        epoch: 1,
        ready: async () => undefined,
        close: async () => {
          for (const { reject } of this.reads) reject(new ClosedError('The connection'));
        },
        drop: nothing,
      },
      interrupt: { isPossible: true, interrupt: async () => undefined },
      refused: { separate: async () => [], retain: nothing },
      tasks: [],
      buffer: new BufferShares(() => 1).create(this.buffer),
      listener: {
        onPages: (pages) => this.buffer.push(pages.flatMap(({ entries }) => entries.map(({ id }) => id))),
        onPartitionFailure: nothing,
        onError: nothing,
      },
      blockTimeout: 1_000,
      isPolling: false,
      liveSince: () => this.#startedAt,
      ...overrides,
    });
    void this.loop.read([this.partition]);
  }

  /** The first entries of the page of a read arrive. */
  begin(read: number, count = BATCH): void {
    this.reads[read]?.budget.onCount?.(count);
  }

  /** All of it is there. */
  end(read: number, ...ids: string[]): void {
    const entries = ids.map((id) => ({ id, fields: [], deliveryCount: 1 }));
    this.reads[read]?.resolve([{ partition: this.partition, generation: 0, entries }]);
  }

  /** The ids that are buffered, in order. */
  taken(): string[] {
    return this.buffer.remove(() => true);
  }
}

describe('read loop: a page that arrives', () => {
  let scene: Scene;

  afterEach(async () => {
    jest.useRealTimers();
    await scene.loop.stop();
  });

  it('is followed by the next read when its entries begin to arrive, and by no second one', async () => {
    scene = new Scene();
    await turns();
    scene.begin(0);
    expect(scene.reads.map(({ budget }) => budget.isAhead)).toEqual([false, true]);
    scene.end(0, '1-1', '1-2');
    await turns();
    expect(scene.reads).toHaveLength(2);
    expect(scene.taken()).toEqual(['1-1', '1-2']);
    scene.begin(1);
    expect(scene.reads).toHaveLength(3);
  });

  it.each<[string, (scene: Scene) => void, number?]>([
    ['it is not full', nothing, BATCH - 1],
    ['its reader forbids it', (scene) => (scene.mayReadAhead = false)],
    ['nothing is read of the partition any more', (scene) => (scene.partition.failure = new ConnectionError('halted'))],
    ['there is no place for two pages', (scene) => scene.buffer.resize(2 * BATCH - 1, BATCH)],
  ])('is not followed by a read before its end when %s', async (_, change, count = BATCH) => {
    scene = new Scene();
    await turns();
    change(scene);
    scene.begin(0, count);
    await turns();
    expect(scene.reads).toHaveLength(1);
  });

  it('is followed by the next read at its end when that could not be sent before', async () => {
    scene = new Scene();
    await turns();
    scene.mayReadAhead = false;
    scene.begin(0);
    scene.end(0, '1-1', '1-2');
    await turns();
    expect(scene.reads.map(({ budget }) => budget.isAhead)).toEqual([false, false]);
  });

  it('comes before the one behind it, even if that one is complete first', async () => {
    scene = new Scene();
    await turns();
    scene.begin(0);
    scene.end(1, '2-1');
    await turns();
    expect(scene.taken()).toEqual([]);
    scene.end(0, '1-1', '1-2');
    await turns();
    expect(scene.taken()).toEqual(['1-1', '1-2', '2-1']);
  });

  it('keeps its places, and the read behind it keeps others', async () => {
    scene = new Scene();
    await turns();
    scene.begin(0);
    expect(scene.buffer.credit).toBe(BATCH);
    scene.end(0, '1-1', '1-2');
    await turns();
    expect(scene.buffer.credit).toBe(BATCH);
    scene.end(1);
    await until('the empty page has come back', () => scene.reads.length === 3);
    expect(scene.buffer.size + scene.buffer.credit + BATCH).toBe(3 * BATCH);
  });

  it('may be followed by a read that fails before all of it is there', async () => {
    scene = new Scene();
    await turns();
    scene.begin(0);
    scene.reads[1]?.reject(new ConnectionError('its node has moved'));
    await turns();
    scene.end(0, '1-1', '1-2');
    await until('it reads again', () => scene.reads.length === 3);
    expect(scene.taken()).toEqual(['1-1', '1-2']);
  });

  it('gives back all places when the connection is lost, and the next round waits for both reads', async () => {
    scene = new Scene();
    await turns();
    scene.begin(0);
    scene.reads[0]?.reject(new ConnectionError('lost'));
    await turns();
    expect(scene.reads).toHaveLength(2);
    scene.reads[1]?.reject(new ConnectionError('lost'));
    await until('it reads again', () => scene.reads.length === 3);
    expect(scene.buffer.credit).toBe(2 * BATCH);
  });

  it('has the whole time of a step, and so has the one behind it', async () => {
    jest.useFakeTimers();
    scene = new Scene();
    await jest.advanceTimersByTimeAsync(1);
    scene.begin(0);
    await jest.advanceTimersByTimeAsync(5_000);
    scene.end(0, '1-1', '1-2');
    await jest.advanceTimersByTimeAsync(5_000);
    scene.end(1, '2-1');
    await jest.advanceTimersByTimeAsync(1);
    expect(scene.loop.report().restarts).toBe(0);
    expect(scene.taken()).toEqual(['1-1', '1-2', '2-1']);
  });

  it('gives back all places when its round is abandoned', async () => {
    jest.useFakeTimers();
    scene = new Scene();
    await jest.advanceTimersByTimeAsync(1);
    scene.begin(0);
    await jest.advanceTimersByTimeAsync(15_000);
    expect(scene.reads.length).toBeGreaterThan(2);
    expect(scene.buffer.credit).toBe(2 * BATCH);
  });
});
