import type { Metric, ProcessCost, Work } from './row.js';

/** The measurements of one round. */
export type Measures = Partial<Record<Metric, number>>;

/** The summary of several rounds. */
export interface Summary {
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

export function measuresOf(work: Work, { elapsed, cpu }: ProcessCost): Measures {
  const { messages, bytes, serverCpu, latencies, footprint } = work;
  if (footprint) return { ...footprint };
  if (messages === undefined) return { cpuShare: (cpu / elapsed) * 100 };
  return {
    rate: (messages / elapsed) * 1_000,
    cost: (elapsed / messages) * 1_000,
    cpu: (cpu / messages) * 1_000,
    ...(bytes !== undefined && { byteRate: (bytes / elapsed) * 1_000 }),
    ...(serverCpu !== undefined && { serverCpu: (serverCpu / messages) * 1_000 }),
    ...(latencies && { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) }),
  };
}

export function summarize(values: readonly number[]): Summary {
  return { median: quantile(values, 0.5), lowest: Math.min(...values), highest: Math.max(...values) };
}

/**
 * The ratios round by round, between rounds that are next to each other in time, because other load on the machine affects
 * both of them.
 */
export function ratioOf(values: readonly number[], baseline: readonly number[]): Summary {
  return summarize(values.map((value, round) => value / (baseline[round] ?? Number.NaN)));
}

/** So many percent of the messages took at most that long. */
export interface Percentile {
  readonly percentile: number;
  readonly milliseconds: number;
}

const PERCENTILES = [1, 10, 25, 50, 75, 90, 95, 99, 99.9];

export function percentilesOf(latencies: readonly number[]): Percentile[] {
  return PERCENTILES.map((percentile) => ({ percentile, milliseconds: quantile(latencies, percentile / 100) }));
}

/** Computes a percentile with linear interpolation between neighbors. */
function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const position = (sorted.length - 1) * share;
  const below = sorted[Math.floor(position)] ?? Number.NaN;
  const above = sorted[Math.ceil(position)] ?? Number.NaN;
  return below + (above - below) * (position - Math.floor(position));
}
