import { Logger } from '@nestjs/common';
import type { CustomTransportStrategy, MessageHandler } from '@nestjs/microservices';
import { Server } from '@nestjs/microservices';
import { isObservable, lastValueFrom, toArray } from 'rxjs';

import { HEADER_PREFIX, REDIS_STREAMS_TRANSPORT } from '../constants.js';
import { Delivery } from '../engine/settling/settlement.js';
import type { Settlement } from '../engine/settling/settlement.js';
import { DEFAULTS } from '../engine/options/options.js';
import { StreamMessage } from '../engine/messages/stream-message.js';
import { InvalidOptionError, NoHandlerError } from '../errors.js';
import { safeLogger } from '../shared/logger.js';
import { EventListeners } from '../nest/event-listeners.js';
import { EventProcessor } from '../nest/server/event-processor.js';
import { groupHandlers } from '../nest/server/handler-binding.js';
import type { HandlerBinding } from '../nest/server/handler-binding.js';
import { observeHandlerFailures, originalFailure } from '../nest/server/handler-failure.js';
import { HandlerRegistry } from '../nest/server/handler-registry.js';
import { PacketCodec } from '../nest/packet-codec.js';
import { runWithHooks } from '../nest/server/processing-hooks.js';
import { RedisStreamsContext } from '../nest/redis-streams.context.js';
import type { RedisStreamsEventsMap } from '../nest/redis-streams.events.js';
import { SERVER_DEFAULTS, resolveServerOptions } from '../nest/redis-streams.options.js';
import type { ServerRedisStreamsOptions } from '../nest/redis-streams.options.js';

/** The server options that matter to handlers; `group` is `test` unless given. */
export type TestServerOptions = Pick<
  ServerRedisStreamsOptions,
  'group' | 'ack' | 'mode' | 'retry' | 'deadLetter' | 'serializer' | 'deserializer' | 'logger'
>;

/** What a delivered message has beside its data. */
export interface TestMessage {
  headers?: Record<string, string>;
  /** Default `<now>-<counter>`. */
  id?: string;
  /** How often the message was delivered, this time included. Default 1. */
  deliveryCount?: number;
}

/** How the handling of a message ended. */
export interface DeliveryOutcome {
  /** `unsettled` is a handler with manual acknowledgement that has not settled its message. */
  readonly settlement: Settlement['kind'] | 'unsettled';
  /** Of a retry: milliseconds until then. */
  readonly delay?: number;
  /** Of a dead letter. */
  readonly reason?: string;
  /** What the handler threw, before Nest's exception filters. */
  readonly error?: unknown;
}

/**
 * Stands in for `ServerRedisStreams` in an application's own tests: handlers are driven directly, through pipes, guards,
 * interceptors and filters, without a network and without waiting, and the test sees how each message was settled.
 */
export class TestServerRedisStreams extends Server<RedisStreamsEventsMap> implements CustomTransportStrategy {
  override readonly transportId = REDIS_STREAMS_TRANSPORT;
  override readonly propagatesEventHandlerErrors = true;
  readonly #options: TestServerOptions;
  readonly #listeners: EventListeners;
  readonly #codec: PacketCodec;
  readonly #events: EventProcessor;
  readonly #handlers = new HandlerRegistry((pattern) => this.normalizePattern(pattern as string));
  #counter = 0;

  constructor(options: TestServerOptions = {}) {
    super();
    this.#options = { group: 'test', ...options };
    const logger = safeLogger(options.logger ?? new Logger(TestServerRedisStreams.name));
    this.#listeners = new EventListeners(logger);
    this.#codec = new PacketCodec(options.serializer, options.deserializer);
    this.#events = new EventProcessor({
      logger,
      codec: this.#codec,
      emit: this.#listeners.emit,
      withHooks: (context, work) =>
        runWithHooks(
          this.transportId,
          { start: this.onProcessingStartHook, end: this.onProcessingEndHook },
          context,
          work,
        ),
    });
    observeHandlerFailures();
  }

  override addHandler(
    pattern: unknown,
    callback: MessageHandler,
    isEventHandler = false,
    extras: Record<string, unknown> = {},
  ): void {
    this.#handlers.add(pattern, callback, isEventHandler, extras);
    this.messageHandlers.set(this.normalizePattern(pattern as string), callback);
  }

  listen(callback: () => void): void {
    callback();
  }

  close(): void {
    // There is nothing to close.
  }

  override on<E extends keyof RedisStreamsEventsMap>(event: E, callback: RedisStreamsEventsMap[E]): void {
    this.#listeners.add(event, callback);
  }

  unwrap<T>(): T {
    throw new InvalidOptionError('unwrap()', 'is of no use here: nothing stands behind this server', this.transportId);
  }

  /** Hands one event to the handlers of the pattern; resolves when they have come to their end. @throws NoHandlerError */
  async deliver(pattern: unknown, data: unknown, message: TestMessage = {}): Promise<DeliveryOutcome> {
    const [outcome] = await this.deliverBatch(pattern, [{ ...message, data }]);
    return outcome as DeliveryOutcome;
  }

  /** Hands several events to a handler at once, as to a handler with `batch`. */
  async deliverBatch(
    pattern: unknown,
    messages: ReadonlyArray<TestMessage & { data: unknown }>,
  ): Promise<DeliveryOutcome[]> {
    const outcomes: DeliveryOutcome[] = [];
    for (const binding of await this.#bindingsOf(pattern)) {
      const events = await Promise.all(messages.map((message) => this.#prepare(binding, message)));
      const canRetry = binding.mode !== 'real-time';
      if (binding.batch) await this.#events.processBatch(events, binding, canRetry);
      else for (const event of events) await this.#events.process(event, binding, canRetry);
      outcomes.push(...events.map(({ delivery, context }) => outcomeOf(delivery, context)));
    }
    return outcomes;
  }

  /** Hands a request to its handler; resolves with every value of the answer. Rejects with what a client would be sent. */
  async request<T = unknown>(pattern: unknown, data: unknown, message: TestMessage = {}): Promise<T[]> {
    const bindings = await this.#bindingsOf(pattern);
    const binding = bindings.find(({ requestHandler }) => requestHandler);
    if (!binding?.requestHandler) throw new NoHandlerError(String(pattern));
    const { delivery, context } = await this.#prepare(binding, { ...message, data });
    const decoded = await this.#codec.decode(delivery.message, binding.pattern);
    const result: unknown = await binding.requestHandler(decoded, context);
    if (isObservable(result)) return (await lastValueFrom(result.pipe(toArray<unknown>()))) as T[];
    return result === undefined ? [] : [result as T];
  }

  async #bindingsOf(pattern: unknown): Promise<HandlerBinding[]> {
    const route = this.normalizePattern(pattern as string);
    const handlers = (await this.#handlers.resolve()).get(route);
    if (!handlers) throw new NoHandlerError(route);
    const { mode = SERVER_DEFAULTS.mode } = this.#options;
    const groups = groupHandlers(new Map([[route, handlers]]), resolveServerOptions(this.#options), mode);
    return groups.flatMap(({ bindings }) => [...bindings.values()]);
  }

  async #prepare(
    binding: HandlerBinding,
    { data, headers = {}, id, deliveryCount = 1 }: TestMessage & { data: unknown },
  ): Promise<{ delivery: Delivery; context: RedisStreamsContext }> {
    const { payload } = await this.#codec.encode({ pattern: binding.pattern, data });
    const fields = [DEFAULTS.streamer.messageField, payload];
    for (const [name, value] of Object.entries(headers)) fields.push(HEADER_PREFIX + name, value);
    const entry = {
      id: id ?? `${Date.now()}-${this.#counter++}`,
      fields: fields.map((field) => Buffer.from(field as string)),
      deliveryCount,
    };
    const shard = { streamKey: binding.pattern, shardId: 0 };
    const delivery = new Delivery(new StreamMessage(shard, entry, DEFAULTS.streamer.messageField), () => undefined);
    const context = new RedisStreamsContext(delivery, {
      pattern: binding.pattern,
      group: binding.mode === 'real-time' ? undefined : this.#options.group,
      consumer: binding.mode === 'real-time' ? undefined : 'test',
      failurePolicy: binding.failurePolicy,
      commit: () => Promise.resolve(),
      canRetry: binding.mode !== 'real-time',
      onIgnored: () => undefined,
    });
    return { delivery, context };
  }
}

function outcomeOf({ settlement }: Delivery, context: RedisStreamsContext): DeliveryOutcome {
  const error = originalFailure(context, undefined);
  const failure = error === undefined ? {} : { error };
  if (!settlement) return { settlement: 'unsettled', ...failure };
  const { kind, ...details } = settlement;
  return { settlement: kind, ...failure, ...details };
}
