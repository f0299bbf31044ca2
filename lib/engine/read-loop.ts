import { withResolvers } from '../deferred.js';
import type { Deferred } from '../deferred.js';
import { errorText } from '../error-text.js';
import { InternalError, ClosedError, RedisStreamsError } from '../errors.js';
import { RECONNECT_BACKOFF, backoffDelay, pause } from '../redis/backoff.js';
import { classifyRedisError, isTransient, toPublicError } from '../redis/redis-error.js';
import type { AssignedStream } from './assigned-stream.js';
import type { ReadPage, StreamReader } from './stream-reader.js';

/** What a read loop does besides reading, at times of its own: taking over idle entries, and retries that are due. */
export interface ReadDuty {
  /** Milliseconds until there is something to do; Infinity when there is nothing. */
  dueIn(): number;
  /** What it brings may be what all that holds a place waits for, so it is given one place even when none is free. */
  readonly isVital?: boolean;
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
  /** Nothing waits to be handed out, yet there is no room: all of it is with somebody, or waits for a retry. */
  readonly isStuck: () => boolean;
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
  /** Counts the calls of {@link restart}, so that a round notices one that found no read to end. */
  #changes = 0;
  #holds = 0;
  #loop: Promise<void> | undefined;
  /** Settled when the duties and the read of this round are over; undefined between two rounds. */
  #working: Promise<void> | undefined;
  #isReading = false;

  constructor(options: ReadLoopOptions) {
    this.#options = options;
  }

  get streams(): readonly AssignedStream[] {
    return this.#streams;
  }

  start(streams: readonly AssignedStream[]): void {
    this.#streams = streams;
    this.#loop ??= this.#run();
  }

  async setStreams(streams: readonly AssignedStream[]): Promise<void> {
    this.#streams = streams;
    await this.restart();
  }

  /** Ends the read that is under way, so that the next one sees what has changed; resolves when it has come back. */
  async restart(): Promise<void> {
    const working = this.#working;
    await this.#interrupt();
    await working;
  }

  /**
   * Runs a change while nothing is read. A read that is blocked while its group is moved would be answered from the new
   * position, with entries that nobody could tell from those of the old one.
   */
  async betweenReads(change: () => Promise<void>): Promise<void> {
    this.#holds += 1;
    try {
      await this.restart();
      await change();
    } finally {
      this.#holds -= 1;
      this.#change.resolve();
    }
  }

  /** Idempotent; afterwards nothing is read and nothing will be. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const loop = this.#loop ?? Promise.resolve();
    const grace = new AbortController();
    // A server that stands still answers neither the read nor the command that is to end it.
    await Promise.race([this.#interrupt().then(() => loop), pause(STOP_GRACE, grace.signal)]);
    grace.abort();
    await this.#options.connection.close();
    await loop;
  }

  async #interrupt(): Promise<void> {
    const working = this.#working;
    this.#changes += 1;
    this.#change.resolve();
    const isOver = (): boolean => !this.#isReading || this.#working !== working;
    if (!isOver()) await this.#options.interrupt.interrupt(isOver);
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
    const { connection, credit, isStuck } = this.#options;
    this.#change = withResolvers<void>();
    if (this.#holds > 0 || !this.#streams.some((stream) => stream.isReadable)) return this.#change.promise;
    await this.#roomOrDuty();
    await connection.ready(signal);
    if (signal.aborted || this.#holds > 0 || (credit() === 0 && !isStuck())) return;
    const work = withResolvers<void>();
    this.#working = work.promise;
    try {
      await this.#work(signal);
    } finally {
      this.#working = undefined;
      work.resolve();
    }
  }

  async #roomOrDuty(): Promise<void> {
    const { room, isStuck, duties, blockTimeout } = this.#options;
    if (!isStuck()) return Promise.race([room(), this.#change.promise]);
    const dueIn = duties.map((duty) => (duty.isVital ? duty.dueIn() : Infinity));
    const waiting = new AbortController();
    await Promise.race([room(), this.#change.promise, pause(Math.min(blockTimeout, ...dueIn), waiting.signal)]);
    waiting.abort();
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { credit, isStuck, reader, duties, batchSize, onPages } = this.#options;
    const changes = this.#changes;
    const streams = this.#streams.filter((stream) => stream.isReadable);
    for (const duty of streams.length > 0 ? duties : []) {
      if (duty.dueIn() > 0) continue;
      const places = credit() || (duty.isVital && isStuck() ? 1 : 0);
      if (places > 0) onPages(await duty.run(streams, places));
    }
    if (credit() === 0) return;
    if (signal.aborted || changes !== this.#changes || streams.length === 0) return;
    this.#isReading = true;
    try {
      onPages(await reader.read(streams, { credit: credit(), batchSize, block: this.#blockTime() }));
    } finally {
      this.#isReading = false;
    }
  }

  /** Not at all while a duty is due: a server ends even the shortest wait up to 100 ms late. */
  #blockTime(): number | undefined {
    const { blockTimeout, duties, interrupt } = this.#options;
    const longest = interrupt.isPossible ? blockTimeout : Math.min(blockTimeout, SHORT_BLOCK);
    const wait = Math.min(longest, ...duties.map((duty) => duty.dueIn()));
    return wait > 0 ? Math.ceil(wait) : undefined;
  }

  async #recover(error: unknown, failures: number): Promise<void> {
    const { signal } = this.#stopping;
    // Nobody opens a closed connection again.
    if (error instanceof ClosedError) return this.#stopping.abort();
    const kind = classifyRedisError(error);
    const streams = this.#streams.filter((stream) => stream.isReadable);
    const delay = pause(
      kind === 'permission' ? PERMISSION_RETRY_DELAY : backoffDelay(RECONNECT_BACKOFF, failures),
      signal,
    );
    if (kind === 'permission' || kind === 'retryable' || kind === 'no-memory') {
      if (failures === 1) this.#report(error, streams);
    } else if (!isTransient(kind) && kind !== 'interrupted') {
      await this.#heal(streams, error, failures);
    } else if (kind === 'connection' && !(error instanceof RedisStreamsError) && failures === 1) {
      // No reply and no lost connection: a mistake in this package must not look like an outage.
      this.#options.onError(new InternalError(`Reading failed unexpectedly: ${errorText(error)}`, error));
    }
    // Even what is healed is not tried again at once: a group that somebody keeps deleting must not keep a core busy.
    await delay;
  }

  async #heal(streams: readonly AssignedStream[], error: unknown, failures: number): Promise<void> {
    try {
      await this.#options.reader.heal(streams, error);
    } catch (failure) {
      // The next read fails in the same way and leads back here.
      if (failures === 1 && !isTransient(classifyRedisError(failure))) this.#report(failure, streams);
    }
    for (const stream of streams) if (stream.failure) this.#options.onStreamFailure(stream);
  }

  #report(error: unknown, streams: readonly AssignedStream[]): void {
    this.#options.onError(toPublicError(error, nameOf(streams), 'reading from'));
  }
}

function nameOf(streams: readonly AssignedStream[]): string {
  return streams.map(({ key }) => key).join("', '");
}
