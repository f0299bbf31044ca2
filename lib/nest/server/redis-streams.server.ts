import { Logger } from '@nestjs/common';
import type { CustomTransportStrategy, MessageHandler } from '@nestjs/microservices';
import { Server } from '@nestjs/microservices';

import { REDIS_STREAMS_TRANSPORT } from '../../constants.js';
import type { Delivery } from '../../engine/settling/settlement.js';
import type { StreamerHealth } from '../../engine/health.js';
import { REDRIVE_GROUP_HEADER } from '../../engine/admin/redrive.js';
import type { StreamMessage } from '../../engine/messages/stream-message.js';
import { RedisStreamer } from '../../engine/streamer.js';
import { errorText } from '../../shared/error-text.js';
import { ClosedError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { safeLogger } from '../../shared/logger.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { RedisStreamsStatus } from '../../redis/connection/redis-connections.js';
import { EventListeners } from '../event-listeners.js';
import { EventProcessor } from './event-processor.js';
import type { EventInHand } from './event-processor.js';
import { groupHandlers } from './handler-binding.js';
import type { HandlerBinding } from './handler-binding.js';
import { HandlerConsumer } from './handler-consumer.js';
import { observeHandlerFailures } from './handler-failure.js';
import { HandlerRegistry } from './handler-registry.js';
import { PacketCodec } from '../packet-codec.js';
import { runWithHooks } from './processing-hooks.js';
import { RedisStreamsContext } from '../redis-streams.context.js';
import type { ContextScope } from '../redis-streams.context.js';
import type { DeadLetterEvent, RedisStreamsEventsMap } from '../redis-streams.events.js';
import { SERVER_DEFAULTS, resolveServerOptions } from '../redis-streams.options.js';
import type { ResolvedServerOptions, ServerRedisStreamsOptions } from '../redis-streams.options.js';
import { requestInfoOf } from '../requests/request-headers.js';
import { RequestResponder } from '../requests/request-responder.js';

/**
 * The transport strategy: reads the streams that handlers are bound to, one stream for each pattern, and hands their
 * messages to them. Given to `NestFactory.createMicroservice` or `connectMicroservice` as `strategy`.
 */
export class ServerRedisStreams
  extends Server<RedisStreamsEventsMap, RedisStreamsStatus>
  implements CustomTransportStrategy
{
  override readonly transportId = REDIS_STREAMS_TRANSPORT;
  /** Nest must not log what this transport reports itself. */
  override readonly propagatesEventHandlerErrors = true;
  readonly #options: ServerRedisStreamsOptions;
  readonly #resolved: ResolvedServerOptions;
  readonly #log: Required<RedisStreamsLogger>;
  readonly #listeners: EventListeners;
  readonly #streamer: RedisStreamer;
  readonly #events: EventProcessor;
  readonly #requests: RequestResponder;
  readonly #handlers = new HandlerRegistry((pattern) => this.normalizePattern(pattern as string));
  readonly #consumers: HandlerConsumer[] = [];
  readonly #contextScopes = new WeakMap<HandlerBinding, ContextScope>();
  #isConnected = false;
  #listening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** Makes no connection. @throws InvalidOptionError */
  constructor(options: ServerRedisStreamsOptions) {
    super();
    this.#options = options;
    this.#resolved = resolveServerOptions(options);
    this.#log = safeLogger(options.logger ?? new Logger(ServerRedisStreams.name));
    this.#listeners = new EventListeners(this.#log);
    this.#streamer = new RedisStreamer(options.connection, { ...options, logger: this.#log });
    this.#streamer.on('status', (status) => {
      this._status$.next(status);
      this.#listeners.emit('status', status);
    });
    const codec = new PacketCodec(options.serializer, options.deserializer);
    // Nest sets one that only does the work; as long as it is that one, the work can be done without.
    const noHook = this.onProcessingStartHook;
    const withHooks = <T>(context: RedisStreamsContext, work: () => Promise<T>): Promise<T> => {
      const start = this.onProcessingStartHook === noHook ? undefined : this.onProcessingStartHook;
      return runWithHooks(this.transportId, { start, end: this.onProcessingEndHook }, context, work);
    };
    const logger = this.#log;
    this.#events = new EventProcessor({ codec, logger, withHooks, emit: this.#listeners.emit });
    this.#requests = new RequestResponder({
      codec,
      logger,
      withHooks,
      producer: this.#streamer.openProducer(undefined, {}),
      expire: (streamKey, ttl) => this.#streamer.appending.expire(streamKey, ttl),
      replyPrefix: this.#resolved.replyPrefix,
    });
    observeHandlerFailures();
  }

  /** Keeps its own list: Nest's chain of handlers would stop waiting for one as soon as another completes without a value. */
  override addHandler(
    pattern: unknown,
    callback: MessageHandler,
    isEventHandler = false,
    extras: Record<string, unknown> = {},
  ): void {
    this.#handlers.add(pattern, callback, isEventHandler, extras);
    this.messageHandlers.set(this.normalizePattern(pattern as string), callback);
  }

  /** Completes the application's start once every stream's position is fixed on the server. */
  async listen(callback: (error?: unknown) => void): Promise<void> {
    try {
      await (this.#listening ??= this.start());
    } catch (error) {
      await this.close();
      callback(error);
      return;
    }
    callback();
  }

  /** @throws RedisStreamsError when Redis cannot be reached within `timeout`, or refuses a stream. */
  async start(): Promise<void> {
    if (this.#closing) throw new ClosedError('The server');
    const groups = groupHandlers(
      await this.#handlers.resolve(),
      this.#resolved,
      this.#options.mode ?? SERVER_DEFAULTS.mode,
    );
    await this.#streamer.connect();
    this.#isConnected = true;
    await this.bindEvents(groups);
  }

  /** One consumer for the handlers that share their settings, one for each that has its own. */
  async bindEvents(groups: ReturnType<typeof groupHandlers>): Promise<void> {
    for (const group of groups) {
      const consumer = new HandlerConsumer({
        group,
        streamer: this.#streamer,
        server: this.#options,
        settled: () => this.#requests.settled(),
        deliver: (deliveries, from) => this.handleMessage(deliveries, from),
        onDeadLetter: (event) => this.#announceDeadLetter(event),
        onError: (error) => this.#report(error),
      });
      this.#consumers.push(consumer);
      await consumer.open();
    }
  }

  /** Handles one message, or the messages of one batch, to the end. */
  handleMessage(deliveries: readonly Delivery[], consumer: HandlerConsumer): Promise<void> {
    const [first] = deliveries as readonly [Delivery];
    const binding = consumer.bindingOf(first.message);
    return binding.batch ? this.#handleBatch(deliveries, binding, consumer) : this.#handle(first, binding, consumer);
  }

  async #handleBatch(
    deliveries: readonly Delivery[],
    binding: HandlerBinding,
    consumer: HandlerConsumer,
  ): Promise<void> {
    const events: EventInHand[] = [];
    const answering: Array<Promise<void>> = [];
    for (const delivery of deliveries) {
      const { message } = delivery;
      if (requestInfoOf(message)) answering.push(this.#handle(delivery, binding, consumer));
      else if (isForOthers(message, consumer)) delivery.settle({ kind: 'ack' });
      else events.push({ delivery, context: this.#createContext(delivery, binding, consumer) });
    }
    await Promise.all([...answering, this.#events.processBatch(events, binding, consumer.canRetry)]);
  }

  #handle(delivery: Delivery, binding: HandlerBinding, consumer: HandlerConsumer): Promise<void> {
    const { message } = delivery;
    const request = requestInfoOf(message);
    // Without a group every server sees a request; those that have one answer it.
    if ((request && consumer.groupId === undefined) || isForOthers(message, consumer)) {
      delivery.settle({ kind: 'ack' });
      return Promise.resolve();
    }
    const context = this.#createContext(delivery, binding, consumer);
    return request
      ? this.#requests.respond(request, delivery, binding.requestHandler, context)
      : this.#events.process({ delivery, context }, binding, consumer.canRetry);
  }

  /** Stops reading, waits for running handlers up to `shutdownTimeout`, commits their acks, leaves. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /**
   * How the connections and every read loop are doing; see {@link RedisStreamer.health}. Asks Redis, and answers within
   * `timeout` milliseconds (default 1,000) whether Redis does or not. @throws InvalidOptionError
   */
  health(options?: { timeout?: number }): Promise<StreamerHealth> {
    return this.#streamer.health(options);
  }

  override on<E extends keyof RedisStreamsEventsMap>(event: E, callback: RedisStreamsEventsMap[E]): void {
    this.#listeners.add(event, callback);
  }

  /** The engine's {@link RedisStreamer}, for what the transport does not do. */
  unwrap<T = RedisStreamer>(): T {
    return this.#streamer as T;
  }

  async #close(): Promise<void> {
    // A start that waits for Redis must not hold up the end.
    if (!this.#isConnected) await this.#streamer.disconnect();
    // A start that is still under way, or has failed, leaves consumers behind like one that has succeeded.
    await this.#listening?.catch(() => undefined);
    await Promise.all(this.#consumers.map((consumer) => consumer.close(this.#resolved.shutdownTimeout)));
    await this.#streamer.disconnect();
  }

  #createContext(delivery: Delivery, binding: HandlerBinding, consumer: HandlerConsumer): RedisStreamsContext {
    let scope = this.#contextScopes.get(binding);
    if (!scope) {
      scope = {
        pattern: binding.pattern,
        group: consumer.groupId,
        consumer: consumer.consumerId,
        failurePolicy: binding.failurePolicy,
        commit: () => consumer.commit(),
        canRetry: consumer.canRetry,
        onIgnored: ({ id }, attempted, reason) => {
          this.#log.warn(`${attempted} ignored for message ${id} of '${binding.pattern}': ${reason}`);
        },
      };
      this.#contextScopes.set(binding, scope);
    }
    return new RedisStreamsContext(delivery, scope);
  }

  #announceDeadLetter(event: DeadLetterEvent): void {
    const { message, deadLetterStream, reason } = event;
    this.#log.warn(`Message ${message.id} of '${message.streamKey}' is now in '${deadLetterStream}': ${reason}`);
    this.#listeners.emit('deadLetter', event);
    const { onDeadLetter } = this.#options;
    if (!onDeadLetter) return;
    const failed = (error: unknown): void => this.#log.error(`onDeadLetter failed: ${errorText(error)}`);
    Promise.resolve(event).then(onDeadLetter).catch(failed);
  }

  #report(error: RedisStreamsError): void {
    this.#log.error(error.message);
    this.#listeners.emit('error', error);
  }
}

/** A dead letter that was put back for one group only. */
function isForOthers({ headers }: StreamMessage, { groupId }: HandlerConsumer): boolean {
  const redrivenFor = headers[REDRIVE_GROUP_HEADER];
  return redrivenFor !== undefined && redrivenFor !== groupId;
}
