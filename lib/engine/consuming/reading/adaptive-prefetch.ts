import type { StreamEntry } from '../../../redis/commands/stream-commands.js';

export interface PrefetchSize {
  /** Messages that may be buffered. */
  readonly prefetch: number;
  /** Most entries of one read. */
  readonly batchSize: number;
}

/** Work to prefetch, in milliseconds: several times the duration of a read. */
const AHEAD = 50;
const MOST_MESSAGES = 1_000;
const MOST_BYTES = 8 * 1024 * 1024;
/** Share of the latest measurement in the average. */
const WEIGHT = 1 / 16;

/**
 * Chooses the prefetch where no option sets it: as many messages as the handlers process in 50 ms, within bounds. Slow
 * handlers, and those with a rate limit, get few, because no other instance can take a message that is buffered here. Fast
 * ones get many, because they would otherwise wait for the network: from `emit` to handler, pages of 500 messages reach 2.3
 * times the rate of Nest's own Redis transport, pages of 10 only 1.4 times.
 */
export class AdaptivePrefetch {
  readonly #minimum: PrefetchSize;
  readonly #concurrency: number;
  readonly #maxRate: number;
  /** Averages: milliseconds of a delivery, its messages, and bytes of a message. */
  #duration = Infinity;
  #messages = 1;
  #bytes = 0;

  /**
   * @param concurrency most deliveries at the same time
   * @param maxRate most messages that may be started, for each millisecond
   */
  constructor(minimum: PrefetchSize, concurrency: number, maxRate = Infinity) {
    this.#minimum = minimum;
    this.#concurrency = concurrency;
    this.#maxRate = maxRate;
  }

  get size(): PrefetchSize {
    const { prefetch: minimum, batchSize } = this.#minimum;
    const inTime = (AHEAD * this.#concurrency * this.#messages) / this.#duration;
    const most = Math.min(MOST_MESSAGES, MOST_BYTES / Math.max(this.#bytes, 1), AHEAD * this.#maxRate);
    const prefetch = Math.max(minimum, Math.floor(Math.min(inTime, most)));
    return { prefetch, batchSize: Math.floor((prefetch * batchSize) / minimum) };
  }

  /** Counts a delivery: its messages, and its duration in milliseconds. */
  handled(messages: number, duration: number): void {
    // A duration below the resolution of the clock must not count as none.
    const took = Math.max(duration, 0.001);
    this.#duration = this.#duration === Infinity ? took : this.#duration + WEIGHT * (took - this.#duration);
    this.#messages += WEIGHT * (messages - this.#messages);
  }

  /** Counts entries that were read, for their size. */
  arrived(entries: readonly StreamEntry[]): void {
    if (entries.length === 0) return;
    let bytes = 0;
    for (const { fields } of entries) for (const field of fields ?? []) bytes += field.length;
    this.#bytes = bytes / entries.length;
  }
}
