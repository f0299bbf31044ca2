import { monotonicNow } from '../../shared/clock.js';
import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';
import {
  ClosedError,
  ConnectTimeoutError,
  InternalError,
  PermissionError,
  QueueFullError,
  RedisStreamsError,
  SendFailedError,
  TimestampRefusedError,
  UncertainSendError,
} from '../../errors.js';
import { RECONNECT_BACKOFF, backoffDelay, pause } from '../../shared/backoff.js';
import { entryIdTime } from '../../redis/commands/entry-id.js';
import { classifyRedisError, isTransient, replyWord, toPublicError } from '../../redis/commands/redis-error.js';
import type { AppendCommands, TrimLimit } from '../../redis/commands/stream-commands.js';
import type { Delivery } from '../options/options.js';
import type { FlushRound, QueuedSend } from '../messages/queued-send.js';
import { SendQueue } from './send-queue.js';
import type { Batch } from './send-queue.js';

export interface WritePipelineOptions {
  readonly appending: Pick<AppendCommands, 'append'>;
  readonly delivery: Delivery;
  /** Milliseconds for which a send is repeated through an outage. */
  readonly timeout: number;
  readonly maxBatch: number;
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
  /** With `exactly-once`: the name by which the server knows a batch again that it has already appended. */
  readonly producer?: string | undefined;
  /** Computed anew for each batch. */
  readonly trim: () => TrimLimit;
}

interface Round extends FlushRound {
  done: Deferred<void> | undefined;
}

/** Errors of a connection that was not there; nothing was sent over it. */
const NEVER_SENT = [ConnectTimeoutError, ClosedError, PermissionError];

/** As many full batches keep server and client both busy; of small ones there may be more. */
const FULL_BATCHES_IN_FLIGHT = 4;
const MAX_BATCHES_IN_FLIGHT = 16;
/** Once there are so many bytes under way nothing is added: until it is written, the client has all of that a second time. */
const MAX_BYTES_IN_FLIGHT = 16 * 1024 * 1024;

/**
 * Turns single sends into batches: the first send of a turn of the event loop schedules one flush, the sends for one
 * stream go out as one batch, several batches are under way at once over one connection and so stay in order.
 *
 * When the connection breaks nothing more is sent until all batches under way have come back; what must be repeated then
 * goes first, in its old order. Every message is settled exactly once.
 */
export class WritePipeline {
  readonly #options: WritePipelineOptions;
  readonly #closing = new AbortController();
  readonly #queue = new SendQueue<QueuedSend>();
  #repeats: Array<Batch<QueuedSend>> = [];
  #size = 0;
  #bytes = 0;
  readonly #inFlight = new Set<Batch<QueuedSend>>();
  #messagesInFlight = 0;
  #bytesInFlight = 0;
  #failures = 0;
  #isScheduled = false;
  /** Of what is pushed in this turn. */
  #deadline = 0;
  #isPaused = false;
  #round: Round = { open: 0, done: undefined };
  #rounds = new Set<Round>();

  constructor(options: WritePipelineOptions) {
    this.#options = options;
  }

  /** Messages that wait or are under way. */
  get size(): number {
    return this.#size;
  }

  /** @throws QueueFullError when the message would be one too many, or one too large. */
  push(send: QueuedSend): void {
    const { maxQueued, maxQueuedBytes, timeout } = this.#options;
    if (this.size >= maxQueued) throw new QueueFullError('maxQueued', maxQueued);
    if (this.#bytes + send.size > maxQueuedBytes && this.#bytes > 0)
      throw new QueueFullError('maxQueuedBytes', maxQueuedBytes);
    this.#size += 1;
    this.#bytes += send.size;
    this.#round.open += 1;
    send.round = this.#round;
    // Those of one turn share their deadline: asking for the time would be a tenth of all that is done for a message here.
    if (!this.#isScheduled) this.#deadline = monotonicNow() + timeout;
    send.deadline = this.#deadline;
    this.#queue.push(send.streamKey, send);
    this.#schedule();
  }

  /** Resolves when everything pushed before has been accepted or has failed. */
  async flush(): Promise<void> {
    if (this.#round.open > 0) {
      this.#rounds.add(this.#round);
      this.#round = { open: 0, done: undefined };
    }
    await Promise.all([...this.#rounds].map((round) => (round.done ??= withResolvers<void>()).promise));
  }

  /** Fails everything that is not settled. Call {@link flush} before, to settle it. */
  close(): void {
    this.#closing.abort();
    this.#sendWhatFits();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isPaused) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#sendWhatFits();
    });
  }

  #sendWhatFits(): void {
    const { maxBatch } = this.#options;
    const maxMessages = FULL_BATCHES_IN_FLIGHT * maxBatch;
    while (!this.#isPaused && this.#inFlight.size < MAX_BATCHES_IN_FLIGHT && this.#messagesInFlight < maxMessages) {
      if (this.#bytesInFlight >= MAX_BYTES_IN_FLIGHT) return;
      const batch = this.#repeats.shift() ?? this.#queue.next(maxBatch);
      if (!batch) return;
      this.#inFlight.add(batch);
      this.#messagesInFlight += batch.entries.length;
      this.#bytesInFlight += batch.size;
      void this.#send(batch);
    }
  }

  async #send(batch: Batch<QueuedSend>): Promise<void> {
    const outcomes = await this.#append(batch);
    const repeats: QueuedSend[] = [];
    for (let index = 0; index < batch.entries.length; index += 1) {
      const entry = batch.entries[index] as QueuedSend;
      const outcome = outcomes ? (outcomes[index] ?? new Error('no outcome')) : '';
      if (typeof outcome === 'string') this.#accept(entry, outcome);
      else if (this.#mustRepeat(entry, outcome, this.#deadlineOf(batch, entry))) repeats.push(entry);
      else this.#fail(entry, outcome);
    }
    this.#inFlight.delete(batch);
    this.#messagesInFlight -= batch.entries.length;
    this.#bytesInFlight -= batch.size;
    if (repeats.length > 0) {
      this.#isPaused = true;
      this.#repeats.push({ ...batch, entries: repeats });
    } else if (!this.#isPaused) {
      this.#failures = 0;
    }
    if (this.#isPaused && this.#inFlight.size === 0) await this.#resume();
    this.#sendWhatFits();
  }

  async #append({ streamKey, entries, number }: Batch<QueuedSend>): Promise<ReadonlyArray<string | Error> | undefined> {
    const { appending, trim, producer, timeout } = this.#options;
    const wantsIds = entries.some((entry) => entry.wantsId);
    // What has waited in the queue through an outage does not wait as long again for its connection.
    const patience = Math.max(0, (entries[0] as QueuedSend).deadline - monotonicNow());
    const remember = 2 * timeout;
    const once = producer === undefined ? {} : { once: { producer, batch: number, oldest: this.#oldest, remember } };
    try {
      return await appending.append(streamKey, entries, trim(), { patience, wantsIds, ...once });
    } catch (error) {
      return entries.map(() => error as Error);
    }
  }

  /** Number of the oldest batch that is under way or has to be repeated. */
  get #oldest(): number {
    return Math.min(...[...this.#inFlight, ...this.#repeats].map(({ number }) => number));
  }

  /** All batches are back: after a pause, begin again with what has to be repeated, in its old order. */
  async #resume(): Promise<void> {
    this.#failures += 1;
    await pause(backoffDelay(RECONNECT_BACKOFF, this.#failures), this.#closing.signal);
    this.#repeats.sort((a, b) => a.number - b.number);
    this.#isPaused = false;
  }

  /** A batch that the server may know is repeated as a whole or not at all: what it remembers goes by positions. */
  #deadlineOf({ entries }: Batch<QueuedSend>, entry: QueuedSend): number {
    return this.#options.producer === undefined ? entry.deadline : (entries.at(-1) as QueuedSend).deadline;
  }

  #mustRepeat(entry: QueuedSend, error: Error, deadline: number): boolean {
    const kind = classifyRedisError(error);
    if (!isTransient(kind) || isMistake(error) || isFinal(error)) return false;
    // Waiting for a connection that never came is no attempt; a connection that broke may have done the work.
    const isUncertain = kind === 'connection' && !NEVER_SENT.some((type) => error instanceof type);
    if (isUncertain) entry.isUncertain = true;
    if (this.#closing.signal.aborted || monotonicNow() >= deadline) return false;
    return !isUncertain || this.#options.delivery !== 'at-most-once';
  }

  #accept(entry: QueuedSend, id: string): void {
    this.#settle(entry);
    entry.accepted(id);
  }

  #fail(entry: QueuedSend, error: Error): void {
    this.#settle(entry);
    entry.failed(publicError(entry, error));
  }

  #settle(entry: QueuedSend): void {
    this.#size -= 1;
    this.#bytes -= entry.size;
    const round = entry.round as Round;
    round.open -= 1;
    if (round.open > 0 || round === this.#round) return;
    this.#rounds.delete(round);
    round.done?.resolve();
  }
}

/** Neither a reply nor a lost connection: a mistake in this package must not look like an outage. */
function isMistake(error: Error): boolean {
  return !(error instanceof RedisStreamsError) && replyWord(error) === undefined;
}

/** Of our own errors, those that no repetition cures. */
function isFinal(error: Error): error is RedisStreamsError {
  return error instanceof RedisStreamsError && !error.retryable;
}

function publicError(entry: QueuedSend, error: Error): RedisStreamsError {
  const { streamKey } = entry;
  if (isMistake(error))
    return new InternalError(`Appending to '${streamKey}' failed unexpectedly: ${error.message}`, error);
  if (entry.isUncertain) return new UncertainSendError(streamKey, error);
  if (isFinal(error)) return error;
  // The only word that Redis has for it is ERR.
  if (error.message.startsWith('ERR The ID specified in XADD is equal or smaller')) {
    return new TimestampRefusedError(streamKey, new Date(entryIdTime(entry.id)), error);
  }
  if (isTransient(classifyRedisError(error))) return new SendFailedError(streamKey, error.message, error, true);
  const known = toPublicError(error, streamKey, 'appending to');
  return known.code === 'ERR_SERVER_REPLY'
    ? new SendFailedError(streamKey, error.message, error, known.retryable)
    : known;
}
