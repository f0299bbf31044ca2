import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

import type { Metric, Target } from './row.js';
import type { RowName } from './rows.js';
import type { Percentile, Summary } from './statistics.js';

export interface EntrantResult {
  readonly name: string;
  readonly isPeer: boolean;
  readonly measures: Partial<Record<Metric, Summary>>;
  /** Ratios to the baseline; empty if the row has none. */
  readonly ratios: Partial<Record<Metric, Summary>>;
  /** Of all rounds together, where each message is timed. */
  readonly latency?: readonly Percentile[];
  /** Bytes. */
  readonly peakMemory: number;
  /** Bytes of the heap and its buffers after all rounds and a collection of the garbage. */
  readonly heap: number;
}

export interface Check extends Target {
  /** A ratio if the row has a baseline. */
  readonly measured: Summary;
  readonly hasPassed: boolean;
}

export interface RowResult {
  readonly name: RowName;
  readonly title: string;
  readonly note: string;
  readonly metrics: readonly Metric[];
  readonly baseline?: string | undefined;
  readonly rounds: number;
  readonly entrants: readonly EntrantResult[];
  readonly checks: readonly Check[];
  /** The reason why there is no result. */
  readonly failure?: string;
}

/** The results of a run of the suite, stored as JSON. */
export interface Results {
  readonly takenAt: string;
  /** 1, or less for a trial run of the suite. */
  readonly scale: number;
  readonly environment: Readonly<Record<'node' | 'redis' | 'cores' | 'ioredis' | 'nest' | 'bullmq', string>>;
  readonly rows: readonly RowResult[];
  /** The rows that were not measured for lack of a program, and the reason. */
  readonly missing: readonly string[];
}

export function hasPassed({ checks, failure }: RowResult): boolean {
  return failure === undefined && checks.every((check) => check.hasPassed);
}

export function writeJson(path: string, results: unknown): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(results, undefined, 2)}\n`);
}

export function readResults(path: string): Results {
  return JSON.parse(readFileSync(path, 'utf8')) as Results;
}
