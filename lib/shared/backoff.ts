import { setTimeout as wait } from 'node:timers/promises';

/** How long to wait between attempts; every time is in milliseconds. */
export interface BackoffPolicy {
  readonly initial: number;
  readonly factor: number;
  readonly max: number;
  /** Share of the delay, 0 to 1, that is chosen at random so that many clients do not come back at once. */
  readonly jitter: number;
}

export const RECONNECT_BACKOFF: BackoffPolicy = Object.freeze({ initial: 50, factor: 2, max: 2_000, jitter: 0.3 });

/** The delay before attempt number `attempt` (1 is the first repetition): exponential, capped, then jittered around itself. */
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
    // Only an abort can end a timer early, and that is a reason to go on at once.
  }
}

/** Waits for the work, but no longer than so many milliseconds. */
export async function within(time: number, work: Promise<unknown>): Promise<void> {
  const limit = new AbortController();
  await Promise.race([work, pause(time, limit.signal)]);
  limit.abort();
}
