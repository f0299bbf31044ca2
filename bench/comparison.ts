import { removeKeys } from './contenders/setting.js';
import { MORE_IS_BETTER } from './row.js';
import type { Metric, Setting } from './row.js';
import { loadRow } from './rows.js';
import type { RowName } from './rows.js';
import { ratioOf, summarize } from './statistics.js';
import type { Summary } from './statistics.js';
import { metricsOf, takeTurns, valuesOf } from './turns.js';
import type { Outcome } from './turns.js';

/** One of two ways to run the same contender. */
interface Side {
  readonly name: string;
  readonly setting: Setting;
  readonly env?: NodeJS.ProcessEnv;
}

export type Sides = readonly [Side, Side];

type Verdict = 'better' | 'same' | 'worse';

/** One metric of an entrant, on both sides. */
interface ComparedMetric {
  readonly metric: Metric;
  readonly figures: readonly [Summary, Summary];
  /** First side / second side. */
  readonly ratio: Summary;
  /** The same of the best round of each side: other work on the machine disturbs it least. */
  readonly bestRatio: number;
  /** Of the first side. */
  readonly verdict: Verdict;
}

export interface ComparedEntrant {
  readonly name: string;
  readonly metrics: readonly ComparedMetric[];
}

export interface ComparedRow {
  readonly name: RowName;
  readonly title: string;
  readonly sides: readonly [string, string];
  readonly rounds: number;
  readonly entrants: readonly ComparedEntrant[];
  /** Why there is no result. */
  readonly failure?: string;
}

/** A smaller difference of the medians is noise, and so is any difference while the figures of the two sides overlap. */
const NOISE = 0.05;

/**
 * Runs the entrants of a row that use this package on two sides, round by round in turn. What goes wrong is the row's
 * result, so that the others are compared all the same.
 */
export async function compareRow(name: RowName, sides: Sides, rounds: number): Promise<ComparedRow> {
  const row = await loadRow(name);
  const described = { name, title: row.title, sides: [sides[0].name, sides[1].name] as const, rounds };
  try {
    for (const { setting } of sides) await row.setUp?.(setting);
    const entrants = row.entrants.filter(({ isPeer }) => !isPeer);
    const contenders = entrants.flatMap((entrant) =>
      sides.map(({ name: side, setting, env = {} }) => ({ row: name, entrant: entrant.name, side, setting, env })),
    );
    const outcomes = await takeTurns(row, contenders, rounds);
    const compared = entrants.map((entrant) => {
      const [first, second] = outcomes.filter(({ orders }) => orders.entrant === entrant.name) as [Outcome, Outcome];
      const measured = new Set(metricsOf(first));
      const metrics = [...new Set<Metric>([...row.metrics, 'cpu'])].filter((metric) => measured.has(metric));
      return { name: entrant.name, metrics: metrics.map((metric) => compareMetric(metric, first, second)) };
    });
    return { ...described, entrants: compared };
  } catch (error) {
    return { ...described, entrants: [], failure: (error as Error).message };
  } finally {
    for (const { setting } of sides) await removeKeys(setting);
  }
}

function compareMetric(metric: Metric, first: Outcome, second: Outcome): ComparedMetric {
  const values = [valuesOf(first, metric), valuesOf(second, metric)] as const;
  const figures = [summarize(values[0]), summarize(values[1])] as const;
  const bestRatio = bestOf(metric, figures[0]) / bestOf(metric, figures[1]);
  return { metric, figures, ratio: ratioOf(...values), bestRatio, verdict: verdictOn(metric, figures) };
}

function bestOf(metric: Metric, { lowest, highest }: Summary): number {
  return MORE_IS_BETTER.has(metric) ? highest : lowest;
}

function verdictOn(metric: Metric, [first, second]: ComparedMetric['figures']): Verdict {
  const isMore = first.median > second.median * (1 + NOISE) && first.lowest > second.highest;
  const isLess = first.median < second.median * (1 - NOISE) && first.highest < second.lowest;
  if (!isMore && !isLess) return 'same';
  return isMore === MORE_IS_BETTER.has(metric) ? 'better' : 'worse';
}
