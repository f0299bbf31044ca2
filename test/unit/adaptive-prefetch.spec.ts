import { describe, expect, it } from '@jest/globals';

import { AdaptivePrefetch } from '../../lib/engine/consuming/reading/adaptive-prefetch.js';

const MINIMUM = { prefetch: 20, batchSize: 10 };
const CONCURRENCY = 16;

function entries(count: number, bytes: number): Array<{ id: string; fields: Buffer[]; deliveryCount: number }> {
  return Array.from({ length: count }, (_, index) => ({
    id: `1-${index}`,
    fields: [Buffer.alloc(bytes)],
    deliveryCount: 1,
  }));
}

/** The prefetch after many deliveries of this duration. */
function after(duration: number, messages = 1, concurrency = CONCURRENCY): AdaptivePrefetch {
  const prefetch = new AdaptivePrefetch(MINIMUM, concurrency);
  for (let count = 0; count < 200; count += 1) prefetch.handled(messages, duration);
  return prefetch;
}

describe('adaptive prefetch', () => {
  it('is the minimum until a message has been handled, and for slow handlers', () => {
    expect(new AdaptivePrefetch(MINIMUM, CONCURRENCY).size).toEqual(MINIMUM);
    expect(after(1_000).size).toEqual(MINIMUM);
  });

  it('is as many messages as the handlers process in 50 ms', () => {
    expect(after(4).size).toEqual({ prefetch: 200, batchSize: 100 });
    expect(after(4, 1, 4).size).toEqual({ prefetch: 50, batchSize: 25 });
    expect(after(40, 10, 4).size.prefetch).toBeGreaterThanOrEqual(49);
  });

  it('is limited in messages and in bytes', () => {
    const prefetch = after(0);
    expect(prefetch.size).toEqual({ prefetch: 1_000, batchSize: 500 });
    prefetch.arrived(entries(10, 64 * 1024));
    expect(prefetch.size.prefetch).toBe(128);
    prefetch.arrived(entries(3, 4 * 1024 * 1024));
    expect(prefetch.size).toEqual(MINIMUM);
    prefetch.arrived([]);
    expect(prefetch.size).toEqual(MINIMUM);
  });

  it('is no more than may be started in 50 ms, so that other instances have the rest', () => {
    const sizeAt = (maxRate: number): number => {
      const prefetch = new AdaptivePrefetch(MINIMUM, CONCURRENCY, maxRate);
      for (let count = 0; count < 200; count += 1) prefetch.handled(1, 0.1);
      return prefetch.size.prefetch;
    };
    expect(sizeAt(10 / 1_000)).toBe(MINIMUM.prefetch);
    expect(sizeAt(5_000 / 1_000)).toBe(250);
    expect(sizeAt(Infinity)).toBe(1_000);
  });

  it('shrinks when handlers become slow', () => {
    const prefetch = after(0.1);
    for (let count = 0; count < 5; count += 1) prefetch.handled(1, 500);
    expect(prefetch.size).toEqual(MINIMUM);
  });
});
