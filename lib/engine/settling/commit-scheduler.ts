import { setMaxListeners } from 'node:events';

import { withResolvers } from '../../shared/deferred.js';
import { ClosedError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { RECONNECT_BACKOFF, backoffDelay, pause } from '../../shared/backoff.js';
import { classifyRedisError, isTransient, toPublicError } from '../../redis/commands/redis-error.js';
import type { PendingCommands } from '../../redis/commands/stream-commands.js';
import type { Partition } from '../consuming/partition.js';

/** Most ids of one XACK; as many collected acks are sent before the interval is over. */
const ACKS_PER_COMMAND = 1_000;

export interface CommitSchedulerOptions {
  readonly pending: Pick<PendingCommands, 'ack'>;
  readonly group: string;
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
 * in Cluster one node may stand still. Acks that Redis refuses permanently are reported and dropped: their entries stay
 * pending and will be delivered again.
 */
export class CommitScheduler {
  readonly #options: CommitSchedulerOptions;
  readonly #closing = new AbortController();
  readonly #queued = new Map<Partition, string[]>();
  /** The send that runs, by partition; it resolves with the errors of the acks that Redis refused. */
  readonly #sending = new Map<Partition, Promise<RedisStreamsError[]>>();
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
    if (this.#collected >= ACKS_PER_COMMAND || interval === 0) this.#sendSoon();
    else this.#timer ??= setTimeout(() => this.#sendSoon(), interval);
  }

  /**
   * Resolves when the server has confirmed every ack that was added before.
   * @throws RedisStreamsError when Redis refuses some of them, or the signal's reason when it aborts; acks that could not be
   * sent stay queued.
   */
  async flush(signal?: AbortSignal): Promise<void> {
    const partitions = new Set([...this.#sending.keys(), ...this.#queued.keys()]);
    const flushes = [...partitions].map((partition) => this.#flushPartition(partition, signal));
    const [failure] = (await orAborted(Promise.all(flushes), signal)).flat();
    if (failure) throw failure;
  }

  /** Stops repeating and timers. Queued acks are not sent; call {@link flush} before. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#closing.abort();
  }

  async #flushPartition(partition: Partition, signal: AbortSignal | undefined): Promise<RedisStreamsError[]> {
    const failures: RedisStreamsError[] = [];
    // A loop, because a send that is under way lacks the acks that were added since it began.
    while (this.#sending.has(partition) || this.#queued.has(partition)) {
      signal?.throwIfAborted();
      if (this.#closing.signal.aborted) throw new ClosedError('The commit scheduler');
      failures.push(...(await (this.#sending.get(partition) ?? this.#send(partition))));
    }
    return failures;
  }

  #sendSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#collected = 0;
    // Acks of one turn of the event loop are sent together, also when the interval is 0.
    const after = Promise.resolve();
    for (const partition of this.#queued.keys()) if (!this.#sending.has(partition)) void this.#send(partition, after);
  }

  /** Starts the one send of the partition that may run. */
  #send(partition: Partition, after?: Promise<void>): Promise<RedisStreamsError[]> {
    const sending = (async () => {
      await after;
      const failures: RedisStreamsError[] = [];
      const ids = this.#queued.get(partition) ?? [];
      this.#queued.delete(partition);
      for (let start = 0; start < ids.length; start += ACKS_PER_COMMAND) {
        await this.#ack(partition, ids.slice(start, start + ACKS_PER_COMMAND), failures);
      }
      return failures;
    })().finally(() => {
      this.#sending.delete(partition);
      const { interval } = this.#options;
      if (!this.#queued.has(partition) || interval === undefined || this.#closing.signal.aborted) return;
      this.#timer ??= setTimeout(() => this.#sendSoon(), interval);
    });
    this.#sending.set(partition, sending);
    return sending;
  }

  /** Repeats one XACK through outages: acknowledging twice is harmless. */
  async #ack(partition: Partition, ids: string[], failures: RedisStreamsError[]): Promise<void> {
    const { pending, group } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const acknowledged = await pending.ack(partition.key, group, ids);
        if (acknowledged < ids.length) this.#options.onMissed(partition.key, ids.length - acknowledged);
        this.#settle(partition, ids);
        return;
      } catch (error) {
        if (this.#closing.signal.aborted) {
          this.#requeue(partition, ids);
          return;
        }
        const publicError = toPublicError(error, partition.key, 'acknowledging on');
        if (!isTransient(classifyRedisError(error)) && !publicError.retryable) {
          this.#settle(partition, ids);
          failures.push(publicError);
          this.#options.onError(publicError);
          return;
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

  #requeue(partition: Partition, ids: readonly string[]): void {
    this.#queued.set(partition, [...ids, ...(this.#queued.get(partition) ?? [])]);
  }
}

async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  const aborted = withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
