import { beforeEach, describe, expect, it } from '@jest/globals';

import { Spread } from '../../bench/shards/spread.js';

describe('the spread of shards over consumers that the benchmark measures', () => {
  let spread: Spread;
  const assigned = (member: string, shard: number, at: number): void =>
    spread.move(member, { change: 'assigned', shard, at });
  const revoked = (member: string, shard: number, at: number): void =>
    spread.move(member, { change: 'revoked', shard, at });

  beforeEach(() => {
    spread = new Spread(3);
    spread.join('one');
    spread.join('other');
    assigned('one', 0, 100);
    assigned('one', 1, 110);
  });

  it('is even from the moment when each shard has an owner and none owns two more than another', () => {
    expect(spread.evenSince).toBeUndefined();
    assigned('other', 2, 120);
    expect(spread.evenSince).toBe(120);
  });

  it('is not even while one consumer owns all shards, or a new one owns none', () => {
    assigned('one', 2, 120);
    expect(spread.evenSince).toBeUndefined();
    revoked('one', 2, 130);
    assigned('other', 2, 140);
    expect(spread.evenSince).toBe(140);
    spread.join('third');
    expect(spread.evenSince).toBeUndefined();
  });

  it('is even again when others own the shards of a consumer that was killed', () => {
    assigned('other', 2, 120);
    spread.leave('one', 200);
    expect(spread.evenSince).toBeUndefined();
    assigned('other', 0, 10_000);
    assigned('other', 1, 10_200);
    expect(spread.evenSince).toBe(10_200);
  });

  it('measures how long a shard has no owner between two owners, also when its new owner reports first', () => {
    revoked('one', 1, 300);
    assigned('other', 1, 450);
    expect(spread.longestWithoutOwner).toBe(150);
    assigned('other', 0, 500);
    revoked('one', 0, 499);
    spread.leave('other', 600);
    assigned('one', 0, 10_000);
    expect(spread.longestWithoutOwner).toBe(150);
  });
});
