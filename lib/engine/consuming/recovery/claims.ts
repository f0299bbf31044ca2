import type { RedisStreamsLogger } from '../../../shared/logger.js';
import type {
  PendingCommands,
  PendingEntry,
  RestoredEntries,
  StreamEntry,
} from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';

export interface ClaimsOptions {
  readonly pending: Pick<PendingCommands, 'claimOwn' | 'claimIdle' | 'restore' | 'ack'>;
  readonly group: string;
  readonly consumer: string;
  /** With NOACK nothing is acknowledged later, so a claimed entry is acknowledged at once. */
  readonly noAck: boolean;
  readonly logger: Pick<RedisStreamsLogger, 'warn'>;
}

/**
 * Claims entries of a group's pending entries list for one consumer: the only way in which pending entries come into this
 * process. An entry that was trimmed or deleted while pending can never be handled; it is acknowledged and counted, and a
 * warning reports the first of a partition.
 */
export class Claims {
  readonly #options: ClaimsOptions;

  constructor(options: ClaimsOptions) {
    this.#options = options;
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

  /** Takes over entries of any consumer that have been idle for `minIdle` milliseconds; one page, from a cursor on. */
  async claimIdle(
    partition: Partition,
    request: { readonly minIdle: number; readonly count: number; readonly after: string | undefined },
  ): Promise<{ entries: readonly StreamEntry[]; next: string | undefined }> {
    const { pending, group, consumer } = this.#options;
    const page = await pending.claimIdle({ streamKey: partition.key, group, consumer, ...request });
    await this.#settle(partition, page.entries, page.deleted);
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
