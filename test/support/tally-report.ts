import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** The counts of one integrity test. */
export interface Counts {
  /** Faults that the test caused: cuts, kills, freezes, deletions. */
  readonly faults: number;
  /** Sends that Redis confirmed. */
  readonly sends: number;
  /** Number of different messages that were handled. */
  readonly handled: number;
  /** Number of handlings beyond the first of each message. */
  readonly duplicates: number;
  /** Messages that were confirmed and never handled. */
  readonly lost: number;
}

export interface TalliedTest extends Counts {
  readonly guarantee: string;
  readonly test: string;
}

/** The environment variable with the path of the file to which workers append. */
export const TALLY_FILE = 'INTEGRITY_TALLY';
const COLUMNS = ['faults', 'sends', 'handled', 'duplicates', 'lost'] as const;

/** Creates the tally of a run, before its first test. */
export function openTally(): void {
  process.env[TALLY_FILE] = join(mkdtempSync(join(tmpdir(), 'integrity-tally-')), 'tests.jsonl');
}

/** Prints the sums for each guarantee and in total, after the last test. */
export function printTally(): void {
  const file = process.env[TALLY_FILE] as string;
  const tests = existsSync(file) ? parse(readFileSync(file, 'utf8')) : [];
  rmSync(dirname(file), { recursive: true });
  const names = [...new Set(tests.map(({ guarantee }) => guarantee))].sort();
  const lines = names.map((name) =>
    row(
      name,
      tests.filter(({ guarantee }) => guarantee === name),
    ),
  );
  const head = ['guarantee'.padEnd(30), 'tests'.padStart(6), ...COLUMNS.map((name) => name.padStart(11))].join('');
  process.stderr.write(`\n${[head, ...lines, row('all', tests)].join('\n')}\n`);
}

function parse(lines: string): TalliedTest[] {
  return lines
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as TalliedTest);
}

function row(name: string, tests: readonly TalliedTest[]): string {
  const sums = COLUMNS.map((column) => tests.reduce((sum, test) => sum + test[column], 0));
  return [name.padEnd(30), String(tests.length).padStart(6), ...sums.map((sum) => String(sum).padStart(11))].join('');
}
