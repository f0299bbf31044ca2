import { ContenderLink } from './contender-link.js';
import type { Orders } from './contender-process.js';
import type { Metric, Row } from './row.js';
import type { Measures } from './statistics.js';

const ROUNDS = 7;
const WARM_UPS = 2;

/** What the rounds of one contender measured. */
export interface Outcome {
  readonly orders: Orders;
  readonly rounds: readonly Measures[];
  /** Of all messages of all rounds, where each is timed, in milliseconds. */
  readonly latencies: readonly number[];
  /** Bytes. */
  readonly peakMemory: number;
  readonly heap: number;
}

interface Run {
  readonly orders: Orders;
  readonly link: ContenderLink;
  readonly rounds: Measures[];
  readonly latencies: number[];
}

export function roundsOf({ rounds = ROUNDS }: Row, wanted: number | undefined): number {
  return wanted ?? rounds;
}

/**
 * Starts one contender for each of the orders and measures its rounds. Rounds of all contenders alternate, so that
 * whatever else the machine does meets all of them; every second time in reverse, so that none is always the first.
 */
export async function takeTurns(row: Row, contenders: readonly Orders[], rounds: number): Promise<Outcome[]> {
  const { warmUps = WARM_UPS, isParallel } = row;
  const runs: Run[] = [];
  try {
    for (const orders of contenders) {
      runs.push({ orders, link: await ContenderLink.start(orders), rounds: [], latencies: [] });
    }
    for (let round = -warmUps; round < rounds; round += 1) {
      const order = round % 2 === 0 ? runs : [...runs].reverse();
      const turn = async (run: Run): Promise<void> => {
        const { measures, latencies } = await run.link.round();
        if (round < 0) return;
        run.rounds.push(measures);
        run.latencies.push(...latencies);
      };
      if (isParallel) await Promise.all(order.map(turn));
      else for (const run of order) await turn(run);
    }
    for (const { link } of runs) await link.close();
    return runs.map(({ orders, rounds: measured, latencies, link }) => ({
      orders,
      rounds: measured,
      latencies,
      peakMemory: link.peakMemory,
      heap: link.heap,
    }));
  } finally {
    for (const { link } of runs) link.kill();
  }
}

/** The metrics that the contender has. */
export function metricsOf({ rounds }: Outcome): Metric[] {
  return Object.keys(rounds[0] ?? {}) as Metric[];
}

export function valuesOf({ rounds }: Outcome, metric: Metric): number[] {
  return rounds.map((measures) => measures[metric] ?? Number.NaN);
}
