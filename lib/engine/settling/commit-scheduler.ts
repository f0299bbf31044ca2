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
 * One send runs at a time, and repeats an XACK through outages. Acks that Redis refuses permanently are reported and dropped:
 * their entries stay pending and will be delivered again.
 */
export class CommitScheduler {
  readonly #options: CommitSchedulerOptions;
  readonly #closing = new AbortController();
  #queued = new Map<Partition, string[]>();
  #size = 0;
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<RedisStreamsError[]> | undefined;

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
    const { interval } = this.#options;
    if (interval === undefined) return;
    if (this.#size >= ACKS_PER_COMMAND || interval === 0) this.#sendSoon();
    else this.#timer ??= setTimeout(() => this.#sendSoon(), interval);
  }

  /**
   * Resolves when the server has confirmed every ack that was added before.
   * @throws RedisStreamsError when Redis refuses some of them, or the signal's reason when it aborts; acks that could not be
   * sent stay queued.
   */
  async flush(signal?: AbortSignal): Promise<void> {
    const failures: RedisStreamsError[] = [];
    // A loop, because a send that is under way lacks the acks that were added since it began.
    while (this.#sending || this.#queued.size > 0) {
      signal?.throwIfAborted();
      if (this.#closing.signal.aborted) throw new ClosedError('The commit scheduler');
      failures.push(...(await orAborted(this.#sending ?? this.#send(), signal)));
    }
    if (failures.length > 0) throw failures[0] as RedisStreamsError;
  }

  /** Stops repeating and timers. Queued acks are not sent; call {@link flush} before. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#closing.abort();
  }

  #sendSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    // Acks of one turn of the event loop are sent together, also when the interval is 0.
    if (!this.#sending) void this.#send(Promise.resolve());
  }

  /** Starts the one send that may run; it resolves with the errors of the acks that Redis refused. */
  #send(after?: Promise<void>): Promise<RedisStreamsError[]> {
    const sending = (async () => {
      await after;
      const failures: RedisStreamsError[] = [];
      await this.#sendQueued(failures);
      return failures;
    })().finally(() => {
      this.#sending = undefined;
      const { interval } = this.#options;
      if (this.#queued.size === 0 || interval === undefined || this.#closing.signal.aborted) return;
      this.#timer ??= setTimeout(() => this.#sendSoon(), interval);
    });
    return (this.#sending = sending);
  }

  async #sendQueued(failures: RedisStreamsError[]): Promise<void> {
    const batch = this.#queued;
    this.#queued = new Map();
    await Promise.all(
      [...batch].map(async ([partition, ids]) => {
        for (let start = 0; start < ids.length; start += ACKS_PER_COMMAND) {
          await this.#ack(partition, ids.slice(start, start + ACKS_PER_COMMAND), failures);
        }
      }),
    );
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
    for (const id of ids) partition.owned.delete(id);
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
