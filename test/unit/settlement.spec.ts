import { afterEach, expect, it, jest } from '@jest/globals';

import { Partition } from '../../lib/engine/consuming/partition.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import { Delivery } from '../../lib/engine/settling/settlement.js';
import { monotonicNow } from '../../lib/shared/clock.js';

afterEach(() => {
  jest.useRealTimers();
});

const delivery = (limit?: number): Delivery => {
  const entry = { id: '1-0', fields: [], deliveryCount: 1 };
  return new Delivery(
    StreamMessage.create(new Partition('s', 0, 's'), entry, DEFAULTS.streamer),
    () => undefined,
    limit,
  );
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

it.each([
  ['deadline', 100, 200],
  ['max-handler-time', 200, 100],
  ['max-handler-time', undefined, 100],
])('the first limit that is over aborts the signal: %s', (reason, deadline, limit) => {
  jest.useFakeTimers();
  const running = delivery(monotonicNow() + limit);
  if (deadline !== undefined) running.deadline = monotonicNow() + deadline;
  const { signal } = running;
  jest.advanceTimersByTime(99);
  expect(signal.aborted).toBe(false);
  jest.advanceTimersByTime(2);
  expect(signal.reason).toMatchObject({ reason });
});

it('a message that is settled has no limit any more', () => {
  jest.useFakeTimers();
  const running = delivery(monotonicNow() + 100);
  running.settle({ kind: 'ack' });
  const { signal } = running;
  jest.advanceTimersByTime(1_000);
  expect(signal.aborted).toBe(false);
});
