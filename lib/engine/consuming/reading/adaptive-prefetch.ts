import type { StreamEntry } from '../../../redis/commands/stream-commands.js';
import { AHEAD } from './pace.js';
import type { Pace } from './pace.js';

export interface PrefetchSize {
  /** Messages that may be buffered. */
  readonly prefetch: number;
  /** Most entries of one read. */
  readonly batchSize: number;
}

const MOST_MESSAGES = 1_000;
const MOST_BYTES = 8 * 1024 * 1024;

/**
 * Chooses the prefetch where no option sets it: as many messages as are processed in 50 ms, within bounds. Slow consumers,
 * and those with a rate limit, get few, because no other instance can take a message that is buffered here. Fast ones get
 * many, because they would otherwise wait for the network: from `emit` to handler, pages of 500 messages reach 2.3 times the
 * rate of Nest's own Redis transport, pages of 10 only 1.4 times.
 */
export class AdaptivePrefetch {
  readonly #minimum: PrefetchSize;
  readonly #pace: Pace;
  readonly #maxRate: number;
  /** Average size of the messages of the last page. */
  #bytes = 0;

  /** @param maxRate most messages that may be started, for each millisecond */
  constructor(minimum: PrefetchSize, pace: Pace, maxRate = Infinity) {
    this.#minimum = minimum;
    this.#pace = pace;
    this.#maxRate = maxRate;
  }

  /** @param owned number of shards that no other consumer reads: two messages of each may be buffered in any case */
  size(owned = 0): PrefetchSize {
    const { prefetch: minimum, batchSize } = this.#minimum;
    const inMemory = MOST_BYTES / Math.max(this.#bytes, 1);
    const paced = Math.min(AHEAD * Math.min(this.#pace.measure(), this.#maxRate), MOST_MESSAGES, inMemory);
    const prefetch = Math.max(minimum, Math.floor(paced));
    return {
      prefetch: Math.max(prefetch, Math.floor(Math.min(2 * owned, inMemory))),
      batchSize: Math.floor((prefetch * batchSize) / minimum),
    };
  }

  /** Counts entries that were read, for their size. */
  arrived(entries: readonly StreamEntry[]): void {
    if (entries.length === 0) return;
    let bytes = 0;
    for (const { fields } of entries) for (const field of fields ?? []) bytes += field.length;
    this.#bytes = bytes / entries.length;
  }
}
