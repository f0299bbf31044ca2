/** How fast messages are processed. */
export interface Pace {
  /** Messages for each millisecond, lately. */
  measure(): number;
}

/** Work to prefetch, in milliseconds: several times the duration of a read. */
export const AHEAD = 50;

/** Share of the latest delivery in the averages. */
const WEIGHT = 1 / 16;

/** The pace of handlers, by the duration of their deliveries. */
export class HandlerPace implements Pace {
  readonly #concurrency: number;
  /** Averages: milliseconds of a delivery, and its messages. */
  #duration = Infinity;
  #messages = 1;

  /** @param concurrency most deliveries at the same time */
  constructor(concurrency: number) {
    this.#concurrency = concurrency;
  }

  measure(): number {
    return (this.#concurrency * this.#messages) / this.#duration;
  }

  /** Counts a delivery: its messages, and its duration in milliseconds. */
  handled(messages: number, duration: number): void {
    // A duration below the resolution of the clock must not count as none.
    const took = Math.max(duration, 0.001);
    this.#duration = this.#duration === Infinity ? took : this.#duration + WEIGHT * (took - this.#duration);
    this.#messages += WEIGHT * (messages - this.#messages);
  }
}

/** Messages, and milliseconds of work, after which earlier ones count half. */
const MANY_MESSAGES = 2_000;
const LONG_WORK = 1_000;

/**
 * The pace of an application that takes messages by itself, with one call at a time or with several. A call that does not wait for
 * a message is at work. With several calls the time counts in proportion to how many of them are at work; the most that ever waited
 * together is their number.
 *
 * The pace is never more than the messages that were taken lately, for each 50 ms, so that it rises only with work that was done.
 */
export class DemandPace implements Pace {
  #messages = 0;
  /** Milliseconds in which all calls were at work. */
  #work = 0;
  #calls = 1;
  #waiting = 0;
  /** Until when the time has been counted. */
  #countedTo: number | undefined;

  measure(): number {
    this.#count(this.#waiting);
    const rate = this.#messages / (this.#work + AHEAD);
    if (this.#messages > MANY_MESSAGES || this.#work > LONG_WORK) {
      this.#messages /= 2;
      this.#work /= 2;
    }
    return rate;
  }

  /** A message was handed out; so many calls wait for one now. */
  handedOut(waiting: number): void {
    if (waiting !== this.#waiting || this.#countedTo === undefined) this.#count(waiting);
    this.#messages += 1;
  }

  /** So many calls wait for a message now. */
  waits(waiting: number): void {
    this.#count(waiting);
  }

  #count(waiting: number): void {
    const now = performance.now();
    this.#work += ((now - (this.#countedTo ?? now)) * (this.#calls - this.#waiting)) / this.#calls;
    this.#countedTo = now;
    this.#waiting = waiting;
    this.#calls = Math.max(this.#calls, waiting);
  }
}
