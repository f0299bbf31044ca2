import { appendFileSync } from 'node:fs';
import { basename } from 'node:path';
import { afterEach, expect } from '@jest/globals';

import { TALLY_FILE } from './tally-report.js';
import type { Counts, TalliedTest } from './tally-report.js';

/**
 * Returns a function with which every test of a file reports its counts; the sums are printed after the run. A test
 * that does not report fails, because the counts back the documented guarantees.
 */
export function useTally(): (counts: Counts) => void {
  let counted: Counts | undefined;
  afterEach(() => {
    const { testPath = '', currentTestName = '' } = expect.getState();
    if (!counted) throw new Error(`'${currentTestName}' did not report its counts`);
    const line: TalliedTest = { guarantee: basename(testPath, '.spec.ts'), test: currentTestName, ...counted };
    counted = undefined;
    appendFileSync(process.env[TALLY_FILE] as string, `${JSON.stringify(line)}\n`);
  });
  return (counts) => {
    counted = counts;
  };
}
