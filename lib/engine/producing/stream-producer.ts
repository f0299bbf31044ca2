import { randomBytes, randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';

import { untilAborted } from '../../shared/backoff.js';
import { errorText } from '../../shared/error-text.js';
import {
  CallbackError,
  InvalidOptionError,
  PayloadTooLargeError,
  ProducerEndedError,
  RedisStreamsError,
  UnsupportedOperationError,
} from '../../errors.js';
import { outsideContext } from '../../shared/async-context.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { MAX_SCRIPT_FIELDS } from '../../redis/scripts/append-batch.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import { timeInIds } from '../../redis/commands/entry-id.js';
import type { TimestampFormat } from '../../redis/commands/entry-id.js';
import type { LayoutCommands } from '../../redis/commands/layouts.js';
import type { AppendCommands, AppendConditions } from '../../redis/commands/stream-commands.js';
import {
  bytesOf,
  checkSendOptions,
  entryIdFor,
  headerFields,
  heldBytes,
  lengthOf,
  MessageWithoutReceipt,
  MessageWithReceipt,
} from '../messages/outgoing-message.js';
import type {
  MessageSender,
  MessageTerms,
  OnSettled,
  OutcomeTaker,
  Payload,
  SendOptions,
} from '../messages/outgoing-message.js';
import { Receipt } from '../messages/receipt.js';
import { SendPromise } from '../messages/send-promise.js';
import { shardKey } from '../messages/stream-message.js';
import { check } from '../../shared/option-checks.js';
import type { ResolvedProducerOptions } from '../options/resolve-options.js';
import type { GuardedTelemetry } from '../telemetry/guarded-telemetry.js';
import type { SentMessageKind } from '../telemetry/telemetry.js';
import { shardKeysOf } from '../sharding/layout-changes.js';
import { ShardRouter } from './shard-router.js';
import { chooseShard, resized } from './sharder.js';
import { WritePipeline } from './write-pipeline.js';

export interface ProducerEnvironment {
  readonly appending: AppendCommands;
  /** Without it the number of shards is fixed. */
  readonly layouts?: LayoutCommands;
  readonly messageField: string;
  readonly timestampFormat: TimestampFormat;
  /** See {@link WriteBatch.acceptsMilliseconds}. */
  readonly acceptsMilliseconds?: boolean;
  /** Milliseconds for which a send is repeated through an outage. */
  readonly timeout: number;
  /** The same until Redis has been reached for the first time. */
  readonly connectTimeout: number;
  readonly logger: Required<RedisStreamsLogger>;
  /** Undefined where none was given. */
  readonly telemetry: GuardedTelemetry | undefined;
  /** A message waits beside the stream or shard until it is due. */
  readonly onScheduled?: (
    streamKey: string,
    due: NonNullable<AppendConditions['due']>,
    onError: (error: RedisStreamsError) => void,
  ) => void;
  readonly onEnded: () => void | Promise<void>;
}

/** Without `maxPayload`: no Redis takes longer strings by default (`proto-max-bulk-len`). */
const MAX_PAYLOAD = 512 * 1024 * 1024 - 1;

/** Errors of each code that are kept for flush(); further ones are only counted. An outage can fail many thousands. */
const KEPT_OF_EACH_CODE = 10;

/** Of the number in a token, so that tokens of a producer sort as they were made. */
const TOKEN_DIGITS = 8;

/**
 * Appends messages. Sending only queues: messages of one turn of the event loop go out together, or of one step while nothing
 * is in flight, and nothing waits for the network before the next message is accepted.
 */
export class StreamProducer
  extends EventEmitter<{
    /** A send failed whose result nothing awaits. Without a listener it is logged. */
    error: [error: RedisStreamsError];
  }>
  implements AsyncDisposable
{
  readonly #streamKey: string | undefined;
  readonly #options: ResolvedProducerOptions;
  readonly #environment: ProducerEnvironment;
  readonly #pipeline: WritePipeline;
  readonly #router: ShardRouter | undefined;
  readonly #maxPayload: number;
  readonly #sender: MessageSender;
  #hasWarnedOfNanoseconds = false;
  /** Of messages enqueued since the last flush, by code. */
  #failures = new Map<string, { count: number; readonly errors: RedisStreamsError[] }>();
  #unlogged = 0;
  #ending: Promise<void> | undefined;
  /** The last stream of which it is known that batches can be remembered beside it. */
  #rememberedStream: string | undefined;
  /** Distinguishes its messages with conditions from those of other producers. */
  readonly #name = randomBytes(9).toString('hex');
  /** Messages with conditions so far. */
  #scripted = 0;

  /** @internal */
  static create(
    streamKey: string | undefined,
    options: ResolvedProducerOptions,
    environment: ProducerEnvironment,
  ): StreamProducer {
    return new StreamProducer(streamKey, options, environment);
  }

  private constructor(
    streamKey: string | undefined,
    options: ResolvedProducerOptions,
    environment: ProducerEnvironment,
  ) {
    super();
    this.#streamKey = streamKey;
    this.#options = options;
    this.#environment = environment;
    this.#sender = {
      messageField: environment.messageField,
      timestampFormat: environment.timestampFormat,
      waitsForReplicas: options.waitReplicas !== undefined,
      onNanoseconds: this.#warnOfNanoseconds,
      onUnobserved: this.#reportOutside,
    };
    this.#maxPayload = options.maxPayload ?? MAX_PAYLOAD;
    if (streamKey !== undefined) this.#requireMemory(streamKey);
    this.#pipeline = new WritePipeline({
      ...options,
      writer: environment.appending,
      timeout: environment.timeout,
      acceptsMilliseconds: environment.acceptsMilliseconds,
      timestampFormat: environment.timestampFormat,
      connectTimeout: environment.connectTimeout,
      producer: options.delivery === 'exactly-once' ? randomUUID() : undefined,
      trim: { maxLen: options.maxLen, minAge: options.minAge },
      onScheduled: ({ streamKey: key, conditions }) => {
        if (conditions?.due) environment.onScheduled?.(key, conditions.due, this.#report);
      },
      onClosed: (sharded) => this.#router?.onClosed(sharded),
    });
    const { sharder } = options;
    const { layouts, logger } = environment;
    if (layouts && sharder && resized(sharder, sharder.shards))
      this.#router = new ShardRouter({ sharder, layouts, pipeline: this.#pipeline, logger });
  }

  /** Messages that are queued and not yet accepted. */
  get queued(): number {
    return this.#pipeline.size;
  }

  /**
   * The keys to which messages of a stream may go: the stream's own, or those of its shards.
   * @internal
   */
  keysOf(streamKey: string): string[] {
    const { sharder } = this.#options;
    if (!sharder) return [streamKey];
    const { first = 0, sharder: { shards } = sharder } = this.#router?.of(streamKey) ?? {};
    return shardKeysOf(streamKey, { first, shards });
  }

  /** Sends to the stream that the producer was created for. Rejects as {@link sendTo}; without such a stream with UnsupportedOperationError. */
  send(payload: Payload, options?: SendOptions): Promise<Receipt> {
    return this.#streamKey === undefined
      ? Promise.reject(new UnsupportedOperationError('send()', 'needs an anchored producer; use sendTo(streamKey, …)'))
      : this.sendTo(this.#streamKey, payload, options);
  }

  /**
   * Resolves once Redis has the message, and with `waitReplicas` its replicas. Rejects
   *
   * - before it is sent: InvalidOptionError, CallbackError, QueueFullError, PayloadTooLargeError, ProducerEndedError
   * - when it is not in the stream: TimestampRefusedError, TimestampFormatError, WrongTypeError, SendFailedError
   * - when it may be in the stream: UncertainSendError
   * - when it is, and too few replicas have it: ReplicasMissingError
   *
   * A failure of a promise without a handler is emitted as `error`.
   */
  sendTo(streamKey: string, payload: Payload, options?: SendOptions): Promise<Receipt> {
    const promise = SendPromise.create();
    this.post(streamKey, payload, options, promise);
    return promise;
  }

  /** As {@link sendTo}, with another taker of the outcome than a promise. Never throws. @internal */
  post(
    streamKey: string,
    payload: Payload,
    options: SendOptions | undefined,
    taker: OutcomeTaker | OnSettled,
    kind?: SentMessageKind,
  ): void {
    try {
      this.#push(streamKey, payload, options, taker, kind);
    } catch (error) {
      if (typeof taker === 'function') taker(error as RedisStreamsError);
      else taker.failed(error as RedisStreamsError, this.#report);
    }
  }

  /**
   * Sends to the stream that the producer was created for, without a receipt, the fastest way. See {@link enqueueTo}.
   * @throws UnsupportedOperationError without such a stream, and as {@link enqueueTo}
   * @example
   * for (const reading of readings) {
   *   if (!producer.enqueue(reading)) await producer.ready();
   * }
   * await producer.flush();
   */
  enqueue(payload: Payload, options?: SendOptions): boolean {
    if (this.#streamKey === undefined) {
      throw new UnsupportedOperationError('enqueue()', 'needs an anchored producer; use enqueueTo(streamKey, …)');
    }
    return this.enqueueTo(this.#streamKey, payload, options);
  }

  /**
   * Returns false when half of `maxQueued` or `maxQueuedBytes` is reached: await {@link ready} before the next message. As
   * with a writable stream of Node.js, the message itself is queued all the same while there is room.
   *
   * Failures, a full queue included, are emitted as `error` and rejected by the next {@link flush}.
   * @throws InvalidOptionError, ProducerEndedError, CallbackError when the sharder failed
   */
  enqueueTo(streamKey: string, payload: Payload, options?: SendOptions): boolean {
    try {
      this.#push(streamKey, payload, options, this.#onEnqueueSettled);
    } catch (error) {
      if (isMisuse(error)) throw error;
      this.#onEnqueueSettled(error as RedisStreamsError);
      return false;
    }
    return this.#pipeline.isBelowLowWater;
  }

  /**
   * Resolves when less than half of `maxQueued` and of `maxQueuedBytes` waits to be accepted by Redis, which may be at once. In
   * an outage that is at the latest when what waits has failed.
   * @throws ProducerEndedError, or the reason of the signal when it is aborted first
   */
  async ready({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.#ending) throw new ProducerEndedError();
    const room = this.#pipeline.room();
    await (signal ? untilAborted(room, signal) : room);
  }

  /**
   * Resolves when everything sent before has been accepted. Rejects with an AggregateError when messages that were enqueued
   * since the last flush have failed: it counts them by code, and has up to ten errors of each code.
   */
  async flush(): Promise<void> {
    await this.#pipeline.flush();
    const failures = [...this.#failures];
    if (failures.length === 0) return;
    this.#failures.clear();
    const failed = failures.reduce((sum, [, { count }]) => sum + count, 0);
    const counts = failures.map(([code, { count }]) => `${count} × ${code}`).join(', ');
    const errors = failures.flatMap(([, { errors: kept }]) => kept);
    const what = failed === 1 ? '1 enqueued message was' : `${failed} enqueued messages were`;
    throw new AggregateError(errors, `${what} not accepted: ${counts}`);
  }

  /** Trims to about that many entries; returns how many were deleted. @throws InvalidOptionError, or what Redis answered */
  async trimMaxLen(streamKey: string, maxLen: number): Promise<number> {
    check.name('streamKey', streamKey);
    check.integer('maxLen', maxLen, 0);
    return this.#trim(streamKey, (appending) => appending.trimMaxLen(streamKey, maxLen));
  }

  /**
   * Trims about all entries older than the time; returns how many were deleted. The time is compared with the ids of entries, which
   * have the time of Redis: a clock of this machine that is ahead would make it delete newer entries.
   * @throws InvalidOptionError, or what Redis answered
   */
  async trimMinTimestamp(streamKey: string, timestamp: Date): Promise<number> {
    check.name('streamKey', streamKey);
    check.date('timestamp', timestamp);
    return this.#trim(streamKey, async (appending) => {
      const time = timeInIds(timestamp.getTime(), await appending.timestampFormat(streamKey));
      return appending.trimMinId(streamKey, time);
    });
  }

  /** Accepts nothing more and settles everything. Never rejects because of earlier failures. Idempotent. */
  end(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  /** As {@link StreamProducer.end}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  /**
   * Repeats nothing any more: with closed connections everything that waits fails at once.
   * @internal
   */
  giveUp(): void {
    this.#pipeline.close();
  }

  async #end(): Promise<void> {
    await this.#pipeline.flush();
    this.#pipeline.close();
    await this.#environment.onEnded();
  }

  async #trim(streamKey: string, trim: (appending: AppendCommands) => Promise<number>): Promise<number> {
    try {
      return await trim(this.#environment.appending);
    } catch (error) {
      throw toPublicError(error, streamKey, 'trimming');
    }
  }

  #push(
    streamKey: string,
    payload: Payload,
    options: SendOptions | undefined,
    taker: OutcomeTaker | OnSettled,
    kind: SentMessageKind = 'message',
  ): MessageWithReceipt | MessageWithoutReceipt {
    if (this.#ending) throw new ProducerEndedError();
    check.name('streamKey', streamKey);
    this.#requireMemory(streamKey);
    if (options) checkSendOptions(options);
    const bytes = bytesOf(payload);
    const shardId = this.#shardOf(streamKey, payload, options);
    const { telemetry } = this.#environment;
    if (!telemetry?.followsSends) return this.#queue(streamKey, shardId, payload, bytes, options, taker);
    const headers = { ...options?.headers };
    const operation = telemetry.startSend({
      kind,
      streamKey,
      shardId: this.#options.sharder && shardId,
      size: bytes,
      isDelayed: options?.delay !== undefined || options?.deliverAt !== undefined,
      headers,
      source: telemetry.source,
    });
    try {
      // A message without headers takes a shorter way.
      const all = Object.keys(headers).length > 0 ? { ...options, headers } : options;
      const message = this.#queue(streamKey, shardId, payload, bytes, all, taker);
      message.operation = operation;
      return message;
    } catch (error) {
      operation?.end({ error: error as Error });
      throw error;
    }
  }

  #queue(
    streamKey: string,
    shardId: number,
    payload: Payload,
    bytes: number,
    options: SendOptions | undefined,
    taker: OutcomeTaker | OnSettled,
  ): MessageWithReceipt | MessageWithoutReceipt {
    const more = options?.headers && headerFields(options.headers);
    const headerBytes = more ? lengthOf(more) : 0;
    if (bytes + headerBytes > this.#maxPayload)
      throw new PayloadTooLargeError(streamKey, bytes + headerBytes, this.#maxPayload);
    if (more && more.length > MAX_SCRIPT_FIELDS - 2) this.#requireFewHeaders(more.length / 2, options);
    const key = shardKey(streamKey, shardId, this.#options.sharder !== undefined);
    const size = heldBytes(payload, bytes) + headerBytes;
    const message =
      typeof taker === 'function'
        ? new MessageWithoutReceipt(this.#sender, key, payload, size, taker)
        : new MessageWithReceipt(this.#sender, key, payload, size, taker);
    message.more = more;
    if (options) message.terms = this.#termsOf(key, options);
    if (this.#options.sharder) {
      message.route = { streamKey, shardId, sharded: this.#router?.of(streamKey), key: options?.key };
    }
    this.#pipeline.push(message);
    return message;
  }

  /** Where batches are remembered on the server, this stream's can be. @throws InvalidOptionError */
  #requireMemory(streamKey: string): void {
    if (this.#options.delivery !== 'exactly-once' || streamKey === this.#rememberedStream) return;
    this.#environment.appending.requireSideKey('producer', streamKey);
    this.#rememberedStream = streamKey;
  }

  /** Found out by the server, it would fail the other messages of its batch as well. @throws InvalidOptionError */
  #requireFewHeaders(headers: number, options: SendOptions | undefined): void {
    const cause = this.#scriptedOption(options);
    if (!cause) return;
    const rule = `must be at most ${MAX_SCRIPT_FIELDS / 2 - 1} with ${cause}, which needs a script`;
    throw new InvalidOptionError('headers', rule, headers);
  }

  #scriptedOption(options: SendOptions | undefined): string | undefined {
    if (this.#options.delivery === 'exactly-once') return "delivery 'exactly-once'";
    return this.#environment.timestampFormat === 'ns' ? "timestampFormat 'ns'" : scriptedOption(options);
  }

  /** @throws InvalidOptionError */
  #termsOf(key: string, options: SendOptions): MessageTerms | undefined {
    const id = entryIdFor(options.timestamp, this.#environment.timestampFormat);
    const conditions = this.#conditionsOf(key, options);
    return id === '*' && !conditions ? undefined : { id, conditions };
  }

  /** @throws InvalidOptionError when nothing can be kept beside the stream */
  #conditionsOf(key: string, { deduplication, delay, deliverAt }: SendOptions): AppendConditions | undefined {
    const due = deliverAt ? { at: deliverAt.getTime() } : delay === undefined ? undefined : { in: delay };
    if (!deduplication && !due) return undefined;
    this.#environment.appending.requireSideKey(due ? 'delayed' : 'dedup', key);
    this.#scripted += 1;
    const token = `${this.#name}-${this.#scripted.toString(36).padStart(TOKEN_DIGITS, '0')}`;
    const known = deduplication && { id: deduplication.id, within: deduplication.within };
    // A message that waits until its deadline may be sent once more then, and be answered as late again.
    return { token, repeatedFor: 2 * this.#environment.timeout, deduplication: known, due };
  }

  #shardOf(streamKey: string, payload: Payload, options: SendOptions | undefined): number {
    const { sharder } = this.#options;
    if (!sharder) return 0;
    const routed = this.#router?.of(streamKey);
    const id = options?.deduplication?.id;
    const shard = chooseShard(routed?.sharder ?? sharder, streamKey, options?.key, id, payload);
    return routed ? routed.first + shard : shard;
  }

  readonly #onEnqueueSettled = (error: RedisStreamsError | undefined): void => {
    if (!error) return;
    let failures = this.#failures.get(error.code);
    if (!failures) this.#failures.set(error.code, (failures = { count: 0, errors: [] }));
    failures.count += 1;
    if (failures.errors.length < KEPT_OF_EACH_CODE) failures.errors.push(error);
    this.#reportOutside(error);
  };

  readonly #warnOfNanoseconds = (streamKey: string): void => {
    if (this.#hasWarnedOfNanoseconds) return;
    this.#hasWarnedOfNanoseconds = true;
    this.#environment.logger.warn(
      `The ids of '${streamKey}' have nanoseconds: messages get the time of its last entry there, and readers that count in ` +
        "nanoseconds end past 65,535 of them. Send with timestampFormat: 'ns'.",
    );
  };

  /** For what fails in the background, where the async context is that of some message of the same batch. */
  readonly #reportOutside = (error: RedisStreamsError): void => outsideContext(() => this.#report(error));

  /** Without a listener for `error` the logger gets the failure; it also gets what a listener throws. */
  readonly #report = (error: RedisStreamsError): void => {
    this.#environment.telemetry?.failed(error);
    try {
      if (this.listenerCount('error') > 0) this.emit('error', error);
      else this.#log(error);
    } catch (thrown) {
      this.#environment.logger.error(`A listener of 'error' failed: ${errorText(thrown)}`);
    }
  };

  /** The first failure of a turn with its text, the others as a number: an outage can fail many thousands at once. */
  #log(error: RedisStreamsError): void {
    this.#unlogged += 1;
    if (this.#unlogged > 1) return;
    this.#environment.logger.error(error.message);
    setImmediate(() => {
      if (this.#unlogged > 1) this.#environment.logger.error(`${this.#unlogged - 1} more messages failed as well`);
      this.#unlogged = 0;
    });
  }
}

/** Which option of a message needs a script. */
function scriptedOption({ deduplication, delay, deliverAt }: SendOptions = {}): string | undefined {
  if (deduplication) return 'deduplication';
  if (delay !== undefined) return 'delay';
  return deliverAt && 'deliverAt';
}

/** An error of the caller, not of Redis. */
function isMisuse(error: unknown): boolean {
  return error instanceof InvalidOptionError || error instanceof ProducerEndedError || error instanceof CallbackError;
}
