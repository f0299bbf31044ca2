import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from '@jest/globals';

import { buildPeer, programOf } from '../../bench/peers/build.js';
import type { Results } from '../../bench/results.js';
import { useCompiledBench } from '../support/compiled-samples.js';
import { usePrograms } from '../support/programs.js';
import { redisUrl } from '../support/redis.js';

/** Starts a process for each contender, while both cores may be busy. */
const LIMIT = 120_000;

const ROWS = {
  C: ['c-enqueue', 'c-consume', 'c-tail'],
  Rust: ['rust-send-awaited', 'rust-commit-1000', 'rust-tail'],
} as const;

const bench = useCompiledBench();
const folder = mkdtempSync(join(tmpdir(), 'bench-peers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const start = usePrograms();

/** Runs one round of a twentieth of the work. */
async function measure(
  rows: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ results: Results; output: string }> {
  const out = join(folder, `${rows[0]}.json`);
  const args = [join(bench, 'bench/main.js'), '--peers', '--quick', '--rounds', '1', '--out', out, ...rows];
  const program = start(process.execPath, args, { env: { ...process.env, REDIS_URL: redisUrl(), ...env } });
  await program.ended;
  return { results: JSON.parse(readFileSync(out, 'utf8')) as Results, output: program.output };
}

/** The reasons why a language is not tested here. The build in Rust takes minutes, so only a program that is there is tested. */
const missing = {
  C: buildPeer('c'),
  Rust: existsSync(programOf('rust')) ? buildPeer('rust') : 'npm run bench:peers builds it, which needs cargo',
};
const languages = Object.keys(ROWS) as Array<keyof typeof ROWS>;

// Without it, a run that has tested nothing would look like one that has.
for (const language of languages.filter((name) => missing[name] !== undefined)) {
  it(`the benchmarks beside ${language} are not tested here: ${missing[language]}`, () => {
    expect(missing[language]).toMatch(/needs (a C compiler|cargo)/);
  });
}

for (const language of languages.filter((name) => missing[name] === undefined)) {
  it(
    `the benchmarks beside ${language} measure time and CPU of both, and check the targets`,
    async () => {
      const names = ROWS[language];
      const { results, output } = await measure(names);

      expect(results.missing).toEqual([]);
      expect(results.rows.map(({ name, failure }) => [name, failure])).toEqual(names.map((name) => [name, undefined]));
      for (const { entrants } of results.rows) {
        expect(entrants).toHaveLength(2);
        for (const { measures, ratios, peakMemory } of entrants) {
          expect(measures.rate?.median).toBeGreaterThan(0);
          expect(measures.cpu?.median).toBeGreaterThan(0);
          expect(ratios.cpu?.median).toBeGreaterThan(0);
          expect(peakMemory).toBeGreaterThan(0);
        }
      }
      expect(results.rows[0]?.checks).toHaveLength(1);
      expect(output).toMatch(new RegExp(`^${names[0]} .* ≥ [0-9.]+× .* (met|missed)$`, 'm'));
    },
    LIMIT,
  );
}

it(
  'the benchmarks beside C and Rust are left out with one line each when there is no compiler',
  async () => {
    const { results, output } = await measure([...ROWS.C, 'rust-send'], { PATH: folder });
    const reasons = [
      'Not measured: c-enqueue, c-consume, c-tail. The C client is missing: its build needs a C compiler',
      'Not measured: rust-send. The program on the Rust reference is missing: its build needs cargo',
    ];

    expect(results.rows).toEqual([]);
    expect(results.missing).toEqual(reasons.map((reason) => expect.stringContaining(reason)));
    for (const reason of reasons) expect(output).toContain(reason);
  },
  LIMIT,
);
