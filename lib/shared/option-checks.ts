import { MAX_ID_MILLISECONDS } from '../constants.js';
import { InvalidOptionError } from './errors.js';
import { kindOf } from './error-text.js';

/** The longest time of a timer in Node.js, almost 25 days; a longer one would fire at once. */
export const MAX_TIME = 2 ** 31 - 1;

/** The rules for values of options. @throws InvalidOptionError that names option, rule and value */
export const check = Object.freeze({
  string(option: string, value: unknown): void {
    if (typeof value !== 'string') throw new InvalidOptionError(option, 'must be a string', value);
  },

  name(option: string, value: unknown): void {
    if (typeof value !== 'string' || value === '')
      throw new InvalidOptionError(option, 'must be a non-empty string', value);
  },

  boolean(option: string, value: unknown): void {
    if (typeof value !== 'boolean') throw new InvalidOptionError(option, 'must be true or false', value);
  },

  integer(option: string, value: unknown, min: number, max: number = Number.MAX_SAFE_INTEGER): void {
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return;
    const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
    throw new InvalidOptionError(option, `must be a whole number ${range}`, value);
  },

  number(option: string, value: unknown, min: number, max: number): void {
    if (typeof value === 'number' && value >= min && value <= max) return;
    throw new InvalidOptionError(option, `must be a number from ${min} to ${max}`, value);
  },

  /** Milliseconds that a timer may wait. An age that is only compared may be longer: {@link check.integer}. */
  time(option: string, value: unknown, min: number, max: number = MAX_TIME): void {
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return;
    throw new InvalidOptionError(option, `must be a whole number of milliseconds from ${min} to ${max}`, value);
  },

  /** The same, where `false` switches off what the timer is for. */
  timeOrFalse(option: string, value: unknown, min: number, max: number = MAX_TIME): void {
    if (value === false || (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max))
      return;
    const rule = `must be a whole number of milliseconds from ${min} to ${max}, or false`;
    throw new InvalidOptionError(option, rule, value);
  },

  function(option: string, value: unknown): void {
    if (typeof value !== 'function') throw new InvalidOptionError(option, 'must be a function', value);
  },

  oneOf(option: string, value: unknown, allowed: readonly string[]): void {
    if (typeof value === 'string' && allowed.includes(value)) return;
    throw new InvalidOptionError(option, `must be one of ${allowed.map((item) => `'${item}'`).join(', ')}`, value);
  },

  /** An entry id holds the time in unsigned milliseconds, and a sequence has 48 bits for it. */
  date(option: string, value: unknown): void {
    if (value instanceof Date && value.getTime() >= 0 && value.getTime() <= MAX_ID_MILLISECONDS) return;
    throw new InvalidOptionError(option, 'must be a valid Date from 1970 to 10889', value);
  },

  /** The value of another kind is not shown, because it may be a URL with a password. */
  object(option: string, value: unknown): void {
    checkObject(option, value);
  },

  /**
   * An object with options of these names and no others: a misspelled option would be ignored in silence. The value of an
   * unknown one is not shown, because it may be a password in the wrong place.
   * @param at name of the object for nested options, as `retry`; empty for the outermost object
   * @param advice for a name that resembles none; default: a list of all names
   */
  options(at: string, options: unknown, names: OptionNames, advice?: string): void {
    checkObject(at || 'options', options);
    for (const name of Object.keys(options)) {
      if (names.has(name) || options[name as keyof typeof options] === undefined) continue;
      const path = at ? `${at}.${name}` : name;
      throw InvalidOptionError.withoutValue(path, `is not an option here; ${suggestion(name, names, advice)}`);
    }
  },
});

function checkObject(at: string, options: unknown): asserts options is object {
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return;
  throw InvalidOptionError.withoutValue(at, `must be an object; got ${kindOf(options)}`);
}

/** Refuses a name that is almost that of an option; other names may belong to the options of a caller. */
export function checkSpelling(options: unknown, names: OptionNames): void {
  checkObject('options', options);
  for (const name of Object.keys(options)) {
    const nearest = names.has(name) ? undefined : closestName(name, names);
    if (nearest) throw InvalidOptionError.withoutValue(name, `is not an option here; did you mean '${nearest}'?`);
  }
}

/** The options of these names that have a value. */
export function pickOptions<T extends object>(options: T, names: OptionNames): T {
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) => names.has(name) && value !== undefined),
  ) as T;
}

/** The names of the options of one object. */
export type OptionNames = ReadonlySet<string>;

/** All option names of a type; the compiler reports a name that is missing. */
export function optionNames<T extends object>(names: Readonly<Record<keyof T, true>>): OptionNames {
  return new Set(Object.keys(names));
}

/** The options that have a value: one that is undefined has its default, as in Nest. */
export function definedOptions<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}

/** The option that was probably meant, else the advice. */
function suggestion(name: string, names: OptionNames, advice?: string): string {
  const nearest = nearestName(name, names);
  if (nearest) return `did you mean '${nearest}'?`;
  return advice ?? `the options are ${[...names].sort().join(', ')}`;
}

/** The most similar of some names; undefined when none is similar. */
function nearestName(name: string, names: OptionNames): string | undefined {
  return closestName(name, names) ?? [...names].find((other) => contain(name.toLowerCase(), other.toLowerCase()));
}

/** The name from which few letters differ. */
function closestName(name: string, names: OptionNames): string | undefined {
  const all = [...names];
  const distances = all.map((other) => distanceOf(name.toLowerCase(), other.toLowerCase()));
  const least = Math.min(...distances);
  return least <= Math.max(1, Math.floor(name.length / 4)) ? all[distances.indexOf(least)] : undefined;
}

/** As `prefix` for `keyPrefix`, or `redisOptions` for `options`. */
function contain(name: string, other: string): boolean {
  return (name.length >= 4 && other.includes(name)) || (other.length >= 4 && name.includes(other));
}

/** Number of letters to insert, remove, replace or swap with their neighbour. */
function distanceOf(from: string, to: string): number {
  let [before, row]: [number[], number[]] = [[], Array.from({ length: to.length + 1 }, (_, column) => column)];
  for (let i = 1; i <= from.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= to.length; j += 1) {
      const isSame = from[i - 1] === to[j - 1];
      const isSwapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      next[j] = Math.min(
        (row[j] as number) + 1,
        (next[j - 1] as number) + 1,
        (row[j - 1] as number) + (isSame ? 0 : 1),
        isSwapped ? (before[j - 2] as number) + 1 : Infinity,
      );
    }
    [before, row] = [row, next];
  }
  return row[to.length] as number;
}
