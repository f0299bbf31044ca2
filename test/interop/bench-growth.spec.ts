import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from '@jest/globals';

import type { Results } from '../../bench/results.js';
import { useCompiledBench } from '../support/compiled-samples.js';
import { usePrograms } from '../support/programs.js';
import { redisUrl } from '../support/redis.js';

/** Starts a process for each size, while both cores may be busy. */
const LIMIT = 180_000;
/** A row of three series, and the sizes up to a thousand. */
const ROWS = {
  'growth-head': ['1,000 entries'],
  'growth-streams-enqueue': ['1 streams', '10 streams', '100 streams', '1,000 streams'],
  'growth-payloads-tail': ['64 bytes', '256 bytes'],
};

const bench = useCompiledBench();
const folder = mkdtempSync(join(tmpdir(), 'bench-growth-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const start = usePrograms();

it(
  'the benchmark of growth measures the client, Redis and memory at each size, the streams on a cluster too',
  async () => {
    const out = join(folder, 'growth.json');
    const options = ['--growth', '--quick', '--rounds', '1', '--largest', '1000', '--out', out];
    const program = start(process.execPath, [join(bench, 'bench/main.js'), ...options, ...Object.keys(ROWS)], {
      env: { ...process.env, REDIS_URL: redisUrl() },
    });
    // Before the test runs into its limit, which would not say where the benchmark was.
    await program.untilEnded(LIMIT - 30_000);
    const { rows } = JSON.parse(readFileSync(out, 'utf8')) as Results;

    const streams = ROWS['growth-streams-enqueue'];
    const expected = [...Object.entries(ROWS), ['growth-streams-enqueue', streams] as const];
    const found = rows.map(({ name, failure, entrants }) => [name, failure, entrants.map((entrant) => entrant.name)]);
    expect(found).toEqual(expected.map(([name, sizes]) => [name, undefined, sizes]));
    for (const { entrants, metrics } of rows) {
      for (const { measures, ratios, heap, peakMemory } of entrants) {
        for (const metric of metrics) expect(measures[metric]?.median).toBeGreaterThan(0);
        expect(ratios.cpu?.median).toBeGreaterThan(0);
        expect(peakMemory).toBeGreaterThan(heap);
        expect(heap).toBeGreaterThan(0);
      }
    }
    expect(rows.at(-1)?.title).toMatch(/on a cluster of three masters$/);
    expect(program.output).toMatch(/^growth-payloads-tail +bytes, 256 bytes + ≥ 0\.91× .* (met|missed)$/m);
    expect(program.output).toContain('### A group at the head of a growing backlog');
  },
  LIMIT,
);
