import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** What one integrity test counted. */
export interface Counts {
  /** Faults that were caused: cuts, kills, freezes, deletions. */
  readonly faults: number;
  /** Sends that Redis confirmed. */
  readonly sends: number;
  /** Different messages that were handled. */
  readonly handled: number;
  /** How often a message was handled beyond its first time. */
  readonly duplicates: number;
  /** Confirmed and never handled. */
  readonly lost: number;
}

export interface TalliedTest extends Counts {
  readonly guarantee: string;
  readonly test: string;
}

/** The environment variable by which workers learn the file that they append to. */
export const TALLY_FILE = 'INTEGRITY_TALLY';
const COLUMNS = ['faults', 'sends', 'handled', 'duplicates', 'lost'] as const;

/** Begins the tally of a run, before its first test. */
export function openTally(): void {
  process.env[TALLY_FILE] = join(mkdtempSync(join(tmpdir(), 'integrity-tally-')), 'tests.jsonl');
}

/** Prints the sums by guarantee and of all, after the last test. */
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
