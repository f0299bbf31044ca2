import { Logger } from '@nestjs/common';
import type { CustomTransportStrategy, MessageHandler, ReadPacket } from '@nestjs/microservices';
import { Server } from '@nestjs/microservices';
import { isObservable, lastValueFrom, toArray } from 'rxjs';

import { HEADER_PREFIX, REDIS_STREAMS_TRANSPORT } from '../constants.js';
import { Delivery } from '../engine/settling/settlement.js';
import { DEFAULTS } from '../engine/options/options.js';
import { StreamMessage } from '../engine/messages/stream-message.js';
import { InvalidOptionError, NoHandlerError } from '../errors.js';
import type { RedisStreamsStatus } from '../redis/connection/redis-connections.js';
import { safeLogger } from '../shared/logger.js';
import { check, optionNames } from '../shared/option-checks.js';
import { EventListeners } from '../nest/event-listeners.js';
import { EventProcessor } from '../nest/server/event-processor.js';
import { eventHandlersOf, groupHandlers } from '../nest/server/handler-binding.js';
import type { HandlerBinding } from '../nest/server/handler-binding.js';
import { HandlerRegistry } from '../nest/server/handler-registry.js';
import { HandlerRunner, failureOf } from '../nest/server/handler-runner.js';
import { PacketCodec, resolveDeserializer, resolveSerializer } from '../nest/packet-codec.js';
import type { Clock } from '../nest/deadlines.js';
import { ProcessingHooks } from '../nest/server/processing-hooks.js';
import { ServerReporter } from '../nest/server/server-reporter.js';
import { RedisStreamsContext } from '../nest/redis-streams.context.js';
import type { RedisStreamsEvents } from '../nest/redis-streams.events.js';
import { SERVER_DEFAULTS, resolveServerOptions } from '../nest/redis-streams.options.js';
import type { ResolvedServerOptions, ServerRedisStreamsOptions } from '../nest/redis-streams.options.js';

/** The server options that handlers depend on. Default of `group`: `test`. */
export type TestServerOptions = Pick<
  ServerRedisStreamsOptions,
  | 'group'
  | 'ack'
  | 'mode'
  | 'streams'
  | 'retry'
  | 'deadLetter'
  | 'maxPayload'
  | 'serializer'
  | 'deserializer'
  | 'logger'
>;

/** A delivered message, without its data. */
export interface TestMessage {
  headers?: Record<string, string>;
  /** Default `<now>-<counter>`. */
  id?: string;
  /** Number of deliveries, this one included. Default 1. */
  deliveryCount?: number;
  /** Aborts the signal of the handler, as if the server closed. */
  signal?: AbortSignal;
}

const TEST_MESSAGE = optionNames<TestMessage & { data: unknown }>({
  headers: true,
  id: true,
  deliveryCount: true,
  signal: true,
  data: true,
});

/** There is no server whose time would count. */
const LOCAL_CLOCK: Clock = { isCurrent: () => true, now: () => Date.now(), ask: () => Promise.resolve() };

/** How the handling of a message ended. */
export interface DeliveryOutcome {
  /** `unsettled`: a handler with manual acknowledgement has not settled its message. */
  readonly settlement: 'ack' | 'retry' | 'dead-letter' | 'pending' | 'unsettled';
  /** Of a retry: milliseconds until the next delivery. */
  readonly delay?: number;
  /** Of a dead letter. */
  readonly reason?: string;
  /** The error that the handler threw, before Nest's exception filters. */
  readonly error?: unknown;
}

/**
 * Replaces `ServerRedisStreams` in the tests of an application: it runs handlers directly, through pipes, guards,
 * interceptors and filters, without a network and without waiting, and returns how each message was settled.
 */
export class TestServerRedisStreams
  extends Server<RedisStreamsEvents, RedisStreamsStatus>
  implements CustomTransportStrategy
{
  override readonly transportId = REDIS_STREAMS_TRANSPORT;
  override readonly propagatesEventHandlerErrors = true;
  readonly #options: TestServerOptions;
  readonly #resolved: ResolvedServerOptions;
  readonly #listeners: EventListeners;
  readonly #codec: PacketCodec;
  readonly #hooks: ProcessingHooks;
  readonly #runner: HandlerRunner;
  readonly #events: EventProcessor;
  readonly #handlers = new HandlerRegistry((pattern) => this.normalizePattern(pattern as string));
  #counter = 0;

  constructor(options: TestServerOptions = {}) {
    super();
    this.#options = options.mode === 'real-time' ? options : { group: 'test', ...options };
    this.#resolved = resolveServerOptions(this.#options);
    const logger = safeLogger(options.logger ?? new Logger('TestServerRedisStreams'));
    this.#listeners = new EventListeners(logger);
    this.serializer = resolveSerializer(options);
    this.deserializer = resolveDeserializer(options);
    this.#codec = new PacketCodec(
      () => this.serializer,
      () => this.deserializer,
      this.#resolved.maxPayload,
    );
    const reporter = new ServerReporter(logger, this.#listeners);
    this.#hooks = new ProcessingHooks(this, reporter);
    this.#runner = new HandlerRunner(reporter);
    this.#events = new EventProcessor(this, this.#codec, reporter, () => LOCAL_CLOCK);
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

  override on<E extends keyof RedisStreamsEvents>(event: E, callback: RedisStreamsEvents[E]): void {
    this.#listeners.add(event, callback);
  }

  unwrap<T>(): T {
    throw new InvalidOptionError('unwrap()', 'cannot be used: this server has no connection', this.transportId);
  }

  /** Delivers one event to the handlers of the pattern; resolves when they have ended. @throws NoHandlerError */
  async deliver(pattern: unknown, data: unknown, message: TestMessage = {}): Promise<DeliveryOutcome> {
    const [outcome] = await this.deliverBatch(pattern, [{ ...message, data }]);
    return outcome as DeliveryOutcome;
  }

  /**
   * Delivers several events; a handler with `batch` is given all of them at once, except those with a delivery count over 1, of
   * which each is a batch of its own. @throws NoHandlerError
   */
  async deliverBatch(
    pattern: unknown,
    messages: ReadonlyArray<TestMessage & { data: unknown }>,
  ): Promise<DeliveryOutcome[]> {
    const outcomes: DeliveryOutcome[] = [];
    for (const binding of await this.#bindingsOf(pattern)) {
      const contexts = await Promise.all(messages.map((message) => this.#createContext(binding, message)));
      if (!binding.batch) for (const context of contexts) await this.#events.process(context);
      else for (const batch of batchesOf(contexts)) await this.#events.processBatch(batch);
      outcomes.push(...contexts.map(outcomeOf));
    }
    return outcomes;
  }

  /**
   * Delivers a request to its handler; resolves with every value of the answer. Rejects with the error that a client
   * would receive.
   */
  async request<T = unknown>(pattern: unknown, data: unknown, message: TestMessage = {}): Promise<T[]> {
    const bindings = await this.#bindingsOf(pattern);
    const binding = bindings.find(({ requestHandler }) => requestHandler);
    if (!binding?.requestHandler) throw new NoHandlerError(String(pattern));
    const context = await this.#createContext(binding, { ...message, data });
    const decoded = await this.#codec.decode(context.getMessage(), binding.pattern);
    const result: unknown = await binding.requestHandler(decoded, context);
    if (isObservable(result)) return (await lastValueFrom(result.pipe(toArray<unknown>()))) as T[];
    return result === undefined ? [] : [result as T];
  }

  /** Runs the event handlers of the context's pattern; see `ServerRedisStreams.handleEvent`. */
  override handleEvent(_pattern: string, packet: ReadPacket, context: RedisStreamsContext): Promise<void> {
    const handlers = eventHandlersOf(RedisStreamsContext.scopeOf(context).binding);
    return this.#hooks.around(context, () => this.#runner.run(handlers, packet.data, context));
  }

  /** @internal */
  handleEvents(payloads: readonly unknown[], contexts: readonly RedisStreamsContext[]): Promise<void> {
    const [first] = contexts as readonly [RedisStreamsContext];
    const handlers = eventHandlersOf(RedisStreamsContext.scopeOf(first).binding);
    return this.#hooks.around(first, () => this.#runner.run(handlers, payloads, contexts));
  }

  async #bindingsOf(pattern: unknown): Promise<HandlerBinding[]> {
    const route = this.normalizePattern(pattern as string);
    const handlers = (await this.#handlers.resolve()).get(route);
    if (!handlers) throw new NoHandlerError(route);
    const { mode = SERVER_DEFAULTS.mode } = this.#options;
    const groups = groupHandlers(new Map([[route, handlers]]), this.#resolved, mode);
    return groups.flatMap(({ bindings }) => [...bindings.values()]);
  }

  async #createContext(
    binding: HandlerBinding,
    message: TestMessage & { data: unknown },
  ): Promise<RedisStreamsContext> {
    check.options('', message, TEST_MESSAGE);
    const { data, headers = {}, id, deliveryCount = 1, signal } = message;
    const { payload } = await this.#codec.encode({ pattern: binding.pattern, data });
    const fields = [DEFAULTS.streamer.messageField, payload];
    for (const [name, value] of Object.entries(headers)) fields.push(HEADER_PREFIX + name, value);
    const entry = {
      id: id ?? `${Date.now()}-${this.#counter++}`,
      fields: fields.map((field) => Buffer.from(field as string)),
      deliveryCount,
    };
    const { streamKey } = binding;
    const shard = { streamKey, shardId: 0, key: streamKey };
    const delivery = new Delivery(StreamMessage.create(shard, entry, DEFAULTS.streamer.messageField), () => undefined);
    if (signal?.aborted) delivery.abort('shutdown');
    signal?.addEventListener('abort', () => delivery.abort('shutdown'), { once: true });
    const hasGroup = binding.mode !== 'real-time';
    return new RedisStreamsContext(delivery, {
      pattern: binding.pattern,
      group: hasGroup ? this.#options.group : undefined,
      consumer: hasGroup ? 'test' : undefined,
      binding,
      canRetry: hasGroup,
      commit: () => Promise.resolve(),
      onIgnored: () => undefined,
    });
  }
}

/** As a server does it: what was delivered before is delivered alone. */
function batchesOf(contexts: readonly RedisStreamsContext[]): RedisStreamsContext[][] {
  const isFirst = (context: RedisStreamsContext): boolean => context.getDeliveryCount() === 1;
  const alone = contexts.filter((context) => !isFirst(context)).map((context) => [context]);
  return [contexts.filter(isFirst), ...alone];
}

function outcomeOf(context: RedisStreamsContext): DeliveryOutcome {
  const { settlement } = RedisStreamsContext.deliveryOf(context);
  const error = failureOf(context);
  const failure = error === undefined ? {} : { error };
  if (!settlement) return { settlement: 'unsettled', ...failure };
  const { kind, ...details } = settlement;
  return { settlement: kind, ...failure, ...details };
}
