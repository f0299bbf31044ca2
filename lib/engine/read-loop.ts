import { withResolvers } from '../deferred.js';
import type { Deferred } from '../deferred.js';
import { RedisStreamsError } from '../errors.js';
import { RECONNECT_BACKOFF, backoffDelay, pause } from '../redis/backoff.js';
import { classifyRedisError, isTransient, toPublicError } from '../redis/redis-error.js';
import type { AssignedStream } from './assigned-stream.js';
import type { ReadPage, StreamReader } from './stream-reader.js';

/** What a read loop does besides reading, at times of its own: taking over idle entries, and retries that are due. */
export interface ReadDuty {
  /** Milliseconds until there is something to do; Infinity when there is nothing. */
  dueIn(): number;
  run(streams: readonly AssignedStream[], credit: number): Promise<ReadPage[]>;
}

/** The connection on which a loop reads. */
export interface ReadConnection {
  ready(signal: AbortSignal): Promise<unknown>;
  close(): Promise<void>;
}

export interface ReadLoopOptions {
  readonly reader: StreamReader;
  readonly connection: ReadConnection;
  readonly interrupt: { readonly isPossible: boolean; interrupt(isOver: () => boolean): Promise<void> };
  readonly duties: readonly ReadDuty[];
  readonly batchSize: number;
  readonly blockTimeout: number;
  /** Free places for what a read brings, and a wait until there are enough. */
  readonly credit: () => number;
  readonly room: () => Promise<void>;
  readonly onPages: (pages: readonly ReadPage[]) => void;
  readonly onStreamFailure: (stream: AssignedStream) => void;
  readonly onError: (error: RedisStreamsError) => void;
}

/** A server on which reads cannot be ended early is asked in short turns. */
const SHORT_BLOCK = 1_000;
/** How long a stop waits for a read to end by itself before it drops the connection. */
const STOP_GRACE = 1_500;
const PERMISSION_RETRY_DELAY = 5_000;

/**
 * Reads in the background for as long as there is room: duties that are due, then one blocking read, again and again.
 *
 * One owner, one read at a time. A failure never ends the loop: it waits for the connection, heals what the failure says
 * about the streams, or marks a stream as failed and goes on with the others. Only {@link stop} ends it.
 */
export class ReadLoop {
  readonly #options: ReadLoopOptions;
  readonly #stopping = new AbortController();
  #streams: readonly AssignedStream[] = [];
  #change: Deferred<void> = withResolvers<void>();
  #loop: Promise<void> | undefined;
  #reads = 0;
  #isReading = false;
  #lastSuccess = Date.now();

  constructor(options: ReadLoopOptions) {
    this.#options = options;
  }

  get streams(): readonly AssignedStream[] {
    return this.#streams;
  }

  /** When a read last came back, with or without entries. */
  get lastSuccess(): number {
    return this.#lastSuccess;
  }

  start(streams: readonly AssignedStream[]): void {
    this.#streams = streams;
    this.#loop ??= this.#run();
  }

  async setStreams(streams: readonly AssignedStream[]): Promise<void> {
    this.#streams = streams;
    await this.restart();
  }

  /** Ends the read that is under way, so that the next one sees what has changed. Its pages may still arrive. */
  async restart(): Promise<void> {
    const read = this.#reads;
    const isOver = (): boolean => !this.#isReading || this.#reads !== read;
    this.#change.resolve();
    if (isOver()) return;
    await this.#options.interrupt.interrupt(isOver);
  }

  /** Idempotent; afterwards nothing is read and nothing will be. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const loop = this.#loop ?? Promise.resolve();
    await this.restart();
    const grace = new AbortController();
    await Promise.race([loop, pause(STOP_GRACE, grace.signal)]);
    grace.abort();
    await this.#options.connection.close();
    await loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted;) {
      try {
        await this.#round(signal);
        failures = 0;
      } catch (error) {
        failures += 1;
        if (!signal.aborted) await this.#recover(error, failures);
      }
    }
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { connection, credit, room, reader, duties, batchSize, onPages } = this.#options;
    this.#change = withResolvers<void>();
    if (!this.#streams.some((stream) => stream.isReadable)) return this.#change.promise;
    await Promise.race([room(), this.#change.promise]);
    await connection.ready(signal);
    if (signal.aborted || credit() === 0) return;
    const streams = this.#streams.filter((stream) => stream.isReadable);
    if (streams.length === 0) return;
    for (const duty of duties) {
      if (duty.dueIn() > 0) continue;
      onPages(await duty.run(streams, credit()));
      if (credit() === 0) return;
    }
    if (signal.aborted) return;
    this.#isReading = true;
    try {
      onPages(await reader.read(streams, { credit: credit(), batchSize, block: this.#blockTime() }));
      this.#lastSuccess = Date.now();
    } finally {
      this.#isReading = false;
      this.#reads += 1;
    }
  }

  #blockTime(): number {
    const { blockTimeout, duties, interrupt } = this.#options;
    const longest = interrupt.isPossible ? blockTimeout : Math.min(blockTimeout, SHORT_BLOCK);
    // 0 would block for ever.
    return Math.max(1, Math.ceil(Math.min(longest, ...duties.map((duty) => duty.dueIn()))));
  }

  async #recover(error: unknown, failures: number): Promise<void> {
    const { signal } = this.#stopping;
    const kind = classifyRedisError(error);
    const streams = this.#streams.filter((stream) => stream.isReadable);
    const delay = pause(
      kind === 'permission' ? PERMISSION_RETRY_DELAY : backoffDelay(RECONNECT_BACKOFF, failures),
      signal,
    );
    if (kind === 'permission' || kind === 'retryable') {
      if (failures === 1) this.#options.onError(toPublicError(error, nameOf(streams), 'reading from'));
    } else if (!isTransient(kind) && kind !== 'interrupted') {
      await this.#heal(streams, error);
    } else if (kind === 'connection' && !(error instanceof RedisStreamsError) && failures === 1) {
      // No reply and no lost connection: a mistake in this package must not look like an outage.
      this.#options.onError(
        new RedisStreamsError('ERR_INTERNAL', `Reading failed unexpectedly: ${error}`, { cause: error }),
      );
    }
    // Even what is healed is not tried again at once: a group that somebody keeps deleting must not keep a core busy.
    await delay;
  }

  async #heal(streams: readonly AssignedStream[], error: unknown): Promise<void> {
    try {
      await this.#options.reader.heal(streams, error);
    } catch {
      // The next read fails in the same way and leads back here.
      return;
    }
    for (const stream of streams) if (stream.failure) this.#options.onStreamFailure(stream);
  }
}

function nameOf(streams: readonly AssignedStream[]): string {
  return streams.map(({ key }) => key).join("', '");
}
