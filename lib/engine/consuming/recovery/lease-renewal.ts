import { monotonicNow } from '../../../shared/clock.js';
import type { PendingCommands, RestoredEntries } from '../../../redis/commands/stream-commands.js';
import type { OwnedState, Partition, PartitionSet } from '../partition.js';
import type { RetrySchedule, RetrySchedules } from './retry-schedule.js';

export interface LeaseRenewalOptions {
  readonly pending: Pick<PendingCommands, 'keepAlive' | 'restore'>;
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

const RENEWED: ReadonlySet<OwnedState> = new Set(['buffered', 'running', 'settled']);
const IDS_PER_COMMAND = 500;
const NOTHING: RestoredEntries = Object.freeze({ restored: [], gone: [] });

/**
 * Renews the lease of the entries that this process owns: it resets their idle time, so that no other consumer claims them
 * while this process lives. It never renews an entry that another consumer has claimed or that is `overdue`, and never has two
 * renewals of a partition under way. Partitions do not wait for each other: a node of a cluster that stands still, or a stream that was
 * deleted, costs no other stream its leases.
 *
 * While every lease was renewed on time, no other consumer can have claimed, handled and acknowledged an entry that is not
 * settled here. If it is pending for no consumer, its group was destroyed or this consumer deleted from it, and it is put back,
 * so that it is not lost with this process.
 */
export class LeaseRenewal {
  readonly #options: LeaseRenewalOptions;
  readonly #renewing = new Set<Partition>();
  /** When the last renewal of a partition that succeeded was begun. */
  readonly #renewedAt = new WeakMap<Partition, number>();
  #startedAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LeaseRenewalOptions) {
    this.#options = options;
  }

  start(): void {
    this.#startedAt = monotonicNow();
    this.#timer ??= setInterval(() => {
      for (const partition of this.#options.partitions.owning) {
        if (!this.#renewing.has(partition)) void this.#keep(partition);
      }
    }, this.#options.claimIdle / 3);
  }

  /** Whether no other consumer can have claimed an entry of the partition that this process owns. */
  isOnTime(partition: Partition): boolean {
    const isRenewed = monotonicNow() - (this.#renewedAt.get(partition) ?? this.#startedAt) < this.#options.claimIdle;
    return isRenewed && !partition.isFenced;
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
    const begun = monotonicNow();
    const isOnTime = this.isOnTime(partition);
    const schedule = retries.retriesOf(partition);
    const ids = idsToRenew(partition, schedule, claimIdle);
    for (let start = 0; start < ids.length; start += IDS_PER_COMMAND) {
      await this.#renew(partition, ids.slice(start, start + IDS_PER_COMMAND), isOnTime);
    }
    if (isOnTime) await schedule?.restore(partition);
    this.#renewedAt.set(partition, begun);
  }

  async #renew(partition: Partition, ids: readonly string[], isOnTime: boolean): Promise<void> {
    const { pending, group, consumer, listener } = this.#options;
    const lost = new Set(ids);
    const before = new Map(ids.map((id) => [id, partition.owned.get(id)]));
    for (const id of await pending.keepAlive(partition.key, group, consumer, ids)) lost.delete(id);
    // A group that was moved back has delivered it again since.
    for (const [id, state] of before) if (isDeliveredAgain(state, partition.owned.get(id))) lost.delete(id);
    // One that was settled since may be acknowledged by now.
    const unsettled = [...lost].filter((id) => isOnTime && isUnsettled(partition.owned.get(id)));
    const entries = unsettled.map((id) => ({ id, deliveryCount: 1 }));
    const { restored, gone } =
      entries.length > 0 ? await pending.restore(partition.key, group, consumer, entries) : NOTHING;
    // What is not even in the stream any more can be handled here alone.
    for (const id of [...restored, ...gone]) lost.delete(id);
    if (lost.size > 0) listener.onLeaseLost(partition, lost);
  }
}

/** The entries of a partition that no other consumer should claim now. */
export function idsToRenew(partition: Partition, schedule: RetrySchedule | undefined, claimIdle: number): string[] {
  const ids = schedule?.idsToRenew(partition, claimIdle) ?? [];
  for (const [id, state] of partition.owned) if (RENEWED.has(state)) ids.push(id);
  return ids;
}

function isDeliveredAgain(before: OwnedState | undefined, now: OwnedState | undefined): boolean {
  return before !== 'buffered' && before !== now && isUnsettled(now);
}

function isUnsettled(state: OwnedState | undefined): boolean {
  return state === 'buffered' || state === 'running';
}
