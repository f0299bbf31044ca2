import type { Metric, Target } from './row.js';
import type { Summary } from './statistics.js';

export type Format = (value: number) => string;

const FORMATS: Readonly<Record<Metric, Format>> = {
  rate: (value) => `${(value / 1_000).toFixed(1)} k/s`,
  byteRate: (value) => `${(value / 1e6).toFixed(1)} MB/s`,
  cost: (value) => `${value.toFixed(2)} µs`,
  cpu: (value) => `${value.toFixed(2)} µs`,
  serverCpu: (value) => `${value.toFixed(2)} µs`,
  p50: (value) => `${value.toFixed(3)} ms`,
  p99: (value) => `${value.toFixed(3)} ms`,
  cpuShare: (value) => `${value.toFixed(2)} %`,
  importTime: (value) => `${value.toFixed(0)} ms`,
  memory: (value) => `${(value / 2 ** 20).toFixed(1)} MiB`,
};

export const METRIC_NAMES: Readonly<Record<Metric, string>> = {
  rate: 'messages',
  byteRate: 'bytes',
  cost: 'time/message',
  cpu: 'CPU/message',
  serverCpu: 'CPU of Redis/message',
  p50: 'p50',
  p99: 'p99',
  cpuShare: 'CPU of a core',
  importTime: 'import',
  memory: 'more memory',
};

export function formatOf(metric: Metric): Format {
  return FORMATS[metric];
}

export function times(value: number): string {
  return `${value.toFixed(2)}×`;
}

/** The format of a target: a multiple of the baseline if the row has one. */
export function targetFormat(metric: Metric, baseline: string | undefined): Format {
  return baseline === undefined ? FORMATS[metric] : times;
}

export function describeTarget({ atLeast, atMost = Number.NaN }: Target, format: Format): string {
  return atLeast === undefined ? `≤ ${format(atMost)}` : `≥ ${format(atLeast)}`;
}

export function describeSpread({ lowest, highest }: Summary, format: Format): string {
  return `${format(lowest)} … ${format(highest)}`;
}
