import { removeKeys } from './contenders/setting.js';
import type { Check, EntrantResult, RowResult } from './results.js';
import type { Metric, Row, Setting, Target } from './row.js';
import { loadRow } from './rows.js';
import type { RowName } from './rows.js';
import { percentilesOf, ratioOf, summarize } from './statistics.js';
import type { Summary } from './statistics.js';
import { metricsOf, roundsOf, takeTurns, valuesOf } from './turns.js';
import type { Outcome } from './turns.js';

/**
 * Measures one row. What goes wrong there is its result, so that the others are measured all the same.
 * @param rounds in place of the row's own number
 * @param targetsOf what is checked
 */
export async function measureRow(
  name: RowName,
  usual: Setting,
  rounds: number | undefined,
  targetsOf: (row: Row) => readonly Target[],
): Promise<RowResult> {
  const row = await loadRow(name);
  const setting = { ...usual, scale: usual.scale * (row.scale ?? 1) };
  const { title, note, metrics, baseline } = row;
  const described = { name, title, note, metrics, baseline, rounds: roundsOf(row, rounds) };
  try {
    await row.setUp?.(setting);
    const contenders = row.entrants.map((entrant) => ({ row: name, entrant: entrant.name, setting }));
    const outcomes = await takeTurns(row, contenders, described.rounds);
    const entrants = resultsOf(row, outcomes);
    return { ...described, entrants, checks: targetsOf(row).map((target) => checkOf(target, entrants)) };
  } catch (error) {
    return { ...described, entrants: [], checks: [], failure: (error as Error).message };
  } finally {
    await removeKeys(setting);
  }
}

function resultsOf(row: Row, outcomes: readonly Outcome[]): EntrantResult[] {
  const baseline = outcomes.find(({ orders }) => orders.entrant === row.baseline);
  if (row.baseline !== undefined && !baseline) throw new Error(`The baseline '${row.baseline}' is no entrant`);
  const peers = new Set(row.entrants.flatMap(({ name, isPeer }) => (isPeer ? [name] : [])));
  return outcomes.map((outcome) => {
    const name = outcome.orders.entrant;
    const each = (summary: (metric: Metric) => Summary): Partial<Record<Metric, Summary>> =>
      Object.fromEntries(metricsOf(outcome).map((metric) => [metric, summary(metric)]));
    return {
      name,
      isPeer: peers.has(name),
      measures: each((metric) => summarize(valuesOf(outcome, metric))),
      ratios: baseline ? each((metric) => ratioOf(valuesOf(outcome, metric), valuesOf(baseline, metric))) : {},
      ...(outcome.latencies.length > 0 && { latency: percentilesOf(outcome.latencies) }),
      peakMemory: outcome.peakMemory,
      heap: outcome.heap,
    };
  });
}

function checkOf(target: Target, entrants: readonly EntrantResult[]): Check {
  const { entrant: name, metric, atLeast = -Infinity, atMost = Infinity } = target;
  const entrant = entrants.find((candidate) => candidate.name === name);
  const measured = entrant?.ratios[metric] ?? entrant?.measures[metric];
  if (!measured) throw new Error(`'${name}' has no ${metric} to be checked`);
  return { ...target, measured, hasPassed: measured.median >= atLeast && measured.median <= atMost };
}
