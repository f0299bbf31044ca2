import type { RedisStreamsLogger } from '../../../shared/logger.js';
import type {
  PendingCommands,
  PendingEntry,
  RestoredEntries,
  StreamEntry,
} from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';
import type { ClaimedEntries, IdleClaimRequest, IdleClaims } from './idle-claimer.js';

export interface ClaimsOptions {
  readonly pending: Pick<PendingCommands, 'claimOwn' | 'claimIdle' | 'takeIdle' | 'restore' | 'setIdle' | 'ack'>;
  readonly group: string;
  readonly consumer: string;
  /** With NOACK nothing is acknowledged later, so a claimed entry is acknowledged at once. */
  readonly noAck: boolean;
  /** The taker counts a delivery when its handler starts; otherwise reading an entry again is its delivery. */
  readonly countsStarts: boolean;
  readonly logger: Pick<RedisStreamsLogger, 'warn'>;
}

/**
 * Claims entries of a group's pending entries list for one consumer: the only way in which pending entries come into this
 * process. An entry that was trimmed or deleted while pending can never be handled; it is acknowledged and counted, and a
 * warning reports the first of a partition.
 *
 * With `countsStarts` the delivery count of an entry that another process had stays as it is, because most entries of a
 * process that crashed were not even begun. The entry is a suspect: it may be the one that ended its process.
 */
export class Claims implements IdleClaims {
  readonly #options: ClaimsOptions;

  constructor(options: ClaimsOptions) {
    this.#options = options;
  }

  /**
   * Reads entries of this consumer's own pending list that this process does not own.
   * @param isInherited an earlier process had them; otherwise a reply with them was lost
   */
  async recover(
    partition: Partition,
    wanted: readonly PendingEntry[],
    isInherited: boolean,
  ): Promise<readonly StreamEntry[]> {
    if (!this.#options.countsStarts) return this.claimOwn(partition, wanted, isInherited);
    return this.#claimUncounted(partition, wanted, ({ deliveryCount }) => isInherited || deliveryCount > 1);
  }

  /**
   * Reads entries of this consumer's own pending list again.
   * @param isRedelivery they were handed out before, so their delivery count rises
   */
  async claimOwn(
    partition: Partition,
    wanted: readonly PendingEntry[],
    isRedelivery: boolean,
  ): Promise<readonly StreamEntry[]> {
    const { pending, group, consumer } = this.#options;
    const { entries, deleted } = await pending.claimOwn(partition.key, group, consumer, wanted, isRedelivery);
    await this.#settle(partition, entries, deleted);
    return entries;
  }

  /** Reads entries that were taken over, with their shard, from the consumers that owned it before. */
  async inherit(
    partition: Partition,
    taken: ReadonlyArray<Pick<PendingEntry, 'id' | 'deliveryCount'>>,
  ): Promise<readonly StreamEntry[]> {
    const { consumer, countsStarts } = this.#options;
    const wanted = taken.map((entry) => ({ ...entry, consumer, idle: 0 }));
    return countsStarts ? this.#claimUncounted(partition, wanted, () => true) : this.claimOwn(partition, wanted, true);
  }

  /** Takes over entries of any consumer that have been idle for `minIdle` milliseconds; one page, from a cursor on. */
  async claimIdle(partition: Partition, request: IdleClaimRequest): Promise<ClaimedEntries> {
    const { pending, group, consumer, countsStarts } = this.#options;
    if (countsStarts) {
      const { taken, deleted, next } = await pending.takeIdle({
        streamKey: partition.key,
        group,
        consumer,
        ...request,
      });
      await this.#settle(partition, [], deleted);
      await this.#leaveOverdue(partition, taken, request.minIdle);
      // Those that this process owns have changed nothing but their idle time.
      const wanted = taken.filter(({ id }) => !partition.owned.has(id));
      return { entries: await this.#claimUncounted(partition, wanted, () => true), next };
    }
    const page = await pending.claimIdle({ streamKey: partition.key, group, consumer, ...request });
    await this.#settle(partition, page.entries, page.deleted);
    const uncounted = page.entries.map(({ id, deliveryCount }) => ({ id, deliveryCount: deliveryCount - 1 }));
    await this.#leaveOverdue(partition, uncounted, request.minIdle);
    return { entries: page.entries, next: page.next };
  }

  /**
   * Makes entries of this process that are pending for no consumer pending again. The caller knows that no other consumer can
   * have claimed, handled and acknowledged them, so their group was destroyed, or this consumer deleted from it.
   */
  async restore(
    partition: Partition,
    entries: ReadonlyArray<Pick<PendingEntry, 'id' | 'deliveryCount'>>,
  ): Promise<RestoredEntries> {
    const { pending, group, consumer } = this.#options;
    return pending.restore(partition.key, group, consumer, entries);
  }

  /** They are for another consumer, so that claiming them here must not make their idle time begin again. */
  async #leaveOverdue(
    partition: Partition,
    claimed: ReadonlyArray<Pick<PendingEntry, 'id' | 'deliveryCount'>>,
    minIdle: number,
  ): Promise<void> {
    const { pending, group, consumer } = this.#options;
    const overdue = claimed.filter(({ id }) => partition.owned.get(id) === 'overdue');
    const entries = overdue.map(({ id, deliveryCount }) => ({ id, deliveryCount }));
    if (entries.length > 0) await pending.setIdle(partition.key, group, consumer, entries, minIdle);
  }

  /** An entry with the count 0 was given back before a handler had it, or its handler failed because the server closed: it has no attempt yet. */
  async #claimUncounted(
    partition: Partition,
    wanted: readonly PendingEntry[],
    isSuspect: (entry: PendingEntry) => boolean,
  ): Promise<readonly StreamEntry[]> {
    const counted = wanted.map((entry) => ({ ...entry, deliveryCount: Math.max(1, entry.deliveryCount) }));
    const suspects = new Set(wanted.filter((entry) => entry.deliveryCount > 0 && isSuspect(entry)).map(({ id }) => id));
    const entries = await this.claimOwn(partition, counted, false);
    return entries.map((entry) =>
      suspects.has(entry.id) ? { ...entry, deliveryCount: entry.deliveryCount + 1, isSuspect: true } : entry,
    );
  }

  async #settle(partition: Partition, entries: readonly StreamEntry[], deleted: readonly string[]): Promise<void> {
    const { pending, group, noAck, logger } = this.#options;
    if (deleted.length > 0) {
      await pending.ack(partition.key, group, deleted);
      if (partition.deletedWhilePending === 0) {
        logger.warn(
          `Entries of '${partition.key}' were trimmed or deleted while pending in group '${group}'; they are acknowledged`,
        );
      }
      partition.deletedWhilePending += deleted.length;
    }
    if (noAck && entries.length > 0) {
      await pending.ack(
        partition.key,
        group,
        entries.map(({ id }) => id),
      );
    }
  }
}
