import type { GroupRow, StreamRow } from '../../src/api.js';
import { formatDuration } from './time.js';

const whole = new Intl.NumberFormat();
const one = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 });

/** Stands for an unknown figure. */
export const UNKNOWN = '–';

export function formatCount(count: number | null): string {
  return count === null ? UNKNOWN : whole.format(count);
}

/** For narrow places: `9.9M` from a million on. */
export function formatShortCount(count: number | null): string {
  return count !== null && count >= 1e6 ? short.format(count) : formatCount(count);
}

export function formatRate(rate: number | null): string {
  if (rate === null) return UNKNOWN;
  return `${rate >= 100 ? whole.format(Math.round(rate)) : one.format(rate)}/s`;
}

export function formatBytes(bytes: number | null): string {
  if (bytes === null) return UNKNOWN;
  if (bytes < 1_000) return `${bytes} B`;
  const exponent = Math.min(4, Math.floor(Math.log10(bytes) / 3));
  const figure = bytes / 1_000 ** exponent;
  return `${figure >= 100 ? Math.round(figure) : one.format(figure)} ${['B', 'kB', 'MB', 'GB', 'TB'][exponent]}`;
}

export function formatSeconds(seconds: number | null): string {
  return seconds === null ? UNKNOWN : formatDuration(seconds * 1_000);
}

/** `1 message`, `2 messages` */
export function countOf(count: number, one: string, many = `${one}s`): string {
  return `${whole.format(count)} ${count === 1 ? one : many}`;
}

/** The most urgent last. */
const LEVELS = ['done', 'close', 'unknown', 'paused', 'behind', 'far'] as const;
export type Level = (typeof LEVELS)[number];

export const LEVEL_WORDS: Readonly<Record<Level, string>> = {
  done: 'Up to date',
  close: 'Keeping up',
  unknown: 'Unknown',
  paused: 'Paused',
  behind: 'Behind',
  far: 'Far behind',
};

const BEHIND_SECONDS = 10;
const FAR_SECONDS = 60;

type Lag = Pick<GroupRow, 'lag' | 'lagSeconds' | 'isPaused'>;

/** Decided by the age of the oldest entry that was not delivered, because a busy stream always has some. */
export function levelOf({ lag, lagSeconds, isPaused }: Lag): Level {
  if (isPaused) return 'paused';
  if (lag === 0 || lagSeconds === 0) return 'done';
  if (lagSeconds === null) return lag === null ? 'unknown' : 'behind';
  if (lagSeconds >= FAR_SECONDS) return 'far';
  return lagSeconds >= BEHIND_SECONDS ? 'behind' : 'close';
}

export function compareUrgency(a: GroupRow, b: GroupRow): number {
  const levels = LEVELS.indexOf(levelOf(b)) - LEVELS.indexOf(levelOf(a));
  return levels || (b.lag ?? 0) - (a.lag ?? 0) || a.name.localeCompare(b.name);
}

export function mostUrgent({ groups }: StreamRow): GroupRow | undefined {
  return [...groups].sort(compareUrgency)[0];
}

const SAMPLES = 24;
const rates = new Map<string, { at: number; values: number[] }>();

/** Of each stream that a page has shown, since it was first shown. */
export function noteRates(rows: readonly StreamRow[], at: number): void {
  for (const { stream, rate } of rows) {
    const noted = rates.get(stream) ?? { at: 0, values: [] };
    if (rate === null || noted.at === at) continue;
    rates.set(stream, { at, values: [...noted.values.slice(1 - SAMPLES), rate] });
  }
}

export function notedRates(stream: string): readonly number[] {
  return rates.get(stream)?.values ?? [];
}
