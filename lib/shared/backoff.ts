import { setTimeout as wait } from 'node:timers/promises';

import { onceAborted } from './abort-listeners.js';
import { withResolvers } from './deferred.js';

/** The delays between attempts; all times are milliseconds. */
export interface BackoffPolicy {
  readonly initial: number;
  readonly factor: number;
  readonly max: number;
  /** Random share of the delay, 0 to 1, so that many clients do not reconnect at the same moment. */
  readonly jitter: number;
}

export const RECONNECT_BACKOFF: BackoffPolicy = Object.freeze({ initial: 50, factor: 2, max: 2_000, jitter: 0.3 });

/** For what time alone does not cure, such as a permission that is missing: not faster than that helps. */
export const REFUSAL_BACKOFF: BackoffPolicy = Object.freeze({ initial: 250, factor: 2, max: 4_000, jitter: 0.2 });

/** Between looks that find nothing, where no read may block. */
export const POLL_BACKOFF: BackoffPolicy = Object.freeze({ initial: 10, factor: 2, max: 1_000, jitter: 0.1 });

/** The delay before repetition number `attempt`, from 1 on: exponential, limited, then with jitter in both directions. */
export function backoffDelay(policy: BackoffPolicy, attempt: number, random: () => number = Math.random): number {
  const exponent = Math.min(Math.max(attempt, 1) - 1, 64);
  const base = Math.min(policy.initial * policy.factor ** exponent, policy.max);
  return Math.round(base * (1 + policy.jitter * (2 * random() - 1)));
}

/** Resolves after `ms`, or at once when the signal aborts; never rejects. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await wait(ms, undefined, { signal });
  } catch {
    // Only an abort ends the timer early, and then the caller continues at once.
  }
}

/** Waits for the work, at most `time` milliseconds. */
export async function within(time: number, work: Promise<unknown>): Promise<void> {
  const { promise: isOver, resolve } = withResolvers<void>();
  const limit = setTimeout(resolve, time);
  try {
    await Promise.race([work, isOver]);
  } finally {
    clearTimeout(limit);
  }
}

/**
 * Gives the work a signal that aborts after `time` milliseconds, or with another signal. AbortSignal.any() is no substitute: what it
 * joins with AbortSignal.timeout() may be collected as garbage before it aborts, and then never does.
 */
export async function limited<T>(
  time: number,
  signal: AbortSignal,
  work: (limit: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new DOMException('The time is over', 'TimeoutError')), time);
  const abort = (): void => limit.abort(signal.reason);
  const stop = onceAborted(signal, abort);
  if (signal.aborted) abort();
  try {
    return await work(limit.signal);
  } finally {
    clearTimeout(timer);
    stop();
  }
}

/** Waits for the work, which continues when the signal ends the wait. @throws the reason of the signal */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = withResolvers<never>();
  const stop = onceAborted(signal, () => reject(signal.reason));
  // The work is raced all the same: if it fails, that must be handled.
  if (signal.aborted) reject(signal.reason);
  try {
    return await Promise.race([aborted, work]);
  } finally {
    stop();
  }
}
