import { monotonicNow } from '../../../shared/clock.js';
import type { StreamMessage } from '../../messages/stream-message.js';
import type { Partition } from '../partition.js';
import { FairShare } from '../reading/periodic-task.js';
import type { PeriodicTask } from '../reading/periodic-task.js';
import type { ReadPage } from '../reading/stream-reader.js';
import type { Claims } from './claims.js';

interface WaitingEntry {
  readonly partition: Partition;
  readonly message: StreamMessage;
  readonly dueAt: number;
  /** Without lease renewal other consumers would claim the entry before it is due. */
  readonly outlastsIdle: boolean;
}

export interface RetryListener {
  /** A message that waited for its retry was deleted, or another consumer has claimed it. */
  onTakenAway(message: StreamMessage): void;
}

/** Finds the schedule of a partition: each read loop has its own. */
export interface RetrySchedules {
  /** Undefined when the partition is not read, or when nothing is pending (NOACK). */
  retriesOf(partition: Partition): RetrySchedule | undefined;
  /** Makes the loop that reads a partition look again at its tasks. */
  restart(partition: Partition): Promise<void>;
}

/** Messages that may wait for a retry. They occupy no place in the buffer; at this number reading stops until some are due. */
const MAX_WAITING = 10_000;

/**
 * Owns the messages that wait for a retry in our own pending list, and hands each out again when its delay is over.
 *
 * It only makes retries punctual. The idle time of an entry on the server is what makes it claimable, so no retry is
 * forgotten when this process crashes.
 */
export class RetrySchedule implements PeriodicTask {
  readonly isVital = true;
  readonly #claims: Claims;
  readonly #consumer: string;
  readonly #listener: RetryListener;
  readonly #share = new FairShare();
  /** By due time, earliest first. */
  #waiting: WaitingEntry[] = [];

  constructor(claims: Claims, consumer: string, listener: RetryListener) {
    this.#claims = claims;
    this.#consumer = consumer;
    this.#listener = listener;
  }

  get isFull(): boolean {
    return this.#waiting.length >= MAX_WAITING;
  }

  /** True when the entry is due before all others, so that a loop that waits for the next one must look again. */
  add(partition: Partition, message: StreamMessage, delay: number, outlastsIdle = false): boolean {
    const entry = { partition, message, dueAt: monotonicNow() + delay, outlastsIdle };
    let index = this.#waiting.length;
    while (index > 0 && (this.#waiting[index - 1] as WaitingEntry).dueAt > entry.dueAt) index -= 1;
    this.#waiting.splice(index, 0, entry);
    partition.owned.set(message.id, 'waiting');
    return index === 0;
  }

  /** Forgets the entries of a partition that is not read any more; they stay pending. */
  forget(partition: Partition): void {
    const forgotten = this.#waiting.filter((entry) => entry.partition === partition);
    this.#waiting = this.#waiting.filter((entry) => entry.partition !== partition);
    for (const { message } of forgotten) this.#takenAway(partition, message);
  }

  /**
   * Ids of the entries whose lease must be renewed now because they wait for longer than `claimIdle`.
   *
   * Renewal ends early enough that the entry is claimable soon after it is due, should this process die, and late enough
   * that it is never claimable before. Leases are renewed three times in a claim idle, so the last renewal comes at most
   * one claim idle, and at least two thirds of it, before the entry is due.
   */
  idsToRenew(partition: Partition, claimIdle: number): string[] {
    const last = monotonicNow() + (2 * claimIdle) / 3;
    return this.#waiting
      .filter((entry) => entry.outlastsIdle && entry.partition === partition && entry.dueAt > last)
      .map(({ message }) => message.id);
  }

  dueIn(): number {
    const first = this.#waiting[0];
    return first ? Math.max(0, first.dueAt - monotonicNow()) : Infinity;
  }

  async run(_partitions: readonly Partition[], credit: number): Promise<ReadPage[]> {
    const now = monotonicNow();
    // A partition that failed cannot be claimed from, and must not delay the others.
    const failed = this.#waiting.map(({ partition }) => partition).filter(({ isReadable }) => !isReadable);
    for (const partition of new Set(failed)) this.forget(partition);
    const due = this.#waiting.filter(({ dueAt }) => dueAt <= now);
    const partition = due[0]?.partition;
    if (!partition) return [];
    // One partition at a time: a failure of the next one must not lose entries that are claimed already.
    const entries = due.filter((entry) => entry.partition === partition).slice(0, this.#share.of(credit));
    if (entries.length === 0) return [];
    const page = await this.#claim(partition, entries);
    const claimed = new Set(entries);
    this.#waiting = this.#waiting.filter((entry) => !claimed.has(entry));
    return [page];
  }

  /** Entries that are no longer ours were deleted, or another consumer has claimed them and will handle them. */
  async #claim(partition: Partition, waiting: readonly WaitingEntry[]): Promise<ReadPage> {
    const { generation } = partition;
    const wanted = waiting.map(({ message: { id, deliveryCount } }) => {
      return { id, deliveryCount, consumer: this.#consumer, idle: 0 };
    });
    const entries = await this.#claims.claimOwn(partition, wanted, true);
    const ours = new Set(entries.map(({ id }) => id));
    for (const { message } of waiting) {
      if (ours.has(message.id)) partition.owned.delete(message.id);
      else this.#takenAway(partition, message);
    }
    return { partition, generation, entries };
  }

  #takenAway(partition: Partition, message: StreamMessage): void {
    partition.owned.delete(message.id);
    partition.failedFirst.delete(message.id);
    this.#listener.onTakenAway(message);
  }
}
