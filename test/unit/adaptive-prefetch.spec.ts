import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { AdaptivePrefetch } from '../../lib/engine/consuming/reading/adaptive-prefetch.js';
import { DemandPace, HandlerPace } from '../../lib/engine/consuming/reading/pace.js';

const MINIMUM = { prefetch: 20, batchSize: 10 };
const CONCURRENCY = 16;

function entries(count: number, bytes: number): Array<{ id: string; fields: Buffer[]; deliveryCount: number }> {
  return Array.from({ length: count }, (_, index) => ({
    id: `1-${index}`,
    fields: [Buffer.alloc(bytes)],
    deliveryCount: 1,
  }));
}

/** The pace of handlers after many deliveries of this duration. */
function after(duration: number, messages = 1, concurrency = CONCURRENCY): HandlerPace {
  const pace = new HandlerPace(concurrency);
  for (let count = 0; count < 200; count += 1) pace.handled(messages, duration);
  return pace;
}

function sizeAt(pace: HandlerPace | DemandPace, maxRate?: number): { prefetch: number; batchSize: number } {
  return new AdaptivePrefetch(MINIMUM, pace, maxRate).size();
}

describe('adaptive prefetch', () => {
  it('is the minimum until a message has been handled, and for slow handlers', () => {
    expect(sizeAt(new HandlerPace(CONCURRENCY))).toEqual(MINIMUM);
    expect(sizeAt(after(1_000))).toEqual(MINIMUM);
  });

  it('is as many messages as the handlers process in 50 ms', () => {
    expect(sizeAt(after(4))).toEqual({ prefetch: 200, batchSize: 100 });
    expect(sizeAt(after(4, 1, 4))).toEqual({ prefetch: 50, batchSize: 25 });
    expect(sizeAt(after(40, 10, 4)).prefetch).toBeGreaterThanOrEqual(49);
  });

  it('is limited in messages and in bytes', () => {
    const prefetch = new AdaptivePrefetch(MINIMUM, after(0));
    expect(prefetch.size()).toEqual({ prefetch: 1_000, batchSize: 500 });
    prefetch.arrived(entries(10, 64 * 1024));
    expect(prefetch.size().prefetch).toBe(128);
    prefetch.arrived(entries(3, 4 * 1024 * 1024));
    expect(prefetch.size()).toEqual(MINIMUM);
    prefetch.arrived([]);
    expect(prefetch.size()).toEqual(MINIMUM);
  });

  it('has two messages of each owned shard, as far as memory allows', () => {
    const prefetch = new AdaptivePrefetch(MINIMUM, after(1_000));
    expect(prefetch.size(5)).toEqual(MINIMUM);
    expect(prefetch.size(200)).toEqual({ prefetch: 400, batchSize: MINIMUM.batchSize });
    prefetch.arrived(entries(10, 256 * 1024));
    expect(prefetch.size(200).prefetch).toBe(32);
  });

  it('is no more than may be started in 50 ms, so that other instances have the rest', () => {
    const pace = after(0.1);
    expect(sizeAt(pace, 10 / 1_000).prefetch).toBe(MINIMUM.prefetch);
    expect(sizeAt(pace, 5_000 / 1_000).prefetch).toBe(250);
    expect(sizeAt(pace).prefetch).toBe(1_000);
  });

  it('shrinks when handlers become slow', () => {
    const pace = after(0.1);
    for (let count = 0; count < 5; count += 1) pace.handled(1, 500);
    expect(sizeAt(pace)).toEqual(MINIMUM);
  });
});

describe('the pace of an application that takes messages', () => {
  beforeEach(() => void jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask'] }));
  afterEach(() => void jest.useRealTimers());

  /** Takes so many messages, and works so long for each. */
  function take(pace: DemandPace, messages: number, work: number): void {
    for (let count = 0; count < messages; count += 1) {
      pace.handedOut(0);
      jest.advanceTimersByTime(work);
    }
  }

  it('rises with the messages that were taken, to the most', () => {
    const pace = new DemandPace();
    take(pace, 10, 0);
    expect(sizeAt(pace)).toEqual(MINIMUM);
    take(pace, 190, 0);
    expect(sizeAt(pace)).toEqual({ prefetch: 200, batchSize: 100 });
    take(pace, 2_000, 0);
    expect(sizeAt(pace).prefetch).toBe(1_000);
  });

  it('stays low where messages are collected fast and processed slowly', () => {
    const pace = new DemandPace();
    for (let batch = 0; batch < 10; batch += 1) {
      take(pace, 99, 0);
      take(pace, 1, 1_000);
    }
    expect(sizeAt(pace)).toEqual(MINIMUM);
  });

  it('does not count the time in which a call waits for a message', () => {
    const pace = new DemandPace();
    for (let count = 0; count < 500; count += 1) {
      take(pace, 1, 1);
      pace.waits(1);
      jest.advanceTimersByTime(1_000);
    }
    expect(sizeAt(pace)).toEqual({ prefetch: 45, batchSize: 22 });
  });

  it('counts messages that several calls take at once', () => {
    const pace = new DemandPace();
    pace.waits(32);
    for (let page = 0; page < 200; page += 1) {
      jest.advanceTimersByTime(1);
      for (let waiting = 31; waiting >= 22; waiting -= 1) pace.handedOut(waiting);
      pace.waits(32);
    }
    expect(sizeAt(pace).prefetch).toBe(1_000);
  });

  it('stays low where several calls work slowly, and most of them wait', () => {
    const pace = new DemandPace();
    pace.waits(10);
    for (let message = 0; message < 100; message += 1) {
      jest.advanceTimersByTime(1_000);
      pace.handedOut(9);
      jest.advanceTimersByTime(500);
      pace.waits(10);
    }
    expect(sizeAt(pace)).toEqual(MINIMUM);
  });

  it('follows an application that becomes slow, and one that becomes fast', () => {
    const pace = new DemandPace();
    take(pace, 2_000, 0);
    take(pace, 5, 1_000);
    expect(sizeAt(pace)).toEqual(MINIMUM);
    for (let page = 0; page < 20; page += 1) {
      take(pace, 10, 1_000);
      sizeAt(pace);
    }
    for (let page = 0; page < 400; page += 1) {
      take(pace, 20, 0);
      sizeAt(pace);
    }
    expect(sizeAt(pace).prefetch).toBeGreaterThan(200);
  });
});
