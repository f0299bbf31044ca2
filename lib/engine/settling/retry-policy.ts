import { InvalidOptionError } from '../../errors.js';
import { check, definedOptions, optionNames } from '../../shared/option-checks.js';

/** When and how often a message whose handling failed is handled again. All times are milliseconds. */
export interface RetryOptions {
  /**
   * Total number of times that a message is handled, the first time included. At least 1.
   * @defaultValue `5`
   */
  attempts?: number;
  /**
   * Delay before the second attempt. At least 0.
   * @defaultValue `1_000`
   */
  delay?: number;
  /**
   * Factor by which the delay grows with each attempt. 1 to 100.
   * @defaultValue `2`
   */
  factor?: number;
  /**
   * Longest delay. At least `delay`.
   * @defaultValue `60_000`
   */
  maxDelay?: number;
  /**
   * Random share of the delay, so that messages that failed together are not retried together. 0 to 1.
   * @defaultValue `0.2`
   */
  jitter?: number;
  /**
   * Returns true for an error that a retry cannot cure: the message becomes a dead letter at once.
   * @defaultValue never
   */
  unless?: (error: unknown) => boolean;
}

export type RetryPolicy = Required<RetryOptions>;

const DEFAULT_RETRY = Object.freeze({
  attempts: 5,
  delay: 1_000,
  factor: 2,
  maxDelay: 60_000,
  jitter: 0.2,
  unless: () => false,
}) satisfies RetryPolicy;

const RETRY_OPTIONS = optionNames<RetryOptions>({
  attempts: true,
  delay: true,
  factor: true,
  maxDelay: true,
  jitter: true,
  unless: true,
});

/** `false` handles each message once. @throws InvalidOptionError */
export function resolveRetry(options: RetryOptions | false | undefined, name = 'retry'): RetryPolicy {
  if (options === false) return { ...DEFAULT_RETRY, attempts: 1 };
  if (options !== undefined && (typeof options !== 'object' || options === null)) {
    throw new InvalidOptionError(name, 'must be an object or false', options);
  }
  if (options) check.options(name, options, RETRY_OPTIONS);
  const policy: RetryPolicy = { ...DEFAULT_RETRY, ...definedOptions(options ?? {}) };
  check.integer(`${name}.attempts`, policy.attempts, 1);
  check.time(`${name}.delay`, policy.delay, 0);
  check.number(`${name}.factor`, policy.factor, 1, 100);
  check.time(`${name}.maxDelay`, policy.maxDelay, policy.delay);
  check.number(`${name}.jitter`, policy.jitter, 0, 1);
  check.function(`${name}.unless`, policy.unless);
  return policy;
}

/** The delay after the given number of attempts, with jitter in both directions and never above `maxDelay`. */
export function retryDelay(policy: RetryPolicy, attempts: number, random: () => number = Math.random): number {
  const grown = policy.delay * policy.factor ** Math.min(attempts - 1, 64);
  const jittered = Math.min(grown, policy.maxDelay) * (1 + policy.jitter * (2 * random() - 1));
  return Math.round(Math.min(jittered, policy.maxDelay));
}
