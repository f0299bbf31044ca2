import { Logger } from '@nestjs/common';
import type { CustomTransportStrategy, MessageHandler, ReadPacket } from '@nestjs/microservices';
import { Server } from '@nestjs/microservices';

import { REDIS_STREAMS_TRANSPORT } from '../../constants.js';
import type { HealthOptions, StreamerHealth } from '../../engine/health.js';
import { REDRIVE_GROUP_HEADER } from '../../engine/admin/redrive.js';
import { StreamMessage } from '../../engine/messages/stream-message.js';
import { RedisStreamer } from '../../engine/streamer.js';
import { ClosedError, ConsumerEndedError, InvalidOptionError } from '../../errors.js';
import { check } from '../../shared/option-checks.js';
import { resolveLogger } from '../../shared/logger.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { RedisStreamsStatus } from '../../redis/connection/redis-connections.js';
import type { StreamPattern } from '../redis-streams.decorators.js';
import { EventListeners } from '../event-listeners.js';
import { PacketCodec, resolveDeserializer, resolveSerializer } from '../packet-codec.js';
import { RedisStreamsContext } from '../redis-streams.context.js';
import type { ContextScope, MessageDelivery } from '../redis-streams.context.js';
import type { RedisStreamsEvents } from '../redis-streams.events.js';
import { SERVER_DEFAULTS, resolveServerOptions } from '../redis-streams.options.js';
import type { ResolvedServerOptions, ServerRedisStreamsOptions } from '../redis-streams.options.js';
import { requestInfoOf } from '../requests/request-headers.js';
import type { RequestInfo } from '../requests/request-headers.js';
import { RequestResponder } from '../requests/request-responder.js';
import { streamOfPattern } from '../stream-pattern.js';
import { EventProcessor } from './event-processor.js';
import { ACKNOWLEDGED } from './failure-policy.js';
import { FollowedHandling } from './followed-handling.js';
import { eventHandlersOf, groupHandlers } from './handler-binding.js';
import type { HandlerBinding, HandlerGroup } from './handler-binding.js';
import { HandlerConsumer } from './handler-consumer.js';
import { HandlerRegistry } from './handler-registry.js';
import { HandlerRunner } from './handler-runner.js';
import { ProcessingHooks } from './processing-hooks.js';
import { RuntimeControl } from './runtime-control.js';
import { ServerReporter } from './server-reporter.js';
import { startLine } from './start-line.js';
import { WildcardOwners } from './wildcard-owners.js';

/** How long consumers may take to leave after their handlers, in milliseconds: Redis may not answer. */
const LEAVING_LIMIT = 1_000;

/** The state of a server. */
export interface ServerHealth extends StreamerHealth {
  /** True when `listen()` has completed, which takes until the position of every stream is fixed, and before `close()`. */
  readonly isListening: boolean;
}

/**
 * The transport strategy: reads the streams that handlers are bound to, one stream for each pattern, and passes their
 * messages to the handlers. Given to `NestFactory.createMicroservice` or `connectMicroservice` as `strategy`.
 *
 * `listen` → `start` → {@link bindEvents} opens the consumers. From then on each message goes {@link createContext} →
 * {@link handleMessage} → {@link handleEvent} → its handlers, or from `handleMessage` to the `RequestResponder` when it
 * is a request; the outcome settles it. A subclass may override each of these and the serializers.
 * @example
 * const strategy = new ServerRedisStreams({ connection: 'redis://localhost:6379', group: 'billing' });
 * const app = await NestFactory.createMicroservice<MicroserviceOptions>(AppModule, { strategy });
 */
export class ServerRedisStreams
  extends Server<RedisStreamsEvents, RedisStreamsStatus>
  implements CustomTransportStrategy
{
  override readonly transportId = REDIS_STREAMS_TRANSPORT;
  /** Nest must not log what this transport reports itself. */
  override readonly propagatesEventHandlerErrors = true;
  readonly #options: ServerRedisStreamsOptions;
  readonly #resolved: ResolvedServerOptions;
  readonly #listeners: EventListeners;
  readonly #reporter: ServerReporter;
  readonly #logger: Required<RedisStreamsLogger>;
  readonly #codec: PacketCodec;
  #streamer: RedisStreamer;
  readonly #hooks: ProcessingHooks;
  readonly #runner: HandlerRunner;
  readonly #events: EventProcessor;
  readonly #followed = new FollowedHandling();
  #requests: RequestResponder;
  readonly #handlers = new HandlerRegistry((pattern) => this.#routeOf(pattern));
  readonly #control = new RuntimeControl();
  #consumers: HandlerConsumer[] = [];
  /** Additions and removals of streams, one after the other. */
  #changes: Promise<unknown> = Promise.resolve();
  #isConnected = false;
  /** Every consumer is open. */
  #isStarted = false;
  /** When a start has failed, on the monotonic clock. */
  #startDeadline = Infinity;
  #listening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** Makes no connection. @throws InvalidOptionError */
  constructor(options: ServerRedisStreamsOptions) {
    super();
    this.#options = options;
    this.#resolved = resolveServerOptions(options);
    this.#logger = resolveLogger(options.logger, () => new Logger('ServerRedisStreams'));
    this.#listeners = new EventListeners(this.#logger);
    this.#reporter = new ServerReporter(this.#logger, this.#listeners, options.onDeadLetter, (error) =>
      this.#streamer.telemetry?.failed(error),
    );
    this.initializeSerializer(options);
    this.initializeDeserializer(options);
    this.#codec = new PacketCodec(
      () => this.serializer,
      () => this.deserializer,
      this.#resolved.maxPayload,
    );
    this.#hooks = new ProcessingHooks(this, this.#reporter);
    this.#runner = new HandlerRunner(this.#reporter);
    this.#events = new EventProcessor(this, this.#codec, this.#reporter, () => this.#streamer.clock);
    this.#streamer = this.#openStreamer();
    this.#requests = this.#createResponder(this.#streamer);
  }

  /**
   * Keeps its own list: Nest's chain of handlers would stop waiting for one as soon as another completes without a value.
   * @throws InvalidOptionError for a pattern that cannot be a stream
   */
  override addHandler(
    pattern: unknown,
    callback: MessageHandler,
    isEventHandler = false,
    extras: Record<string, unknown> = {},
  ): void {
    this.#handlers.add(pattern, callback, isEventHandler, extras);
    this.messageHandlers.set(this.normalizePattern(pattern as string), callback);
  }

  /**
   * Completes the application's start once every stream's position is fixed on the server. After `close()` it starts again
   * with the same handlers. Never rejects: a failed start closes the server, and the callback is given the error of {@link start}.
   */
  async listen(callback: (error?: unknown) => void): Promise<void> {
    try {
      if (this.#closing) await this.#reopen(this.#closing);
      await (this.#listening ??= this.start());
    } catch (error) {
      await this.close();
      // By a call of `close()` during the start.
      callback(error instanceof ConsumerEndedError ? new ClosedError('The server') : error);
      return;
    }
    callback();
  }

  /** Whether `listen()` was ever called. @internal */
  get isStartRequested(): boolean {
    return this.#listening !== undefined;
  }

  /**
   * Fails when it has not fixed the positions of all streams within `timeout`.
   * @throws InvalidOptionError for the settings of a handler, ConnectTimeoutError, PermissionError, ClosedError, or what Redis answered when
   * it refused a stream
   */
  async start(): Promise<void> {
    this.#requireOpen();
    this.#startDeadline = this.#streamer.startDeadline();
    // Refuses wrong settings of handlers before any I/O.
    await this.#groupHandlers();
    await this.#streamer.connect();
    this.#isConnected = true;
    await this.bindEvents();
    this.#requireOpen();
    this.#isStarted = true;
    await this.#logStart();
  }

  async #logStart(): Promise<void> {
    const groups = await this.#groupHandlers();
    if (groups.length === 0) {
      this.#logger.warn(
        'No handler is bound to this server, so it reads nothing: a handler needs @StreamEventPattern or ' +
          '@StreamMessagePattern, in a controller of the module that the application was created with',
      );
      return;
    }
    for (const route of this.#handlers.replacedRoutes) {
      this.#logger.warn(`'${route}' has several request handlers; only the one that was registered last answers`);
    }
    const { group, consumer } = this.#options;
    const server = this.#streamer.connections.describe();
    const control = this.#control;
    const found = ({ pattern, mode }: HandlerBinding): number => {
      const consumers = this.#consumers.filter((each) => each.mode === mode);
      return consumers.flatMap((each) => each.streamsOf(pattern)).length - control.addedTo(pattern).length;
    };
    this.#logger.log(startLine({ groups, control, found, group, consumer, server }));
  }

  /**
   * Opens one consumer for the handlers that share their settings, and one for each handler that has its own.
   * @throws InvalidOptionError, ClosedError, as {@link start}
   */
  async bindEvents(): Promise<void> {
    const groups = await this.#groupHandlers();
    const { replyPrefix } = this.#resolved;
    const owners = new WildcardOwners({ groups, control: this.#control, replyPrefix });
    for (const group of groups) {
      this.#requireOpen();
      const consumer = new HandlerConsumer({
        group,
        control: this.#control,
        owners,
        lookInterval: this.#resolved.wildcards?.interval,
        server: this,
        streamer: this.#streamer,
        options: this.#options,
        requests: this.#requests,
        reporter: this.#reporter,
      });
      this.#consumers.push(consumer);
      await consumer.open(this.#startDeadline);
    }
  }

  /** @throws InvalidOptionError for a pattern that cannot be a stream */
  #routeOf(pattern: unknown): string {
    const use = this.#resolved.wildcards ? 'on' : 'off';
    return streamOfPattern(pattern, use, (text: unknown) => this.normalizePattern(text as string));
  }

  async #groupHandlers(): Promise<HandlerGroup[]> {
    const { mode = SERVER_DEFAULTS.mode } = this.#options;
    const groups = groupHandlers(await this.#handlers.resolve(), this.#resolved, mode);
    this.#control.check(groups, this.#resolved.shards);
    return groups;
  }

  /**
   * Stops handing out new messages: of one pattern, or of all. Handlers that run end, and are acknowledged; retries that
   * become due wait. What was read and not handed out goes back to the group in load-balanced mode, where other instances
   * claim it; otherwise it stays here. Resolves when no read is in flight; it does not wait for handlers, so a handler may
   * call it.
   *
   * Before `listen()` the server starts paused. A pause outlives `close()`. Other instances continue;
   * `StreamManager.pauseGroup()` pauses them all. Idempotent.
   * @throws InvalidOptionError for a pattern without a handler; before the first `listen()`, that call fails with it
   * @example
   * ```ts
   * await server.pause('invoices');
   * ```
   */
  async pause(pattern?: StreamPattern): Promise<void> {
    await this.#setPaused(true, pattern);
  }

  /**
   * Continues where {@link pause} stopped: one pattern, or all, also those that were paused one by one. Idempotent.
   * @throws InvalidOptionError as {@link pause}
   */
  async resume(pattern?: StreamPattern): Promise<void> {
    await this.#setPaused(false, pattern);
  }

  /**
   * The handlers of the pattern read a further stream from now on, from where `autoStreamReset` says. In their context
   * `getPattern()` is the pattern and `getStream()` the stream; dead letters go to `<streamKey>.dead`. Resolves when the
   * start position is fixed on the server. Before `listen()` it is read from the start. It outlives `close()`.
   * @throws InvalidOptionError for a pattern without a handler, a stream that the group reads already, or one that has dead
   * letters of these handlers; before the first `listen()`, that call fails with it. RedisStreamsError when the stream
   * cannot be opened: then it is not added
   * @example
   * ```ts
   * await server.addStream('orders', `orders.${tenant}`);
   * ```
   */
  async addStream(pattern: StreamPattern, streamKey: string): Promise<void> {
    const route = this.#routeOf(pattern);
    check.name('streamKey', streamKey);
    await this.#change(async (consumers) => {
      this.#control.add(route, streamKey);
      const asked: HandlerConsumer[] = [];
      try {
        if (this.#listening) await this.#groupHandlers();
        asked.push(...consumers);
        await Promise.all(asked.map((consumer) => consumer.yieldStream(streamKey)));
        await Promise.all(asked.map((consumer) => consumer.addStream(route, streamKey)));
      } catch (error) {
        this.#control.remove(route, streamKey);
        await Promise.all(asked.map((consumer) => consumer.removeStream(route, streamKey)));
        throw error;
      }
    });
  }

  /**
   * Ends {@link addStream}: gives back what no handler has, and lets running handlers end. Nothing on Redis is deleted.
   * @throws InvalidOptionError for a stream that was not added to the pattern
   */
  async removeStream(pattern: StreamPattern, streamKey: string): Promise<void> {
    const route = this.#routeOf(pattern);
    check.name('streamKey', streamKey);
    await this.#change(async (consumers) => {
      this.#control.remove(route, streamKey);
      await Promise.all(consumers.map((consumer) => consumer.removeStream(route, streamKey)));
    });
  }

  async #setPaused(isPaused: boolean, pattern: StreamPattern | undefined): Promise<void> {
    const route = pattern === undefined ? undefined : this.#routeOf(pattern);
    // Before the first start, any pattern may have a handler.
    if (route !== undefined && this.#listening && !this.#handlers.mayHave(route)) {
      throw new InvalidOptionError('pattern', 'must have a handler', route);
    }
    this.#control.setPaused(isPaused, route);
    await Promise.all(this.#consumers.map((consumer) => consumer.applyPauses()));
  }

  /** Waits for a start that is under way. @param change is given the consumers that are open; none before a start */
  #change(change: (consumers: readonly HandlerConsumer[]) => Promise<void>): Promise<void> {
    const done = this.#changes.then(async () => {
      await this.#listening?.catch(() => undefined);
      await change(this.#closing ? [] : this.#consumers);
    });
    this.#changes = done.catch(() => undefined);
    return done;
  }

  /** Makes the context of one message; a subclass may make one of its own class, with the same arguments. */
  createContext(delivery: MessageDelivery, scope: ContextScope): RedisStreamsContext {
    return new RedisStreamsContext(delivery, scope);
  }

  /**
   * Handles one message to its end: answers a request, passes an event to {@link handleEvent}, and settles the message by
   * the outcome. An override that does not call this one settles the context itself.
   */
  handleMessage(context: RedisStreamsContext): Promise<void> {
    const request = requestInfoOf(context.getMessage());
    // Without a group every server reads a request; the servers with a group answer it.
    if ((request && context.getConsumerGroup() === undefined) || isForAnotherGroup(context)) {
      RedisStreamsContext.deliveryOf(context).settle(ACKNOWLEDGED);
      return Promise.resolve();
    }
    const { telemetry } = this.#streamer;
    if (!telemetry?.followsHandlers) return this.#handle(request, context);
    return this.#followed.handle(telemetry, request ? 'request' : 'event', [context], () =>
      this.#handle(request, context),
    );
  }

  #handle(request: RequestInfo | undefined, context: RedisStreamsContext): Promise<void> {
    return request ? this.#requests.respond(request, context) : this.#events.process(context);
  }

  /**
   * The same for the messages of one batch: events go to {@link handleEvents}, requests among them to {@link
   * handleMessage}.
   */
  async handleBatch(contexts: readonly RedisStreamsContext[]): Promise<void> {
    const events: RedisStreamsContext[] = [];
    const handling: Array<Promise<void>> = [];
    for (const context of contexts) {
      if (requestInfoOf(context.getMessage()) || isForAnotherGroup(context)) handling.push(this.handleMessage(context));
      else events.push(context);
    }
    const { telemetry } = this.#streamer;
    const handle = (): Promise<void> => this.#events.processBatch(events);
    const isFollowed = telemetry?.followsHandlers && events.length > 0;
    handling.push(isFollowed ? this.#followed.handle(telemetry, 'event', events, handle) : handle());
    await Promise.all(handling);
  }

  /**
   * Runs the event handlers of the pattern, between the processing hooks, until each has ended. Rejects with the error of
   * the first that failed, as it was thrown.
   */
  override handleEvent(pattern: string, packet: ReadPacket, context: RedisStreamsContext): Promise<void> {
    const { binding } = RedisStreamsContext.scopeOf(context);
    const handlers = pattern === binding.pattern ? eventHandlersOf(binding) : this.#handlers.eventHandlersOf(pattern);
    return this.#hooks.around(context, () => this.#runner.run(handlers, packet.data, context));
  }

  /** {@link handleEvent} for a handler with `batch`, which is given the data and the contexts of all messages at once. */
  handleEvents(payloads: readonly unknown[], contexts: readonly RedisStreamsContext[]): Promise<void> {
    const [first] = contexts as readonly [RedisStreamsContext];
    const handlers = eventHandlersOf(RedisStreamsContext.scopeOf(first).binding);
    return this.#hooks.around(first, () => this.#runner.run(handlers, payloads, contexts));
  }

  /**
   * Stops reading, waits for running handlers up to `shutdownTimeout`, commits their acks, leaves. Where Redis does not answer,
   * that is given up a second later. Idempotent; {@link listen} starts the server again.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { shutdownTimeout } = this.#resolved;
    // A start that waits for Redis must not hold up the end.
    if (!this.#isConnected) await this.#streamer.disconnect();
    const leaving = this.#leave(shutdownTimeout);
    await Promise.all([leaving, this.#streamer.disconnectAfter(leaving, shutdownTimeout + LEAVING_LIMIT)]);
  }

  async #leave(timeout: number): Promise<void> {
    if (this.#isConnected && !this.#isStarted) {
      await Promise.all(this.#consumers.map((consumer) => consumer.stopOpening()));
    }
    // A start that is still under way, or has failed, leaves consumers behind like one that has succeeded.
    await this.#listening?.catch(() => undefined);
    await Promise.all(this.#consumers.map((consumer) => consumer.close(timeout)));
    this.#requests.close();
    this.#followed.giveUp();
  }

  /** Another `listen()` may have done it, or the server may have been closed again, while this one waited. */
  async #reopen(closing: Promise<void>): Promise<void> {
    await closing;
    if (this.#closing !== closing) return;
    this.#streamer = this.#openStreamer();
    this.#requests = this.#createResponder(this.#streamer);
    this.#consumers = [];
    this.#isConnected = false;
    this.#isStarted = false;
    this.#listening = undefined;
    this.#closing = undefined;
  }

  #openStreamer(): RedisStreamer {
    const streamer = this.createStreamer({ ...this.#options, logger: this.#logger });
    streamer.requireThreadable({ leaseRenewal: this.#options.leaseRenewal ?? 'loop' });
    streamer.on('status', (status) => {
      this._status$.next(status);
      this.#listeners.emit('status', status);
    });
    return streamer;
  }

  #createResponder(streamer: RedisStreamer): RequestResponder {
    return new RequestResponder({
      codec: this.#codec,
      logger: this.#logger,
      hooks: this.#hooks,
      reporter: this.#reporter,
      producer: streamer.openReplyProducer(),
      answers: streamer.answers,
      appending: streamer.appending,
      clock: streamer.clock,
      replyPrefix: this.#resolved.replyPrefix,
    });
  }

  #requireOpen(): void {
    if (this.#closing) throw new ClosedError('The server');
  }

  /**
   * The state of the connections and of every read loop; see {@link RedisStreamer.health}. Asks Redis, and answers within
   * `timeout` milliseconds (default 1,000) whether Redis does or not. @throws InvalidOptionError
   */
  async health(options?: HealthOptions): Promise<ServerHealth> {
    const health = await this.#streamer.health(options);
    return { ...health, isListening: this.#isStarted && !this.#closing };
  }

  override on<E extends keyof RedisStreamsEvents>(event: E, callback: RedisStreamsEvents[E]): void {
    this.#listeners.add(event, callback);
  }

  /** The engine's {@link RedisStreamer}, for what the transport does not do. */
  unwrap<T = RedisStreamer>(): T {
    return this.#streamer as T;
  }

  /**
   * Makes the engine, as `createClient` makes the connection of Nest's own servers. The constructor calls it, before
   * fields of a subclass are set, and so does `listen()` after `close()`. The server owns the result: `close()` disconnects
   * it.
   */
  protected createStreamer(options: ServerRedisStreamsOptions): RedisStreamer {
    return new RedisStreamer(options.connection, options);
  }

  /** @throws InvalidOptionError */
  protected override initializeSerializer(options: Pick<ServerRedisStreamsOptions, 'serializer'>): void {
    this.serializer = resolveSerializer(options);
  }

  /** @throws InvalidOptionError */
  protected override initializeDeserializer(options: Pick<ServerRedisStreamsOptions, 'deserializer'>): void {
    this.deserializer = resolveDeserializer(options);
  }
}

/** Whether this is a dead letter that was put back for one group only, and not for the group of the context. */
function isForAnotherGroup(context: RedisStreamsContext): boolean {
  const redrivenFor = StreamMessage.headerOf(context.getMessage(), REDRIVE_GROUP_HEADER);
  return redrivenFor !== undefined && redrivenFor !== context.getConsumerGroup();
}
