import { AsyncResource } from 'node:async_hooks';
import { inspect } from 'node:util';

import { Logger } from '@nestjs/common';
import type { ReadPacket, WritePacket } from '@nestjs/microservices';
import { ClientProxy } from '@nestjs/microservices';
import { Observable } from 'rxjs';

import { resolveHealthOptions } from '../../engine/health.js';
import type { HealthOptions, StreamerHealth } from '../../engine/health.js';
import type { OutcomeTaker } from '../../engine/messages/outgoing-message.js';
import type { Receipt } from '../../engine/messages/receipt.js';
import { SendPromise } from '../../engine/messages/send-promise.js';
import type { StreamProducer } from '../../engine/producing/stream-producer.js';
import { DEFAULTS } from '../../engine/options/options.js';
import { RedisStreamer } from '../../engine/streamer.js';
import { BatchSendError, ClosedError, InvalidOptionError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { within } from '../../shared/backoff.js';
import { errorText } from '../../shared/error-text.js';
import { resolveLogger } from '../../shared/logger.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { RedisStreamsStatus } from '../../redis/connection/redis-connections.js';
import { EventListeners } from '../event-listeners.js';
import { PacketCodec, resolveDeserializer, resolveSerializer } from '../packet-codec.js';
import type { EncodedPacket } from '../packet-codec.js';
import type { RedisStreamsEvents } from '../redis-streams.events.js';
import { producerOptions, resolveClientOptions } from '../redis-streams.options.js';
import type { ClientRedisStreamsOptions } from '../redis-streams.options.js';
import { RedisStreamsRecord } from '../redis-streams.record.js';
import { streamOfPattern } from '../stream-pattern.js';
import { SentEvent } from './sent-event.js';
import { REQUEST_HEADERS } from '../requests/request-headers.js';
import { RequestSender } from '../requests/request-sender.js';

/**
 * Sends events and requests to streams, one stream for each pattern. Injected with `@InjectRedisStreams()`, or registered
 * by Nest's `ClientsModule` as `customClass`.
 *
 * An event goes `emit` → {@link dispatchEvent} → producer, a request `send` → {@link publish} → `RequestSender`, and its
 * replies come back to the callback of `publish`. A subclass may override each of these, `connect`, `createPacket` and
 * the serializers as in Nest's own clients.
 * @example
 * constructor(@InjectRedisStreams() private readonly client: ClientRedisStreams) {}
 *
 * order(item: string) {
 *   return this.client.emit('orders', { item });
 * }
 */
export class ClientRedisStreams extends ClientProxy<RedisStreamsEvents> {
  readonly #log: Required<RedisStreamsLogger>;
  readonly #listeners: EventListeners;
  readonly #codec: PacketCodec;
  readonly #options: ClientRedisStreamsOptions;
  readonly #resolved: ReturnType<typeof resolveClientOptions>;
  #streamer: RedisStreamer;
  #producer: StreamProducer;
  #requests: RequestSender;
  #closing: Promise<void> | undefined;
  /** The attempt to connect that {@link health} has begun. */
  #reaching: Promise<void> | undefined;
  /** The last event of a stream whose encoder, or that of one before it, is awaited. */
  readonly #waiting = new Map<string, Promise<void>>();

  /** Makes no connection; the first message, or {@link connect}, does. @throws InvalidOptionError */
  constructor(options: ClientRedisStreamsOptions = {}) {
    super();
    this.#options = options;
    this.#resolved = resolveClientOptions(options);
    this.#log = resolveLogger(options.logger, () => new Logger('ClientRedisStreams'));
    this.#listeners = new EventListeners(this.#log);
    this.initializeSerializer(options);
    this.initializeDeserializer(options);
    this.#codec = new PacketCodec(
      () => this.serializer,
      () => this.deserializer,
    );
    this.#streamer = this.#openStreamer();
    this.#producer = this.#openProducer();
    this.#requests = this.#createSender();
  }

  /**
   * Typed here: with the type as an argument of the base class, this would not be a `ClientProxy` for Nest's own options.
   */
  override get status(): Observable<RedisStreamsStatus> {
    return super.status as Observable<RedisStreamsStatus>;
  }

  /**
   * Resolves once Redis is reached. Idempotent; after `close()` it connects again. Messages need not wait for it.
   * @throws ConnectTimeoutError after `timeout`, PermissionError, ClosedError
   */
  async connect(): Promise<void> {
    if (this.#closing) await this.#reopen(this.#closing);
    await this.#streamer.connect();
  }

  /**
   * Appends the data to the stream of the pattern. The Observable emits the {@link Receipt} and completes once Redis has
   * the message, and errors if it could not be stored; a late subscriber gets the same. The message is sent whether or
   * not the Observable is subscribed to; a failure without a subscriber is logged and emitted as `error`. Never throws: the
   * Observable errors with InvalidOptionError, PayloadInvalidError of a catalog, ClosedError after {@link close}, or with an
   * error of {@link StreamProducer.sendTo}.
   * @example
   * ```ts
   * const { id } = await firstValueFrom(client.emit('orders', { item: 'tea' }));
   * ```
   */
  override emit<TResult = Receipt, TInput = unknown>(pattern: unknown, data: TInput): Observable<TResult> {
    if (isNil(pattern) || isNil(data)) return super.emit(pattern, data);
    if (this.connect !== connectOfThisClass || this.dispatchEvent !== dispatchOfThisClass) {
      return replaying(this.#dispatch(pattern, data) as Promise<unknown> as Promise<TResult>);
    }
    const event = new SentEvent();
    try {
      this.#append(this.#createPacket(pattern, data), event);
    } catch (error) {
      event.failed(error as RedisStreamsError, this.#refusalOf(pattern));
    }
    return event as Observable<unknown> as Observable<TResult>;
  }

  /**
   * Appends many messages at once; each may be a record. Settles when all of them are: emits the receipts in order, or
   * errors with a BatchSendError that holds one error for each message that failed. Never throws.
   * @example
   * ```ts
   * const receipts = await firstValueFrom(client.emitBatch('clicks', [{ page: '/' }, { page: '/tea' }]));
   * ```
   */
  emitBatch<TInput = unknown>(pattern: unknown, messages: readonly TInput[]): Observable<Receipt[]> {
    if (!Array.isArray(messages)) {
      return replaying(
        this.#refused<Receipt[]>(pattern, new InvalidOptionError('messages', 'must be an array', messages)),
      );
    }
    const sends = messages.map((data, index) => {
      // Nest refuses them in `emit`, so that a handler never has to expect them.
      if (isNil(pattern)) return this.#refused(pattern, new InvalidOptionError('pattern', 'must be given', pattern));
      if (isNil(data)) {
        const rule = 'must not be null or undefined';
        return this.#refused(pattern, new InvalidOptionError(`messages[${index}]`, rule, data));
      }
      return this.#dispatch(pattern, data);
    });
    return replaying(SendPromise.follow(receiptsOf(sends), this.#failureOf(pattern)));
  }

  /** Never throws. The promise reports its failure by itself when nothing awaits it. */
  #dispatch(pattern: unknown, data: unknown): SendPromise {
    try {
      const sending =
        this.connect === connectOfThisClass
          ? this.dispatchEvent<Receipt>(this.#createPacket(pattern, data))
          : this.#connectAndDispatch(pattern, data);
      // An override may return a promise that does not report.
      if (sending instanceof SendPromise) return sending;
      return SendPromise.follow(Promise.resolve(sending), this.#failureOf(pattern));
    } catch (error) {
      return this.#refused(pattern, error);
    }
  }

  /** As Nest does it. Our own `connect` need not be awaited: a send waits for the connection by itself. */
  async #connectAndDispatch(pattern: unknown, data: unknown): Promise<Receipt> {
    await this.connect();
    return this.dispatchEvent<Receipt>(this.#createPacket(pattern, data));
  }

  /** Encodes the packet of one event and appends it to its stream. Never throws; the promise rejects as {@link emit} does. */
  protected dispatchEvent<T = Receipt>(packet: ReadPacket): Promise<T> {
    const promise = SendPromise.create();
    this.#append(packet, promise);
    return promise as Promise<unknown> as Promise<T>;
  }

  /** Never throws. */
  #append(packet: ReadPacket, taker: OutcomeTaker): void {
    try {
      if (this.#closing) throw new ClosedError('The client', 'connect() opens it again');
      const streamKey = this.#streamOf(packet);
      checkEvent(packet);
      const encoded = this.#codec.encode(packet);
      const isWaiting = this.#waiting.has(streamKey);
      if (isWaiting || encoded instanceof Promise) this.#appendInOrder(packet, streamKey, encoded, taker);
      else this.#producer.post(streamKey, encoded.payload, encoded.options, taker);
    } catch (error) {
      taker.failed(error as RedisStreamsError, this.#refusalOf(packet.pattern));
    }
  }

  /** While an encoder is awaited, later events of the stream are encoded too, and appended after it. */
  #appendInOrder(
    { pattern }: ReadPacket,
    streamKey: string,
    encoded: EncodedPacket | Promise<EncodedPacket>,
    taker: OutcomeTaker,
  ): void {
    // Not that of a later life of the client.
    const producer = this.#producer;
    const append = ([outcome]: [PromiseSettledResult<EncodedPacket>, unknown]): void => {
      try {
        if (outcome.status === 'rejected') throw outcome.reason;
        producer.post(streamKey, outcome.value.payload, outcome.value.options, taker);
      } catch (error) {
        taker.failed(error as RedisStreamsError, this.#refusalOf(pattern));
      }
    };
    const appending = Promise.allSettled([encoded, this.#waiting.get(streamKey)]).then(append);
    this.#waiting.set(streamKey, appending);
    void appending.then(() => {
      if (this.#waiting.get(streamKey) === appending) this.#waiting.delete(streamKey);
    });
  }

  /**
   * Sends a request when it is subscribed to, and emits its replies. Errors with the error of the handler;
   * RequestTimeoutError when no reply comes within `requestTimeout` milliseconds or the timeout of the record;
   * NoHandlerError when no server has a handler for it; ClosedError when the client is closed; or with an error of
   * {@link StreamProducer.sendTo}.
   * @example
   * ```ts
   * const price = await firstValueFrom(client.send<number>('price', { item: 'tea' }));
   * ```
   */
  override send<TResult = unknown, TInput = unknown>(pattern: unknown, data: TInput): Observable<TResult> {
    // Nest awaits `connect` first. Ours need not be awaited: a request waits for the connection by itself.
    if (isNil(pattern) || isNil(data) || this.connect !== connectOfThisClass) return super.send(pattern, data);
    return new Observable<TResult>((observer) =>
      this.publish(this.#createPacket(pattern, data), this.createObserver(observer)),
    );
  }

  /**
   * Sends the packet of one request. Its replies, or its failure, go to the callback; the function returned gives it up.
   * @throws InvalidOptionError for a pattern that cannot be a stream
   */
  protected publish(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
    const streamKey = this.#streamOf(packet);
    const { telemetry } = this.#streamer;
    if (!telemetry?.followsRequests) return this.#send(streamKey, packet, callback);
    const pattern = this.normalizePattern(packet.pattern as string);
    const operation = telemetry.startRequest({ pattern, streamKey, source: telemetry.source });
    if (!operation) return this.#send(streamKey, packet, callback);
    // The subscriber's context is that of its own call, not that of the operation.
    const give = AsyncResource.bind(callback);
    const onReply = (reply: WritePacket): void => {
      if (reply.err) operation.end({ error: reply.err as unknown });
      else if (reply.isDisposed) operation.end({});
      give(reply);
    };
    const giveUp = operation.run(() => this.#send(streamKey, packet, onReply));
    return () => {
      giveUp();
      operation.end({ isCancelled: true });
    };
  }

  #send(streamKey: string, packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
    const request = this.#requests.send(streamKey, packet, callback);
    return () => this.#requests.giveUp(request);
  }

  /**
   * Fails requests that wait, settles everything that was sent, then disconnects. In an outage, events that are not confirmed
   * within `shutdownTimeout` fail with ERR_CLOSED, or ERR_SEND_UNCERTAIN where Redis may have them. Idempotent. What is sent
   * afterwards fails, until {@link connect} is called.
   */
  close(): Promise<void> {
    this.#closing ??= this.#streamer.disconnectAfter(this.#leave());
    return this.#closing;
  }

  /** Events whose encoders are awaited go to the producer before it ends. */
  async #leave(): Promise<void> {
    const { shutdownTimeout = DEFAULTS.streamer.shutdownTimeout } = this.#options;
    const waiting = this.#waiting.size > 0 && within(shutdownTimeout, Promise.all(this.#waiting.values()));
    await Promise.all([this.#requests.close(), waiting]);
  }

  /** Another `connect()` may have done it while this one waited. */
  async #reopen(closing: Promise<void>): Promise<void> {
    await closing;
    if (this.#closing !== closing) return;
    this.#streamer = this.#openStreamer();
    this.#producer = this.#openProducer();
    this.#requests = this.#createSender();
    this.#waiting.clear();
    this.#closing = undefined;
  }

  #openStreamer(): RedisStreamer {
    const streamer = this.createStreamer({ ...this.#options, logger: this.#log });
    streamer.on('status', (status) => {
      this._status$.next(status);
      this.#listeners.emit('status', status);
    });
    return streamer;
  }

  #openProducer(): StreamProducer {
    const producer = this.#streamer.openProducer(undefined, producerOptions(this.#options));
    producer.on('error', this.#report);
    return producer;
  }

  #createSender(): RequestSender {
    return new RequestSender({
      ...this.#resolved,
      streamer: this.#streamer,
      producer: this.#producer,
      codec: this.#codec,
      logger: this.#log,
    });
  }

  /**
   * The state of the connections, and of the loop that reads answers; see {@link RedisStreamer.health}. A client that was never
   * connected connects first, so that it becomes ready without a message; that waits at most `timeout` milliseconds (default
   * 1,000) and continues in the background. @throws InvalidOptionError
   */
  async health(options: HealthOptions = {}): Promise<StreamerHealth> {
    const { timeout } = resolveHealthOptions(options);
    const streamer = this.#streamer;
    if (streamer.status === 'disconnected' && !this.#closing) {
      // One attempt at a time; it reports its failures in the log.
      this.#reaching ??= streamer
        .connect()
        .catch(() => undefined)
        .finally(() => (this.#reaching = undefined));
      await within(timeout, this.#reaching);
    }
    return streamer.health(options);
  }

  override on<E extends keyof RedisStreamsEvents>(event: E, callback: RedisStreamsEvents[E]): void {
    this.#listeners.add(event, callback);
  }

  /** Requests that wait for an answer. */
  get openRequests(): number {
    return this.#requests.size;
  }

  /** The engine's {@link RedisStreamer}, for what the client does not do. */
  unwrap<T = RedisStreamer>(): T {
    return this.#streamer as T;
  }

  /**
   * Makes the engine, as `createClient` makes the connection of Nest's own clients. The constructor calls it, before
   * fields of a subclass are set, and so does `connect()` after `close()`. The client owns the result: `close()` disconnects
   * it.
   */
  protected createStreamer(options: ClientRedisStreamsOptions): RedisStreamer {
    return new RedisStreamer(options.connection, options);
  }

  /** @throws InvalidOptionError */
  protected override initializeSerializer(options: Pick<ClientRedisStreamsOptions, 'serializer'>): void {
    this.serializer = resolveSerializer(options);
  }

  /** @throws InvalidOptionError */
  protected override initializeDeserializer(options: Pick<ClientRedisStreamsOptions, 'deserializer'>): void {
    this.deserializer = resolveDeserializer(options);
  }

  /** Through the `createPacket` of Nest, where instrumentation adds metadata; Nest 11 has none. */
  #createPacket(pattern: unknown, data: unknown): ReadPacket {
    const createPacket = this.createPacket as ((pattern: unknown, data: unknown) => ReadPacket) | undefined;
    return createPacket?.call(this, pattern, data) ?? { pattern, data };
  }

  /** @throws InvalidOptionError for a pattern that cannot be a stream */
  #streamOf({ pattern }: ReadPacket): string {
    const route = streamOfPattern(pattern, 'send', (text) => this.normalizePattern(text));
    return this.#resolved.streams.get(route) ?? route;
  }

  #refused<T = Receipt>(pattern: unknown, error: unknown): SendPromise<T> {
    return SendPromise.follow(Promise.reject<T>(error as Error), this.#refusalOf(pattern));
  }

  /** Reports an event that the producer has not seen. Its error need not name the pattern, so the log line does. */
  #refusalOf(pattern: unknown): (error: RedisStreamsError) => void {
    return (error) => {
      this.#streamer.telemetry?.failed(error);
      this.#report(error, `The event for ${nameOf(pattern)} was not sent: `);
    };
  }

  /** Reports what an override, or one of the events of a batch, failed with. */
  #failureOf(pattern: unknown): (error: RedisStreamsError) => void {
    return (error) => this.#report(error, `Sending to ${nameOf(pattern)} failed: `);
  }

  readonly #report = (error: RedisStreamsError, introduction = ''): void => {
    const first = error instanceof BatchSendError ? `, the first with: ${errorText(error.errors[0])}` : '';
    this.#log.error(introduction + errorText(error) + first);
    this.#listeners.emit('error', error);
  };
}

/**
 * Refuses the headers of a request in an event: an entry with both is a request, which no event handler gets. They may come from a
 * record or a dispatch hook. @throws InvalidOptionError, also for a record with a timeout
 */
export function checkEvent(packet: ReadPacket): void {
  // Not destructured above: that would be in the declarations, and Nest 11 has no metadata.
  const { data, metadata } = packet;
  const record = data instanceof RedisStreamsRecord ? data : undefined;
  if (!record && !metadata) return;
  if (record?.timeout !== undefined) {
    const rule = 'is for requests only; the options of the client limit an event';
    throw new InvalidOptionError('timeout', rule, record.timeout);
  }
  const { correlationId, replyTo } = REQUEST_HEADERS;
  const headers: Record<string, unknown> = { ...metadata, ...record?.headers };
  if (!Object.hasOwn(headers, correlationId) || !Object.hasOwn(headers, replyTo)) return;
  const rule =
    `must not stand beside ${correlationId} in an event, which no event handler would get; ` +
    'to pass on the headers of a request, give getMetadata() of its context to setHeaders()';
  throw new InvalidOptionError(`headers.${replyTo}`, rule, headers[replyTo]);
}

/** A pattern as a log line has it. */
function nameOf(pattern: unknown): string {
  if (typeof pattern === 'string') return `'${pattern}'`;
  try {
    return inspect(pattern, { breakLength: Infinity });
  } catch {
    // What the application has put there may have an `inspect` of its own.
    return 'a pattern that cannot be shown';
  }
}

/** To see whether a subclass, a spy or instrumentation has put another in its place. */
const connectOfThisClass = ClientRedisStreams.prototype.connect;
const dispatchOfThisClass = ClientRedisStreams.prototype['dispatchEvent'];

/** @throws BatchSendError */
async function receiptsOf(sends: readonly SendPromise[]): Promise<Receipt[]> {
  const outcomes = await Promise.allSettled(sends);
  const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as Error] : []));
  if (failures.length > 0) throw new BatchSendError(failures, sends.length);
  return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<Receipt>).value);
}

/** Emits the result of the promise to every subscriber, however late. */
function replaying<T>(promise: Promise<T>): Observable<T> {
  return new Observable<T>((subscriber) => {
    promise.then(
      (value) => {
        subscriber.next(value);
        subscriber.complete();
      },
      (error: unknown) => subscriber.error(error),
    );
  });
}

function isNil(value: unknown): value is null | undefined {
  return value === null || value === undefined;
}
