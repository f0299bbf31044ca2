import { InvalidOptionError } from '../../errors.js';
import { check } from '../options/option-checks.js';

/** How a message whose handling failed is handled again. All times are milliseconds. */
export interface RetryOptions {
  /** How often a message is handled in all, the first time included. Default 5. */
  attempts?: number;
  /** Wait before the second attempt. Default 1,000. */
  delay?: number;
  /** By which the wait grows from attempt to attempt. Default 2. */
  factor?: number;
  /** Longest wait. Default 60,000. */
  maxDelay?: number;
  /** Share of the wait, 0 to 1, that is chosen at random. Default 0.2. */
  jitter?: number;
  /** True for an error that no repetition can cure: the message becomes a dead letter at once. */
  unless?: (error: unknown) => boolean;
}

export type RetryPolicy = Required<RetryOptions>;

export const DEFAULT_RETRY = Object.freeze({
  attempts: 5,
  delay: 1_000,
  factor: 2,
  maxDelay: 60_000,
  jitter: 0.2,
  unless: () => false,
}) satisfies RetryPolicy;

/** `false` handles each message once. @throws InvalidOptionError */
export function resolveRetry(options: RetryOptions | false | undefined, name = 'retry'): RetryPolicy {
  if (options === false) return { ...DEFAULT_RETRY, attempts: 1 };
  if (options !== undefined && (typeof options !== 'object' || options === null)) {
    throw new InvalidOptionError(name, 'must be an object or false', options);
  }
  const given = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
  const policy: RetryPolicy = { ...DEFAULT_RETRY, ...given };
  check.integer(`${name}.attempts`, policy.attempts, 1);
  check.integer(`${name}.delay`, policy.delay, 0);
  check.number(`${name}.factor`, policy.factor, 1, 100);
  check.integer(`${name}.maxDelay`, policy.maxDelay, policy.delay);
  check.number(`${name}.jitter`, policy.jitter, 0, 1);
  if (typeof policy.unless !== 'function')
    throw new InvalidOptionError(`${name}.unless`, 'must be a function', policy.unless);
  return policy;
}

/** The wait after the given number of attempts, jittered around itself and never above `maxDelay`. */
export function retryDelay(policy: RetryPolicy, attempts: number, random: () => number = Math.random): number {
  const grown = policy.delay * policy.factor ** Math.min(attempts - 1, 64);
  const jittered = Math.min(grown, policy.maxDelay) * (1 + policy.jitter * (2 * random() - 1));
  return Math.round(Math.min(jittered, policy.maxDelay));
}
