import { expect, it } from '@jest/globals';

import { FaultBench } from '../support/fault-bench.js';
import { FuzzRun } from '../support/fuzz/fuzz-run.js';
import type { FuzzReport } from '../support/fuzz/fuzz-run.js';
import { useTally } from '../support/tally.js';

/** The short form; `npm run test:fuzz` runs two minutes. */
const SECONDS = Number(process.env['FUZZ_SECONDS'] ?? 10);
/** Repeats the faults of a run, as far as its timing permits. */
const SEED = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
/** Milliseconds for the set-up, for sends that wait through the last fault, and for consumers that are behind. */
const BESIDE_FAULTS = 150_000;

// On a single server in both topologies: what is damaged is one connection at a time, and in a cluster the connections to each node are
// the same as those to a single server.
const tally = useTally();
const bench = new FaultBench();

function print({ counts, times }: FuzzReport): void {
  const rows = [counts, times].map((table) =>
    Object.entries(table).map(([name, value]) => `${String(value).padStart(12)}  ${name}`),
  );
  process.stderr.write(`wire-fuzz, seed ${SEED}:\n${rows.flat().join('\n')}\n`);
}

it(
  'the wire: receipts, entries and messages match exactly when bytes are torn, joined, delayed and corrupted both ways while every delivery mode sends and every mode reads',
  async () => {
    process.stderr.write(`wire-fuzz: FUZZ_SEED=${SEED} FUZZ_SECONDS=${SECONDS}\n`);
    const run = new FuzzRun(bench, {
      seed: SEED,
      duration: SECONDS * 1_000,
      patience: SECONDS < 60 ? 5_000 : 20_000,
      usesWire: process.env['NESTJS_REDIS_STREAMS_WIRE'] !== 'ioredis',
    });
    const report = await run.run();
    print(report);
    const { cuts, abandoned, stalls, corruptedRequests, corruptedReplies, confirmed, entries, duplicates } =
      report.counts;
    const faults = cuts + abandoned + stalls + corruptedRequests + corruptedReplies;
    tally({ faults, sends: confirmed, handled: entries, duplicates, lost: 0 });
    expect(report.violations).toEqual([]);
    expect(faults).toBeGreaterThan(SECONDS);
  },
  SECONDS * 1_000 + BESIDE_FAULTS,
);
