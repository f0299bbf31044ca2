import { expect, it } from '@jest/globals';

import { ClaimStrategies } from '../../lib/redis/commands/claim-strategies.js';
import type { CommandSender } from '../../lib/redis/commands/command-sender.js';

/** A server with XAUTOCLAIM that gives two entries, and then answers with these counts. */
function strategiesOver(counts: readonly unknown[]): ClaimStrategies {
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

it('an entry that was acknowledged, or claimed by another, before its count was known is not handed out', async () => {
  const { entries } = await strategiesOver([[], PENDING]).claim(REQUEST);

  expect(entries.map(({ id, deliveryCount }) => [id, deliveryCount])).toEqual([['2-0', 4]]);
});

it('entries whose counts cannot be learnt are not handed out as if they were new', async () => {
  const lost = new Error('the connection was lost');

  await expect(strategiesOver([PENDING, lost]).claim(REQUEST)).rejects.toBe(lost);
});
