import { monotonicNow } from '../../../shared/clock.js';
import type { RedisStreamsLogger } from '../../../shared/logger.js';
import type { StreamMessage } from '../../messages/stream-message.js';
import { partitionOf } from '../partition.js';
import type { Partition, PartitionSet } from '../partition.js';

export interface HandlingLimitOptions {
  /** See `maxHandlerTime` of the options. */
  readonly maxHandlerTime: number;
  readonly partitions: Pick<PartitionSet, 'owning'>;
  /** Messages that were handed out, and that wait for their turn in front of the handlers. */
  readonly waiting: () => readonly StreamMessage[];
  readonly logger: Pick<RedisStreamsLogger, 'warn'>;
}

/** Shortest and longest time between two looks, in milliseconds. */
const [MIN_INTERVAL, MAX_INTERVAL] = [10, 10_000];

/**
 * Ends the lease of entries that have been in a handler for longer than `maxHandlerTime`: they become `overdue`. It looks at all
 * entries from time to time, so that handing a message out costs nothing; a lease ends up to a fifth of `maxHandlerTime`, and at
 * most twenty seconds, late.
 */
export class HandlingLimit {
  readonly #options: HandlingLimitOptions;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HandlingLimitOptions) {
    this.#options = options;
  }

  start(): void {
    const interval = Math.min(MAX_INTERVAL, Math.max(MIN_INTERVAL, this.#options.maxHandlerTime / 10));
    this.#timer ??= setInterval(() => this.#look(), interval);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    const { partitions, waiting, maxHandlerTime, logger } = this.#options;
    const now = monotonicNow();
    for (const message of waiting()) partitionOf(message).handledSince.set(message.id, now);
    for (const partition of partitions.owning) {
      const overdue = overdueOf(partition, now, maxHandlerTime);
      for (const id of overdue) partition.owned.set(id, 'overdue');
      if (overdue.length === 0) continue;
      const consequence = partition.lease ? 'their signals are aborted' : 'another consumer may claim them';
      logger.warn(
        `Messages of '${partition.key}' have been in handlers for longer than maxHandlerTime (${maxHandlerTime} ms): ` +
          `${overdue.slice(0, 5).join(', ')}${overdue.length > 5 ? ', …' : ''}; ${consequence}`,
      );
    }
  }
}

function overdueOf({ owned, handledSince }: Partition, now: number, maxHandlerTime: number): string[] {
  const overdue: string[] = [];
  for (const id of handledSince.keys()) if (owned.get(id) !== 'running') handledSince.delete(id);
  for (const [id, state] of owned) {
    if (state !== 'running') continue;
    const since = handledSince.get(id);
    if (since === undefined) handledSince.set(id, now);
    else if (now - since >= maxHandlerTime) overdue.push(id);
  }
  return overdue;
}
