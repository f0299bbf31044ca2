import { Logger } from '@nestjs/common';
import type { ReadPacket, WritePacket } from '@nestjs/microservices';
import { ClientProxy } from '@nestjs/microservices';
import { Observable } from 'rxjs';

import type { Receipt } from '../../engine/messages/receipt.js';
import { SendPromise } from '../../engine/messages/send-promise.js';
import type { StreamProducer } from '../../engine/producing/stream-producer.js';
import { RedisStreamer } from '../../engine/streamer.js';
import { BatchSendError, InvalidOptionError, NoHandlerError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { safeLogger } from '../../shared/logger.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { RedisStreamsStatus } from '../../redis/connection/redis-connections.js';
import { EventListeners } from '../event-listeners.js';
import { PacketCodec } from '../packet-codec.js';
import type { EncodedPacket } from '../packet-codec.js';
import type { RedisStreamsEventsMap } from '../redis-streams.events.js';
import { resolveClientOptions } from '../redis-streams.options.js';
import type { ClientRedisStreamsOptions } from '../redis-streams.options.js';
import { ReplyInbox } from '../requests/reply-inbox.js';
import { REQUEST_HEADERS } from '../requests/request-headers.js';

/**
 * Sends events and requests to streams, one stream for each pattern. Injected with `@InjectRedisStreams()`, or registered
 * by Nest's `ClientsModule` as `customClass`.
 */
export class ClientRedisStreams extends ClientProxy<RedisStreamsEventsMap> {
  readonly #log: Required<RedisStreamsLogger>;
  readonly #listeners: EventListeners;
  readonly #codec: PacketCodec;
  readonly #streamer: RedisStreamer;
  readonly #producer: StreamProducer;
  readonly #inbox: ReplyInbox;
  readonly #requestTimeout: number;
  /** Patterns that some server is known to listen to. */
  readonly #servedPatterns = new Set<string>();
  #closing: Promise<void> | undefined;

  /** Makes no connection; the first message, or {@link connect}, does. @throws InvalidOptionError */
  constructor(options: ClientRedisStreamsOptions = {}) {
    super();
    this.#log = safeLogger(options.logger ?? new Logger(ClientRedisStreams.name));
    this.#listeners = new EventListeners(this.#log);
    this.#codec = new PacketCodec(options.serializer, options.deserializer);
    this.#streamer = new RedisStreamer(options.connection, { ...options, logger: this.#log });
    this.#streamer.on('status', (status) => {
      this._status$.next(status);
      this.#listeners.emit('status', status);
    });
    this.#producer = this.#streamer.openProducer(undefined, options);
    this.#producer.on('error', this.#report);
    const { requestTimeout, replyPrefix } = resolveClientOptions(options);
    this.#requestTimeout = requestTimeout;
    this.#inbox = new ReplyInbox({
      streamer: this.#streamer,
      codec: this.#codec,
      logger: this.#log,
      replyPrefix,
      requestTimeout,
    });
  }

  /** Typed here: with the type as an argument of the base class, this would not be a `ClientProxy` for Nest's own options. */
  override get status(): Observable<RedisStreamsStatus> {
    return super.status as Observable<RedisStreamsStatus>;
  }

  /** Resolves once Redis is reached. Idempotent. @throws ConnectTimeoutError, PermissionError, ClosedError */
  async connect(): Promise<void> {
    await this.#streamer.connect();
  }

  /**
   * Appends the data to the stream of the pattern. The Observable emits the {@link Receipt} and completes once Redis has the
   * message, errors if it could not be stored; whoever subscribes late is told as well. The message is sent whether or not
   * anybody subscribes; a failure that nobody sees is logged and emitted as `error`.
   */
  override emit<TResult = Receipt, TInput = unknown>(pattern: unknown, data: TInput): Observable<TResult> {
    if (isNil(pattern) || isNil(data)) return super.emit(pattern, data);
    const sending = this.#sendPacket(() => this.#createPacket(pattern, data));
    return settled(sending as Promise<unknown> as Promise<TResult>);
  }

  /**
   * Sends a request and brings its answers. As Nest's own, without a wait for {@link connect} in between: a request waits
   * for the connection by itself, and fails like it.
   */
  override send<TResult = unknown, TInput = unknown>(pattern: unknown, data: TInput): Observable<TResult> {
    if (isNil(pattern) || isNil(data)) return super.send(pattern, data);
    return new Observable<TResult>((observer) =>
      this.publish(this.#createPacket(pattern, data), this.createObserver(observer)),
    );
  }

  /** Settles everything that was sent, fails requests that wait, then leaves. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#inbox.close().then(() => this.#streamer.disconnect());
    return this.#closing;
  }

  /**
   * Appends many messages at once; records are possible, too. Settles when all are: emits the receipts in order, or errors
   * with a BatchSendError that has those that failed.
   */
  emitBatch<TInput = unknown>(pattern: unknown, messages: readonly TInput[]): Observable<Receipt[]> {
    const sendings = messages.map((data, index) => {
      return this.#sendPacket(() => {
        // Nest refuses them in `emit`, so that a handler never has to expect them.
        if (isNil(pattern)) throw new InvalidOptionError('pattern', 'must be given', pattern);
        if (isNil(data)) throw new InvalidOptionError(`messages[${index}]`, 'must not be null or undefined', data);
        return this.#createPacket(pattern, data);
      });
    });
    const all = Promise.allSettled(sendings).then((outcomes) => {
      const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as Error] : []));
      if (failures.length > 0) throw new BatchSendError(failures, messages.length);
      return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<Receipt>).value);
    });
    return settled(SendPromise.follow(all, this.#report));
  }

  override on<E extends keyof RedisStreamsEventsMap>(event: E, callback: RedisStreamsEventsMap[E]): void {
    this.#listeners.add(event, callback);
  }

  /** Requests that wait for an answer. */
  get openRequests(): number {
    return this.#inbox.size;
  }

  /** The engine's {@link RedisStreamer}, for what the client does not do. */
  unwrap<T = RedisStreamer>(): T {
    return this.#streamer as T;
  }

  protected dispatchEvent<T = Receipt>(packet: ReadPacket): Promise<T> {
    return this.#sendPacket(() => packet) as Promise<T>;
  }

  protected publish(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
    const deadline = String(Date.now() + this.#requestTimeout);
    const streamKey = this.normalizePattern(packet.pattern as string);
    const id = this.#inbox.register(streamKey, callback);
    const failed = (error: unknown): void => this.#inbox.fail(id, error);
    const post = ({ payload, options }: EncodedPacket): void => {
      if (!this.#inbox.has(id)) return;
      const headers = {
        ...options.headers,
        [REQUEST_HEADERS.correlationId]: id,
        [REQUEST_HEADERS.replyTo]: this.#inbox.streamKey,
        [REQUEST_HEADERS.deadline]: deadline,
      };
      this.#producer.post(streamKey, payload, { ...options, headers }, (failure) => failure && failed(failure));
    };
    try {
      const encoded = this.#codec.encode(packet);
      const isPrepared = this.#inbox.isOpen && this.#servedPatterns.has(streamKey);
      if (isPrepared && !(encoded instanceof Promise)) post(encoded);
      else Promise.all([encoded, this.#prepareFor(streamKey)]).then(([ready]) => post(ready), failed);
    } catch (error) {
      failed(error);
    }
    return () => this.#inbox.remove(id);
  }

  /** @throws NoHandlerError when no server has ever listened to the pattern; else a request would wait for its time-out */
  async #prepareFor(streamKey: string): Promise<void> {
    await this.#inbox.open();
    if (this.#servedPatterns.has(streamKey)) return;
    const manager = await this.#streamer.createManager();
    const keys = this.#producer.keysOf(streamKey);
    const served = await Promise.all(keys.map((key) => manager.hasGroups(key)));
    if (!served.includes(true)) throw new NoHandlerError(streamKey);
    this.#servedPatterns.add(streamKey);
  }

  /** Whatever fails on the way, a serializer for instance, fails the promise, and is reported when nobody waits for it. */
  #sendPacket(createPacket: () => ReadPacket): Promise<Receipt> {
    try {
      const packet = createPacket();
      const streamKey = this.normalizePattern(packet.pattern as string);
      const encoded = this.#codec.encode(packet);
      if (!(encoded instanceof Promise)) return this.#producer.sendTo(streamKey, encoded.payload, encoded.options);
      const sending = encoded.then(({ payload, options }) => this.#producer.sendTo(streamKey, payload, options));
      return SendPromise.follow(sending, this.#report);
    } catch (error) {
      return SendPromise.follow(Promise.reject(error as Error), this.#report);
    }
  }

  readonly #report = (error: RedisStreamsError): void => {
    this.#log.error(error.message);
    this.#listeners.emit('error', error);
  };

  /** Nest 12 has a hook here, through which instrumentation adds metadata. */
  #createPacket(pattern: unknown, data: unknown): ReadPacket {
    const createPacket = this.createPacket as ((pattern: unknown, data: unknown) => ReadPacket) | undefined;
    return createPacket?.call(this, pattern, data) ?? { pattern, data };
  }
}

/** Emits what the promise brings, to whoever subscribes, however late. */
function settled<T>(promise: Promise<T>): Observable<T> {
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
