import { setMaxListeners } from 'node:events';

import {
  ClosedError,
  InternalError,
  ConnectTimeoutError,
  PayloadTooLargeError,
  QueueFullError,
  RedisStreamsError,
  ReplicasMissingError,
  SendFailedError,
  TimestampFormatError,
  TimestampRefusedError,
  UncertainSendError,
} from '../../errors.js';
import { monotonicNow } from '../../shared/clock.js';
import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';
import { entryIdTime } from '../../redis/commands/entry-id.js';
import type { TimestampFormat } from '../../redis/commands/entry-id.js';
import { TooFewReplicas } from '../../redis/commands/replication.js';
import {
  classifyRedisError,
  isShardClosed,
  isTransient,
  toPublicError,
  wasSent,
} from '../../redis/commands/redis-error.js';
import type {
  AppendConditions,
  AppendOutcomes,
  BatchWriter,
  TrimLimit,
  WriteBatch,
} from '../../redis/commands/stream-commands.js';
import { largestPart } from '../messages/outgoing-message.js';
import type { FlushRound, OutgoingMessage, PushTurn, ShardedStream } from '../messages/outgoing-message.js';
import type { Delivery } from '../options/options.js';
import { HAS_MILLISECONDS } from '../../redis/scripts/entry-ids.js';
import { UnexpectedReply } from '../../redis/wire/resp-reader.js';
import { SendQueue, withEntries } from './send-queue.js';
import { ShardedQueues } from './sharded-queues.js';
import { WriteLane } from './write-lane.js';
import type { LanePipeline, MessageBatch, StreamQueue } from './write-lane.js';

export interface WritePipelineOptions {
  readonly writer: BatchWriter;
  readonly delivery: Delivery;
  /** See {@link WriteBatch.acceptsMilliseconds}. */
  readonly acceptsMilliseconds?: boolean | undefined;
  readonly timestampFormat?: TimestampFormat;
  /** How long a send is repeated through an outage, in milliseconds. */
  readonly timeout: number;
  /** The same until Redis has been reached for the first time; at most `timeout`. */
  readonly connectTimeout: number;
  readonly maxBatch: number;
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
  /** With `exactly-once`: the name by which the server recognises a batch that it has already appended. */
  readonly producer?: string | undefined;
  readonly trim: TrimLimit;
  /** Redis has a message that waits beside its stream. */
  readonly onScheduled?: (message: OutgoingMessage) => void;
  /** A shard is closed: {@link WritePipeline.takeAll} follows when it is known to which shards its messages go now. */
  readonly onClosed?: (sharded: ShardedStream) => void;
}

/** Lifetime of a producer's memory on the server, which counts by the server's clock: that may jump. */
const MIN_MEMORY = 24 * 3_600_000;

/** Share of `maxQueued` and `maxQueuedBytes`: it lasts while a producer that waited fills the queue again. */
const LOW_WATER = 0.5;

/** The id was not asked for, or is that of a message that waits. */
const ACCEPTED = Object.freeze({});

interface Round extends FlushRound {
  done: Deferred<void> | undefined;
}

interface Turn extends PushTurn {
  readonly round: Round;
}

const newRound = (): Round => ({ open: 0, done: undefined });

/**
 * Turns single sends into batches. The first send schedules the distribution: at the end of the turn of the event loop or, while
 * nothing is in flight, of the current step. Then each stream with new messages waits for its turn in the {@link WriteLane}
 * of the node that serves it. It owns the queues of the streams, the lanes, the bounds of what waits, and the settlement:
 * every message is settled exactly once.
 */
export class WritePipeline implements LanePipeline {
  /** Of streams whose number of shards may change. */
  readonly shards = new ShardedQueues(this);
  readonly #options: WritePipelineOptions;
  readonly #closing = new AbortController();
  readonly #streams = new Map<string, StreamQueue>();
  readonly #lanes = new Map<string, WriteLane>();
  /** Streams that got their first message in this turn. */
  #fresh: StreamQueue[] = [];
  #batches = 0;
  #size = 0;
  #bytes = 0;
  #isScheduled = false;
  /** Of the messages that are pushed now. */
  #turn: Turn = { round: newRound(), deadline: 0 };
  #rounds = new Set<Round>();
  /** Wait until the queue is below its low-water mark. */
  readonly #waiters: Array<Deferred<void>> = [];
  /** Waiters that were resolved in this turn of the event loop. */
  #given = 0;
  /** Whether the last message that was settled is stored. */
  #wasAccepted = true;

  constructor(options: WritePipelineOptions) {
    this.#options = options;
    // One listener for each lane that is paused and each stream that is redirected.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Messages that wait or are in flight. */
  get size(): number {
    return this.#size;
  }

  /** Whether less than half of what may be queued waits or is in flight. */
  get isBelowLowWater(): boolean {
    const { maxQueued, maxQueuedBytes } = this.#options;
    return this.#size < maxQueued * LOW_WATER && this.#bytes < maxQueuedBytes * LOW_WATER;
  }

  /** Resolves when the queue is below its low-water mark: at the latest when what waits has failed. */
  async room(): Promise<void> {
    const waiter = withResolvers<void>();
    this.#waiters.push(waiter);
    this.#giveRoom();
    await waiter.promise;
  }

  /** @throws QueueFullError when the message would be one too many, or one too large. */
  push(message: OutgoingMessage): void {
    const { maxQueued, maxQueuedBytes, timeout } = this.#options;
    if (this.#size >= maxQueued) throw new QueueFullError('maxQueued', maxQueued);
    // A producer that has waited for room can send any message.
    if (this.#bytes + message.size > maxQueuedBytes && !this.isBelowLowWater)
      throw new QueueFullError('maxQueuedBytes', maxQueuedBytes);
    // One deadline until the next distribution: reading the clock would be a tenth of all the work on a message here.
    if (!this.#isScheduled) this.#schedule(timeout);
    this.#size += 1;
    this.#bytes += message.size;
    message.turn = this.#turn;
    this.#turn.round.open += 1;
    this.#streamOf(message).push(message);
  }

  /** Takes out what is held of a stream, in the order of each shard. It still counts, and must come back by {@link pushAgain}. */
  takeAll(sharded: ShardedStream): OutgoingMessage[] {
    return this.shards.release(sharded).flatMap((queue) => {
      this.#drop(queue);
      return queue.takeAll();
    });
  }

  pushAgain(message: OutgoingMessage): void {
    if (!this.#isScheduled) this.#schedule(this.#options.timeout);
    this.#streamOf(message).push(message);
  }

  /** Fails what is held of a stream and has waited for long enough. */
  expire(sharded: ShardedStream, failure: Error): void {
    const isOver = this.#closing.signal.aborted;
    const now = monotonicNow();
    for (const queue of this.shards.back(sharded)) {
      const late: OutgoingMessage[] = [];
      for (const message of queue.takeAll()) {
        if (isOver || now >= this.deadlineOf(message)) late.push(message);
        else queue.push(message);
      }
      // What is sent in answer to a failure comes behind those that wait.
      for (const message of late) this.#fail(message, failure);
    }
  }

  /** Resolves when everything pushed before has been accepted or has failed. */
  async flush(): Promise<void> {
    const { round, deadline } = this.#turn;
    if (round.open > 0) {
      this.#rounds.add(round);
      this.#turn = { round: newRound(), deadline };
    }
    await Promise.all([...this.#rounds].map((round) => (round.done ??= withResolvers<void>()).promise));
    // One step more: what the caller does about a failed send comes before what it does after this.
    await Promise.resolve();
  }

  /** Nothing is repeated any more: what waits has one attempt. Call {@link flush} before, to settle everything. */
  close(): void {
    this.#closing.abort();
    for (const lane of this.#lanes.values()) lane.pump();
  }

  // What follows is called by the lanes.

  get writer(): BatchWriter {
    return this.#options.writer;
  }

  get maxBatch(): number {
    return this.#options.maxBatch;
  }

  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  nextNumber(): number {
    this.#batches += 1;
    return this.#batches;
  }

  writeBatchOf({ stream, entries, number, size, breaks, mustRevoke }: MessageBatch): WriteBatch {
    const { trim, producer, timeout, acceptsMilliseconds } = this.#options;
    const conditions = conditionsOf(entries);
    const once =
      producer === undefined || conditions
        ? undefined
        : {
            producer,
            batch: number,
            oldest: oldestOf(stream),
            remember: Math.max(2 * timeout, MIN_MEMORY),
            revokesBelow: mustRevoke ? this.#batches + 1 : undefined,
          };
    const wantsIds = entries.some((entry) => entry.wantsId);
    // What ended a connection may end it again; its neighbours must not be stored once more each time.
    const isAtomic = breaks > 0;
    return {
      streamKey: stream.streamKey,
      requests: entries,
      size,
      trim,
      wantsIds,
      once,
      isAtomic,
      conditions,
      acceptsMilliseconds: acceptsMilliseconds === true,
    };
  }

  /** A client that has never reached Redis does not have its callers wait as long as in an outage. */
  deadlineOf(message: OutgoingMessage): number {
    const { writer, timeout, connectTimeout } = this.#options;
    const { deadline } = turnOf(message);
    return writer.wasReached ? deadline : deadline - timeout + connectTimeout;
  }

  /** Each message with conditions has a record of its own. */
  keeps({ entries }: MessageBatch): boolean {
    return this.#options.producer !== undefined && entries[0]?.conditions === undefined;
  }

  isOneCommand({ entries }: MessageBatch): boolean {
    const { producer, timestampFormat } = this.#options;
    return entries[0]?.conditions === undefined && (producer !== undefined || timestampFormat === 'ns');
  }

  isOver(stream: StreamQueue): boolean {
    return stream.isClosed && !stream.mustAsk(this.#options.producer !== undefined);
  }

  withoutTooLarge(batch: MessageBatch): MessageBatch {
    const limit = this.writer.payloadLimit(batch.stream.streamKey) ?? Infinity;
    if (batch.size <= limit) return batch;
    // A batch that may be on the server must stay as it is.
    const isTooLarge = (message: OutgoingMessage): boolean => !message.isUncertain && largestPart(message) > limit;
    const refused = batch.entries.filter(isTooLarge);
    if (refused.length === 0) return batch;
    for (const message of refused)
      this.#fail(message, new PayloadTooLargeError(message.streamKey, largestPart(message), limit));
    return withEntries(
      batch,
      batch.entries.filter((message) => !refused.includes(message)),
    );
  }

  settle(batch: MessageBatch, outcomes: AppendOutcomes, isLast: boolean): OutgoingMessage[] {
    const repeats: OutgoingMessage[] = [];
    for (let index = 0; index < batch.entries.length; index += 1) {
      const message = batch.entries[index] as OutgoingMessage;
      const outcome = outcomes ? (outcomes[index] ?? new Error('no outcome')) : '';
      if (typeof outcome === 'string') this.#accept(message, outcome);
      else if (outcome instanceof TooFewReplicas) this.#fail(message, this.#replicasMissing(message, outcome));
      else if (message.sharded && isShardClosed(outcome)) repeats.push(this.#closed(batch, message));
      else if (this.#mustRepeat(message, outcome, isLast ? 0 : this.#lastAttempt(batch, message), batch))
        repeats.push(message);
      else this.#fail(message, outcome);
    }
    return repeats;
  }

  enqueue(stream: StreamQueue): void {
    const lane = this.#laneOf(stream);
    lane.add(stream);
    lane.pump();
  }

  forget(stream: StreamQueue): void {
    // Messages may have come in this turn, between its last settlement and now.
    if (stream.isDone) this.#drop(stream);
    const { lane } = stream;
    if (lane?.isIdle) this.#lanes.delete(lane.name);
  }

  #drop(stream: StreamQueue): void {
    if (this.#streams.get(stream.streamKey) === stream) this.#streams.delete(stream.streamKey);
    this.shards.remove(stream);
  }

  #streamOf({ streamKey, sharded }: OutgoingMessage): StreamQueue {
    let stream = this.#streams.get(streamKey);
    if (!stream) {
      stream = new SendQueue(streamKey, sharded);
      this.#streams.set(streamKey, stream);
      this.shards.add(stream);
    }
    if (!stream.hasWork && !stream.waitsIn) this.#fresh.push(stream);
    return stream;
  }

  #schedule(timeout: number): void {
    this.#isScheduled = true;
    this.#turn = { round: this.#turn.round, deadline: monotonicNow() + timeout };
    // The one message of a quiet service need not wait for the rest of the turn. After a failure it does: some failures need no
    // reply, and a caller that sends again after each of them would stop the event loop.
    if (this.#size === 0 && this.#wasAccepted) process.nextTick(this.#distribute);
    else setImmediate(this.#distribute);
  }

  readonly #distribute = (): void => {
    this.#isScheduled = false;
    const fresh = this.#fresh;
    this.#fresh = [];
    const lanes = new Set<WriteLane>();
    for (const stream of fresh) {
      if (stream.waitsIn || stream.isHeld || this.isOver(stream)) continue;
      const lane = this.#laneOf(stream);
      lane.add(stream);
      lanes.add(lane);
    }
    for (const lane of lanes) lane.pump();
  };

  #laneOf({ streamKey }: StreamQueue): WriteLane {
    const name = this.#options.writer.laneOf(streamKey);
    let lane = this.#lanes.get(name);
    if (!lane) this.#lanes.set(name, (lane = new WriteLane(name, this)));
    return lane;
  }

  /** A batch that the server may remember is repeated as a whole or not at all: its memory goes by positions. */
  #lastAttempt(batch: MessageBatch, message: OutgoingMessage): number {
    return this.deadlineOf(this.keeps(batch) ? (batch.entries.at(-1) as OutgoingMessage) : message);
  }

  #mustRepeat(message: OutgoingMessage, error: Error, deadline: number, batch: MessageBatch): boolean {
    if (error instanceof UnexpectedReply) message.isUncertain = true;
    const kind = classifyRedisError(error);
    if (!isTransient(kind) || isMistake(error) || isFinal(error)) return false;
    // A message that is larger than the server permits would hold up its lane until its deadline. A script call is one command
    // for all of its messages: those that the server can read go again, apart.
    const canGoApart = this.isOneCommand(batch) && batch.entries.length > 1;
    if (kind === 'unreadable' && !canGoApart && !(this.keeps(batch) && message.isUncertain)) return false;
    if (kind === 'revoked') message.isUncertain = false;
    // Waiting for a connection that never came is no attempt; a connection that broke may have done the work.
    const isUncertain = kind === 'connection' && wasSent(error);
    if (isUncertain) message.isUncertain = true;
    if (this.#closing.signal.aborted || monotonicNow() >= deadline) return false;
    return !isUncertain || this.#options.delivery !== 'at-most-once';
  }

  #closed({ stream }: MessageBatch, message: OutgoingMessage): OutgoingMessage {
    stream.isClosed = true;
    // What the server remembers was not stored by an earlier attempt either.
    if (this.#options.producer !== undefined || message.conditions) message.isUncertain = false;
    this.#options.onClosed?.(message.sharded as ShardedStream);
    return message;
  }

  #accept(message: OutgoingMessage, id: string): void {
    this.#wasAccepted = true;
    this.#release(message);
    if (message.conditions?.due) this.#options.onScheduled?.(message);
    message.operation?.end(id === '' || message.conditions?.due ? ACCEPTED : { id });
    message.accepted(id);
  }

  /** A delayed message waits beside the stream all the same. */
  #replicasMissing(message: OutgoingMessage, { id, replicas, wanted }: TooFewReplicas): ReplicasMissingError {
    if (message.conditions?.due) this.#options.onScheduled?.(message);
    return new ReplicasMissingError(message.receiptOf(id), replicas, wanted);
  }

  #fail(message: OutgoingMessage, error: Error): void {
    this.#wasAccepted = false;
    this.#release(message);
    const failure = this.#neverConnected(error) ?? publicError(message, error);
    message.operation?.end({ error: failure });
    message.failed(failure);
  }

  /** Of the last attempt the error knows only the rest of the time. */
  #neverConnected(error: Error): ConnectTimeoutError | undefined {
    const { writer, connectTimeout } = this.#options;
    if (writer.wasReached || !(error instanceof ConnectTimeoutError)) return undefined;
    return new ConnectTimeoutError(error.address, connectTimeout, error.cause);
  }

  /** Resolves no more waiters in one turn of the event loop than there is room for, if each sends one message then. */
  #giveRoom(): void {
    const most = this.#options.maxQueued * LOW_WATER;
    while (this.#waiters.length > 0 && this.isBelowLowWater && this.#size + this.#given < most) {
      if (this.#given === 0) setImmediate(() => this.#giveMore());
      this.#given += 1;
      this.#waiters.shift()?.resolve();
    }
  }

  #giveMore(): void {
    this.#given = 0;
    this.#giveRoom();
  }

  #release(message: OutgoingMessage): void {
    this.#size -= 1;
    this.#bytes -= message.size;
    if (this.#waiters.length > 0) this.#giveRoom();
    const { round } = turnOf(message);
    round.open -= 1;
    if (round.open > 0 || round === this.#turn.round) return;
    this.#rounds.delete(round);
    round.done?.resolve();
  }
}

/** Of a message that was pushed. */
function turnOf({ turn }: OutgoingMessage): Turn {
  return turn as Turn;
}

/**
 * No batch of the stream before this one can come again. The server remembers the batches of each stream apart, and all of a
 * stream that are in flight are on one lane, so nothing else is looked at, however many streams there are.
 */
function oldestOf({ lane, oldestRepeat }: StreamQueue): number {
  return Math.min(lane?.oldestInFlight ?? Infinity, oldestRepeat);
}

/** All messages of a batch have conditions, or none has. */
function conditionsOf(entries: readonly OutgoingMessage[]): AppendConditions[] | undefined {
  if (entries[0]?.conditions === undefined) return undefined;
  return entries.map(({ conditions }) => conditions as AppendConditions);
}

/** Neither a reply nor a lost connection: a mistake in this package must not look like an outage. */
function isMistake(error: Error): boolean {
  if (error instanceof RedisStreamsError || error instanceof UnexpectedReply) return false;
  return classifyRedisError(error) === 'unexpected';
}

/** Of our own errors, those that no repetition cures. */
function isFinal(error: Error): error is RedisStreamsError {
  return error instanceof RedisStreamsError && !error.retryable;
}

/** The only word that Redis has for it is ERR; the second form is for 1970, on servers without ids of the form `<ms>-*`. */
const ID_REFUSED = /^ERR The ID specified in XADD (?:is equal or smaller|must be greater)/;

function publicError(message: OutgoingMessage, error: Error): RedisStreamsError {
  const { streamKey } = message;
  if (error instanceof ReplicasMissingError) return error;
  if (isMistake(error))
    return new InternalError(`Appending to '${streamKey}' failed unexpectedly: ${error.message}`, error);
  if (message.isUncertain) return new UncertainSendError(streamKey, error);
  if (error instanceof ClosedError)
    return new ClosedError('The connection', `a message to '${streamKey}' was not sent`);
  if (isFinal(error)) return error;
  if (ID_REFUSED.test(error.message) && message.id !== '*') {
    return new TimestampRefusedError(streamKey, new Date(entryIdTime(message.id.replace('-*', ''))), error);
  }
  if (error.message.endsWith(HAS_MILLISECONDS)) return new TimestampFormatError(streamKey, error);
  if (isTransient(classifyRedisError(error))) return new SendFailedError(streamKey, error.message, error, true);
  const known = toPublicError(error, streamKey, 'appending to');
  return known.code === 'ERR_SERVER_REPLY'
    ? new SendFailedError(streamKey, error.message, error, known.retryable)
    : known;
}
