import type { StreamEntry } from '../../../redis/commands/stream-commands.js';

/** How much is read ahead: messages that may be buffered, and most entries of one read. */
export interface ReadAheadSize {
  readonly prefetch: number;
  readonly batchSize: number;
}

/** Work that is worth reading ahead, in milliseconds: several times what a read takes. */
const AHEAD = 50;
const MOST_MESSAGES = 1_000;
const MOST_BYTES = 8 * 1024 * 1024;
/** Share of the latest measurement in the average. */
const WEIGHT = 1 / 16;

/**
 * Finds out how much to read ahead where nobody has said so: what the handlers get through in 50 ms, within bounds. Little
 * for slow handlers, because what is buffered here no other instance can take; much for fast ones, which would otherwise
 * wait for the network (with pages of 10 instead of 500 messages, from `emit` to handler, 1.4 instead of 2.3 times what
 * Nest's own transport gets through).
 */
export class AdaptivePrefetch {
  readonly #least: ReadAheadSize;
  readonly #concurrency: number;
  /** Averages: milliseconds of a delivery, its messages, and bytes of a message. */
  #duration = Infinity;
  #messages = 1;
  #bytes = 0;

  /** @param concurrency deliveries at the same time */
  constructor(least: ReadAheadSize, concurrency: number) {
    this.#least = least;
    this.#concurrency = concurrency;
  }

  get size(): ReadAheadSize {
    const { prefetch: least, batchSize } = this.#least;
    const inTime = (AHEAD * this.#concurrency * this.#messages) / this.#duration;
    const most = Math.min(MOST_MESSAGES, MOST_BYTES / Math.max(this.#bytes, 1));
    const prefetch = Math.max(least, Math.floor(Math.min(inTime, most)));
    return { prefetch, batchSize: Math.floor((prefetch * batchSize) / least) };
  }

  /** A delivery of so many messages took so many milliseconds. */
  handled(messages: number, duration: number): void {
    // Less than the clock can tell apart is still some time.
    const took = Math.max(duration, 0.001);
    this.#duration = this.#duration === Infinity ? took : this.#duration + WEIGHT * (took - this.#duration);
    this.#messages += WEIGHT * (messages - this.#messages);
  }

  arrived(entries: readonly StreamEntry[]): void {
    if (entries.length === 0) return;
    let bytes = 0;
    for (const { fields } of entries) for (const field of fields ?? []) bytes += field.length;
    this.#bytes = bytes / entries.length;
  }
}
