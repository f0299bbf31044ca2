import { Logger } from '@nestjs/common';
import type { CustomTransportStrategy, MessageHandler } from '@nestjs/microservices';
import { Server } from '@nestjs/microservices';

import { REDIS_STREAMS_TRANSPORT } from '../constants.js';
import type { Delivery } from '../engine/delivery.js';
import { RedisStreamer } from '../engine/streamer.js';
import { ClosedError, PayloadDecodeError, RedisStreamsError } from '../errors.js';
import { safeLogger } from '../logger.js';
import type { RedisStreamsLogger } from '../logger.js';
import type { RedisStreamsStatus } from '../redis/redis-connections.js';
import { EventListeners } from './event-listeners.js';
import { groupHandlers } from './handler-binding.js';
import type { HandlerBinding } from './handler-binding.js';
import { HandlerConsumer } from './handler-consumer.js';
import { describeFailure, observeHandlerFailures } from './handler-failure.js';
import { runHandlers } from './handler-runner.js';
import { PacketCodec } from './packet-codec.js';
import { runWithHooks } from './processing-hooks.js';
import { RedisStreamsContext } from './redis-streams.context.js';
import type { RedisStreamsEventsMap } from './redis-streams.events.js';
import { SERVER_DEFAULTS, resolveServerOptions } from './redis-streams.options.js';
import type { ResolvedServerOptions, ServerRedisStreamsOptions } from './redis-streams.options.js';

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
  readonly #codec: PacketCodec;
  readonly #streamer: RedisStreamer;
  readonly #handlers = new Map<string, MessageHandler[]>();
  readonly #consumers: HandlerConsumer[] = [];
  #listening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** Makes no connection. @throws InvalidOptionError */
  constructor(options: ServerRedisStreamsOptions) {
    super();
    this.#options = options;
    this.#resolved = resolveServerOptions(options);
    this.#log = safeLogger(options.logger ?? new Logger(ServerRedisStreams.name));
    this.#listeners = new EventListeners(this.#log);
    this.#codec = new PacketCodec(options.serializer, options.deserializer);
    this.#streamer = new RedisStreamer(options.connection, { ...options, logger: this.#log });
    this.#streamer.on('status', (status) => {
      this._status$.next(status);
      this.#listeners.emit('status', status);
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
    const route = this.normalizePattern(pattern as string);
    const others = isEventHandler ? (this.#handlers.get(route) ?? []) : [];
    if (others.length === 0) super.addHandler(pattern, callback, isEventHandler, extras);
    else Object.assign(callback, { isEventHandler, extras });
    this.#handlers.set(route, [...others, callback]);
  }

  /** Resolves the application's start once every stream's position is fixed on the server. */
  async listen(callback: (error?: unknown) => void): Promise<void> {
    try {
      await (this.#listening ??= this.start());
    } catch (error) {
      await this.#streamer.disconnect();
      callback(error);
      return;
    }
    callback();
  }

  /** @throws RedisStreamsError when Redis cannot be reached within `timeout`, or refuses a stream. */
  async start(): Promise<void> {
    if (this.#closing) throw new ClosedError('The server');
    await this.#streamer.connect();
    await this.bindEvents();
  }

  /** One consumer for the handlers that share their settings, one for each that has its own. */
  async bindEvents(): Promise<void> {
    const mode = this.#options.mode ?? SERVER_DEFAULTS.mode;
    for (const group of groupHandlers(this.#handlers, this.#resolved, mode)) {
      const consumer = new HandlerConsumer({
        streamer: this.#streamer,
        server: this.#options,
        group,
        deliver: (delivery, binding) => this.handleMessage(delivery, binding),
        onError: (error) => this.#report(error),
      });
      this.#consumers.push(consumer);
      await consumer.open();
    }
  }

  /** Decodes one message, runs its handlers to their end and settles it. */
  async handleMessage(delivery: Delivery, binding: HandlerBinding): Promise<void> {
    const context = this.#createContext(delivery, binding);
    try {
      const data = await this.#codec.decode(delivery.message, binding.pattern);
      const hooks = { start: this.onProcessingStartHook, end: this.onProcessingEndHook };
      await runWithHooks(this.transportId, hooks, context, () => runHandlers(binding.handlers, data, context));
    } catch (error) {
      this.#fail(delivery, error);
      return;
    }
    if (binding.ack === 'auto') delivery.settle({ kind: 'ack' });
  }

  /** Stops reading, waits for running handlers up to `shutdownTimeout`, commits their acks, leaves. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  override on<E extends keyof RedisStreamsEventsMap>(event: E, callback: RedisStreamsEventsMap[E]): void {
    this.#listeners.add(event, callback);
  }

  /** The engine's {@link RedisStreamer}, for what the transport does not do. */
  unwrap<T = RedisStreamer>(): T {
    return this.#streamer as T;
  }

  async #close(): Promise<void> {
    await this.#listening?.catch(() => undefined);
    await Promise.all(this.#consumers.map((consumer) => consumer.close(this.#resolved.shutdownTimeout)));
    await this.#streamer.disconnect();
  }

  #createContext(delivery: Delivery, binding: HandlerBinding): RedisStreamsContext {
    const consumer = this.#consumers.find((candidate) => candidate.has(binding));
    return new RedisStreamsContext({
      delivery,
      pattern: binding.pattern,
      group: consumer?.groupId,
      consumer: consumer?.consumerId,
      commit: async () => consumer?.commit(),
      onLateSettlement: (attempted) => {
        this.#log.warn(
          `${attempted} ignored: message ${delivery.message.id} of '${binding.pattern}' was settled before`,
        );
      },
    });
  }

  #fail(delivery: Delivery, error: unknown): void {
    const { id, streamKey } = delivery.message;
    const action = error instanceof PayloadDecodeError ? 'Decoding' : 'Handling';
    this.#log.error(`${action} message ${id} of '${streamKey}' failed: ${describeFailure(error)}`);
    this.#listeners.emit(
      'error',
      error instanceof Error ? error : new RedisStreamsError('ERR_HANDLER', describeFailure(error)),
    );
    delivery.settle({ kind: 'pending' });
  }

  #report(error: RedisStreamsError): void {
    this.#log.error(error.message);
    this.#listeners.emit('error', error);
  }
}
