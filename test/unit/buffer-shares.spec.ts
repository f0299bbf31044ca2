import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { MessageBuffer } from '../../lib/engine/consuming/message-buffer.js';
import { BufferShares } from '../../lib/engine/consuming/reading/buffer-shares.js';
import type { ReadBuffer, ReadUse } from '../../lib/engine/consuming/reading/read-loop-options.js';
import { withResolvers } from '../../lib/shared/deferred.js';

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** What a read of the loop would reserve now. */
const useOf = (share: ReadBuffer): ReadUse => (share.mustNotBlock ? 'read' : 'blocking read');

/** A read that finds all that it asks for; nothing takes a place in the buffer. */
const makeBusy = (share: ReadBuffer): void => {
  const places = share.credit;
  share.reserve(places, useOf(share))(places);
};

afterEach(() => {
  jest.useRealTimers();
});

describe('shares of a buffer', () => {
  it('one loop has the whole buffer and may always block', () => {
    const share = new BufferShares(() => 1).create(new MessageBuffer(200, 100));
    makeBusy(share);
    expect([share.credit, share.mustNotBlock]).toEqual([200, false]);
  });

  it('a quiet loop asks for a part of its even share, and one that found all it asked for takes a batch without blocking', () => {
    const share = new BufferShares(() => 10).create(new MessageBuffer(200, 100));
    expect([share.credit, share.mustNotBlock]).toEqual([5, false]);
    share.reserve(5, 'blocking read')(5);
    expect([share.credit, share.mustNotBlock]).toEqual([100, true]);
    share.reserve(100, 'read')(99);
    expect([share.credit, share.mustNotBlock]).toEqual([5, false]);
  });

  it('a loop whose task found its part of the places takes a batch the next time, and does not rest before it', async () => {
    const share = new BufferShares(() => 10).create(new MessageBuffer(200, 100));
    const rounds: Array<[places: number, mustNotBlock: boolean]> = [];
    // A scan for idle entries: it asks for half of the places, and finds as many twice; no entry is new.
    for (const found of [3, 50]) {
      rounds.push([share.credit, share.mustNotBlock]);
      share.reserve(share.credit, 'task')(found);
      share.reserve(share.credit, 'read')(0);
      let hasRoom = false;
      void share.room().then(() => (hasRoom = true));
      await turn();
      expect(hasRoom).toBe(true);
    }
    rounds.push([share.credit, share.mustNotBlock]);
    // The scan is over.
    share.reserve(share.credit, 'read')(0);
    rounds.push([share.credit, share.mustNotBlock]);

    expect(rounds).toEqual([
      [5, false],
      [100, true],
      [100, true],
      [5, false],
    ]);
  });

  it('reads never count on the same places, whether they block or not', () => {
    const buffer = new MessageBuffer<number>(30, 10);
    const shares = new BufferShares(() => 20);
    const loops = numbers(20).map(() => shares.create(buffer));
    for (const busy of loops.slice(0, 4)) makeBusy(busy);
    const asked = loops.map((share) => {
      const places = share.credit;
      if (places > 0) share.reserve(places, useOf(share));
      return places;
    });
    expect(asked.reduce((sum, places) => sum + places)).toBe(30);
    expect(asked.slice(0, 4)).toEqual([10, 10, 10, 0]);
  });

  it('reads that block keep at most half of the places; loops past that look every 100 ms', async () => {
    const buffer = new MessageBuffer<number>(6, 10);
    const shares = new BufferShares(() => 12);
    const loops = numbers(12).map(() => shares.create(buffer));
    const blocking = loops.filter((share) => {
      if (!share.mustNotBlock) share.reserve(share.credit, 'blocking read');
      return !share.mustNotBlock;
    });
    expect(blocking.length).toBeLessThanOrEqual(3);
    const polling = loops.at(-1) as ReadBuffer;
    expect([polling.credit, polling.mustNotBlock]).toEqual([1, true]);

    polling.reserve(1, 'read')(0);
    let hasRoom = false;
    const room = polling.room().then(() => (hasRoom = true));
    await turn();
    expect(hasRoom).toBe(false);
    const before = performance.now();
    await room;
    expect(performance.now() - before).toBeGreaterThan(50);
  });

  it('loops without a place wait until some are given back, and get them in the order in which they came', async () => {
    const buffer = new MessageBuffer<number>(100, 100);
    const shares = new BufferShares(() => 3);
    const [first, second, third] = numbers(3).map(() => shares.create(buffer)) as [ReadBuffer, ReadBuffer, ReadBuffer];
    for (const share of [first, second, third]) makeBusy(share);
    const giveBack = first.reserve(first.credit, 'read');
    expect(second.credit).toBe(0);
    const order: string[] = [];
    const waits = [second, third].map(async (share, index) => {
      // As the loops do: both are woken, and the first one takes the places.
      do await share.room();
      while (share.credit === 0);
      order.push(`loop ${index + 2}`);
      return share.reserve(share.credit, 'read');
    });
    await turn();
    expect(order).toEqual([]);

    buffer.push(numbers(30));
    giveBack(30);
    const giveBackSecond = await waits[0];
    await turn();
    expect(order).toEqual(['loop 2']);
    expect(third.credit).toBe(0);
    giveBackSecond?.(0);
    await waits[1];
    expect(order).toEqual(['loop 2', 'loop 3']);
    expect(buffer.credit).toBe(0);
  });

  it('a place that becomes free wakes the loop that has waited longest, and none of the others', async () => {
    const buffer = new MessageBuffer<number>(1, 1);
    const shares = new BufferShares(() => 50);
    const loops = numbers(50).map(() => shares.create(buffer));
    const giveBack = (loops[0] as ReadBuffer).reserve(1, 'read');
    const looks: number[] = [];
    const credit = (share: ReadBuffer, index: number): number => {
      looks.push(index);
      return share.credit;
    };
    const hold = withResolvers<void>();
    const begun = withResolvers<void>();
    const reads = loops.slice(1).map(async (share, index) => {
      do await share.room();
      while (credit(share, index) === 0);
      const end = share.reserve(1, 'read');
      begun.resolve();
      await hold.promise;
      end(0);
    });
    await turn();
    giveBack(0);
    await begun.promise;
    await turn();
    await turn();
    expect(looks).toEqual([0]);

    hold.resolve();
    await Promise.all(reads);
    expect(looks).toEqual(numbers(49));
  });

  it('a loop that needs some steps before it reads keeps the places of its turn', async () => {
    const buffer = new MessageBuffer<number>(20, 10);
    const shares = new BufferShares(() => 2);
    const [flooded, quiet] = [shares.create(buffer), shares.create(buffer, true)];
    makeBusy(flooded);
    buffer.push(numbers(20));
    const asked: string[] = [];
    const read = async (name: string, share: ReadBuffer, steps: number): Promise<void> => {
      await share.room();
      for (let step = 0; step < steps; step += 1) await Promise.resolve();
      asked.push(`${name} ${share.credit}`);
      if (share.credit > 0) share.reserve(share.credit, 'read');
    };
    const reads = [read('quiet', quiet, 20), read('flooded', flooded, 0)];
    for (let taken = 0; taken < 10; taken += 1) buffer.take();
    await Promise.all(reads);
    expect(asked).toEqual(['flooded 8', 'quiet 2']);
  });

  it('a loop that does not read when it is its turn keeps no places', async () => {
    const buffer = new MessageBuffer<number>(1, 1);
    const shares = new BufferShares(() => 2);
    const [first, second] = [shares.create(buffer), shares.create(buffer)];
    buffer.push([1]);
    const rooms = [first.room(), second.room()];
    buffer.take();
    await rooms[0];
    expect([first.credit, second.credit]).toEqual([1, 0]);
    await rooms[1];
    expect([first.credit, second.credit]).toEqual([0, 1]);
    await turn();
    expect([first.credit, second.credit, buffer.credit]).toEqual([1, 1, 1]);
  });

  it('loops that wait are all woken, once, when nothing is left to hand out', async () => {
    const buffer = new MessageBuffer<number>(2, 1, true);
    const shares = new BufferShares(() => 5);
    buffer.push([1, 2]);
    let woken = 0;
    const wait = (share: ReadBuffer): void => void share.room().then(() => (woken += 1));
    const loops = numbers(5).map(() => shares.create(buffer));
    loops.forEach(wait);
    buffer.take();
    buffer.take();
    buffer.wake();
    await turn();
    await turn();
    expect([buffer.isStarved, woken]).toEqual([true, 5]);
    loops.forEach(wait);
    buffer.wake();
    await turn();
    await turn();
    expect(woken).toBe(5);
  });

  it('no place is lost when an abandoned read ends after the next one has begun', () => {
    const share = new BufferShares(() => 2).create(new MessageBuffer(100, 100));
    makeBusy(share);
    const endAbandoned = share.reserve(100, 'read');
    const endNext = share.reserve(100, 'read');
    endAbandoned(100);
    endNext(100);
    expect(share.credit).toBe(100);
  });

  it('a read that should answer at once and does not come back keeps its places for a few seconds only', async () => {
    jest.useFakeTimers();
    const shares = new BufferShares(() => 2);
    const buffer = new MessageBuffer<number>(100, 100);
    const [stuck, other] = [shares.create(buffer), shares.create(buffer)];
    for (const share of [stuck, other]) makeBusy(share);
    const endStuck = stuck.reserve(stuck.credit, 'read');
    expect(other.credit).toBe(0);
    const room = other.room();
    await jest.advanceTimersByTimeAsync(5_000);
    await room;
    expect(other.credit).toBe(100);

    const endOther = other.reserve(100, 'read');
    endStuck(100);
    expect(stuck.credit).toBe(0);
    endOther(0);
    expect(stuck.credit).toBe(100);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('a periodic task reserves its places, and one that found less than its part says nothing about the stream', () => {
    const buffer = new MessageBuffer<number>(100, 10);
    const share = new BufferShares(() => 2).create(buffer);
    const end = share.reserve(share.credit, 'task');
    expect(buffer.credit).toBe(100 - 12);
    end(5);
    expect([share.credit, share.mustNotBlock]).toEqual([12, false]);
  });
});
