import { partitionOf } from '../../engine/consuming/partition.js';
import type { ConsumerSession } from '../../engine/consuming/consumer-session.js';
import { storeDeadLetter } from '../../engine/settling/dead-letter.js';
import type { ResolvedDeadLetter } from '../../engine/settling/dead-letter.js';
import type { Delivery, Settlement } from '../../engine/settling/settlement.js';
import { GroupRateLimit, InstanceRateLimit } from '../../engine/settling/rate-limit.js';
import type { RateLimit } from '../../engine/settling/rate-limit.js';
import { Dispatcher } from '../../engine/settling/dispatcher.js';
import type { ConsumerMode } from '../../engine/options/consumer-mode.js';
import { resolveConsumerOptions } from '../../engine/options/resolve-options.js';
import type { ResolvedConsumerOptions } from '../../engine/options/resolve-options.js';
import { LayoutGate } from '../../engine/consuming/ownership/layout-gate.js';
import { ShardOwnership } from '../../engine/consuming/ownership/shard-ownership.js';
import { lookForUnreadShards } from '../../engine/consuming/unread-shards.js';
import { StreamAssignment } from '../../engine/consuming/stream-assignment.js';
import type { StreamSearchOptions } from '../../engine/consuming/stream-search.js';
import { AdaptivePrefetch } from '../../engine/consuming/reading/adaptive-prefetch.js';
import { HandlerPace } from '../../engine/consuming/reading/pace.js';
import { StreamMessage } from '../../engine/messages/stream-message.js';
import type { RedisStreamer } from '../../engine/streamer.js';
import { ShutdownTimeoutError, StreamMissingError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { within } from '../../shared/backoff.js';
import { monotonicNow } from '../../shared/clock.js';
import { KEY_HEADER } from '../../constants.js';
import { RedisStreamsContext } from '../redis-streams.context.js';
import type { ContextScope, MessageDelivery } from '../redis-streams.context.js';
import { consumerOptions } from '../redis-streams.options.js';
import type { ServerRedisStreamsOptions } from '../redis-streams.options.js';
import { requestInfoOf } from '../requests/request-headers.js';
import type { RequestResponder } from '../requests/request-responder.js';
import { settleFailed } from './failed-delivery.js';
import type { HandlerBinding, HandlerGroup } from './handler-binding.js';
import type { RuntimeControl } from './runtime-control.js';
import type { ServerReporter } from './server-reporter.js';
import { StreamScopes } from './stream-scopes.js';
import type { WildcardOwners } from './wildcard-owners.js';

/** How long replies of the last handlers may be on their way, in milliseconds. */
const REPLIES_LIMIT = 1_000;

/** The server, as far as it handles messages. */
export interface MessageHandling {
  createContext(delivery: MessageDelivery, scope: ContextScope): RedisStreamsContext;
  handleMessage(context: RedisStreamsContext): Promise<void>;
  handleBatch(contexts: readonly RedisStreamsContext[]): Promise<void>;
}

export interface HandlerConsumerOptions {
  readonly streamer: RedisStreamer;
  /** The options of the server. */
  readonly options: ServerRedisStreamsOptions;
  readonly group: HandlerGroup;
  readonly control: RuntimeControl;
  readonly owners: WildcardOwners;
  /** Milliseconds between two looks for streams; undefined without wildcards. */
  readonly lookInterval: number | undefined;
  readonly server: MessageHandling;
  readonly requests: RequestResponder;
  readonly reporter: ServerReporter;
}

/**
 * The consumer of one group of handlers: reads their streams, makes a context of each message, passes it to the server,
 * and stores messages that became dead letters.
 */
export class HandlerConsumer {
  readonly #streamer: RedisStreamer;
  readonly #control: RuntimeControl;
  readonly #server: MessageHandling;
  readonly #requests: RequestResponder;
  readonly #reporter: ServerReporter;
  readonly #consumer: ResolvedConsumerOptions;
  readonly #session: ConsumerSession;
  readonly #ownership: ShardOwnership | undefined;
  readonly #gate: LayoutGate | undefined;
  readonly #assignment: StreamAssignment;
  readonly #dispatcher: Dispatcher;
  readonly #scopes = new StreamScopes();
  readonly #scopeOfPattern = new Map<string, ContextScope>();

  constructor(given: HandlerConsumerOptions) {
    const { streamer, options, group, control, server, requests, reporter } = given;
    this.#streamer = streamer;
    this.#control = control;
    this.#server = server;
    this.#requests = requests;
    this.#reporter = reporter;
    this.#consumer = resolveConsumerOptions(consumerOptions(options, group.mode));
    for (const [pattern, binding] of group.bindings) {
      const scope = this.#scopeOf(binding);
      this.#scopeOfPattern.set(pattern, scope);
      const own = binding.wildcard ? [] : [binding.streamKey];
      for (const streamKey of [...own, ...control.addedTo(pattern)]) this.#scopes.open(streamKey, scope);
    }
    const isSizeOpen = options.batchSize === undefined && options.prefetch === undefined;
    const { concurrency, rateLimit } = group;
    const maxRate = rateLimit && rateLimit.max / rateLimit.per;
    const pace = isSizeOpen ? new HandlerPace(concurrency) : undefined;
    const capacity = {
      inHandlers: concurrency * (group.batch?.size ?? 1),
      holdsUntilReleased: true,
      adaptivePrefetch: pace && new AdaptivePrefetch(this.#consumer, pace, maxRate),
    };
    const onError = (error: RedisStreamsError): void => reporter.failed(error);
    this.#session = streamer.createSession(this.#consumer, capacity, {
      onStreamFailure: (error, { streamKey, mustExist }) => {
        if (mustExist && error instanceof StreamMissingError) void this.#assignment.vanished(streamKey);
        else onError(error);
      },
      onError,
    });
    if (this.#consumer.shardOwnership === 'owned') {
      this.#ownership = new ShardOwnership(this.#session, {
        onAssigned: (assignment) => reporter.assigned(assignment),
        onRevoked: (assignment) => reporter.revoked(assignment),
        onError,
      });
    }
    if (this.#ownership) this.#gate = new LayoutGate(this.#ownership, onError);
    this.#assignment = new StreamAssignment(this.#gate ?? this.#session, onError, this.#searchFor(given));
    this.#dispatcher = new Dispatcher({
      session: this.#session,
      concurrency,
      pace,
      batch: group.batch,
      // The order of an owned shard must not end in the process that owns it.
      keyOf: group.ordered || (this.#ownership && !group.batch) ? queueKeyOf : undefined,
      rateLimit: this.#rateLimitOf(group, onError),
      onError,
      deliver: (deliveries) => this.#deliver(deliveries),
      onFailed: (deliveries, error) => this.#failAll(deliveries, error),
      storeDeadLetter: (message, settlement) => this.#storeDeadLetter(message, settlement),
    });
  }

  get mode(): ConsumerMode {
    return this.#consumer.mode;
  }

  /** The streams of a pattern that are read now. */
  streamsOf(pattern: string): readonly string[] {
    return this.#scopes.streamsOf(pattern);
  }

  /** Resolves when every start position is fixed on the server. @param deadline on the monotonic clock */
  async open(deadline: number): Promise<void> {
    await this.applyPauses();
    const { streamKeys } = this.#scopes;
    await this.#assignment.open(streamKeys, deadline);
    void lookForUnreadShards(streamKeys, this.#session, (error) => this.#reporter.failed(error));
  }

  /** Pauses the streams of patterns that are paused, and resumes the others. Resolves when no read of the former is in flight. */
  async applyPauses(): Promise<void> {
    const { streamKeys } = this.#scopes;
    await this.#session.pausing.set(
      streamKeys.filter((streamKey) => this.#control.isPaused(this.#scopes.patternOf(streamKey))),
    );
  }

  /** Ends the reading of a stream that a wildcard has found, so that another pattern may have it. */
  async yieldStream(streamKey: string): Promise<void> {
    await this.#assignment.drop(streamKey);
  }

  /** Does nothing for a pattern that has no handlers here. @throws RedisStreamsError */
  async addStream(pattern: string, streamKey: string): Promise<void> {
    const scope = this.#scopeOfPattern.get(pattern);
    if (!scope) return;
    this.#scopes.open(streamKey, scope);
    try {
      await this.applyPauses();
      await this.#assignment.assign(streamKey, undefined);
    } catch (error) {
      this.#scopes.close(streamKey);
      throw error;
    }
  }

  /** Gives back what no handler has; running handlers end. */
  async removeStream(pattern: string, streamKey: string): Promise<void> {
    if (!this.#scopes.streamsOf(pattern).includes(streamKey)) return;
    await this.#assignment.unassign(streamKey, undefined);
    this.#scopes.close(streamKey);
  }

  /** Ends a start that is under way, which otherwise waits for Redis. */
  async stopOpening(): Promise<void> {
    await this.#assignment.close();
  }

  /** The steps of leaving, in the order that loses nothing; handlers are awaited for at most so many milliseconds. */
  async close(timeout: number): Promise<void> {
    const deadline = monotonicNow() + timeout;
    await this.#assignment.close();
    await this.#gate?.close();
    await this.#ownership?.close();
    const running = await this.#dispatcher.close(deadline);
    if (running > 0) this.#reporter.failed(new ShutdownTimeoutError(running, timeout));
    // Requests are acknowledged when their replies are stored, which may be after their handlers have ended.
    await within(Math.max(0, deadline - monotonicNow()) + REPLIES_LIMIT, this.#requests.settled());
    await this.#session.leave();
    await this.#ownership?.release();
  }

  /** @param deliveries one message, or the batch of one pattern */
  #deliver(deliveries: readonly Delivery[]): Promise<void> | undefined {
    const [{ message }] = deliveries as readonly [Delivery];
    const scope = this.#scopes.of(message);
    const contexts: RedisStreamsContext[] = [];
    for (const delivery of deliveries) {
      const context = this.#contextOf(delivery, scope);
      if (context) contexts.push(context);
    }
    const [first] = contexts;
    if (!first) return undefined;
    return scope.binding.batch ? this.#server.handleBatch(contexts) : this.#server.handleMessage(first);
  }

  /** The server catches the failures of handlers, so an overridden method of the server has failed. */
  #failAll(deliveries: readonly Delivery[], error: unknown): void {
    const [{ message }] = deliveries as readonly [Delivery];
    const scope = this.#scopes.of(message);
    const unsettled = deliveries.filter(({ settlement }) => !settlement);
    for (const delivery of unsettled.length > 0 ? unsettled : deliveries.slice(0, 1))
      this.#fail(delivery, scope, error);
  }

  /** Undefined when an override has failed. */
  #contextOf(delivery: Delivery, scope: ContextScope): RedisStreamsContext | undefined {
    try {
      return this.#server.createContext(delivery, scope);
    } catch (error) {
      this.#fail(delivery, scope, error);
      return undefined;
    }
  }

  /** For what fails outside of a handler. A request is answered with an error, as if its handler had failed. */
  #fail(delivery: Delivery, scope: ContextScope, error: unknown): void {
    const { message, settlement } = delivery;
    const request = requestInfoOf(message);
    if (request && !settlement && scope.group !== undefined) {
      this.#reporter.handlingFailed(message, error, 'answered with an error');
      this.#requests.refuse(request, new RedisStreamsContext(delivery, scope));
    } else {
      settleFailed(delivery, scope, error, this.#reporter);
    }
  }

  async #storeDeadLetter(
    message: StreamMessage,
    { reason, error }: Settlement & { kind: 'dead-letter' },
  ): Promise<void> {
    const { binding } = this.#scopes.of(message);
    const target = binding.failurePolicy.deadLetter as ResolvedDeadLetter;
    const group = this.#consumer.group as string;
    const { consumer } = this.#consumer;
    const { key } = partitionOf(message);
    const firstFailure = this.#session.acknowledger.failedFirst(message);
    const deadLetter = { message, key, group, consumer, reason, error, firstFailure, target };
    const stored = await storeDeadLetter(deadLetter, this.#streamer.appending);
    const { streamKey: deadLetterStream, id: deadLetterId } = stored;
    // The next dead letter deletes what this one could not.
    if (stored.trimmed instanceof Error) this.#reporter.failed(stored.trimmed);
    const trimmed = typeof stored.trimmed === 'number' ? stored.trimmed : undefined;
    this.#streamer.telemetry?.deadLettered({ message, pattern: binding.pattern, group, deadLetterStream, reason });
    this.#reporter.deadLettered({ message, group, reason, error, deadLetterStream, deadLetterId, trimmed });
  }

  /** The streams of wildcards; undefined when no pattern is one. */
  #searchFor({ group, owners, lookInterval }: HandlerConsumerOptions): StreamSearchOptions | undefined {
    const wildcards = [...group.bindings.values()].flatMap(({ wildcard }) => wildcard?.text ?? []);
    if (lookInterval === undefined || wildcards.length === 0) return undefined;
    const isRealTime = group.mode === 'real-time';
    const scopeOf = (streamKey: string): ContextScope | undefined => {
      const owner = owners.ownerOf(streamKey, isRealTime);
      return owner && group.bindings.get(owner.pattern) === owner ? this.#scopeOfPattern.get(owner.pattern) : undefined;
    };
    return {
      name: wildcards.join("', '"),
      interval: lookInterval,
      isWanted: (streamKey) => scopeOf(streamKey) !== undefined,
      onFound: async (streamKeys) => {
        for (const streamKey of streamKeys) this.#scopes.open(streamKey, scopeOf(streamKey) as ContextScope);
        await this.applyPauses();
      },
      onDropped: (streamKeys) => {
        for (const streamKey of streamKeys) this.#scopes.close(streamKey);
      },
    };
  }

  #rateLimitOf(
    { rateLimit, bindings }: HandlerGroup,
    onError: (error: RedisStreamsError) => void,
  ): RateLimit | undefined {
    if (!rateLimit) return undefined;
    if (rateLimit.scope === 'instance') return new InstanceRateLimit(rateLimit);
    const [{ streamKey }] = [...bindings.values()] as [HandlerBinding];
    const group = this.#consumer.group as string;
    const { rates } = this.#streamer;
    return new GroupRateLimit({ rate: rateLimit, rates, streamKey, group, onError });
  }

  #scopeOf(binding: HandlerBinding): ContextScope {
    const { group, consumer, autoCommit, onPoison } = this.#consumer;
    return {
      pattern: binding.pattern,
      group,
      consumer: group === undefined ? undefined : consumer,
      binding,
      canRetry: group !== undefined && autoCommit !== 'immediate',
      haltsShard: onPoison === 'halt',
      commit: () => this.#session.commit(),
      onIgnored: (message, attempted, reason) => this.#reporter.ignored(message, attempted, reason),
    };
  }
}

/**
 * Messages with the same result are handled one after the other. A key belongs to its stream: elsewhere it may mean
 * another thing.
 */
function queueKeyOf(message: StreamMessage): string | undefined {
  const key = StreamMessage.headerOf(message, KEY_HEADER);
  return key === undefined ? undefined : `${message.streamKey} ${key}`;
}
