import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { DelayedMover } from '../../lib/engine/delayed/delayed-mover.js';
import type { RedisStreamsError } from '../../lib/errors.js';
import type { MovedStep } from '../../lib/redis/commands/stream-commands.js';
import { ReplyError } from '../../lib/redis/wire/resp-reader.js';

/** Messages of one stream on a server whose clock is the fake one. */
class FakeStream {
  due: number[] = [];
  looks = 0;
  steps = 0;
  readonly moved: number[] = [];
  failure: Error | undefined;

  isWaiting = async (): Promise<boolean> => {
    this.looks += 1;
    return this.due.length > 0;
  };

  move = async (): Promise<MovedStep> => {
    this.steps += 1;
    if (this.failure && this.due.some((due) => due <= Date.now())) {
      return { moved: 0, next: 0, lost: 0, failure: this.failure };
    }
    const ready = this.due.filter((due) => due <= Date.now());
    for (const due of ready) this.moved.push(Date.now() - due);
    this.due = this.due.filter((due) => !ready.includes(due));
    const next = this.due.length === 0 ? undefined : Math.min(...this.due) - Date.now();
    return { moved: ready.length, next, lost: 0, failure: undefined };
  };

  /** Schedules as a producer of this process does. */
  schedule(mover: DelayedMover, delay: number): void {
    this.due.push(Date.now() + delay);
    mover.expect('orders', delay, (error) => errors.push(error));
  }
}

const errors: RedisStreamsError[] = [];
const details: string[] = [];
const log = () => undefined;
let stream: FakeStream;
let mover: DelayedMover;

beforeEach(() => {
  jest.useFakeTimers();
  errors.length = 0;
  details.length = 0;
  stream = new FakeStream();
  mover = moverOf(stream);
});
afterEach(async () => {
  const stopped = mover.stop();
  await jest.advanceTimersByTimeAsync(1_000);
  await stopped;
  expect(jest.getTimerCount()).toBe(0);
  jest.useRealTimers();
});

function moverOf(delayed: FakeStream): DelayedMover {
  const logger = { error: log, warn: log, log, debug: (message: string) => void details.push(message) };
  return new DelayedMover({ delayed, logger: logger as never });
}

describe('a mover of delayed messages', () => {
  it('looks once a second for a consumer while nothing waits, with no script call, until it is detached', async () => {
    const detach = mover.attach('orders', () => undefined);
    await jest.advanceTimersByTimeAsync(9_500);
    expect({ looks: stream.looks, steps: stream.steps }).toEqual({ looks: 10, steps: 0 });
    detach();
    await jest.advanceTimersByTimeAsync(5_000);
    expect(stream.looks).toBe(10);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('looks twenty times a second at most, however many streams a consumer reads', async () => {
    for (let number = 0; number < 400; number += 1) mover.attach(`orders.${number}`, () => undefined);
    await jest.advanceTimersByTimeAsync(10);
    expect(stream.looks).toBe(400);
    await jest.advanceTimersByTimeAsync(60_000);
    expect(stream.looks).toBeGreaterThan(1_400);
    expect(stream.looks).toBeLessThanOrEqual(400 + 60 * 20);
    stream.schedule(mover, 500);
    await jest.advanceTimersByTimeAsync(600);
    expect(stream.moved).toHaveLength(1);
  });

  it('makes twenty steps a second at most while messages wait for many streams, and moves its own on time', async () => {
    const waiting = Array.from({ length: 400 }, () => new FakeStream());
    const byKey = new Map(waiting.map((each, number) => [`orders.${number}`, each]));
    const only = (streamKey: string): FakeStream => byKey.get(streamKey) as FakeStream;
    stream.isWaiting = ((streamKey: string) => only(streamKey).isWaiting()) as never;
    stream.move = ((streamKey: string) => only(streamKey).move()) as never;
    for (const [streamKey, each] of byKey) {
      each.due.push(Date.now() + 3_600_000);
      mover.attach(streamKey, () => undefined);
    }
    await jest.advanceTimersByTimeAsync(60_000);
    const steps = waiting.reduce((sum, each) => sum + each.steps, 0);
    expect(steps).toBeLessThanOrEqual(400 + 60 * 20);
    const last = waiting[399] as FakeStream;
    last.due.push(Date.now() + 5_000);
    mover.expect('orders.399', 5_000, () => undefined);
    await jest.advanceTimersByTimeAsync(5_020);
    expect(last.moved).toHaveLength(1);
  });

  it('does nothing for a producer once nothing waits', async () => {
    stream.schedule(mover, 300);
    await jest.advanceTimersByTimeAsync(10_000);
    expect(stream.moved).toHaveLength(1);
    expect({ looks: stream.looks, steps: stream.steps }).toEqual({ looks: 0, steps: 1 });
    expect(jest.getTimerCount()).toBe(0);
  });

  it('moves each message when it is due, and makes one step a second while it waits, however many there are', async () => {
    for (let count = 0; count < 1_000; count += 1) stream.schedule(mover, 60_000 + (count % 10) * 100);
    await jest.advanceTimersByTimeAsync(59_000);
    expect(stream.steps).toBeLessThanOrEqual(60);
    await jest.advanceTimersByTimeAsync(3_000);
    expect(stream.moved).toHaveLength(1_000);
    expect(Math.max(...stream.moved)).toBeLessThan(20);
  });

  it('wakes for a message that is scheduled here and due before the others', async () => {
    stream.schedule(mover, 50_000);
    await jest.advanceTimersByTimeAsync(10_400);
    stream.schedule(mover, 100);
    await jest.advanceTimersByTimeAsync(120);
    expect(stream.moved).toHaveLength(1);
  });

  it('sees a message that is scheduled while a step is under way that does not see it', async () => {
    mover.attach('orders', () => undefined);
    const { isWaiting } = stream;
    stream.isWaiting = async () => {
      const answer = await isWaiting();
      if (stream.looks === 1) stream.schedule(mover, 100);
      return answer;
    };
    await jest.advanceTimersByTimeAsync(200);
    expect(stream.moved).toHaveLength(1);
  });

  it('lets another mover go first when it finds its work done, and takes over within half a second when that is gone', async () => {
    mover.attach('orders', () => undefined);
    let isOtherAlive = true;
    const { move } = stream;
    stream.move = () => {
      if (isOtherAlive) stream.due = stream.due.filter((due) => due > Date.now());
      return move();
    };
    for (let at = 0; at < 20_000; at += 50) stream.due.push(Date.now() + at);
    await jest.advanceTimersByTimeAsync(10_000);
    const { steps } = stream;
    expect(stream.moved).toEqual([]);
    expect(steps).toBeLessThan(70);
    isOtherAlive = false;
    await jest.advanceTimersByTimeAsync(12_000);
    expect(stream.due).toEqual([]);
    expect(Math.max(...stream.moved)).toBeLessThan(500);
    expect(stream.moved.slice(10).every((late) => late < 20)).toBe(true);
  });

  it('reports a refusal once, leaves the message where it is, and moves it when the refusal ends', async () => {
    stream.failure = new ReplyError('WRONGTYPE Operation against a key holding the wrong kind of value');
    stream.schedule(mover, 100);
    await jest.advanceTimersByTimeAsync(60_000);
    expect(errors.map(({ code }) => code)).toEqual(['ERR_WRONG_TYPE']);
    expect(stream.steps).toBeLessThan(20);
    stream.failure = undefined;
    await jest.advanceTimersByTimeAsync(6_000);
    expect(stream.moved).toHaveLength(1);
  });

  it('repeats what was refused no sooner because more is scheduled', async () => {
    stream.failure = new ReplyError('WRONGTYPE Operation against a key holding the wrong kind of value');
    const { move } = stream;
    stream.move = () => {
      stream.schedule(mover, 0);
      return move();
    };
    stream.schedule(mover, 0);
    await jest.advanceTimersByTimeAsync(20_000);
    expect(stream.steps).toBeLessThan(10);
  });

  it('notes in the debug log that it may not look, once, and is no failure of the consumer', async () => {
    stream.isWaiting = () => Promise.reject(new ReplyError('NOPERM No permissions to access a key'));
    mover.attach('orders', (error) => errors.push(error));
    await jest.advanceTimersByTimeAsync(30_000);
    expect(details).toEqual([expect.stringContaining("Delayed messages of 'orders' are not looked for: NOPERM")]);
    expect(errors).toEqual([]);
  });

  it('repeats a step through an outage without a report', async () => {
    stream.schedule(mover, 10);
    const { move } = stream;
    stream.move = () => Promise.reject(new ReplyError('LOADING Redis is loading the dataset in memory'));
    await jest.advanceTimersByTimeAsync(20_000);
    stream.move = move;
    await jest.advanceTimersByTimeAsync(3_000);
    expect(errors).toEqual([]);
    expect(stream.moved).toHaveLength(1);
  });

  it('schedules nothing after its end', async () => {
    await mover.stop();
    stream.schedule(mover, 10);
    mover.attach('orders', () => undefined);
    await jest.advanceTimersByTimeAsync(5_000);
    expect({ looks: stream.looks, steps: stream.steps }).toEqual({ looks: 0, steps: 0 });
  });
});
