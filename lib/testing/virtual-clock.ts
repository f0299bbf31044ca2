/**
 * Has the fake timers of a test pass so many milliseconds, for example `(ms) => jest.advanceTimersByTimeAsync(ms)`.
 */
export type AdvanceTimers = (ms: number) => unknown;

/**
 * The time of tests. Durations, such as delays and spans of a rate, are on `elapsed`, which stands still unless the test advances
 * it: what is delivered does not depend on how long the test itself takes. Dates are compared with `now()`, the clock of this
 * process and what the test has advanced beyond it. It has no timer.
 */
export class VirtualClock {
  readonly #advanceTimers: AdvanceTimers | undefined;
  #elapsed = 0;
  /** Milliseconds by which the test is ahead of the clock of this process. */
  #ahead = 0;

  constructor(advanceTimers?: AdvanceTimers) {
    this.#advanceTimers = advanceTimers;
  }

  /** Milliseconds that the test has advanced so far. */
  get elapsed(): number {
    return this.#elapsed;
  }

  /** Milliseconds since the epoch. */
  now(): number {
    return Date.now() + this.#ahead;
  }

  async advance(ms: number): Promise<void> {
    if (ms === 0) return;
    const before = Date.now();
    await this.#advanceTimers?.(ms);
    this.#elapsed += ms;
    // Fake timers may have moved `Date` already.
    this.#ahead += Math.max(0, ms - (Date.now() - before));
  }
}
