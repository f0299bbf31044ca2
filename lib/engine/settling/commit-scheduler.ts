import { setMaxListeners } from 'node:events';

import { ClosedError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { outsideContext } from '../../shared/async-context.js';
import { RECONNECT_BACKOFF, REFUSAL_BACKOFF, backoffDelay, pause, untilAborted } from '../../shared/backoff.js';
import {
  classifyRedisError,
  isRefusal,
  isTransient,
  replyWord,
  toPublicError,
} from '../../redis/commands/redis-error.js';
import type { Partition } from '../consuming/partition.js';

/** Most ids of one XACK; as many collected acks are sent before the interval is over, unless they are of many partitions. */
const ACKS_PER_COMMAND = 1_000;
/** Most XACKs of one partition that are under way. */
const COMMANDS_AT_ONCE = 8;
/** Acks of many partitions are sent before the interval is over when an XACK has this many on average: short ones cost as much. */
const ACKS_PER_PARTITION = 50;
/** Most acks that are kept while Redis refuses them; the oldest ones over it stay pending. */
const MOST_REFUSED = 100_000;

/** Why the acks of a partition are refused, until some of them are confirmed. */
interface Refusal {
  error: RedisStreamsError;
  attempts: number;
  /** First words of the replies that were reported. */
  readonly reported: Set<string>;
  /** The next attempt; undefined while one runs, and where only a flush sends. */
  timer: NodeJS.Timeout | undefined;
}

export interface CommitSchedulerOptions {
  /** Returns how many of the ids were pending. */
  readonly ack: (partition: Partition, ids: readonly string[]) => Promise<number>;
  /** Milliseconds between commits; undefined commits on {@link CommitScheduler.flush} only. */
  readonly interval: number | undefined;
  readonly onError: (error: RedisStreamsError) => void;
  /** Acks whose entries were not pending: trimmed, or acknowledged by another consumer. */
  readonly onMissed: (streamKey: string, count: number) => void;
}

/**
 * Owns the acknowledgements that the server has not confirmed. It sends many ids in one XACK for each partition, by interval,
 * earlier when many were collected; once an XACK is confirmed, its entries are no longer owned by this process.
 *
 * One send of a partition runs at a time, and repeats an XACK through outages. Partitions do not wait for each other, because
 * in Cluster one node may stand still.
 *
 * A reply that says nothing about the entries, such as that of a proxy, is never final: it is reported once, and the acks
 * are sent again with a slow back-off, and by each {@link flush}. Acks that can never succeed, because the key is no stream
 * any more, are reported and dropped.
 */
export class CommitScheduler {
  readonly #options: CommitSchedulerOptions;
  readonly #closing = new AbortController();
  readonly #queued = new Map<Partition, string[]>();
  /** The send that runs, by partition; it resolves with the errors of the acks that Redis refused. */
  readonly #sending = new Map<Partition, Promise<RedisStreamsError[]>>();
  readonly #refusals = new Map<Partition, Refusal>();
  #size = 0;
  /** Acks that were added since the last send was started. */
  #collected = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: CommitSchedulerOptions) {
    this.#options = options;
    // One listener for each partition whose XACK waits to be repeated.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Acks that are not confirmed yet. */
  get size(): number {
    return this.#size;
  }

  /** Why Redis refuses the acks of a partition now. */
  refusalOf(partition: Partition): RedisStreamsError | undefined {
    return this.#refusals.get(partition)?.error;
  }

  /** Ignored after {@link close}: the entry stays pending and will be delivered again. */
  add(partition: Partition, id: string): void {
    if (this.#closing.signal.aborted) return;
    const ids = this.#queued.get(partition);
    if (ids) ids.push(id);
    else this.#queued.set(partition, [id]);
    this.#size += 1;
    this.#collected += 1;
    const { interval } = this.#options;
    if (interval === undefined) return;
    const enough = Math.max(ACKS_PER_COMMAND, ACKS_PER_PARTITION * this.#queued.size);
    if (this.#collected >= enough || interval === 0) this.#sendSoon();
    else this.#timer ??= setTimeout(() => this.#sendSoon(), interval);
  }

  /**
   * Resolves when the server has confirmed every ack that was added before.
   * @param only the acks of this partition alone
   * @throws RedisStreamsError when Redis refuses some of them, or the signal's reason when it aborts; they stay queued where
   * another attempt can succeed.
   */
  async flush(signal?: AbortSignal, only?: Partition): Promise<void> {
    const partitions = only ? [only] : new Set([...this.#sending.keys(), ...this.#queued.keys()]);
    const flushes = [...partitions].map((partition) => this.#flushPartition(partition, signal));
    const sent = Promise.all(flushes);
    const [failure] = (await (signal ? untilAborted(sent, signal) : sent)).flat();
    if (failure) throw failure;
  }

  /** Stops repeating and timers. Queued acks are not sent; call {@link flush} before. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const { timer } of this.#refusals.values()) clearTimeout(timer);
    this.#closing.abort();
  }

  async #flushPartition(partition: Partition, signal: AbortSignal | undefined): Promise<RedisStreamsError[]> {
    const failures: RedisStreamsError[] = [];
    // A loop, because a send that is under way lacks the acks that were added since it began.
    while (this.#sending.has(partition) || this.#queued.has(partition)) {
      signal?.throwIfAborted();
      if (this.#closing.signal.aborted)
        throw new ClosedError('The connection', 'acknowledgements that wait are not sent');
      failures.push(...(await (this.#sending.get(partition) ?? this.#send(partition))));
      if (failures.length > 0 && this.#refusals.has(partition)) break;
    }
    return failures;
  }

  #sendSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#collected = 0;
    // Acks of one turn of the event loop are sent together, also when the interval is 0.
    const after = Promise.resolve();
    for (const partition of this.#queued.keys()) {
      if (!this.#sending.has(partition) && !this.#refusals.get(partition)?.timer) void this.#send(partition, after);
    }
  }

  /** Starts the one send of the partition that may run. */
  #send(partition: Partition, after?: Promise<void>): Promise<RedisStreamsError[]> {
    const refused = this.#refusals.get(partition);
    if (refused) {
      clearTimeout(refused.timer);
      refused.timer = undefined;
    }
    // Not in the context of the handler whose ack, or commit, is the first of many.
    const sending = outsideContext(async () => {
      await after;
      const failures: RedisStreamsError[] = [];
      const ids = this.#queued.get(partition) ?? [];
      this.#queued.delete(partition);
      const parts = partsOf(ids);
      for (let sent = 0; sent < parts.length;) {
        // The first one alone, because a refusal of it holds for all.
        const next = parts.slice(sent, sent + (sent === 0 ? 1 : COMMANDS_AT_ONCE));
        sent += next.length;
        const areDone = await Promise.all(next.map((part) => this.#ack(partition, part, failures)));
        const refused = next.filter((_, index) => !areDone[index]);
        if (refused.length === 0) {
          this.#refusals.delete(partition);
          continue;
        }
        this.#requeue(partition, [...refused, ...parts.slice(sent)].flat());
        break;
      }
      return failures;
    }).finally(() => {
      this.#sending.delete(partition);
      const { interval } = this.#options;
      if (!this.#queued.has(partition) || interval === undefined || this.#closing.signal.aborted) return;
      const refusal = this.#refusals.get(partition);
      if (!refusal) this.#timer ??= setTimeout(() => this.#sendSoon(), interval);
      else {
        const delay = Math.max(interval, backoffDelay(REFUSAL_BACKOFF, refusal.attempts));
        refusal.timer = setTimeout(() => void this.#send(partition), delay);
      }
    });
    this.#sending.set(partition, sending);
    return sending;
  }

  /**
   * Repeats one XACK through outages: acknowledging twice is harmless. Returns false when the acks are refused, or not sent
   * because of {@link close}, and must be queued again.
   */
  async #ack(partition: Partition, ids: string[], failures: RedisStreamsError[]): Promise<boolean> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const acknowledged = await this.#options.ack(partition, ids);
        if (acknowledged < ids.length) this.#options.onMissed(partition.key, ids.length - acknowledged);
        this.#settle(partition, ids);
        return true;
      } catch (error) {
        if (this.#closing.signal.aborted) return false;
        const kind = classifyRedisError(error);
        const publicError = toPublicError(error, partition.key, 'acknowledging on');
        if (isRefusal(kind)) {
          failures.push(publicError);
          this.#noteRefusal(partition, publicError, replyWord(error) ?? '');
          return false;
        }
        if (!isTransient(kind) && !publicError.retryable) {
          this.#settle(partition, ids);
          failures.push(publicError);
          this.#options.onError(publicError);
          return true;
        }
        await pause(backoffDelay(RECONNECT_BACKOFF, attempt), this.#closing.signal);
      }
    }
  }

  #settle(partition: Partition, ids: readonly string[]): void {
    this.#size -= ids.length;
    // An entry of a group that was moved back may have been read again since.
    for (const id of ids) if (partition.owned.get(id) === 'settled') partition.owned.delete(id);
  }

  /** Reports a refusal once until acks are confirmed: one that repeats with every attempt must not fill a disk. */
  #noteRefusal(partition: Partition, error: RedisStreamsError, word: string): void {
    const refusal = this.#refusals.get(partition) ?? { error, attempts: 0, reported: new Set(), timer: undefined };
    this.#refusals.set(partition, refusal);
    refusal.error = error;
    refusal.attempts += 1;
    if (refusal.reported.has(word)) return;
    refusal.reported.add(word);
    this.#options.onError(error);
  }

  #requeue(partition: Partition, ids: readonly string[]): void {
    const surplus = this.#refusals.has(partition) ? Math.max(0, this.#size - MOST_REFUSED) : 0;
    if (surplus > 0) this.#settle(partition, ids.slice(0, surplus));
    this.#queued.set(partition, [...ids.slice(surplus), ...(this.#queued.get(partition) ?? [])]);
  }
}

/** The ids of one XACK each. */
function partsOf(ids: readonly string[]): string[][] {
  const count = Math.ceil(ids.length / ACKS_PER_COMMAND);
  return Array.from({ length: count }, (_, part) => ids.slice(part * ACKS_PER_COMMAND, (part + 1) * ACKS_PER_COMMAND));
}
