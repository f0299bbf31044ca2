import { withResolvers } from '../../shared/deferred.js';
import { ClosedError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { RECONNECT_BACKOFF, backoffDelay, pause } from '../../shared/backoff.js';
import { classifyRedisError, isTransient, toPublicError } from '../../redis/commands/redis-error.js';
import type { PendingCommands } from '../../redis/commands/stream-commands.js';
import type { Partition } from '../consuming/partition.js';

/** Ids of one XACK, and how many acks are collected before they are sent ahead of the interval. */
const ACKS_PER_COMMAND = 1_000;

export interface CommitSchedulerOptions {
  readonly pending: Pick<PendingCommands, 'ack'>;
  readonly group: string;
  /** Milliseconds between commits; undefined commits on {@link CommitScheduler.flush} only. */
  readonly interval: number | undefined;
  readonly onError: (error: RedisStreamsError) => void;
  /** Acks that Redis counted as 0: trimmed, or acknowledged by somebody else. */
  readonly onMissed: (streamKey: string, count: number) => void;
}

/**
 * Sends acknowledgements, many ids in one XACK, each stream its own: by interval, earlier when many have gathered.
 *
 * One sending runs at a time. Acks of a failed sending stay queued and are sent again; acks that Redis refuses for good
 * are reported and dropped, because their entries stay pending and will be delivered again.
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
  }

  /** Acks that are not yet confirmed. */
  get size(): number {
    return this.#size;
  }

  /** Too late once closed: the entry stays pending, and is delivered again. */
  add(stream: Partition, id: string): void {
    if (this.#closing.signal.aborted) return;
    const ids = this.#queued.get(stream);
    if (ids) ids.push(id);
    else this.#queued.set(stream, [id]);
    this.#size += 1;
    const { interval } = this.#options;
    if (interval === undefined) return;
    if (this.#size >= ACKS_PER_COMMAND || interval === 0) this.#sendSoon();
    else this.#timer ??= setTimeout(() => this.#sendSoon(), interval);
  }

  /**
   * Resolves when everything added before is settled on the server.
   * @throws RedisStreamsError when Redis refuses some of it, or the signal's reason when it aborts; what could not be sent stays queued.
   */
  async flush(signal?: AbortSignal): Promise<void> {
    const failures: RedisStreamsError[] = [];
    // A sending that is under way does not have what was added since it began, hence the loop.
    while (this.#sending || this.#queued.size > 0) {
      signal?.throwIfAborted();
      if (this.#closing.signal.aborted) throw new ClosedError('The commit scheduler');
      failures.push(...(await orAborted(this.#sending ?? this.#send(), signal)));
    }
    if (failures.length > 0) throw failures[0] as RedisStreamsError;
  }

  /** Stops retrying and timers. What is still queued is not sent; call {@link flush} before. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#closing.abort();
  }

  #sendSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    // Acks of one turn of the event loop go together, also when the interval is 0.
    if (!this.#sending) void this.#send(Promise.resolve());
  }

  /** Starts the one sending that may run; it resolves with what Redis refused. */
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
      [...batch].map(async ([stream, ids]) => {
        for (let start = 0; start < ids.length; start += ACKS_PER_COMMAND) {
          await this.#ack(stream, ids.slice(start, start + ACKS_PER_COMMAND), failures);
        }
      }),
    );
  }

  /** Repeats one XACK through outages: acknowledging twice is harmless. */
  async #ack(stream: Partition, ids: string[], failures: RedisStreamsError[]): Promise<void> {
    const { pending, group } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const acknowledged = await pending.ack(stream.key, group, ids);
        if (acknowledged < ids.length) this.#options.onMissed(stream.key, ids.length - acknowledged);
        this.#settle(stream, ids);
        return;
      } catch (error) {
        if (this.#closing.signal.aborted) {
          this.#requeue(stream, ids);
          return;
        }
        const publicError = toPublicError(error, stream.key, 'acknowledging on');
        if (!isTransient(classifyRedisError(error)) && !publicError.retryable) {
          this.#settle(stream, ids);
          failures.push(publicError);
          this.#options.onError(publicError);
          return;
        }
        await pause(backoffDelay(RECONNECT_BACKOFF, attempt), this.#closing.signal);
      }
    }
  }

  #settle(stream: Partition, ids: readonly string[]): void {
    this.#size -= ids.length;
    for (const id of ids) stream.held.delete(id);
  }

  #requeue(stream: Partition, ids: readonly string[]): void {
    this.#queued.set(stream, [...ids, ...(this.#queued.get(stream) ?? [])]);
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
