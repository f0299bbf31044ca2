import { Redis } from 'ioredis';

import { ContenderLink } from './contender-link.js';
import { KEY_PREFIX } from './row.js';
import type { Entrant, Metric, Row, Setting, Target } from './row.js';
import type { Check, EntrantResult, RowResult } from './results.js';
import { loadRow } from './rows.js';
import type { RowName } from './rows.js';
import { ratioOf, summarize } from './statistics.js';
import type { Measures, Summary } from './statistics.js';

const ROUNDS = 7;
const WARM_UPS = 2;

interface Run {
  readonly entrant: Entrant;
  readonly link: ContenderLink;
  readonly rounds: Measures[];
}

/** Measures one row. A failure becomes the result of the row, so that the other rows are still measured. */
export async function measureRow(name: RowName, setting: Setting): Promise<RowResult> {
  const row = await loadRow(name);
  const { title, note, metrics, baseline, rounds = ROUNDS } = row;
  const described = { name, title, note, metrics, baseline, rounds };
  const runs: Run[] = [];
  try {
    await row.setUp?.(setting);
    for (const entrant of row.entrants) {
      const link = await ContenderLink.start({ row: name, entrant: entrant.name, setting });
      runs.push({ entrant, link, rounds: [] });
    }
    await takeTurns(row, runs);
    for (const { link } of runs) await link.close();
    const entrants = runs.map((run) => resultOf(run, baselineOf(row, runs)));
    return { ...described, entrants, checks: row.targets.map((target) => checkOf(target, entrants)) };
  } catch (error) {
    return { ...described, entrants: [], checks: [], failure: (error as Error).message };
  } finally {
    for (const { link } of runs) link.kill();
    await removeKeys(setting.url);
  }
}

/**
 * Alternates the rounds of all entrants, so that other load on the machine affects all of them; every second pass runs
 * in reverse order, so that no entrant is always first.
 */
async function takeTurns(
  { rounds = ROUNDS, warmUps = WARM_UPS, isParallel }: Row,
  runs: readonly Run[],
): Promise<void> {
  for (let round = -warmUps; round < rounds; round += 1) {
    const order = round % 2 === 0 ? runs : [...runs].reverse();
    const turn = async (run: Run): Promise<void> => {
      const measures = await run.link.round();
      if (round >= 0) run.rounds.push(measures);
    };
    if (isParallel) await Promise.all(order.map(turn));
    else for (const run of order) await turn(run);
  }
}

function baselineOf(row: Row, runs: readonly Run[]): Run | undefined {
  if (row.baseline === undefined) return undefined;
  const baseline = runs.find(({ entrant }) => entrant.name === row.baseline);
  if (!baseline) throw new Error(`The baseline '${row.baseline}' is no entrant`);
  return baseline;
}

function resultOf({ entrant, link, rounds }: Run, baseline: Run | undefined): EntrantResult {
  const metrics = Object.keys(rounds[0] ?? {}) as Metric[];
  const each = (summary: (metric: Metric) => Summary): Partial<Record<Metric, Summary>> =>
    Object.fromEntries(metrics.map((metric) => [metric, summary(metric)]));
  return {
    name: entrant.name,
    isPeer: entrant.isPeer ?? false,
    measures: each((metric) => summarize(valuesOf(rounds, metric))),
    ratios: baseline ? each((metric) => ratioOf(valuesOf(rounds, metric), valuesOf(baseline.rounds, metric))) : {},
    peakMemory: link.peakMemory,
  };
}

function valuesOf(rounds: readonly Measures[], metric: Metric): number[] {
  return rounds.map((measures) => measures[metric] ?? Number.NaN);
}

function checkOf(target: Target, entrants: readonly EntrantResult[]): Check {
  const { entrant: name, metric, atLeast = -Infinity, atMost = Infinity } = target;
  const entrant = entrants.find((candidate) => candidate.name === name);
  const measured = entrant?.ratios[metric] ?? entrant?.measures[metric];
  if (!measured) throw new Error(`'${name}' has no ${metric} to be checked`);
  return { ...target, measured, hasPassed: measured.median >= atLeast && measured.median <= atMost };
}

async function removeKeys(url: string): Promise<void> {
  const redis = new Redis(url);
  for await (const keys of redis.scanStream({ match: `${KEY_PREFIX}*`, count: 1_000 })) {
    if ((keys as string[]).length > 0) await redis.unlink(...(keys as string[]));
  }
  await redis.quit();
}
