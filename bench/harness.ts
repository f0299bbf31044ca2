/** One way to do the same work as the others of its comparison. */
export interface Contender {
  readonly name: string;
  /** Does the work once; resolves with how many messages it took care of in a second. */
  round(): Promise<number>;
}

export interface Comparison {
  readonly title: string;
  /** What exactly is done, in a line or two. */
  readonly note: string;
  /** The first is what the others are measured against. */
  readonly contenders: readonly Contender[];
  close(): Promise<void>;
}

const WARM_UPS = 2;
const ROUNDS = 7;

/** Milliseconds of work, as messages in a second. */
export async function rate(messages: number, work: () => Promise<void>): Promise<number> {
  // What earlier rounds left behind must not be cleaned up on the time of this one.
  globalThis.gc?.();
  const start = performance.now();
  await work();
  return (messages / (performance.now() - start)) * 1_000;
}

/**
 * Lets the contenders take turns, so that whatever else the machine does meets all of them, and prints what came out. The
 * ratio is taken round by round, between neighbours in time; absolute figures say more about the machine.
 */
export async function compare({ title, note, contenders, close }: Comparison): Promise<void> {
  const rates = contenders.map((): number[] => []);
  try {
    for (let round = -WARM_UPS; round < ROUNDS; round += 1) {
      const order = [...contenders.keys()];
      if (round % 2 !== 0) order.reverse();
      for (const index of order) {
        const measured = await (contenders[index] as Contender).round();
        if (round >= 0) rates[index]?.push(measured);
      }
    }
  } finally {
    await close();
  }
  const baseline = rates[0] ?? [];
  const rows = contenders.map(({ name }, index) => {
    const own = rates[index] ?? [];
    const ratios = own.map((value, round) => value / (baseline[round] ?? Number.NaN));
    return [name, perSecond(median(own)), spread(own, perSecond), times(median(ratios)), spread(ratios, times)];
  });
  console.log(`\n${title}\n${note}\n`);
  console.log(table([['', 'median', 'lowest … highest', 'ratio', 'lowest … highest'], ...rows]));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

function spread(values: readonly number[], format: (value: number) => string): string {
  return `${format(Math.min(...values))} … ${format(Math.max(...values))}`;
}

function perSecond(value: number): string {
  return `${(value / 1_000).toFixed(1)} k/s`;
}

function times(value: number): string {
  return `${value.toFixed(2)}×`;
}

function table(rows: readonly string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('   ');
  return rows.map((row) => line(row).trimEnd()).join('\n');
}
