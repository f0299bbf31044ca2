import { describe, expect, it } from '@jest/globals';
import { SCENARIOS, simulateOwnership } from '../../bench/ownership/simulation.js';
import { leaseScanInterval, smallestShare, wantedShards } from '../../lib/engine/consuming/ownership/fair-share.js';

describe('sharing shards without a coordinator, in virtual time', () => {
  it.each(SCENARIOS)('spreads 12 shards over 5 members evenly, with one owner of each: %s', async (scenario) => {
    const result = await simulateOwnership({ scenario, members: 5, shards: 12, seed: 7 });
    expect(result.evenAfter).toBeLessThan(120);
    expect(result.most - result.least).toBeLessThanOrEqual(1);
    expect(result.doubleOwners).toBe(0);
    expect(result.moves).toBeLessThanOrEqual(4 * Math.max(3, result.leastMoves));
  });

  it.each([1, 2, 3])('spreads them over a network that delays and loses messages, with seed %i', async (seed) => {
    const result = await simulateOwnership({
      scenario: 'half-die',
      members: 6,
      shards: 12,
      seed,
      delay: 200,
      loss: 0.02,
    });
    expect(result.evenAfter).toBeDefined();
    expect(result.doubleOwners).toBe(0);
  });

  it('moves few more shards than must move when a member joins nine others with 200 shards', async () => {
    const result = await simulateOwnership({ scenario: 'one-joins', members: 9, shards: 200, seed: 1 });
    expect(result.moves).toBeLessThanOrEqual(1.5 * result.leastMoves);
  });

  it('gives a shard that was handed over an owner long before its promise would end', async () => {
    const result = await simulateOwnership({ scenario: 'one-joins', members: 9, shards: 200, seed: 1 });
    expect(result.longestWithoutOwner).toBeLessThan(5);
  });

  it('limits the looks at leases of all members together', async () => {
    const result = await simulateOwnership({ scenario: 'one-dies', members: 50, shards: 400, seed: 1 });
    expect(result.evenAfter).toBeDefined();
    // Each look at a lease is two commands.
    expect(result.commandsAtMost).toBeLessThan(60_000);
  });

  it('the same seed gives the same run', async () => {
    const run = (): Promise<unknown> => simulateOwnership({ scenario: 'rolling', members: 4, shards: 12, seed: 3 });
    expect(await run()).toEqual(await run());
  });
});

describe('the rule of the fair share', () => {
  it.each([
    ['takes what it lacks', { owned: 0, members: 5, above: 0, most: 0 }, { free: 2, fromOthers: 2 }],
    [
      'takes one more while fewer members than possible have one more',
      { owned: 2, members: 5, above: 1, most: 3 },
      { free: 1, fromOthers: 0 },
    ],
    ['asks a member that has two more', { owned: 2, members: 5, above: 1, most: 4 }, { free: 1, fromOthers: 1 }],
    ['wants nothing where all is even', { owned: 2, members: 5, above: 2, most: 3 }, { free: 0, fromOthers: 0 }],
    ['wants nothing above its share', { owned: 3, members: 5, above: 1, most: 3 }, { free: 0, fromOthers: 0 }],
  ])('a member %s', (_, { owned, members, above, most }, expected) => {
    const view = { shards: 12, load: owned, loadOfMost: most };
    expect(wantedShards({ ...view, owned, members, above, most })).toEqual(expected);
  });

  it('the smallest share is rounded down, and looks are rarer the more leases and members there are', () => {
    expect(smallestShare(12, 5)).toBe(2);
    expect(leaseScanInterval(12, 5)).toBeLessThan(10);
    expect(leaseScanInterval(1_000, 1_000)).toBeGreaterThan(10_000);
  });
});
