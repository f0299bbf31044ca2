import { describe, expect, it } from '@jest/globals';

import { AdaptivePrefetch } from '../../lib/engine/consuming/reading/adaptive-prefetch.js';

const LEAST = { prefetch: 20, batchSize: 10 };
const CONCURRENCY = 16;

function entries(count: number, bytes: number): Array<{ id: string; fields: Buffer[]; deliveryCount: number }> {
  return Array.from({ length: count }, (_, index) => ({
    id: `1-${index}`,
    fields: [Buffer.alloc(bytes)],
    deliveryCount: 1,
  }));
}

/** After many deliveries that took so long. */
function after(duration: number, messages = 1, concurrency = CONCURRENCY): AdaptivePrefetch {
  const readAhead = new AdaptivePrefetch(LEAST, concurrency);
  for (let count = 0; count < 200; count += 1) readAhead.handled(messages, duration);
  return readAhead;
}

describe('how much is read ahead', () => {
  it('is the least until something has been handled, and for slow handlers', () => {
    expect(new AdaptivePrefetch(LEAST, CONCURRENCY).size).toEqual(LEAST);
    expect(after(1_000).size).toEqual(LEAST);
  });

  it('is what the handlers get through in 50 ms', () => {
    expect(after(4).size).toEqual({ prefetch: 200, batchSize: 100 });
    expect(after(4, 1, 4).size).toEqual({ prefetch: 50, batchSize: 25 });
    expect(after(40, 10, 4).size.prefetch).toBeGreaterThanOrEqual(49);
  });

  it('is bounded in number and in bytes', () => {
    const readAhead = after(0);
    expect(readAhead.size).toEqual({ prefetch: 1_000, batchSize: 500 });
    readAhead.arrived(entries(10, 64 * 1024));
    expect(readAhead.size.prefetch).toBe(128);
    readAhead.arrived(entries(3, 4 * 1024 * 1024));
    expect(readAhead.size).toEqual(LEAST);
    readAhead.arrived([]);
    expect(readAhead.size).toEqual(LEAST);
  });

  it('follows handlers that become slow', () => {
    const readAhead = after(0.1);
    for (let count = 0; count < 5; count += 1) readAhead.handled(1, 500);
    expect(readAhead.size).toEqual(LEAST);
  });
});
