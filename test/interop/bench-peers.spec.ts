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
  NATS: ['nats-emit'],
} as const;
/** The goals of the first row. */
const GOALS = { C: 1, Rust: 1, NATS: 0 } as const;

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

/**
 * The reasons why a peer is not tested here. The build in Rust takes minutes, and that beside NATS needs the registry of
 * npm, so only programs that are there are tested.
 */
const missing = {
  C: buildPeer('c'),
  Rust: existsSync(programOf('rust')) ? buildPeer('rust') : 'npm run bench:peers builds it, which needs cargo',
  NATS: existsSync(programOf('nats')) ? buildPeer('nats') : 'npm run bench:peers builds it, which needs nats-server',
};
const peers = Object.keys(ROWS) as Array<keyof typeof ROWS>;

// Without it, a run that has tested nothing would look like one that has.
for (const peer of peers.filter((name) => missing[name] !== undefined)) {
  it(`the benchmarks beside ${peer} are not tested here: ${missing[peer]}`, () => {
    expect(missing[peer]).toMatch(/needs (a C compiler|cargo|nats-server)/);
  });
}

for (const peer of peers.filter((name) => missing[name] === undefined)) {
  it(
    `the benchmarks beside ${peer} measure time and CPU of both, and check the targets`,
    async () => {
      const names = ROWS[peer];
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
      expect(results.rows[0]?.checks).toHaveLength(GOALS[peer]);
      const verdict = new RegExp(`^${names[0]} .* ≥ [0-9.]+× .* (met|missed)$`, 'gm');
      expect(output.match(verdict) ?? []).toHaveLength(GOALS[peer]);
    },
    LIMIT,
  );
}

it(
  'the benchmarks beside C, Rust and NATS are left out with one line each when what they need is missing',
  async () => {
    const { results, output } = await measure([...ROWS.C, 'rust-send', ...ROWS.NATS], { PATH: folder });
    const reasons = [
      'Not measured: c-enqueue, c-consume, c-tail. The C client is missing: its build needs a C compiler',
      'Not measured: rust-send. The program on the Rust reference is missing: its build needs cargo',
      'Not measured: nats-emit. The Nest application on NATS JetStream is missing: its build needs nats-server',
    ];

    expect(results.rows).toEqual([]);
    expect(results.missing).toEqual(reasons.map((reason) => expect.stringContaining(reason)));
    for (const reason of reasons) expect(output).toContain(reason);
  },
  LIMIT,
);
