import type { PendingCommands } from '../../../redis/commands/stream-commands.js';
import type { Partition, PartitionSet } from '../partition.js';
import type { RetrySchedules } from './retry-schedule.js';

export interface LeaseRenewalOptions {
  readonly pending: Pick<PendingCommands, 'keepAlive'>;
  readonly group: string;
  readonly consumer: string;
  /** Idle time from which on other consumers claim an entry, in milliseconds; leases are renewed three times as often. */
  readonly claimIdle: number;
  readonly partitions: Pick<PartitionSet, 'owning'>;
  readonly retries: Pick<RetrySchedules, 'retriesOf'>;
  readonly listener: LeaseListener;
}

export interface LeaseListener {
  /** Another consumer has claimed these entries, or they are no longer pending. */
  onLeaseLost(partition: Partition, ids: ReadonlySet<string>): void;
  onRenewalFailure(error: unknown): void;
}

const IDS_PER_COMMAND = 500;

/**
 * Renews the lease of the entries that this process owns: it resets their idle time, so that no other consumer claims them
 * while this process lives. It never renews an entry that another consumer has claimed, and never has two renewals of a
 * partition under way. Partitions do not wait for each other: a node of a cluster that stands still, or a stream that was
 * deleted, costs no other stream its leases.
 */
export class LeaseRenewal {
  readonly #options: LeaseRenewalOptions;
  readonly #renewing = new Set<Partition>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LeaseRenewalOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer ??= setInterval(() => {
      for (const partition of this.#options.partitions.owning) {
        if (!this.#renewing.has(partition)) void this.#keep(partition);
      }
    }, this.#options.claimIdle / 3);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Never rejects. */
  async #keep(partition: Partition): Promise<void> {
    this.#renewing.add(partition);
    try {
      await this.#renewPartition(partition);
    } catch (error) {
      this.#options.listener.onRenewalFailure(error);
    }
    this.#renewing.delete(partition);
  }

  async #renewPartition(partition: Partition): Promise<void> {
    const { retries, claimIdle } = this.#options;
    const ids = retries.retriesOf(partition)?.idsToRenew(partition, claimIdle) ?? [];
    for (const [id, state] of partition.owned) if (state !== 'waiting' && state !== 'skipped') ids.push(id);
    for (let start = 0; start < ids.length; start += IDS_PER_COMMAND) {
      await this.#renew(partition, ids.slice(start, start + IDS_PER_COMMAND));
    }
  }

  async #renew(partition: Partition, ids: readonly string[]): Promise<void> {
    const { pending, group, consumer, listener } = this.#options;
    const renewed = new Set(await pending.keepAlive(partition.key, group, consumer, ids));
    if (renewed.size === ids.length) return;
    listener.onLeaseLost(partition, new Set(ids.filter((id) => !renewed.has(id))));
  }
}
