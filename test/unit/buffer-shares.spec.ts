import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { MessageBuffer } from '../../lib/engine/consuming/message-buffer.js';
import { BufferShares } from '../../lib/engine/consuming/reading/buffer-shares.js';

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

describe('shares of a buffer', () => {
  it('one loop has the whole buffer and may always block', () => {
    const share = new BufferShares(() => 1).create(new MessageBuffer(200, 100));
    share.reserve(share.credit)(200);
    expect([share.credit, share.mustNotBlock]).toEqual([200, false]);
  });

  it('a quiet loop asks for a part of its even share, and one that found all it asked for takes a batch without blocking', () => {
    const share = new BufferShares(() => 10).create(new MessageBuffer(200, 100));
    expect([share.credit, share.mustNotBlock]).toEqual([5, false]);
    share.reserve(share.credit)(5);
    expect([share.credit, share.mustNotBlock]).toEqual([100, true]);
    share.reserve(share.credit)(99);
    expect([share.credit, share.mustNotBlock]).toEqual([5, false]);
  });

  it('reads of busy loops never count on the same places, and a loop without any waits until some are released', async () => {
    const buffer = new MessageBuffer<number>(150, 100);
    const shares = new BufferShares(() => 3);
    const [first, second, third] = [buffer, buffer, buffer].map((each) => shares.create(each)) as [
      ReturnType<BufferShares['create']>,
      ReturnType<BufferShares['create']>,
      ReturnType<BufferShares['create']>,
    ];
    for (const share of [first, second, third]) share.reserve(share.credit)(share.credit);
    first.reserve(first.credit);
    const release = second.reserve(second.credit);
    expect(third.credit).toBe(0);
    let hasRoom = false;
    const room = third.room().then(() => (hasRoom = true));
    await turn();
    expect(hasRoom).toBe(false);

    buffer.push(numbers(30));
    release(30);
    await room;
    expect(third.credit).toBe(150 - 100 - 30);
  });

  it('no place is lost when an abandoned read ends after the next one has begun', () => {
    const share = new BufferShares(() => 2).create(new MessageBuffer(100, 100));
    share.reserve(share.credit)(share.credit);
    const endAbandoned = share.reserve(100);
    const endNext = share.reserve(100);
    endAbandoned(100);
    endNext(100);
    expect(share.credit).toBe(100);
  });

  it('a read that does not come back keeps its places for a second only', async () => {
    const shares = new BufferShares(() => 2);
    const buffer = new MessageBuffer<number>(100, 100);
    const [stuck, other] = [shares.create(buffer), shares.create(buffer)];
    for (const share of [stuck, other]) share.reserve(share.credit)(share.credit);
    const endStuck = stuck.reserve(stuck.credit);
    expect(other.credit).toBe(0);
    await other.room();
    expect(other.credit).toBe(100);

    const endOther = other.reserve(100);
    endStuck(100);
    expect(stuck.credit).toBe(0);
    endOther(0);
    expect(stuck.credit).toBe(100);
  });
});
