import { Logger } from '@nestjs/common';
import type { CustomTransportStrategy, MessageHandler, ReadPacket } from '@nestjs/microservices';
import { Server } from '@nestjs/microservices';
import { defer, lastValueFrom, mergeAll, throwError, toArray } from 'rxjs';
import type { Observable } from 'rxjs';

import { REDIS_STREAMS_TRANSPORT } from '../constants.js';
import { storeDeadLetter } from '../engine/settling/dead-letter.js';
import { STATS } from '../engine/health.js';
import type { StreamerStats } from '../engine/health.js';
import type { ResolvedDeadLetter } from '../engine/settling/dead-letter.js';
import { Delivery } from '../engine/settling/settlement.js';
import { DEFAULTS } from '../engine/options/options.js';
import { headerFields } from '../engine/messages/outgoing-message.js';
import { StreamMessage } from '../engine/messages/stream-message.js';
import { InvalidOptionError, NoHandlerError, UnsupportedOperationError } from '../errors.js';
import type { RedisStreamsStatus } from '../redis/connection/redis-connections.js';
import { resolveLogger } from '../shared/logger.js';
import { check } from '../shared/option-checks.js';
import { EventListeners } from '../nest/event-listeners.js';
import { EventProcessor } from '../nest/server/event-processor.js';
import { eventHandlersOf, groupHandlers } from '../nest/server/handler-binding.js';
import type { HandlerBinding, HandlerGroup } from '../nest/server/handler-binding.js';
import type { ServerHealth } from '../nest/server/redis-streams.server.js';
import { NO_HANDLER } from '../nest/requests/request-responder.js';
import { HANDLED_ALONE, LEFT_PENDING } from '../nest/server/failure-policy.js';
import { HandlerRegistry } from '../nest/server/handler-registry.js';
import { HandlerRunner } from '../nest/server/handler-runner.js';
import { PacketCodec, resolveDeserializer, resolveSerializer } from '../nest/packet-codec.js';
import type { Clock } from '../nest/deadlines.js';
import { ProcessingHooks } from '../nest/server/processing-hooks.js';
import { RuntimeControl } from '../nest/server/runtime-control.js';
import { ServerReporter } from '../nest/server/server-reporter.js';
import { RedisStreamsContext } from '../nest/redis-streams.context.js';
import type { StreamPattern } from '../nest/redis-streams.decorators.js';
import type { RedisStreamsEvents } from '../nest/redis-streams.events.js';
import { SERVER_DEFAULTS, resolveServerOptions } from '../nest/redis-streams.options.js';
import type { ResolvedServerOptions, ServerRedisStreamsOptions } from '../nest/redis-streams.options.js';
import { WildcardOwners } from '../nest/server/wildcard-owners.js';
import { streamOfPattern } from '../nest/stream-pattern.js';
import type { WildcardUse } from '../nest/stream-pattern.js';
import { outcomeOf } from './delivery-outcome.js';
import type { DeliveryOutcome, TimedOutcome } from './delivery-outcome.js';
import { TestReader, firstBy } from './test-reader.js';
import type { TestDelivery } from './test-reader.js';
import { checkTestMessage } from './test-message.js';
import type { SignalledDelivery, TestMessage } from './test-message.js';
import { receivedReplies } from './test-replies.js';
import { TestStreams, toFields } from './test-streams.js';
import { VirtualClock } from './virtual-clock.js';
import type { AdvanceTimers } from './virtual-clock.js';

/** The server options that handlers depend on. Default of `group`: `test`. */
export interface TestServerOptions extends Pick<
  ServerRedisStreamsOptions,
  | 'group'
  | 'ack'
  | 'mode'
  | 'streams'
  | 'wildcards'
  | 'retry'
  | 'deadLetter'
  | 'onDeadLetter'
  | 'maxPayload'
  | 'serializer'
  | 'deserializer'
  | 'logger'
> {
  /**
   * How {@link TestServerRedisStreams.advanceTime} has the fake timers of the test pass, so that both have the same time: `(ms) =>
   * jest.advanceTimersByTimeAsync(ms)`, `(ms) => vi.advanceTimersByTimeAsync(ms)`, `(ms) => mock.timers.tick(ms)`.
   * @defaultValue the test has no fake timers
   */
  advanceTimers?: AdvanceTimers;
}

const CONSUMER = 'test';
/** A handler that is retried without a delay, or sends to itself, would never end. */
const MOST_DELIVERIES = 10_000;
/** 100 years. */
const MOST_TIME = 100 * 365 * 24 * 3_600_000;

/**
 * Replaces `ServerRedisStreams` in the tests of an application: it runs handlers directly, through pipes, guards,
 * interceptors and filters, without a network and without waiting, and returns how each message was settled.
 *
 * {@link deliver} gives one message to its handlers at once. What a `TestClientRedisStreams` sends waits in memory, as it would
 * in Redis, until {@link advanceTime} handles it: delayed messages when they are due, failed ones after the delay of their
 * retry, as many as the rate of a handler allows. The time is virtual: only `advanceTime` moves it.
 * @example
 * ```ts
 * const server = new TestServerRedisStreams();
 * const module = await Test.createTestingModule({ controllers: [OrdersController] }).compile();
 * const app = module.createNestMicroservice({ strategy: server });
 * await app.init();
 * const { settlement } = await server.deliver('orders', { item: 'tea' });
 * ```
 */
export class TestServerRedisStreams
  extends Server<RedisStreamsEvents, RedisStreamsStatus>
  implements CustomTransportStrategy
{
  override readonly transportId = REDIS_STREAMS_TRANSPORT;
  override readonly propagatesEventHandlerErrors = true;
  readonly #options: Omit<TestServerOptions, 'advanceTimers'>;
  readonly #resolved: ResolvedServerOptions;
  readonly #listeners: EventListeners;
  readonly #codec: PacketCodec;
  /** Without `maxPayload`, which limits what a server reads. */
  readonly #replyCodec = new PacketCodec(
    () => this.serializer,
    () => this.deserializer,
  );
  readonly #hooks: ProcessingHooks;
  readonly #reporter: ServerReporter;
  readonly #runner: HandlerRunner;
  readonly #events: EventProcessor;
  readonly #handlers = new HandlerRegistry((pattern) => this.#routeOf(pattern));
  readonly #control = new RuntimeControl();
  readonly #clock: VirtualClock;
  readonly #streams: TestStreams;
  /** Undefined until all handlers are known. */
  #readers: readonly TestReader[] | undefined;
  #isListening = false;
  /** Calls of {@link advanceTime}, one after the other. */
  #advancing: Promise<unknown> = Promise.resolve();

  /** @throws InvalidOptionError */
  constructor(options: TestServerOptions = {}) {
    super();
    const { advanceTimers, ...given } = options;
    if (advanceTimers !== undefined) check.function('advanceTimers', advanceTimers);
    this.#options = given.mode === 'real-time' ? given : { group: 'test', ...given };
    this.#resolved = resolveServerOptions(this.#options);
    const logger = resolveLogger(options.logger, () => new Logger('TestServerRedisStreams'));
    this.#listeners = new EventListeners(logger);
    this.serializer = resolveSerializer(options);
    this.deserializer = resolveDeserializer(options);
    this.#codec = new PacketCodec(
      () => this.serializer,
      () => this.deserializer,
      this.#resolved.maxPayload,
    );
    this.#clock = new VirtualClock(advanceTimers);
    this.#streams = new TestStreams({ clock: this.#clock, codec: this.#codec, names: this.#resolved.streams });
    this.#reporter = new ServerReporter(logger, this.#listeners, options.onDeadLetter);
    this.#hooks = new ProcessingHooks(this, this.#reporter);
    this.#runner = new HandlerRunner(this.#reporter);
    const clock: Clock = { isCurrent: () => true, now: () => this.#clock.now(), ask: () => Promise.resolve() };
    this.#events = new EventProcessor(this, this.#codec, this.#reporter, () => clock);
  }

  /** What a client sends to. @internal */
  static streamsOf(server: TestServerRedisStreams): TestStreams {
    return server.#streams;
  }

  /** The time of this server: that of the process, and what {@link advanceTime} has added. */
  get now(): Date {
    return new Date(this.#clock.now());
  }

  /** Called by Nest for each handler. @throws InvalidOptionError for a pattern that cannot be a stream */
  override addHandler(
    pattern: unknown,
    callback: MessageHandler,
    isEventHandler = false,
    extras: Record<string, unknown> = {},
  ): void {
    this.#handlers.add(pattern, callback, isEventHandler, extras);
    this.#readers = undefined;
    this.messageHandlers.set(this.normalizePattern(pattern as string), callback);
  }

  /** Checks the settings of all handlers, as the real server does. */
  async listen(callback: (error?: unknown) => void): Promise<void> {
    try {
      await this.#groupHandlers();
      this.#isListening = true;
    } catch (error) {
      callback(error);
      return;
    }
    callback();
  }

  /** Does nothing: this server has no connection. */
  close(): void {
    // There is nothing to close.
  }

  override on<E extends keyof RedisStreamsEvents>(event: E, callback: RedisStreamsEvents[E]): void {
    this.#listeners.add(event, callback);
  }

  /** Always healthy, so that a health endpoint of the application is up. */
  async health(): Promise<ServerHealth> {
    return { ...this[STATS](), isHealthy: true, isListening: true, loops: [] };
  }

  /** @internal */
  [STATS](): StreamerStats {
    return { status: 'connected', isClosed: false, reconnects: 0, queued: 0, loops: [] };
  }

  /** This server has no engine. @throws InvalidOptionError always */
  unwrap<T>(): T {
    throw new InvalidOptionError('unwrap()', 'cannot be used: this server has no connection', this.transportId);
  }

  /**
   * Delivers one event to the handlers of the pattern at once, whatever pauses and rates say; resolves when they have ended. It
   * is not delivered again by itself. Of a record, headers, key, timestamp and expiry count.
   * @throws NoHandlerError, InvalidOptionError for a record with a delay
   */
  async deliver(pattern: unknown, data: unknown, message: TestMessage = {}): Promise<DeliveryOutcome> {
    const [outcome] = await this.deliverBatch(pattern, [{ ...message, data }]);
    return outcome as DeliveryOutcome;
  }

  /**
   * Delivers several events; a handler with `batch` is given all of them at once, except those with a delivery count over 1, of
   * which each is a batch of its own. @throws NoHandlerError, InvalidOptionError for a record with a delay
   */
  async deliverBatch(
    pattern: unknown,
    messages: ReadonlyArray<TestMessage & { data: unknown }>,
  ): Promise<DeliveryOutcome[]> {
    const streamKey = this.#streams.streamOf(this.#routeOf(pattern, 'send'));
    const outcomes: DeliveryOutcome[] = [];
    for (const { binding } of await this.#readersOf(streamKey)) {
      const deliveries = await Promise.all(messages.map((message) => this.#createDelivery(streamKey, message)));
      outcomes.push(...(await this.#handle(binding, deliveries)));
    }
    return outcomes;
  }

  /**
   * Advances the time by so many milliseconds, and has everything handled that is due until then, in the order of the times: what
   * a `TestClientRedisStreams` has sent, also from within handlers, delayed messages, and retries. Messages of one moment are
   * handled one after the other. `advanceTime(0)` handles what is due now. Resolves with the outcomes when all handlers have ended.
   * @throws InvalidOptionError; UnsupportedOperationError after 10,000 messages, as from a handler that is retried without a delay
   * @example
   * ```ts
   * await firstValueFrom(client.emit('reminders', new RedisStreamsRecordBuilder(order).setDelay(3_600_000).build()));
   * const [outcome] = await server.advanceTime(3_600_000);
   * ```
   */
  advanceTime(ms: number): Promise<TimedOutcome[]> {
    const advanced = this.#advancing.then(() => this.#advance(ms));
    this.#advancing = advanced.catch(() => undefined);
    return advanced;
  }

  async #advance(ms: number): Promise<TimedOutcome[]> {
    check.integer('ms', ms, 0, MOST_TIME);
    const end = this.#clock.elapsed + ms;
    const outcomes: TimedOutcome[] = [];
    for (;;) {
      await this.#streams.stored();
      this.#streams.moveDue();
      const readers = await this.#allReaders();
      const next = firstBy(readers, (reader) => reader.nextOrder);
      if (next) outcomes.push(...(await this.#handleNext(next)));
      if (outcomes.length > MOST_DELIVERIES) {
        const reason = `has handled ${MOST_DELIVERIES} messages without coming to an end`;
        throw new UnsupportedOperationError('advanceTime()', reason);
      }
      if (next) continue;
      const readyAt = Math.min(this.#streams.nextDue, ...readers.map((reader) => reader.readyAt));
      await this.#clock.advance(Math.min(readyAt, end) - this.#clock.elapsed);
      if (readyAt > end) return outcomes;
    }
  }

  async #handleNext(reader: TestReader): Promise<TimedOutcome[]> {
    const { binding } = reader;
    const { pattern } = binding;
    const deliveries = reader.take();
    const outcomes = await this.#handle(binding, deliveries);
    return outcomes.map((outcome, index) => {
      const delivery = deliveries[index] as TestDelivery;
      const { entry, streamKey, deliveryCount } = delivery;
      if (outcome.settlement === 'retry') reader.retryLater(delivery, outcome.delay as number);
      return { ...outcome, pattern, stream: streamKey, id: entry.id, deliveryCount };
    });
  }

  /**
   * Has {@link advanceTime} handle no messages of the pattern, or of any; see `ServerRedisStreams.pause`.
   * @throws InvalidOptionError for a pattern without a handler
   */
  async pause(pattern?: StreamPattern): Promise<void> {
    await this.#setPaused(true, pattern);
  }

  /** Ends {@link pause}; the next {@link advanceTime} handles what waits. @throws InvalidOptionError */
  async resume(pattern?: StreamPattern): Promise<void> {
    await this.#setPaused(false, pattern);
  }

  async #setPaused(isPaused: boolean, pattern: StreamPattern | undefined): Promise<void> {
    const route = pattern === undefined ? undefined : this.#routeOf(pattern);
    if (route !== undefined && this.#isListening && !this.#handlers.mayHave(route)) {
      throw new InvalidOptionError('pattern', 'must have a handler', route);
    }
    this.#control.setPaused(isPaused, route);
  }

  /**
   * The handlers of the pattern are given the messages of a further stream from now on, from its beginning; see
   * `ServerRedisStreams.addStream`. @throws InvalidOptionError
   */
  async addStream(pattern: StreamPattern, streamKey: string): Promise<void> {
    const route = this.#routeOf(pattern);
    check.name('streamKey', streamKey);
    this.#control.add(route, streamKey);
    try {
      if (this.#isListening) await this.#groupHandlers();
    } catch (error) {
      this.#control.remove(route, streamKey);
      throw error;
    }
  }

  /** Ends {@link addStream}. @throws InvalidOptionError for a stream that was not added to the pattern */
  async removeStream(pattern: StreamPattern, streamKey: string): Promise<void> {
    check.name('streamKey', streamKey);
    this.#control.remove(this.#routeOf(pattern), streamKey);
  }

  /**
   * Delivers a request to its handler; resolves with every value of the reply. @throws NoHandlerError, InvalidOptionError,
   * PayloadDecodeError, or the error that a client receives: `{ status: 'error', message }` for a value that cannot be encoded
   */
  async request<T = unknown>(pattern: unknown, data: unknown, message: TestMessage = {}): Promise<T[]> {
    return lastValueFrom((this.#replies(pattern, data, message) as Observable<T>).pipe(toArray()));
  }

  /** The reply to a request of a client, value by value. @internal */
  static repliesOf(server: TestServerRedisStreams, pattern: unknown, data: unknown): Observable<unknown> {
    return server.#replies(pattern, data, {});
  }

  #replies(pattern: unknown, data: unknown, message: TestMessage): Observable<unknown> {
    return defer(async () => {
      const streamKey = this.#streams.streamOf(this.#routeOf(pattern, 'send'));
      const readers = await this.#readersOf(streamKey);
      const binding = readers.map((reader) => reader.binding).find(({ requestHandler }) => requestHandler);
      if (!binding?.requestHandler) return throwError(() => ({ status: 'error', message: NO_HANDLER }));
      const context = this.#createContext(binding, await this.#createDelivery(streamKey, { ...message, data }));
      RedisStreamsContext.beginAnswer(context);
      const decoded = await this.#codec.decode(context.getMessage(), binding.pattern);
      const result: unknown = await binding.requestHandler(decoded, context);
      return receivedReplies(result, context, this.#replyCodec);
    }).pipe(mergeAll());
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

  /** @throws InvalidOptionError for a pattern that cannot be a stream */
  #routeOf(pattern: unknown, use: WildcardUse = this.#resolved.wildcards ? 'on' : 'off'): string {
    return streamOfPattern(pattern, use, (text: unknown) => this.normalizePattern(text as string));
  }

  async #groupHandlers(): Promise<HandlerGroup[]> {
    const { mode = SERVER_DEFAULTS.mode } = this.#options;
    const groups = groupHandlers(await this.#handlers.resolve(), this.#resolved, mode);
    this.#control.check(groups, this.#resolved.shards);
    return groups;
  }

  async #allReaders(): Promise<readonly TestReader[]> {
    if (this.#readers) return this.#readers;
    const groups = await this.#groupHandlers();
    const bindings = groups.flatMap((group) => [...group.bindings.values()]);
    const { replyPrefix } = this.#resolved;
    const owners = new WildcardOwners({ groups, control: this.#control, replyPrefix });
    const parts = { owners, control: this.#control, streams: this.#streams };
    this.#readers = bindings.map((binding) => new TestReader(binding, parts));
    return this.#readers;
  }

  /** @throws NoHandlerError */
  async #readersOf(streamKey: string): Promise<TestReader[]> {
    const readers = (await this.#allReaders()).filter((reader) => reader.reads(streamKey));
    if (readers.length === 0) throw noHandler(streamKey);
    return readers;
  }

  /** Runs the handlers of a binding for messages of one call, to their end. */
  async #handle(binding: HandlerBinding, deliveries: readonly TestDelivery[]): Promise<DeliveryOutcome[]> {
    const contexts = deliveries.map((delivery) => this.#createContext(binding, delivery));
    if (!binding.batch) for (const context of contexts) await this.#events.process(context);
    else for (const batch of batchesOf(contexts)) await this.#handleBatch(batch, contexts, deliveries);
    for (const [index, context] of contexts.entries()) {
      await this.#storeDeadLetter(binding, context, deliveries[index]?.firstFailure);
    }
    return contexts.map(outcomeOf);
  }

  /** Those of a batch that failed for good are handled alone, as a server does it; they get new contexts. */
  async #handleBatch(
    batch: readonly RedisStreamsContext[],
    contexts: RedisStreamsContext[],
    deliveries: readonly SignalledDelivery[],
  ): Promise<void> {
    await this.#events.processBatch(batch);
    for (const context of batch) {
      if (RedisStreamsContext.deliveryOf(context).settlement !== HANDLED_ALONE) continue;
      const index = contexts.indexOf(context);
      const alone = this.#createContext(
        RedisStreamsContext.scopeOf(context).binding,
        deliveries[index] as SignalledDelivery,
      );
      contexts[index] = alone;
      // A server that closes gives it back.
      if (deliveries[index]?.signal?.aborted) RedisStreamsContext.deliveryOf(alone).settle(LEFT_PENDING);
      else await this.#events.processBatch([alone]);
    }
  }

  async #storeDeadLetter(
    { failurePolicy }: HandlerBinding,
    context: RedisStreamsContext,
    firstFailure = new Date(),
  ): Promise<void> {
    const { message, settlement } = RedisStreamsContext.deliveryOf(context);
    if (settlement?.kind !== 'dead-letter') return;
    const { reason, error } = settlement;
    const group = this.#options.group as string;
    const target = failurePolicy.deadLetter as ResolvedDeadLetter;
    const { streamKey: key } = message;
    const letter = { message, key, group, consumer: CONSUMER, reason, error, firstFailure, target };
    const { streamKey: deadLetterStream, id: deadLetterId } = await storeDeadLetter(letter, this.#streams);
    this.#reporter.deadLettered({ message, group, reason, error, deadLetterStream, deadLetterId, trimmed: 0 });
  }

  async #createDelivery(streamKey: string, message: TestMessage & { data: unknown }): Promise<SignalledDelivery> {
    checkTestMessage(message);
    const { data, headers = {}, id, deliveryCount = 1, signal } = message;
    const { payload, options } = await this.#codec.encode({ pattern: streamKey, data });
    const more = headerFields({ ...options.headers, ...headers });
    const fields = toFields([DEFAULTS.streamer.messageField, payload, ...more]);
    const entryId = id ?? this.#streams.nextId(streamKey, options.timestamp?.getTime());
    return { streamKey, entry: { id: entryId, fields, order: 0 }, deliveryCount, signal };
  }

  #createContext(
    binding: HandlerBinding,
    { streamKey, entry, deliveryCount, signal }: SignalledDelivery,
  ): RedisStreamsContext {
    const shard = { streamKey, shardId: 0, key: streamKey };
    const stored = { id: entry.id, fields: entry.fields, deliveryCount };
    const delivery = new Delivery(StreamMessage.create(shard, stored, DEFAULTS.streamer), () => undefined);
    if (signal?.aborted) delivery.abort('shutdown');
    signal?.addEventListener('abort', () => delivery.abort('shutdown'), { once: true });
    const hasGroup = binding.mode !== 'real-time';
    return new RedisStreamsContext(delivery, {
      pattern: binding.pattern,
      group: hasGroup ? this.#options.group : undefined,
      consumer: hasGroup ? CONSUMER : undefined,
      binding,
      canRetry: hasGroup,
      haltsShard: false,
      commit: () => Promise.resolve(),
      onIgnored: () => undefined,
    });
  }
}

function noHandler(streamKey: string): NoHandlerError {
  const reason = 'the application must be initialised, and one of its controllers must have it';
  return new NoHandlerError(streamKey, `The test server has no handler for '${streamKey}': ${reason}`);
}

/** As a server does it: what was delivered before is delivered alone. */
function batchesOf(contexts: readonly RedisStreamsContext[]): RedisStreamsContext[][] {
  const isFirst = (context: RedisStreamsContext): boolean => context.getDeliveryCount() === 1;
  const alone = contexts.filter((context) => !isFirst(context)).map((context) => [context]);
  return [contexts.filter(isFirst), ...alone];
}
