import { RECONNECT_BACKOFF, backoffDelay, pause } from '../../shared/backoff.js';
import { monotonicNow } from '../../shared/clock.js';
import { classifyRedisError, concernsSlot, wasSent } from '../../redis/commands/redis-error.js';
import type { RedisErrorKind } from '../../redis/commands/redis-error.js';
import type { AppendOutcomes, BatchWriter, WriteBatch } from '../../redis/commands/stream-commands.js';
import type { OutgoingMessage } from '../messages/outgoing-message.js';
import { partsOf, withEntries } from './send-queue.js';
import type { Batch, SendQueue } from './send-queue.js';

export type MessageBatch = Batch<OutgoingMessage>;
export type StreamQueue = SendQueue<OutgoingMessage>;

/** What a lane leaves to the pipeline. */
export interface LanePipeline {
  readonly writer: BatchWriter;
  readonly maxBatch: number;
  /** Aborts when nothing is repeated any more; then no back-off is awaited. */
  readonly closing: AbortSignal;
  nextNumber(): number;
  /** The batch as it is written now. */
  writeBatchOf(batch: MessageBatch): WriteBatch;
  /** Whether the server remembers the batch by its number. Once it may have run, it is repeated unchanged, until it is revoked. */
  keeps(batch: MessageBatch): boolean;
  /** Whether the batch is one command, a script call: the server reads all of it or nothing. */
  isOneCommand(batch: MessageBatch): boolean;
  /** Fails the messages that the server would refuse for their size; returns the batch without them. */
  withoutTooLarge(batch: MessageBatch): MessageBatch;
  /** Settles the messages of a batch; returns those that must be repeated, none when it is the last attempt. */
  settle(batch: MessageBatch, outcomes: AppendOutcomes, isLast: boolean): OutgoingMessage[];
  /** Until when the message waits for a connection, on the monotonic clock. */
  deadlineOf(message: OutgoingMessage): number;
  /** Lets a stream wait for its turn in the lane of the node that serves it now. */
  enqueue(stream: StreamQueue): void;
  /** Whether nothing more may be written to the stream, whose shard was closed. */
  isOver(stream: StreamQueue): boolean;
  /** Nothing of the stream is left. */
  forget(stream: StreamQueue): void;
}

/**
 * With four, the server waits while this process collects garbage or creates messages; sending is a tenth slower. All of them are
 * sent again, or are uncertain, when their connection breaks.
 */
const MAX_BATCHES_IN_FLIGHT = 16;
/** With that many bytes in flight nothing is added: until they are written, the client holds all of them a second time. */
const MAX_BYTES_IN_FLIGHT = 16 * 1024 * 1024;
/** A batch in flight when that many connections ended is suspect: it goes alone from then on, and is halved at each end. */
const BREAKS_OF_SUSPECTS = 2;
/**
 * One message in flight when that many connections ended, for that many milliseconds, is to blame, if others were answered since
 * it was suspect. Time counts: where the network is cut again and again, a message may be hit often within a second.
 */
const BREAKS_OF_GUILTY = 4;
const BROKEN_BESIDE_OTHERS = 3_000;
/** If none was, the network may be to blame: it takes so many connections, and so many milliseconds. */
const BREAKS_WITHOUT_OTHERS = 8;
const BROKEN_WITHOUT_OTHERS = 10_000;
/** A stream that is redirected more often in a row waits before it is written again. */
const REDIRECTIONS_AT_ONCE = 2;

/**
 * The batches to one node, over one connection. It owns its limits, its pause and its repetitions, so that a node that stands
 * still holds up no other node. Streams take turns.
 *
 * ```
 *                    a batch needs the connection, scripts or features
 *            ┌────────────────────────────────────────────────▶ preparing
 *            │ ◀──────────────── prepared, or failed ──────────────┘
 *          open                                                             (in each state batches come back and settle)
 *            │ ◀──── every batch is back, and the back-off is over ─┐
 *            └────────────────────────────────────────────────▶ paused
 *                    a batch failed and must be repeated
 * ```
 *
 * The order of a stream holds by construction: a batch is taken from its queue only to be written in the same synchronous
 * step, whatever it needs having been prepared before; all batches of a stream in flight are on one lane; a batch to repeat
 * goes back in front of its queue, and is written only when no batch of the stream is in flight.
 *
 * - A failure of the connection or of the node pauses the lane.
 * - A redirection (MOVED, ASK) holds its stream only: once every batch of the stream is back, the stream moves to the lane
 *   of the other node and repeats there. So does a refusal for the slot alone: TRYAGAIN, or a slot that no node serves.
 *
 * A batch during which connections end again and again may hold a message that a server or proxy cannot take. From the second
 * end on the batch is suspect: it is halved and its parts go alone, in order, so that the others pass and one message is left.
 * That message fails as uncertain; without a limit it would hold up the lane, and repeat its neighbours, until its deadline. A
 * batch that must not be appended twice is revoked before it is halved, and with it those that were in flight behind it, so that
 * no copy can arrive late; they go again under new numbers, and the message to blame fails as not sent.
 *
 * It never writes to a stream that is held, and never settles a message twice.
 */
export class WriteLane {
  readonly name: string;
  readonly #pipeline: LanePipeline;
  /** Streams with work, in the order of their turns. */
  readonly #turns = new Set<StreamQueue>();
  readonly #inFlight = new Set<MessageBatch>();
  #bytesInFlight = 0;
  #isPreparing = false;
  #isPaused = false;
  /** Nothing is written beside it. */
  #suspect: MessageBatch | undefined;
  /** Batches that were answered, in part at least. */
  #answered = 0;
  /** Failures in a row. */
  #failures = 0;

  constructor(name: string, pipeline: LanePipeline) {
    this.name = name;
    this.#pipeline = pipeline;
  }

  /** Whether it has nothing to do. */
  get isIdle(): boolean {
    return this.#turns.size === 0 && this.#inFlight.size === 0 && !this.#isPaused;
  }

  /** Number of the oldest batch in flight. */
  get oldestInFlight(): number {
    let oldest = Infinity;
    for (const { number } of this.#inFlight) oldest = Math.min(oldest, number);
    return oldest;
  }

  /** Gives the stream a turn. */
  add(stream: StreamQueue): void {
    stream.waitsIn = this;
    this.#turns.add(stream);
  }

  /** Nothing is written before it, so that the batches in flight come to an end. */
  #addFirst(stream: StreamQueue): void {
    const others = [...this.#turns];
    this.#turns.clear();
    this.add(stream);
    for (const other of others) this.#turns.add(other);
  }

  /** Writes as much as the limits permit; after messages failed, the rest in the next turn. Every event of the lane ends here. */
  pump(): void {
    while (!this.#isPaused && !this.#isPreparing && !this.#suspect && this.#hasRoom) {
      const [stream] = this.#turns;
      if (!stream) return;
      this.#turns.delete(stream);
      stream.waitsIn = undefined;
      if (this.#mustLeave(stream)) continue;
      const taken = stream.next(this.#pipeline.maxBatch, () => this.#pipeline.nextNumber());
      if (!taken) continue;
      if (isSuspect(taken) && this.#inFlight.size > 0) {
        stream.repeat(taken);
        this.#addFirst(stream);
        return;
      }
      const batch = this.#pipeline.withoutTooLarge(taken);
      if (stream.hasWork) this.add(stream);
      if (batch.entries.length > 0) this.#writeOrPrepare(batch);
      else if (stream.isDone) this.#pipeline.forget(stream);
      if (batch === taken) continue;
      // A handler of a failed message may send again, and that message fails, too: the event loop must turn in between.
      setImmediate(() => this.pump());
      return;
    }
  }

  #writeOrPrepare(batch: MessageBatch): void {
    this.#begin(batch);
    const write = this.#pipeline.writeBatchOf(batch);
    if (this.#pipeline.writer.canWrite(write)) void this.#write(batch, write);
    else void this.#prepare(batch, write);
  }

  get #hasRoom(): boolean {
    return this.#inFlight.size < MAX_BATCHES_IN_FLIGHT && this.#bytesInFlight < MAX_BYTES_IN_FLIGHT;
  }

  /** A stream may be served by another node by now; it follows when nothing of it is in flight here. */
  #mustLeave(stream: StreamQueue): boolean {
    if (stream.isHeld || this.#pipeline.isOver(stream)) return true;
    // After a redirection one batch goes alone: while its slot is being migrated, a node may refuse it and take the next one.
    if (stream.redirections > 0 && stream.inFlight > 0) return true;
    if (this.#pipeline.writer.laneOf(stream.streamKey) === this.name)
      return stream.inFlight > 0 && stream.lane !== this;
    if (stream.inFlight === 0) this.#pipeline.enqueue(stream);
    return true;
  }

  async #prepare(batch: MessageBatch, write: WriteBatch): Promise<void> {
    const { writer } = this.#pipeline;
    this.#isPreparing = true;
    // A message that has waited in the queue through an outage does not wait as long again for its connection.
    const deadline = this.#pipeline.deadlineOf(batch.entries[0] as OutgoingMessage);
    try {
      await writer.prepare(write, Math.max(0, deadline - monotonicNow()));
      batch.stream.repeat(batch);
      if (!batch.stream.waitsIn) this.add(batch.stream);
      this.#isPreparing = false;
      this.#end(batch);
    } catch (error) {
      this.#isPreparing = false;
      this.#settle(
        batch,
        batch.entries.map(() => error as Error),
        false,
      );
    }
  }

  async #write(batch: MessageBatch, write: WriteBatch): Promise<void> {
    this.#settle(batch, await this.#outcomesOf(batch, write), true);
  }

  /** A mistake in this package must not leave a lane that waits for ever. */
  async #outcomesOf({ entries }: MessageBatch, write: WriteBatch): Promise<AppendOutcomes> {
    try {
      return await this.#pipeline.writer.write(write);
    } catch (error) {
      return entries.map(() => error as Error);
    }
  }

  #settle(batch: MessageBatch, outcomes: AppendOutcomes, wasWritten: boolean): void {
    const { stream } = batch;
    const isBroken = wasWritten && (outcomes?.some(endedConnection) ?? false);
    const isRevoked = outcomes?.some((outcome) => isOfKind(outcome, 'revoked')) ?? false;
    if (outcomes?.some((outcome) => typeof outcome === 'string') ?? true) this.#answered += 1;
    const written = isBroken && !batch.mustRevoke ? this.#broken(batch) : batch;
    const isLast = (this.#pipeline.keeps(batch) ? isRevoked : isBroken) && this.#isToBlame(written);
    const repeats = this.#pipeline.settle(batch, outcomes, isLast);
    if (repeats.length === 0) {
      if (!this.#isPaused) this.#failures = 0;
      stream.redirections = 0;
    } else {
      this.#repeat(written, repeats, outcomes, isBroken);
      if (stream.isClosed && !isBroken) stream.redirections = 0;
      else if (concernsStreamOnly(outcomes)) stream.isHeld = true;
      else if (!(isRevoked && batch.mustRevoke)) this.#isPaused = true;
    }
    this.#end(batch);
  }

  #repeat(batch: MessageBatch, entries: OutgoingMessage[], outcomes: AppendOutcomes, isBroken: boolean): void {
    const isKept = this.#pipeline.keeps(batch);
    const rest = entries.length === batch.entries.length ? batch : withEntries(batch, entries);
    const isLost = isBroken && isSuspect(rest);
    // All entries of a script call have the same outcome, if it did not run.
    const [first = ''] = outcomes ?? [];
    const isRevoked = isOfKind(first, 'revoked');
    // Those behind it were revoked with it.
    if (isRevoked) rest.stream.renumber();
    const isUnreadable = isOfKind(first, 'unreadable');
    const mayGoApart = isLost || (isUnreadable && this.#pipeline.isOneCommand(batch));
    const canSplit = isKept ? isRevoked && rest.mustRevoke : mayGoApart && entries.length > 1;
    if (canSplit) {
      for (const part of partsOf(rest)) part.stream.repeat(part);
      return;
    }
    const mustRevoke = rest.mustRevoke || (isKept && (isLost || isUnreadable));
    rest.stream.repeat({ ...rest, mustRevoke });
  }

  #broken(batch: MessageBatch): MessageBatch {
    const breaks = batch.breaks + 1;
    if (breaks === 1) return { ...batch, breaks, brokenAt: monotonicNow() };
    return breaks === BREAKS_OF_SUSPECTS ? { ...batch, breaks, answeredBefore: this.#answered } : { ...batch, breaks };
  }

  /** The network itself may be cut again and again, or a server may crash for another reason. */
  #isToBlame({ entries, breaks, brokenAt, answeredBefore }: MessageBatch): boolean {
    if (entries.length > 1 || breaks < BREAKS_OF_GUILTY) return false;
    const brokenFor = monotonicNow() - brokenAt;
    if (this.#answered > answeredBefore) return brokenFor >= BROKEN_BESIDE_OTHERS;
    return breaks >= BREAKS_WITHOUT_OTHERS && brokenFor >= BROKEN_WITHOUT_OTHERS;
  }

  #begin(batch: MessageBatch): void {
    if (isSuspect(batch)) this.#suspect = batch;
    batch.stream.inFlight += 1;
    batch.stream.lane = this;
    this.#inFlight.add(batch);
    this.#bytesInFlight += batch.size;
  }

  #end(batch: MessageBatch): void {
    const { stream } = batch;
    stream.inFlight -= 1;
    this.#inFlight.delete(batch);
    if (this.#suspect === batch) this.#suspect = undefined;
    this.#bytesInFlight -= batch.size;
    if (stream.inFlight === 0) this.#streamIsBack(stream);
    if (this.#isPaused && this.#inFlight.size === 0) void this.#resume();
    this.pump();
  }

  #streamIsBack(stream: StreamQueue): void {
    if (stream.isHeld) void this.#release(stream);
    else if (stream.isClosed && this.#pipeline.isOver(stream)) return;
    else if (stream.isDone) this.#pipeline.forget(stream);
    else if (!stream.waitsIn) this.#pipeline.enqueue(stream);
  }

  /** Sends a redirected stream to the lane of its new node. */
  async #release(stream: StreamQueue): Promise<void> {
    stream.redirections += 1;
    const attempt = stream.redirections - REDIRECTIONS_AT_ONCE;
    if (attempt > 0) await pause(backoffDelay(RECONNECT_BACKOFF, attempt), this.#pipeline.closing);
    stream.isHeld = false;
    this.#pipeline.enqueue(stream);
  }

  async #resume(): Promise<void> {
    this.#failures += 1;
    await pause(backoffDelay(RECONNECT_BACKOFF, this.#failures), this.#pipeline.closing);
    this.#isPaused = false;
    this.pump();
  }
}

function isSuspect({ breaks, isPart, mustRevoke }: MessageBatch): boolean {
  return isPart || mustRevoke || breaks >= BREAKS_OF_SUSPECTS;
}

function isOfKind(outcome: string | Error, kind: RedisErrorKind): boolean {
  return outcome instanceof Error && classifyRedisError(outcome) === kind;
}

/** Whether the batch was in flight when its connection ended. */
function endedConnection(outcome: string | Error): boolean {
  return outcome instanceof Error && classifyRedisError(outcome) === 'connection' && wasSent(outcome);
}

/** Whether a batch failed for no other reason than the slot of its stream: the other streams of the node are not affected. */
function concernsStreamOnly(outcomes: AppendOutcomes): boolean {
  const errors = (outcomes ?? []).filter((outcome) => outcome instanceof Error);
  return errors.length > 0 && errors.every((error) => concernsSlot(error));
}
