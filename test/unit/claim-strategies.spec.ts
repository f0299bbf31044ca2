import { expect, it } from '@jest/globals';

import { ClaimStrategies } from '../../lib/redis/commands/claim-strategies.js';
import type { CommandSender } from '../../lib/redis/commands/command-sender.js';

/** Strategies on a server whose XAUTOCLAIM returns two entries, and whose XPENDING returns these delivery counts for them. */
function strategiesWith(counts: readonly unknown[]): ClaimStrategies {
  const entry = (id: string): unknown => [Buffer.from(id), [Buffer.from('msg'), Buffer.from('x')]];
  const sender = {
    key: (name: string) => name,
    features: { has: (feature: string) => feature === 'XAUTOCLAIM', isMissing: () => false },
    raw: async () => [Buffer.from('0-0'), [entry('1-0'), entry('2-0')], []],
    pipeline: async () => counts,
  };
  return new ClaimStrategies(sender as unknown as CommandSender, { pending: async () => [] });
}

const REQUEST = { streamKey: 's', group: 'g', consumer: 'me', minIdle: 100, count: 10, after: undefined };
const PENDING = [['2-0', 'me', 0, 4]];

it('claim strategies: an entry that is acknowledged or claimed by another consumer before its count is read is not returned', async () => {
  const { entries } = await strategiesWith([[], PENDING]).claim(REQUEST);

  expect(entries.map(({ id, deliveryCount }) => [id, deliveryCount])).toEqual([['2-0', 4]]);
});

it('claim strategies: entries are not returned as new when their counts cannot be read', async () => {
  const lost = new Error('the connection was lost');

  await expect(strategiesWith([PENDING, lost]).claim(REQUEST)).rejects.toBe(lost);
});
