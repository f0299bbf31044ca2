/**
 * Whole milliseconds on a clock that only moves forward, for deadlines and intervals. The system clock may be set back by an
 * hour, and a deadline on it would then come an hour late.
 */
export function monotonicNow(): number {
  return Math.floor(performance.now());
}

const NANOSECONDS_IN_MILLISECOND = 1_000_000n;
/** The clock of `process.hrtime` at the zero of {@link monotonicNow}, in milliseconds. Threads share the former, not the latter. */
const HIGH_RESOLUTION_ZERO = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** A time of `process.hrtime.bigint()`, of any thread, on the clock of {@link monotonicNow}. */
export function monotonicTime(nanoseconds: bigint): number {
  return Math.floor(Number(nanoseconds) / 1e6 - HIGH_RESOLUTION_ZERO);
}

/**
 * The time of the system clock, in nanoseconds since 1970. The system clock counts milliseconds. The time since the first call in
 * the present millisecond is added, so that times also rise within a millisecond.
 */
export class NanosecondClock {
  readonly #first: bigint;
  #millisecond = 0n;
  #from = 0n;

  /** @param first the time that a clock has at least: one that was never set begins in 1970 */
  constructor(first: bigint) {
    this.#first = first;
  }

  now(): bigint {
    const millisecond = BigInt(Date.now()) * NANOSECONDS_IN_MILLISECOND;
    const ticks = process.hrtime.bigint();
    if (millisecond !== this.#millisecond) {
      this.#millisecond = millisecond;
      this.#from = ticks;
    }
    const passed = ticks - this.#from;
    const time = millisecond + (passed < NANOSECONDS_IN_MILLISECOND ? passed : NANOSECONDS_IN_MILLISECOND - 1n);
    return time < this.#first ? this.#first : time;
  }
}
