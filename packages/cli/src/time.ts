import { UsageError } from './failure.js';

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** What {@link timeOf} accepts, for the help and for errors. */
export const TIME = 'an ISO date, milliseconds since 1970, or a time ago such as 10m';

/**
 * A point in time, as {@link TIME} describes it.
 * @param accepted by the option, for the error
 * @throws UsageError
 */
export function timeOf(option: string, text: string, accepted = TIME): Date {
  const ago = durationOf(text);
  const isIso = /^\d{4}-\d\d/.test(text);
  const time = /^\d+$/.test(text)
    ? Number(text)
    : ago !== undefined
      ? Date.now() - ago
      : isIso
        ? Date.parse(text)
        : NaN;
  const date = new Date(time);
  if (Number.isNaN(date.getTime()) || time < 0) {
    throw new UsageError(`${option} must be ${accepted}; got '${text}'`);
  }
  return date;
}

/** Milliseconds of `250ms`, `10s`, `10m`, `2h`, `7d`, `1w`; undefined for anything else. */
export function durationOf(text: string): number | undefined {
  const [, count, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/.exec(text) ?? [];
  return count === undefined ? undefined : Math.round(Number(count) * (UNITS[unit] ?? NaN));
}

/**
 * The duration of an option.
 * @param example for the error
 * @throws UsageError
 */
export function durationOption(option: string, text: string, example: string): number {
  const duration = durationOf(text);
  if (duration === undefined) throw new UsageError(`${option} must be a time such as ${example}; got '${text}'`);
  return duration;
}

/** A duration for people: `850 ms`, `12 s`, `3 min`, `2 h`, `5 d`. */
export function readableDuration(milliseconds: number): string {
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  const steps: ReadonlyArray<readonly [unit: string, length: number, next: number]> = [
    ['s', 1_000, 120_000],
    ['min', 60_000, 7_200_000],
    ['h', 3_600_000, 172_800_000],
    ['d', 86_400_000, Infinity],
  ];
  const [unit, length] = steps.find(([, , next]) => milliseconds < next) ?? ['d', 86_400_000];
  return `${Math.floor(milliseconds / length)} ${unit}`;
}
