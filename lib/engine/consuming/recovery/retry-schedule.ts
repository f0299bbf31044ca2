import { monotonicNow } from '../../../shared/clock.js';
import type { PendingEntry, StreamEntry } from '../../../redis/commands/stream-commands.js';
import { StreamMessage } from '../../messages/stream-message.js';
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

/**
 * For how long after its time other consumers leave an entry to this process, in milliseconds. An entry that turns out to be
 * pending for no consumer within that time has not been handled elsewhere, so it must be put back.
 */
export function retryMargin(claimIdle: number): number {
  return Math.min(5_000, claimIdle / 2);
}

/** Messages that may wait for a retry. They occupy no place in the buffer; at this number reading stops until some are due. */
const MAX_WAITING = 10_000;

/**
 * Owns the messages that wait for a retry in our own pending list, and hands each out again when its delay is over.
 *
 * It only makes retries punctual. The idle time of an entry on the server is what makes it claimable, so no retry is
 * forgotten when this process crashes. Nor is one forgotten when the pending entries list goes: an entry that is in no list
 * is put back, and one that is not even in the stream is handed out from the copy that is kept here.
 */
export class RetrySchedule implements PeriodicTask {
  readonly isVital = true;
  readonly #claims: Claims;
  readonly #consumer: string;
  readonly #margin: number;
  readonly #listener: RetryListener;
  readonly #share = new FairShare();
  /** By due time, earliest first. */
  #waiting: WaitingEntry[] = [];
  /** Messages that have left their places in the buffer, and are not added yet. */
  #expected = 0;

  /** @param margin see {@link retryMargin}; Infinity where no other consumer claims */
  constructor(claims: Claims, consumer: string, margin: number, listener: RetryListener) {
    this.#claims = claims;
    this.#consumer = consumer;
    this.#margin = margin;
    this.#listener = listener;
  }

  get isFull(): boolean {
    return this.#waiting.length + this.#expected >= MAX_WAITING;
  }

  /** Announces a message whose entry is prepared for its retry, which takes a command. */
  expect(): void {
    this.#expected += 1;
  }

  /** An announced message is added now, or never. */
  endExpecting(): void {
    this.#expected -= 1;
  }

  /** True when the entry is due before all others, so that a loop that waits for the next one must look again. */
  add(partition: Partition, message: StreamMessage, delay: number, outlastsIdle = false): boolean {
    const entry = { partition, message, dueAt: monotonicNow() + delay, outlastsIdle };
    let index = this.#waiting.length;
    while (index > 0 && (this.#waiting[index - 1] as WaitingEntry).dueAt > entry.dueAt) index -= 1;
    this.#waiting.splice(index, 0, entry);
    partition.owned.set(message.id, 'waiting');
    partition.handledSince.delete(message.id);
    StreamMessage.detach(message);
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
   * that it is never claimable before the margin is over. Leases are renewed three times in a claim idle, so the last renewal comes at most
   * one claim idle, and at least two thirds of it, before the end of the margin after its time.
   */
  idsToRenew(partition: Partition, claimIdle: number): string[] {
    const last = monotonicNow() + (2 * claimIdle) / 3 - Math.min(this.#margin, claimIdle);
    return this.#waiting
      .filter((entry) => entry.outlastsIdle && entry.partition === partition && entry.dueAt > last)
      .map(({ message }) => message.id);
  }

  /** Puts back what waits and is pending for no consumer, so that it is claimable should this process die. */
  async restore(partition: Partition): Promise<void> {
    const waiting = this.#waiting.filter((entry) => entry.partition === partition && this.#isOursAlone(entry));
    const entries = waiting.map(({ message }) => ({ id: message.id, deliveryCount: message.deliveryCount }));
    if (entries.length > 0) await this.#claims.restore(partition, entries);
  }

  dueIn(): number {
    // One that is refused or paused must not delay the others.
    const first = this.#waiting.find(({ partition }) => mayClaim(partition));
    return first ? Math.max(0, first.dueAt - monotonicNow()) : Infinity;
  }

  async run(_partitions: readonly Partition[], credit: number): Promise<ReadPage[]> {
    const now = monotonicNow();
    // A partition that failed cannot be claimed from, and must not delay the others.
    const failed = this.#waiting.map(({ partition }) => partition).filter(({ isReadable }) => !isReadable);
    for (const partition of new Set(failed)) this.forget(partition);
    const due = this.#waiting.filter(({ dueAt, partition }) => dueAt <= now && mayClaim(partition));
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
    const wanted = waiting.map((entry) => this.#pendingEntry(entry));
    const safe = wanted.filter((_, index) => this.#isOursAlone(waiting[index] as WaitingEntry));
    const { gone } = await this.#claims.restore(partition, safe);
    const claimed = await this.#claims.claimOwn(partition, wanted, true);
    const byId = new Map(claimed.map((entry) => [entry.id, entry]));
    const entries: StreamEntry[] = [];
    for (const [index, { message }] of waiting.entries()) {
      const { deliveryCount } = wanted[index] as PendingEntry;
      const copy = gone.includes(message.id) ? copyOf(message, deliveryCount + 1) : undefined;
      const entry = byId.get(message.id) ?? copy;
      if (!entry) {
        this.#takenAway(partition, message);
        continue;
      }
      partition.owned.delete(message.id);
      entries.push(entry);
    }
    return { partition, generation, entries };
  }

  #pendingEntry({ partition, message: { id, deliveryCount } }: WaitingEntry): PendingEntry {
    // Of an unburied message only the dead letter is stored again, so this is no delivery.
    const counted = partition.unburied.has(id) ? deliveryCount - 1 : deliveryCount;
    return { id, deliveryCount: counted, consumer: this.#consumer, idle: 0 };
  }

  /** Whether no other consumer can have claimed the entry by now, as long as its lease was renewed on time. */
  #isOursAlone({ dueAt }: WaitingEntry): boolean {
    return monotonicNow() < dueAt + this.#margin;
  }

  #takenAway(partition: Partition, message: StreamMessage): void {
    partition.owned.delete(message.id);
    partition.failedFirst.delete(message.id);
    partition.unburied.delete(message.id);
    this.#listener.onTakenAway(message);
  }
}

function mayClaim({ refusal, isPaused }: Partition): boolean {
  return refusal === undefined && !isPaused;
}

/** The message once more, for the stream that had its entry was deleted. */
function copyOf(message: StreamMessage, deliveryCount: number): StreamEntry {
  return { id: message.id, fields: message.storedFields, deliveryCount };
}
