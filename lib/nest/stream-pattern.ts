import { InvalidOptionError } from '../errors.js';
import { hasWildcard, wildcardRule } from './wildcard.js';

/** What Nest writes in place of a part of a large pattern: several patterns would share the stream. */
const CUT_SHORT = /\[(?:MAX_DEPTH_REACHED|TOO_MANY_KEYS)\]/;

/** What a pattern with `*` or `>` is: a message goes to one stream, and a handler reads several where the server looks for them. */
export type WildcardUse = 'send' | 'off' | 'on';

/**
 * The key of the stream of a pattern, or the wildcard for several.
 *
 * Nest makes a text of everything: `undefined` for a constant that is imported in a circle, `{}` for a RegExp, and every
 * server with that mistake would read the same stream.
 * @param use of wildcards
 * @param routeOf normalizes patterns as Nest does
 * @throws InvalidOptionError for a pattern that cannot be a stream
 */
export function streamOfPattern(pattern: unknown, use: WildcardUse, routeOf: (pattern: never) => string): string {
  const rule = typeof pattern === 'string' ? ruleForText(pattern, use) : ruleForOthers(pattern);
  if (rule) throw new InvalidOptionError('pattern', rule, pattern);
  const route = routeOf(pattern as never);
  if (typeof pattern === 'object' && CUT_SHORT.test(route)) {
    throw new InvalidOptionError('pattern', 'must have at most 20 keys and 5 levels, when it is an object', pattern);
  }
  return route;
}

/** The rule that the pattern breaks, if any. */
function ruleForText(pattern: string, use: WildcardUse): string | undefined {
  if (pattern === '') return 'must not be empty';
  if (!hasWildcard(pattern)) return undefined;
  if (use === 'send') return "must have no '*' or '>': a message goes to one stream";
  return use === 'on'
    ? wildcardRule(pattern)
    : "must have no '*' or '>' unless the server has the option wildcards: true";
}

function ruleForOthers(pattern: unknown): string | undefined {
  if (Number.isFinite(pattern)) return undefined;
  if (pattern instanceof RegExp) return `must be a string, a number or an object, and no RegExp such as ${pattern}`;
  if (typeof pattern !== 'object' || pattern === null) return 'must be a string, a number or an object';
  if (Object.keys(pattern).length === 0) return 'must have a property when it is an object';
  return hasNoName(pattern) ? 'must have no undefined, symbol, function, Date, Map or RegExp in it' : undefined;
}

/** Deeper ones are refused by the text that Nest makes of them. */
const MAX_PATTERN_LEVELS = 6;

/** Whether every value of its kind would be the same text. */
function hasNoName(value: unknown, level = 1): boolean {
  if (['undefined', 'symbol', 'function'].includes(typeof value)) return true;
  if (typeof value !== 'object' || value === null || level > MAX_PATTERN_LEVELS) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  const isPlain = prototype === Object.prototype || prototype === null || Array.isArray(value);
  const values = Object.values(value);
  return (!isPlain && values.length === 0) || values.some((each) => hasNoName(each, level + 1));
}
