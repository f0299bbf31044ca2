import { MAX_ID_MILLISECONDS } from '../../constants.js';
import { InvalidOptionError } from '../../errors.js';

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

  oneOf(option: string, value: unknown, allowed: readonly string[]): void {
    if (typeof value === 'string' && allowed.includes(value)) return;
    throw new InvalidOptionError(option, `must be one of ${allowed.map((item) => `'${item}'`).join(', ')}`, value);
  },

  /** An entry id holds the time in unsigned milliseconds, and a sequence has 48 bits for it. */
  date(option: string, value: unknown): void {
    if (value instanceof Date && value.getTime() >= 0 && value.getTime() <= MAX_ID_MILLISECONDS) return;
    throw new InvalidOptionError(option, 'must be a valid Date from 1970 to 10889', value);
  },
});
