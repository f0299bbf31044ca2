import { EventEmitter } from 'node:events';

import { ClosedError, InvalidOptionError, RedisStreamsError } from '../../errors.js';
import { outsideContext } from '../../shared/async-context.js';
import { monotonicNow } from '../../shared/clock.js';
import { errorText, withoutSecrets } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { ClientFactory, ConnectionRole, ConnectionTimes } from './client-factory.js';
import type { RedisStreamsConnection } from './connection-target.js';
import { clientFactory, replyTimeoutOf } from './client-factory.js';
import { ClusterNodes } from './cluster-nodes.js';
import { ClusterRouter, ReaderRouter, SingleRouter } from './connection-router.js';
import type { ConnectionRouter, LiveNode, LiveRoute } from './connection-router.js';
import { isMisconfiguration } from './connect-failure.js';
import { ReadInterrupt } from './read-interrupt.js';
import { RedisConnection } from './redis-connection.js';
import { RenewalClient } from './renewal-thread.js';
import type { RenewalClientOptions } from './renewal-thread.js';
import type { ClientSource, ConnectionSettings } from './redis-connection.js';
import { TrackedReaders } from './tracked-readers.js';
import type { TrackedReader } from './tracked-readers.js';

/**
 * `connected` while every connection in use is live; one that the server ended because it was idle counts as live unless it
 * cannot be replaced at once. `reconnecting` while one is not, `disconnected` before and after.
 */
export type RedisStreamsStatus = 'connected' | 'reconnecting' | 'disconnected';

interface ConnectionsEvents {
  status: [status: RedisStreamsStatus];
  /** The first connection, one of another role, or one that a producer uses alone, is needed. */
  opening: [];
}

/** A connection for writing that one producer uses, and what ends it. */
export interface OwnWriter {
  readonly router: ConnectionRouter;
  close(): Promise<void>;
}

/**
 * All connections of one streamer: one writer and one control connection, in Cluster for each node, and a reader for each
 * read loop. It owns them and their joint status; it never sends a command.
 */
export class RedisConnections extends EventEmitter<ConnectionsEvents> {
  readonly keyPrefix: string;
  readonly writer: ConnectionRouter;
  readonly control: ConnectionRouter;
  readonly #factory: ClientFactory;
  readonly #times: ConnectionTimes;
  readonly #settings: ConnectionSettings;
  readonly #logger: RedisStreamsLogger;
  readonly #open = new Set<RedisConnection>();
  readonly #reportedMissing = new Set<string>();
  /** By role, what was reported last of what waiting does not cure. */
  readonly #refusals = new Map<string, string>();
  #nodes: ClusterNodes | undefined;
  #trackedReaders: TrackedReaders | undefined;
  /** Those of {@link createWriter}. */
  readonly #ownNodes = new Set<ClusterNodes>();
  #retiredReconnects = 0;
  #status: RedisStreamsStatus = 'disconnected';
  /** When the status became `reconnecting`, on the monotonic clock. */
  #lostAt = 0;
  #isUsed = false;
  #isClosed = false;

  /** @throws InvalidOptionError when the connection has no known form. */
  constructor(connection: RedisStreamsConnection | undefined, times: ConnectionTimes, logger: RedisStreamsLogger) {
    super();
    this.#times = times;
    this.#logger = logger;
    this.#factory = clientFactory(connection, times);
    this.keyPrefix = this.#factory.keyPrefix;
    this.#settings = {
      connectTimeout: times.connectTimeout,
      replyTimeout: (role) => replyTimeoutOf(role, times),
      onMissing: (what) => this.reportMissing(what),
    };
    this.writer = new LateRouter(this.#factory, () => this.#createRouter('writer'));
    this.control = new LateRouter(this.#factory, () => this.#createRouter('control'));
  }

  get address(): string {
    return this.#factory.address;
  }

  get status(): RedisStreamsStatus {
    return this.#status;
  }

  /** Whether a connection was ever asked for, which is made on first use. */
  get isUsed(): boolean {
    return this.#isUsed;
  }

  /** For a log line: which server this is, how it is spoken to, and what it has turned out to lack. */
  describe(): string {
    const connected = [...this.#open].filter(({ state }) => state === 'ready');
    const versions = new Set(connected.flatMap(({ serverVersion }) => serverVersion ?? []));
    const server = [...versions].join(' and ') || 'Redis';
    const wire = connected.some(({ isIoredisChannel }) => isIoredisChannel) ? 'through ioredis' : 'over its own wire';
    const missing = [...this.#reportedMissing].join(', ');
    const place = `${server}${this.isCluster ? ' Cluster' : ''} at ${this.address}`;
    return `${place}, ${wire}${missing ? `, without ${missing}` : ''}`;
  }

  /** Number of lost connections of this streamer that were replaced. */
  get reconnects(): number {
    let sum = this.#retiredReconnects;
    for (const connection of this.#open) sum += connection.reconnects;
    return sum;
  }

  /** The connections of one role: in Cluster one for each node in use, or for each reader. */
  ofRole(role: ConnectionRole): RedisConnection[] {
    return [...this.#open].filter((connection) => connection.role === role);
  }

  /** In Cluster streams of different slots cannot be read together. False until the first connection is needed. */
  get isCluster(): boolean {
    return this.control.isCluster ?? false;
  }

  /**
   * Opens writer and control. In Cluster one live node is enough: streams on it do not wait for a node that stands still.
   * @throws ConnectTimeoutError after `timeout` ms, PermissionError at once when the credentials are refused.
   */
  async connect(timeout: number): Promise<void> {
    // Nest's client asks before every event and request; a time limit for each would be a twentieth of their cost.
    if (this.#status === 'connected') return;
    await Promise.all([this.writer.reached(timeout), this.control.reached(timeout)]);
  }

  /** Leases that a thread renews while the event loop is blocked. The caller closes it. */
  createRenewalClient(options: RenewalClientOptions): RenewalClient {
    return new RenewalClient(this.control, options);
  }

  /** @throws InvalidOptionError where that thread cannot connect to the same nodes */
  requireThreadable(): void {
    this.#factory.requireThreadable();
  }

  /** For a producer that must not share its connections, in Cluster one to each node. They count for the joint status. */
  createWriter(): OwnWriter {
    // Until the first use there is nothing to close, and afterwards nothing may be opened.
    let close = async (): Promise<void> => void (isEnded = true);
    let isEnded = false;
    const router = new LateRouter(this.#factory, () => {
      if (isEnded) throw closedError();
      if (!this.#prepareFirstUse()) {
        const connection = this.#single('writer');
        close = () => this.release(connection);
        this.#watch(connection);
        return new SingleRouter(connection);
      }
      const nodes = this.#createNodes();
      this.#ownNodes.add(nodes);
      close = async () => {
        this.#ownNodes.delete(nodes);
        await nodes.close();
        for (const connection of nodes.connections()) this.#forget(connection);
        this.#updateStatus();
      };
      return new ClusterRouter(nodes, 'writer');
    });
    return { router, close: () => close() };
  }

  /** A connection of its own for one read loop, which gives it back with {@link release}. @param key in Cluster, the key that is read */
  acquireReader(key: string): RedisConnection {
    const { isCluster } = this;
    const reader = isCluster ? this.#clusterNodes().readerOf(key) : this.#single('reader');
    this.#watch(reader);
    return reader;
  }

  /** In Cluster: reads a stream over the connection to its node that all such readers share. Its owner closes it. */
  acquireTracked(key: string): TrackedReader {
    this.#trackedReaders ??= new TrackedReaders(this.#clusterNodes());
    return this.#trackedReaders.open(key);
  }

  /** Routes the commands of a reader to it. */
  routerOf(reader: RedisConnection, key: string): ConnectionRouter {
    return this.#nodes ? new ReaderRouter(this.#nodes, reader, key) : new SingleRouter(reader);
  }

  /** Ends blocked reads of a reader, over the control connection to the same node. */
  interruptOf(reader: RedisConnection): ReadInterrupt {
    return new ReadInterrupt(reader, () => {
      const node = this.#nodes
        ? this.#nodes.connectionTo(reader.address, 'control')
        : this.control.find('')?.connection;
      return node?.channel;
    });
  }

  async release(connection: RedisConnection): Promise<void> {
    this.#forget(connection);
    await connection.close();
    this.#updateStatus();
  }

  /**
   * Reports once that the server, or its client, lacks something.
   * @param loss what does not work without it; undefined when there is another way
   */
  reportMissing(what: string, loss?: string): void {
    if (this.#reportedMissing.has(what)) return;
    this.#reportedMissing.add(what);
    if (loss !== undefined) this.#logger.warn(`Redis at ${this.address} does not offer ${what}: ${loss}`);
    else this.#logger.debug?.(`Redis at ${this.address} does not offer ${what}; another way is used`);
  }

  /** Closes every connection. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const nodes = [...this.#ownNodes, ...(this.#nodes ? [this.#nodes] : [])];
    await Promise.all([
      ...nodes.map((each) => each.close()),
      ...[...this.#open].map((connection) => connection.close()),
    ]);
    for (const connection of this.#open) this.#forget(connection);
    this.#setStatus('disconnected');
  }

  /** @throws ClosedError: a client that is created after {@link close} would never be closed */
  #requireOpen(): void {
    if (this.#isClosed) throw closedError();
  }

  /** Before any router is created; returns whether it will be that of a cluster. */
  #prepareFirstUse(): boolean {
    this.#requireOpen();
    this.emit('opening');
    const isCluster = this.#factory.isCluster();
    this.#isUsed = true;
    return isCluster;
  }

  #createRouter(role: ConnectionRole): ConnectionRouter {
    if (this.#prepareFirstUse()) return new ClusterRouter(this.#clusterNodes(), role);
    const connection = this.#single(role);
    this.#watch(connection);
    return new SingleRouter(connection);
  }

  #single(role: ConnectionRole): RedisConnection {
    const factory = this.#factory;
    const source: ClientSource = {
      // That of a client of the application is known when it has been made.
      get address() {
        return factory.address;
      },
      createClient: () => factory.createClient(role),
    };
    return new RedisConnection(source, role, this.#settings);
  }

  #clusterNodes(): ClusterNodes {
    return (this.#nodes ??= this.#createNodes());
  }

  #createNodes(): ClusterNodes {
    const nodes = new ClusterNodes(this.#factory, this.#times, this.#settings, {
      onConnection: (connection) => this.#watch(connection),
      onRetired: (connection) => {
        this.#forget(connection);
        this.#updateStatus();
      },
    });
    nodes.topology.on('failure', (error, attempt) => this.#reportFailure('discovery', error, attempt));
    return nodes;
  }

  #watch(connection: RedisConnection): void {
    this.#open.add(connection);
    connection.on('state', () => {
      if (connection.isRenewing) this.#reportRenewal(connection);
      this.#updateStatus();
    });
    connection.on('failure', (error, attempt) => {
      this.#updateStatus();
      this.#reportFailure(connection.role, error, attempt);
    });
    if (this.#isClosed) void connection.close();
  }

  #forget(connection: RedisConnection): void {
    if (this.#open.delete(connection)) this.#retiredReconnects += connection.reconnects;
  }

  #updateStatus(): void {
    // A connection that is made for the first time is no loss.
    const used = [...this.#open].filter(({ epoch }) => epoch > 0);
    const states = used.map(({ state, isRenewing }) => (isRenewing && state === 'connecting' ? 'ready' : state));
    if (states.length === 0 || states.includes('closed')) return;
    if (states.every((state) => state === 'ready')) this.#setStatus('connected');
    else if (this.#status === 'connected') this.#setStatus('reconnecting');
  }

  #setStatus(status: RedisStreamsStatus): void {
    if (this.#status === status || (this.#isClosed && status !== 'disconnected')) return;
    const before = this.#status;
    this.#status = status;
    if (status === 'reconnecting') {
      this.#lostAt = monotonicNow();
      this.#logger.warn(`Connection to Redis at ${this.address} lost, reconnecting`);
    } else if (status === 'connected' && before === 'reconnecting') {
      const seconds = ((monotonicNow() - this.#lostAt) / 1_000).toFixed(1);
      this.#logger.log(`Connected to Redis at ${this.address} again after ${seconds} s`);
    }
    this.emit('status', status);
  }

  #reportRenewal({ role, address }: RedisConnection): void {
    this.#logger.debug?.(`Redis at ${address} ended an idle connection (${role}); it is opened again`);
  }

  /**
   * The first failure and then every tenth: an outage of an hour must not fill a disk. What waiting does not cure is reported when
   * it first shows: the server may have been down before it came back with another certificate or password.
   */
  #reportFailure(role: string, error: Error, attempt: number): void {
    if (attempt === 1) this.#refusals.delete(role);
    const isNew = isMisconfiguration(error) && this.#refusals.get(role) !== error.message;
    if (isNew) this.#refusals.set(role, error.message);
    if (isNew || attempt % 10 === 1) this.#logger.warn(`${error.message} (${role}, attempt ${attempt})`);
  }
}

function closedError(): ClosedError {
  return new ClosedError('The connection to Redis');
}

/** Stands for a router until it is known whether the connection is a cluster, which for a function takes its first call. */
class LateRouter implements ConnectionRouter {
  readonly #factory: Pick<ClientFactory, 'address'>;
  readonly #create: () => ConnectionRouter;
  #router: ConnectionRouter | undefined;

  constructor(factory: Pick<ClientFactory, 'address'>, create: () => ConnectionRouter) {
    this.#factory = factory;
    this.#create = create;
  }

  get address(): string {
    return this.#factory.address;
  }

  get isCluster(): boolean | undefined {
    return this.#router?.isCluster;
  }

  get wasReached(): boolean {
    return this.#router?.wasReached ?? false;
  }

  laneOf(key: string): string {
    return this.#router?.laneOf(key) ?? '';
  }

  find(key: string): LiveRoute | undefined {
    return this.#router?.find(key);
  }

  async ready(key: string, timeout: number): Promise<LiveRoute> {
    return this.#resolve().ready(key, timeout);
  }

  async reached(timeout: number): Promise<void> {
    await this.#resolve().reached(timeout);
  }

  async readyNode(index: number, timeout: number): Promise<LiveNode | undefined> {
    return this.#resolve().readyNode(index, timeout);
  }

  connectionOf(keyOrIndex: string | number): RedisConnection | undefined {
    return this.#router?.connectionOf(keyOrIndex);
  }

  redirected(key: string, error: Error, route: LiveRoute): boolean {
    return this.#router?.redirected(key, error, route) ?? false;
  }

  failed(route: LiveRoute): void {
    this.#router?.failed(route);
  }

  #resolve(): ConnectionRouter {
    try {
      return (this.#router ??= outsideContext(() => this.#create()));
    } catch (error) {
      if (error instanceof RedisStreamsError) throw error;
      const cause = withoutSecrets(error);
      const rule = `must return a client when it is a function, but it threw: ${errorText(cause)}`;
      throw InvalidOptionError.withoutValue('connection', rule, cause);
    }
  }
}
