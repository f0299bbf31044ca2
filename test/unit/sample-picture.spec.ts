import { describe, expect, it } from '@jest/globals';

import { drawRun } from '../../sample/01-shop/driver/picture.js';
import { Timeline } from '../../sample/01-shop/driver/timeline.js';

/** A run in which `orders-2` is killed after half a second, and handles an order again after three quarters. */
function recorded(): Timeline {
  let now = 5_000;
  const timeline = new Timeline(() => now);
  for (const instance of ['orders-1', 'orders-1', 'orders-2']) timeline.add(instance);
  now += 500;
  timeline.mark('kill -9 orders-2');
  timeline.add('orders-1');
  now += 250;
  timeline.mark('orders-2 is back');
  timeline.add('orders-2');
  timeline.summary = '5 sent, 0 lost, 0 pending';
  return timeline;
}

describe('picture of the shop', () => {
  it('counts the orders of each instance per second from the first order on, with the columns in which it handled none', () => {
    const timeline = recorded();

    expect(timeline.rates('orders-1')).toEqual([8, 0, 4, 0]);
    expect(timeline.rates('orders-2')).toEqual([4, 0, 0, 4]);
    expect(timeline.marks.map(({ at }) => at)).toEqual([500, 750]);
  });

  it('names what happened to the instances and to the orders', () => {
    const svg = drawRun(recorded());

    for (const text of ['5 sent, 0 lost, 0 pending', 'kill -9 orders-2', 'orders-2 is back', 'orders-1'])
      expect(svg).toContain(text);
  });
});
