import { EventEmitter } from 'node:events';

import { within } from '../shared/backoff.js';
import { errorText } from '../shared/error-text.js';
import { ClosedError } from '../errors.js';
import { monotonicNow } from '../shared/clock.js';
import { consoleLogger, resolveLogger } from '../shared/logger.js';
import type { RedisStreamsLogger } from '../shared/logger.js';
import { sumOf } from '../shared/sums.js';
import type { RedisStreamsConnection } from '../redis/connection/connection-target.js';
import type { ConnectionRouter } from '../redis/connection/connection-router.js';
import { RedisConnections } from '../redis/connection/redis-connections.js';
import type { RedisStreamsStatus } from '../redis/connection/redis-connections.js';
import { redisStreamCommands } from '../redis/commands/redis-stream-commands.js';
import { ServerFeatures } from '../redis/commands/server-features.js';
import type {
  AnswerCommands,
  AppendCommands,
  ClockCommands,
  GroupCommands,
  StreamCommands,
} from '../redis/commands/stream-commands.js';
import { ConsumerSession } from './consuming/consumer-session.js';
import type { SessionCapacity, SessionListeners } from './consuming/message-taker.js';
import type { ConsumerFor, OnlyOptionsOf } from './consuming/consumer-types.js';
import { GroupPauses } from './consuming/group-pauses.js';
import { DelayedMover } from './delayed/delayed-mover.js';
import { loopHealth, loopStats, resolveHealthOptions } from './health.js';
import type { HealthOptions, StreamerHealth, StreamerStats } from './health.js';
import type { ReplicaWait } from '../redis/commands/replication.js';
import { Inbox } from './admin/inbox.js';
import type { InboxOptions } from './admin/inbox.js';
import type { ConsumerOptions, ProducerOptions, RealTimeOptions, StreamerOptions } from './options/options.js';
import {
  resolveConsumerOptions,
  resolveProducerOptions,
  resolveStreamKeys,
  checkStreamerOptions,
  resolveStreamerOptions,
} from './options/resolve-options.js';
import type { ResolvedConsumerOptions, ResolvedStreamerOptions } from './options/resolve-options.js';
import { GuardedTelemetry } from './telemetry/guarded-telemetry.js';
import type { Telemetry, TelemetrySource } from './telemetry/telemetry.js';
import { SuspectTurn } from './settling/suspect-turn.js';
import type { ConsumerEnvironment, LiveSession, ReaderConnection } from './consuming/consumer-environment.js';
import { StreamConsumer } from './consuming/stream-consumer.js';
import { StreamManager } from './admin/stream-manager.js';
import { StreamProducer } from './producing/stream-producer.js';

const CONNECT_TIMEOUT = 10_000;
/** A server that is silent for longer while a reply is due counts as gone. */
const REPLY_TIMEOUT = 10_000;

/** For reads that do not block. */
const NOTHING_TO_END: ReaderConnection['interrupt'] = { isPossible: true, interrupt: async () => undefined };

/**
 * The entrance to the engine: connections to one Redis, and the producers, consumers and managers that use them.
 * @example
 * await using streamer = await RedisStreamer.connect('redis://localhost:6379');
 * const producer = await streamer.createProducer('orders');
 * const { id } = await producer.send(JSON.stringify({ item: 'tea' }));
 */
export class RedisStreamer
  extends EventEmitter<{
    /** The state of the connections has changed. */
    status: [status: RedisStreamsStatus];
  }>
  implements AsyncDisposable, TelemetrySource
{
  readonly #options: ResolvedStreamerOptions;
  readonly #logger: Required<RedisStreamsLogger>;
  readonly #connections: RedisConnections;
  readonly #features: ServerFeatures;
  readonly #writer: StreamCommands;
  readonly #control: StreamCommands;
  readonly #mover: DelayedMover;
  /** Producers and consumers that have not ended by themselves; they end with this. */
  readonly #producers = new Set<StreamProducer>();
  readonly #consumers = new Set<StreamConsumer>();
  readonly #sessions = new Set<LiveSession>();
  readonly #groupPauses: GroupPauses;
  readonly #telemetry: GuardedTelemetry | undefined;
  #disconnecting: Promise<void> | undefined;

  /** Makes no connection yet; {@link connect} does, or {@link RedisStreamer.connect} both. @throws InvalidOptionError */
  constructor(connection?: RedisStreamsConnection, options: StreamerOptions = {}) {
    super();
    this.#options = resolveStreamerOptions(options);
    this.#logger = resolveLogger(options.logger, () => consoleLogger);
    const times = {
      connectTimeout: Math.min(CONNECT_TIMEOUT, this.#options.timeout),
      replyTimeout: Math.min(REPLY_TIMEOUT, this.#options.timeout),
      blockTimeout: this.#options.blockTimeout,
    };
    this.#connections = new RedisConnections(connection, times, this.#logger);
    this.#connections.on('status', (status) => this.#announce(status));
    this.#features = new ServerFeatures((feature, loss) => this.#connections.reportMissing(feature, loss));
    this.#writer = this.#commands(this.#connections.writer);
    this.#control = this.#commands(this.#connections.control);
    this.#groupPauses = new GroupPauses(this.#control.pauses, this.#logger);
    this.#mover = new DelayedMover({ delayed: this.#control.delayed, logger: this.#logger });
    const { telemetry } = this.#options;
    if (telemetry.length > 0) this.#telemetry = this.#follow(telemetry);
  }

  /** A streamer that is never used has nothing to show. */
  #follow(all: readonly Telemetry[]): GuardedTelemetry {
    const telemetry = new GuardedTelemetry(all, this, this.#logger);
    this.#connections.once('opening', () => telemetry.attach());
    return telemetry;
  }

  /**
   * Connects to Redis; keeps trying until `timeout`.
   * @throws InvalidOptionError, ConnectTimeoutError after `timeout` milliseconds, PermissionError
   */
  static async connect(connection?: RedisStreamsConnection, options?: StreamerOptions): Promise<RedisStreamer> {
    if (options) checkStreamerOptions(options);
    const streamer = new RedisStreamer(connection, options);
    try {
      await streamer.connect();
    } catch (error) {
      await streamer.disconnect();
      throw error;
    }
    return streamer;
  }

  /**
   * Resolves once Redis is reached; everything else waits for that by itself. Idempotent.
   * @throws ConnectTimeoutError after `timeout` milliseconds, PermissionError, ClosedError
   */
  async connect(): Promise<void> {
    this.#requireOpen();
    await this.#connections.connect(this.#options.timeout);
  }

  /**
   * Resolves at once when Redis was ever reached: commands have their own limit then. @internal
   * @throws ConnectTimeoutError after `connectTimeout`
   */
  async reach(): Promise<void> {
    const { writer, control } = this.#connections;
    if (writer.wasReached || control.wasReached) return;
    this.#requireOpen();
    await this.#connections.connect(this.#options.connectTimeout);
  }

  /** When a start that begins now has failed, on the monotonic clock. @internal */
  startDeadline(): number {
    return monotonicNow() + this.#options.timeout;
  }

  /** State of the connections. */
  get status(): RedisStreamsStatus {
    return this.#connections.status;
  }

  /** Whether a connection was ever asked for, which is made on first use. @internal */
  get isUsed(): boolean {
    return this.#connections.isUsed;
  }

  /** Where Redis is, by the configuration: the first node of a cluster, the first of several sentinels. */
  get server(): TelemetrySource['server'] {
    const [, host, port] = /^\[?([^,\s]+?)\]?:(\d+)/.exec(this.#connections.address) ?? [];
    return host === undefined ? undefined : { host, port: Number(port) };
  }

  /** @internal */
  get connections(): RedisConnections {
    return this.#connections;
  }

  /** Undefined where none was given. @internal */
  get telemetry(): GuardedTelemetry | undefined {
    return this.#telemetry;
  }

  /** A producer that is anchored to one stream. @throws InvalidOptionError, ClosedError */
  async createProducer(streamKey: string, options: ProducerOptions = {}): Promise<StreamProducer> {
    return this.openProducer(resolveStreamKeys([streamKey])[0], options);
  }

  /** A producer for any stream: each call names its own. @throws InvalidOptionError, ClosedError */
  async createGenericProducer(options: ProducerOptions = {}): Promise<StreamProducer> {
    return this.openProducer(undefined, options);
  }

  /**
   * Creates a producer at once: it waits for the connection by itself.
   * @internal
   */
  openProducer(streamKey: string | undefined, options: ProducerOptions): StreamProducer {
    return this.#openProducer(streamKey, options, false);
  }

  /**
   * A producer for reply streams: other servers write to them too, and may have another `timestampFormat`.
   * @internal
   */
  openReplyProducer(): StreamProducer {
    return this.#openProducer(undefined, {}, true);
  }

  #openProducer(streamKey: string | undefined, options: ProducerOptions, acceptsMilliseconds: boolean): StreamProducer {
    this.#requireOpen();
    const resolved = resolveProducerOptions(options, this.#options.timeout);
    const own = resolved.waitReplicas && this.#connections.createWriter();
    const writer = own ? this.#commands(own.router, resolved.waitReplicas) : this.#writer;
    const producer = StreamProducer.create(streamKey, resolved, {
      appending: writer.appending,
      layouts: writer.layouts,
      messageField: this.#options.messageField,
      timestampFormat: this.#options.timestampFormat,
      acceptsMilliseconds,
      timeout: this.#options.timeout,
      connectTimeout: this.#options.connectTimeout,
      logger: this.#logger,
      telemetry: this.#telemetry,
      onScheduled: (streamKey, due, onError) => {
        const wait = 'in' in due ? due.in : due.at - this.#control.clock.now(streamKey);
        this.#mover.expect(streamKey, wait, onError);
      },
      onEnded: async () => {
        await own?.close();
        this.#producers.delete(producer);
      },
    });
    this.#producers.add(producer);
    return producer;
  }

  /**
   * Resolves when every start position is fixed on the server: groups exist, tails are pinned.
   * @throws InvalidOptionError, WrongTypeError, PermissionError, ConnectTimeoutError, ClosedError
   * @example
   * const consumer = await streamer.createConsumer('orders', { mode: 'resumable', group: 'billing' });
   * for await (const message of consumer) console.log(message.text());
   */
  async createConsumer<const O extends ConsumerOptions>(
    streamKeys: string | readonly string[],
    options: O & OnlyOptionsOf<O>,
  ): Promise<ConsumerFor<O>> {
    return (await this.#openConsumer(streamKeys, options, this.#environment())) as unknown as ConsumerFor<O>;
  }

  /**
   * A consumer of a reply stream, to which only servers of this package write, and nothing with a delay.
   * @internal
   */
  createReplyConsumer(streamKey: string, options: RealTimeOptions): Promise<StreamConsumer> {
    return this.#openConsumer(streamKey, options, {
      ...this.#environment(),
      isForReplies: true,
      moveDelayed: () => () => undefined,
      telemetry: undefined,
    });
  }

  async #openConsumer(
    streamKeys: string | readonly string[],
    options: ConsumerOptions,
    environment: ConsumerEnvironment,
  ): Promise<StreamConsumer> {
    this.#requireOpen();
    const resolved = resolveConsumerOptions(options);
    this.requireThreadable(resolved);
    const keys = resolveStreamKeys(streamKeys);
    const deadline = this.startDeadline();
    await this.connect();
    const consumer = new StreamConsumer(environment, resolved, () => this.#consumers.delete(consumer));
    this.#consumers.add(consumer);
    try {
      await consumer.open(keys, deadline);
    } catch (error) {
      await consumer.end();
      throw error;
    }
    return consumer;
  }

  /** @internal @throws InvalidOptionError where the connection is none that another thread can make */
  requireThreadable({ leaseRenewal }: Pick<ResolvedConsumerOptions, 'leaseRenewal'>): void {
    if (leaseRenewal === 'thread') this.#connections.requireThreadable();
  }

  /** A manager of streams and groups. @throws ClosedError */
  async createManager(): Promise<StreamManager> {
    this.#requireOpen();
    return StreamManager.create(this.#control, this.#options);
  }

  /** Remembers what a group has handled, for handlers that must not do their work twice. @throws InvalidOptionError, ClosedError */
  createInbox(group: string, options: InboxOptions = {}): Inbox {
    this.#requireOpen();
    return Inbox.create(this.#control.inbox, group, options, this.#options.timeout);
  }

  /**
   * Appends without a queue, for entries that must be stored before something else happens.
   * @internal
   */
  get appending(): AppendCommands {
    return this.#writer.appending;
  }

  /**
   * What clients and servers tell each other about answers beside the reply streams.
   * @internal
   */
  get answers(): AnswerCommands {
    return this.#writer.answers;
  }

  /**
   * What the instances of a group count together.
   * @internal
   */
  get rates(): Pick<GroupCommands, 'checkRate' | 'takeOfRate'> {
    return this.#control.groups;
  }

  /**
   * The time at the servers of streams, for deadlines.
   * @internal
   */
  get clock(): ClockCommands {
    return this.#writer.clock;
  }

  /**
   * A consumer's presence on its streams without a taker of its messages, for a {@link Dispatcher}. The caller ends it.
   * @internal
   */
  createSession(
    options: ResolvedConsumerOptions,
    capacity: SessionCapacity,
    listeners: SessionListeners,
  ): ConsumerSession {
    this.#requireOpen();
    this.requireThreadable(options);
    return new ConsumerSession(this.#environment(), options, capacity, listeners);
  }

  /**
   * How the connections and every read loop are doing, and where their groups stand on the server. A PING proves little:
   * a server may answer it and no read, and a loop may stand still on a connection that is fine.
   * @throws InvalidOptionError
   */
  async health(options: HealthOptions = {}): Promise<StreamerHealth> {
    const limits = resolveHealthOptions(options);
    const local = [...this.#sessions].flatMap((session) => session.health());
    const loops = await Promise.all(local.map((loop) => loopHealth(loop, this.#control, limits)));
    const { status, reconnects } = this.#connections;
    const isHealthy = status !== 'disconnected' && loops.every((loop) => loop.isHealthy);
    return { isHealthy, status, isClosed: this.#disconnecting !== undefined, reconnects, loops };
  }

  /** The state as far as it is known without asking Redis. */
  stats(): StreamerStats {
    const { status, reconnects } = this.#connections;
    const queued = sumOf(Array.from(this.#producers, (producer) => producer.queued));
    const loops = [...this.#sessions].flatMap((session) => session.health()).map(loopStats);
    return { status, isClosed: this.#disconnecting !== undefined, reconnects, queued, loops };
  }

  /**
   * Ends everything that it created, then closes the connections. In an outage it waits at most `shutdownTimeout`; sends that
   * are not confirmed by then fail with ERR_CLOSED, or ERR_SEND_UNCERTAIN where Redis may have the message. Idempotent.
   */
  disconnect(): Promise<void> {
    return this.disconnectAfter(Promise.resolve());
  }

  /**
   * Disconnects once `leaving` has settled, all in `limit` milliseconds: then the connections close, which ends every command
   * that waits, also those of `leaving`.
   * @internal
   */
  disconnectAfter(leaving: Promise<void>, limit = this.#options.shutdownTimeout): Promise<void> {
    this.#disconnecting ??= this.#disconnect(leaving, limit);
    return this.#disconnecting;
  }

  /** As {@link RedisStreamer.disconnect}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect();
  }

  async #disconnect(leaving: Promise<void>, limit: number): Promise<void> {
    const ending = this.#endAll(leaving);
    await within(limit, ending);
    const unconfirmed = [...this.#producers].reduce((sum, { queued }) => sum + queued, 0);
    if (unconfirmed > 0) {
      const [messages, fail] = unconfirmed === 1 ? ['1 message', 'it fails'] : [`${unconfirmed} messages`, 'they fail'];
      this.#logger.warn(`Disconnecting: Redis did not confirm ${messages} within ${limit} ms; ${fail}`);
    }
    // Closed first: messages that are given up would otherwise be written once more, to a server that may only stand still.
    const closing = this.#connections.close();
    for (const producer of this.#producers) producer.giveUp();
    for (const session of this.#sessions) session.giveUp();
    await Promise.all([closing, ending]);
    this.#telemetry?.detach();
  }

  /** A server that is leaving sends its last answers over producers, which therefore end after it. Never rejects. */
  async #endAll(leaving: Promise<void>): Promise<void> {
    const stopping = this.#mover.stop();
    await Promise.allSettled([leaving, stopping]);
    await Promise.allSettled([...this.#producers, ...this.#consumers].map((created) => created.end()));
  }

  #environment(): ConsumerEnvironment {
    return {
      sessions: this.#sessions,
      suspectTurn: SuspectTurn.ofProcess(),
      groupPauses: this.#groupPauses,
      control: this.#control,
      controlLiveSince: (streamKey) => {
        const route = this.#connections.control.find(this.#keyPrefix + (streamKey ?? ''));
        return route?.connection.liveSince;
      },
      openReader: (streamKey) => this.#openReader(streamKey),
      createRenewalClient: (options) => this.#connections.createRenewalClient(options),
      openWatched: (streamKey) => this.#openWatched(streamKey),
      moveDelayed: (streamKey, onError) => this.#mover.attach(streamKey, onError),
      address: this.#connections.address,
      isForReplies: false,
      isCluster: () => this.#connections.isCluster,
      format: this.#options,
      blockTimeout: this.#options.blockTimeout,
      isPolling: this.#options.isPolling,
      timeout: this.#options.timeout,
      shutdownTimeout: this.#options.shutdownTimeout,
      logger: this.#logger,
      telemetry: this.#telemetry,
    };
  }

  /** @param streamKey in Cluster, the key of the only partition that is read */
  #openReader(streamKey: string | undefined): ReaderConnection {
    const key = this.#keyPrefix + (streamKey ?? '');
    const connection = this.#connections.acquireReader(key);
    return {
      connection,
      reading: this.#commands(this.#connections.routerOf(connection, key)).reading,
      interrupt: this.#connections.interruptOf(connection),
      release: () => this.#connections.release(connection),
    };
  }

  async #openWatched(streamKey: string): Promise<ReaderConnection | undefined> {
    const key = this.#keyPrefix + streamKey;
    const connection = this.#connections.acquireTracked(key);
    const release = (): Promise<void> => connection.close();
    try {
      const { isTracking } = (await connection.router.ready(key, this.#options.timeout)).connection;
      if (isTracking) {
        return {
          connection,
          reading: this.#commands(connection.router).reading,
          interrupt: NOTHING_TO_END,
          watch: connection,
          release,
        };
      }
      this.#features.forget('CLIENT TRACKING', 'in Cluster each stream is read over a connection of its own');
    } catch (error) {
      await release();
      throw error;
    }
    await release();
    return undefined;
  }

  get #keyPrefix(): string {
    return this.#connections.keyPrefix + this.#options.keyPrefix;
  }

  #commands(router: ConnectionRouter, waitReplicas?: ReplicaWait): StreamCommands {
    const { timeout, timestampFormat } = this.#options;
    const options = { keyPrefix: this.#keyPrefix, timeout, timestampFormat, waitReplicas };
    return redisStreamCommands(router, this.#features, options);
  }

  /** A listener that throws must not stop the connection that announces its state. */
  #announce(status: RedisStreamsStatus): void {
    try {
      this.emit('status', status);
    } catch (thrown) {
      this.#logger.error(`A listener of 'status' failed: ${errorText(thrown)}`);
    }
  }

  #requireOpen(): void {
    if (this.#disconnecting) throw new ClosedError('The streamer');
  }
}
