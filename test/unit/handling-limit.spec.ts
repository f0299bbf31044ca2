import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { HandlingLimit } from '../../lib/engine/consuming/recovery/handling-limit.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

function setUp(...owned: string[]) {
  const partition = new Partition('s', 0, 's');
  for (const id of owned) partition.owned.set(id, 'running');
  const waiting: StreamMessage[] = [];
  const warnings: string[] = [];
  const limit = new HandlingLimit({
    maxHandlerTime: 1_000,
    partitions: { owning: [partition] },
    waiting: () => waiting,
    logger: { warn: (line: string) => warnings.push(line) },
  });
  limit.start();
  return { partition, waiting, warnings, limit };
}

const message = (partition: Partition, id: string): StreamMessage =>
  StreamMessage.create(partition, { id, fields: [], deliveryCount: 1 }, DEFAULTS.streamer);

describe('the limit of handling', () => {
  it('marks an entry overdue when it has been in a handler for longer than maxHandlerTime, and warns once', () => {
    const { partition, warnings, limit } = setUp('1-0');
    jest.advanceTimersByTime(1_000);
    expect(partition.owned.get('1-0')).toBe('running');
    jest.advanceTimersByTime(200);
    expect(partition.owned.get('1-0')).toBe('overdue');
    jest.advanceTimersByTime(5_000);
    expect(warnings).toEqual([expect.stringContaining("'s' have been in handlers for longer than maxHandlerTime")]);
    limit.stop();
    expect(jest.getTimerCount()).toBe(0);
  });

  it('counts from the start of the handler: a message that waits behind another of its key is not overdue', () => {
    const { partition, waiting, limit } = setUp('1-0', '2-0');
    waiting.push(message(partition, '2-0'));
    jest.advanceTimersByTime(1_200);
    expect([...partition.owned.values()]).toEqual(['overdue', 'running']);
    waiting.pop();
    jest.advanceTimersByTime(900);
    expect(partition.owned.get('2-0')).toBe('running');
    jest.advanceTimersByTime(400);
    expect(partition.owned.get('2-0')).toBe('overdue');
    limit.stop();
  });

  it('counts each delivery for itself: what was retried or settled in between begins again', () => {
    const { partition, limit } = setUp('1-0', '2-0');
    jest.advanceTimersByTime(900);
    partition.owned.set('1-0', 'settled');
    partition.handledSince.delete('2-0');
    jest.advanceTimersByTime(900);
    expect([...partition.owned.values()]).toEqual(['settled', 'running']);
    limit.stop();
  });
});
