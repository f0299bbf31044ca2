import { monotonicNow } from '../../../shared/clock.js';
import { nextEntryId } from '../../../redis/commands/entry-id.js';
import type { PendingCommands, StreamEntry } from '../../../redis/commands/stream-commands.js';
import type { RenewalClient, ThreadLease } from '../../../redis/connection/renewal-thread.js';
import type { Partition, PartitionSet } from '../partition.js';
import { idsToRenew } from './lease-renewal.js';
import type { RetrySchedules } from './retry-schedule.js';

export interface ThreadedRenewalOptions {
  readonly client: RenewalClient;
  readonly pending: Pick<PendingCommands, 'leaseOf'>;
  readonly group: string;
  readonly consumer: string;
  readonly claimIdle: number;
  readonly maxHandlerTime: number;
  readonly partitions: Pick<PartitionSet, 'owning'>;
  readonly retries: Pick<RetrySchedules, 'retriesOf'>;
}

/**
 * Lets a thread renew the leases of entries while the event loop of this process is blocked. It sends the thread a list of them as
 * often as {@link LeaseRenewal} renews them, which it does not replace: the thread renews only when the list is overdue.
 *
 * What is read in between needs no message: the thread renews what is pending for this consumer behind the last id that was sent,
 * also what the server delivers to a read whose reply the blocked event loop does not see. Only entries with earlier ids, which were
 * claimed, are sent when they arrive, so before a handler that may block has them.
 */
export class ThreadedRenewal {
  readonly #options: ThreadedRenewalOptions;
  /** By partition, its position when its lease was sent last. */
  #sentPositions = new Map<Partition, string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ThreadedRenewalOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.sendLeases(), this.#options.claimIdle / 3);
  }

  /** Ends the renewal by the thread. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#options.client.close();
  }

  /** Tells the thread all leases now. */
  sendLeases(): void {
    const owning = this.#options.partitions.owning.filter(({ isOffGroup }) => !isOffGroup);
    this.#sentPositions = new Map(owning.map((partition) => [partition, partition.position]));
    this.#options.client.setLeases(owning.map((partition) => this.#leaseOf(partition)));
  }

  /** Entries came into this process. */
  arrived(partition: Partition, entries: readonly StreamEntry[]): void {
    const sent = this.#sentPositions.get(partition);
    if (sent === undefined) return;
    const earlier = entries.flatMap(({ id }) => (isLater(id, sent) ? [] : [id]));
    if (earlier.length > 0) this.#options.client.addEntries(this.#leaseOf(partition).key, earlier);
  }

  /** A message was handed out, so the event loop is not blocked. */
  handedOut(): void {
    this.#options.client.heartbeat();
  }

  #leaseOf(partition: Partition): ThreadLease {
    const { pending, group, consumer, claimIdle, maxHandlerTime, retries } = this.#options;
    const now = monotonicNow();
    const ids = idsToRenew(partition, retries.retriesOf(partition), claimIdle);
    const left = ids.map((id) => {
      if (partition.owned.get(id) !== 'running') return undefined;
      return maxHandlerTime - (now - (partition.handledSince.get(id) ?? now));
    });
    return pending.leaseOf(partition.key, { group, consumer, ids, left, after: nextEntryId(partition.position) });
  }
}

/** For ids of Redis, which have no leading zeros; every entry that arrives is compared. */
function isLater(id: string, other: string): boolean {
  const [end, otherEnd] = [id.indexOf('-'), other.indexOf('-')];
  if (end !== otherEnd) return end > otherEnd;
  const [time, otherTime] = [id.slice(0, end), other.slice(0, end)];
  if (time !== otherTime) return time > otherTime;
  return id.length === other.length ? id > other : id.length > other.length;
}
