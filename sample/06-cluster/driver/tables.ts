import { sum } from './ledger.js';
import type { Ledger, Result } from './ledger.js';
import type { Watch } from './watch.js';

const HEAD = ['shard', 'node', 'owner', 'generation', 'orders/s', 'lag'];

/** Who owns each shard, and how it proceeds. */
export function shardTable(watch: Watch, ledger: Ledger, seconds: number): string {
  const rows = watch.shards.map(({ shard, node, owner, generation, rate, lag }) =>
    [shard, node, owner, generation, rate, lag].map(String),
  );
  const widths = HEAD.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)));
  const lines = [HEAD, ...rows].map((row) =>
    row
      .map((cell, column) => (isText(column) ? cell.padEnd : cell.padStart).call(cell, widths[column] ?? 0))
      .join('   '),
  );
  return ['', ...lines, statusLine(watch, ledger, seconds)].join('\n');
}

/** The same in one line. */
export function statusLine(watch: Watch, ledger: Ledger, seconds: number): string {
  const { shards, shares } = watch;
  const owned = [...shares]
    .sort(([one], [other]) => one.localeCompare(other))
    .map(([name, share]) => `${name}: ${share}`);
  const [rate, lag] = [
    shards.reduce((total, shard) => total + shard.rate, 0),
    shards.reduce((total, shard) => total + shard.lag, 0),
  ];
  return `${String(seconds).padStart(3)} s  sent ${ledger.sent}  handled ${ledger.handled}  ${rate}/s  lag ${lag}  owned shards: ${owned.join(', ') || 'none'}`;
}

/** The ledger, one row for each number. */
export function ledgerTable({ confirmed, unconfirmed, handled, duplicates, outOfOrder, lost }: Result): string {
  const parts = (counts: ReadonlyMap<string, number>): string =>
    [...counts].map(([name, count]) => `${count} ${name}`).join(', ');
  const rows: ReadonlyArray<readonly [string, number, string]> = [
    ['sent', confirmed + sum(unconfirmed), ''],
    ['confirmed', confirmed, 'a master and its replica have them'],
    ['unconfirmed', sum(unconfirmed), parts(unconfirmed)],
    ['handled', handled, ''],
    ['duplicates', sum(duplicates), parts(duplicates)],
    ['out of order', outOfOrder.length, outOfOrder.slice(0, 5).join(', ')],
    ['lost', lost.length, lost.slice(0, 5).join(', ')],
  ];
  return rows
    .map(([name, count, detail]) => `${name.padEnd(12)} ${String(count).padStart(7)}   ${detail}`.trimEnd())
    .join('\n');
}

function isText(column: number): boolean {
  return column === 1 || column === 2;
}
