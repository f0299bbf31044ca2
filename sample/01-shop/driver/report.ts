import type { GroupDetails } from '../../../lib/index.js';
import type { Tallies } from './tally.js';
import type { Traffic } from './traffic.js';

export interface Outcome {
  readonly table: string;
  readonly lost: number;
  readonly pending: number;
}

/** One row of the table: a service with its group, or one instance of a service. */
interface Row {
  readonly title: string;
  readonly name: string;
  readonly group?: string;
  /** A service must handle every order, an instance only a part of them. */
  readonly isService: boolean;
}

const ROWS: readonly Row[] = [
  { title: 'orders', name: 'orders', group: 'orders-service', isService: true },
  { title: '  orders-1', name: 'orders-1', isService: false },
  { title: '  orders-2 (killed)', name: 'orders-2', isService: false },
  { title: 'payments', name: 'payments', group: 'payments-service', isService: true },
  { title: 'dashboard', name: 'dashboard', isService: true },
];
const HEAD = ['', 'sent', 'handled', 'redelivered', 'lost', 'pending', 'p50', 'p99', 'max'];

/** Counts the orders sent, handled, lost, and still pending after all services have stopped. */
export function report(
  { accepted }: Pick<Traffic, 'accepted'>,
  tallies: Tallies,
  groups: readonly GroupDetails[],
): Outcome {
  let [lost, pending] = [0, 0];
  const rows = ROWS.map(({ title, name, group, isService }) => {
    const tally = tallies.of(name);
    const missing = isService ? tally.missing(accepted) : 0;
    // A group that does not exist has delivered nothing.
    const waiting = group === undefined ? 0 : (groups.find((info) => info.name === group)?.pending ?? accepted.size);
    lost += missing;
    pending += waiting;
    return [
      title,
      isService ? String(accepted.size) : '',
      String(tally.handled),
      group === undefined && isService ? '-' : String(tally.redelivered),
      isService ? String(missing) : '',
      group === undefined ? (isService ? '-' : '') : String(waiting),
      `${tally.latency(0.5)} ms`,
      `${tally.latency(0.99)} ms`,
      `${tally.latency(1)} ms`,
    ];
  });
  return { table: format([HEAD, ...rows]), lost, pending };
}

function format(rows: readonly string[][]): string {
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const lines = rows.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))),
  );
  return lines.map((cells) => cells.join('   ')).join('\n');
}
