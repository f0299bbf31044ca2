import { describe, expect, it } from '@jest/globals';
import { MessageBuffer } from '../../lib/engine/consuming/message-buffer.js';

const isSettled = async (promise: Promise<unknown>): Promise<boolean> => {
  const pending = Symbol('pending');
  return (await Promise.race([promise, new Promise((resolve) => setImmediate(resolve, pending))])) !== pending;
};

describe('message buffer', () => {
  it('returns messages in the order in which they came', () => {
    const buffer = new MessageBuffer<number>(5_000, 10);
    const taken: Array<number | undefined> = [];
    for (let index = 0; index < 3_000; index += 2) {
      buffer.push([index, index + 1]);
      if (index >= 1_000) taken.push(buffer.take());
    }
    while (buffer.size > 0) taken.push(buffer.take());

    expect(taken).toEqual(Array.from({ length: 3_000 }, (_, index) => index));
    expect(buffer.take()).toBeUndefined();
  });

  it('has as much credit as free places', () => {
    const buffer = new MessageBuffer<number>(4, 2);
    buffer.push([1, 2, 3]);
    expect([buffer.size, buffer.credit]).toEqual([3, 1]);
    buffer.take();
    expect([buffer.size, buffer.credit]).toEqual([2, 2]);
    buffer.push([4, 5, 6]);
    expect(buffer.credit).toBe(0);
  });

  it('with holdsUntilReleased, a taken message occupies its place until it is released', () => {
    const buffer = new MessageBuffer<number>(3, 1, true);
    buffer.push([1, 2, 3]);
    buffer.take();
    buffer.take();
    expect(buffer.credit).toBe(0);
    buffer.release();
    expect(buffer.credit).toBe(1);
  });

  it('places that a read has reserved are no credit, and are announced when they are given back', async () => {
    const buffer = new MessageBuffer<number>(10, 4);
    const giveBack = buffer.reserve(8, true);
    expect([buffer.credit, buffer.hasRoom]).toEqual([2, true]);
    const giveBackRest = buffer.reserve(2);
    expect([buffer.credit, buffer.hasRoom, buffer.isStarved]).toEqual([0, false, false]);
    const room = buffer.room();
    buffer.push([1, 2, 3]);
    giveBack();
    giveBack();
    expect(await isSettled(room)).toBe(true);
    expect(buffer.credit).toBe(5);
    giveBackRest();
    expect(buffer.credit).toBe(7);
  });

  it('a short reservation is waited for, so that reads stay large; a long one is not', () => {
    const buffer = new MessageBuffer<number>(20, 10);
    const giveBack = buffer.reserve(15);
    expect([buffer.credit, buffer.hasRoom]).toEqual([5, false]);
    giveBack();
    buffer.reserve(10, true);
    buffer.reserve(5);
    expect([buffer.credit, buffer.hasRoom]).toEqual([5, true]);
  });

  it('announces room at low water, not for every free place', async () => {
    const buffer = new MessageBuffer<number>(10, 4);
    buffer.push(Array.from({ length: 10 }, (_, index) => index));
    const room = buffer.room();
    for (let taken = 0; taken < 3; taken += 1) buffer.take();
    expect(await isSettled(room)).toBe(false);
    buffer.take();
    expect(await isSettled(room)).toBe(true);
    expect(await isSettled(buffer.room())).toBe(true);
  });

  it('announces room when messages are removed or released, and wake() ends a wait for room', async () => {
    const buffer = new MessageBuffer<number>(2, 2, true);
    buffer.push([1, 2]);
    const room = buffer.room();
    buffer.take();
    buffer.release();
    expect(await isSettled(room)).toBe(true);

    buffer.push([3]);
    const again = buffer.room();
    expect(buffer.remove((item) => item === 3)).toEqual([3]);
    expect(await isSettled(again)).toBe(true);

    buffer.push([4]);
    const ended = buffer.room();
    buffer.wake();
    expect(await isSettled(ended)).toBe(true);
  });

  it('calls the listener when messages arrive, not for an empty push', () => {
    const buffer = new MessageBuffer<number>(10, 5);
    const sizes: number[] = [];
    buffer.onArrival(() => sizes.push(buffer.size));
    buffer.push([]);
    buffer.push([1, 2]);
    buffer.push([3]);
    expect(sizes).toEqual([2, 3]);
  });

  it('removes the messages that a predicate accepts and keeps the others in order', () => {
    const buffer = new MessageBuffer<number>(10, 5);
    buffer.push([0, 1, 2, 3, 4, 5]);
    buffer.take();
    expect(buffer.remove((item) => item % 2 === 1)).toEqual([1, 3, 5]);
    expect([buffer.take(), buffer.take(), buffer.take()]).toEqual([2, 4, undefined]);
  });
});
