import { afterEach, expect, it, jest } from '@jest/globals';

import { Partition } from '../../lib/engine/consuming/partition.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import { Delivery } from '../../lib/engine/settling/settlement.js';
import { monotonicNow } from '../../lib/shared/clock.js';

afterEach(() => {
  jest.useRealTimers();
});

const delivery = (): Delivery => {
  const entry = { id: '1-0', fields: [], deliveryCount: 1 };
  return new Delivery(StreamMessage.create(new Partition('s', 0, 's'), entry, DEFAULTS.streamer), () => undefined);
};

it.each([2 ** 31, 1e15, Number.MAX_VALUE])(
  'a deadline in %d ms, for which no timer can wait, aborts nothing',
  (rest) => {
    jest.useFakeTimers();
    const running = delivery();
    running.deadline = monotonicNow() + rest;
    const { signal } = running;
    jest.advanceTimersByTime(24 * 3_600_000);
    expect(signal.aborted).toBe(false);
    running.settle({ kind: 'ack' });
    expect(jest.getTimerCount()).toBe(0);
  },
);
