import { expect, it } from '@jest/globals';

import { ClaimStrategies } from '../../lib/redis/commands/claim-strategies.js';
import type { CommandSender } from '../../lib/redis/commands/command-sender.js';

type Row = [id: string, consumer: string, idle: number, deliveryCount: number];

/**
 * Strategies on a server whose XAUTOCLAIM returns three entries, and which has these rows when XPENDING asks.
 * @param asked gets the ranges of XPENDING
 * @param failing ways to send that fail
 */
function strategiesWith(rows: readonly Row[], asked: unknown[] = [], failing: object = {}): ClaimStrategies {
  const entry = (id: string): unknown => [Buffer.from(id), [Buffer.from('msg'), Buffer.from('x')]];
  const answer = ([, , , from, to, count]: readonly unknown[]): Row[] => {
    asked.push([from, to, count]);
    return rows.filter(([id]) => id >= String(from) && id <= String(to)).slice(0, Number(count));
  };
  const sender = {
    key: (name: string) => name,
    features: { has: (feature: string) => feature === 'XAUTOCLAIM', isMissing: () => false },
    raw: async () => [Buffer.from('0-0'), ['1-0', '2-0', '5-0'].map(entry), []],
    text: async (_key: string, command: readonly unknown[]) => answer(command),
    pipeline: async (_key: string, commands: ReadonlyArray<readonly unknown[]>) => commands.map(answer),
    ...failing,
  };
  return new ClaimStrategies(sender as unknown as CommandSender, { pending: async () => [] });
}

const REQUEST = { streamKey: 's', group: 'g', consumer: 'me', minIdle: 100, count: 10, after: undefined };
const row = (id: string, deliveryCount: number): Row => [id, 'me', 0, deliveryCount];

it('claim strategies: an entry that is acknowledged or claimed by another consumer before its count is read is not returned', async () => {
  const { entries } = await strategiesWith([row('2-0', 4), row('5-0', 2)]).claim(REQUEST);

  expect(entries.map(({ id, deliveryCount }) => [id, deliveryCount])).toEqual([
    ['2-0', 4],
    ['5-0', 2],
  ]);
});

it('claim strategies: the counts of a page are read by one command, and singly where other entries of ours lie between', async () => {
  const claimed = [row('1-0', 2), row('2-0', 3), row('5-0', 4)];
  const counted = [
    ['1-0', 2],
    ['2-0', 3],
    ['5-0', 4],
  ];
  const asked: unknown[] = [];
  const alone = await strategiesWith(claimed, asked).claim(REQUEST);
  expect(alone.entries.map(({ id, deliveryCount }) => [id, deliveryCount])).toEqual(counted);
  expect(asked).toEqual([['1-0', '5-0', 3]]);

  const between = [...claimed, row('3-0', 9), row('4-0', 9)].sort(([a], [b]) => (a < b ? -1 : 1));
  const { entries } = await strategiesWith(between, asked).claim(REQUEST);
  expect(entries.map(({ id, deliveryCount }) => [id, deliveryCount])).toEqual(counted);
  expect(asked.slice(1)).toEqual([
    ['1-0', '5-0', 3],
    ['5-0', '5-0', 1],
  ]);
});

it('claim strategies: entries are not returned as new when their counts cannot be read', async () => {
  const lost = new Error('the connection was lost');
  const range = strategiesWith([], [], { text: () => Promise.reject(lost) });
  const between = [row('1-0', 2), row('3-0', 9), row('4-0', 9)];
  const singly = strategiesWith(between, [], { pipeline: async () => [lost, lost] });

  await expect(range.claim(REQUEST)).rejects.toBe(lost);
  await expect(singly.claim(REQUEST)).rejects.toBe(lost);
});
