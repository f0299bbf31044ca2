import { ClosedError, ConnectTimeoutError } from '../../errors.js';
import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';
import type { ClusterNodes } from './cluster-nodes.js';
import { ClusterRouter } from './connection-router.js';
import type { ConnectionRouter, LiveRoute } from './connection-router.js';
import type { RedisConnection } from './redis-connection.js';

/** Milliseconds after which a wait for a node looks whether it has been given up. */
const WAIT_STEP = 500;

/**
 * Reads of many streams in Cluster over one connection to each node. They never block: before a read the reader asks for the length
 * of the stream, so that the server announces the next change of the key (CLIENT TRACKING), and a stream is read again when it was
 * announced.
 *
 * It finds the readers whose streams a node announces. What may have hidden an announcement counts as one: the loss of a connection,
 * and a slot that has moved.
 */
export class TrackedReaders {
  readonly #nodes: ClusterNodes;
  readonly #readers = new Map<string, Set<TrackedReader>>();
  readonly #followed = new WeakSet<RedisConnection>();

  constructor(nodes: ClusterNodes) {
    this.#nodes = nodes;
    nodes.topology.on('change', () => this.#invalidateAll((reader) => !reader.isArmed));
  }

  open(key: string): TrackedReader {
    const reader = new TrackedReader(key, this.#nodes, this);
    const readers = this.#readers.get(key) ?? new Set();
    this.#readers.set(key, readers.add(reader));
    return reader;
  }

  /** The connections are closed with the last reader. */
  remove(reader: TrackedReader): void {
    const readers = this.#readers.get(reader.key);
    readers?.delete(reader);
    if (readers?.size === 0) this.#readers.delete(reader.key);
    if (this.#readers.size === 0) this.#nodes.closeAll('watcher');
  }

  /** Listens to the announcements over a connection. Idempotent. */
  follow(connection: RedisConnection): void {
    if (this.#followed.has(connection)) return;
    this.#followed.add(connection);
    connection.on('invalidated', (keys) => {
      if (!keys) return this.#invalidateAll();
      for (const key of keys) for (const reader of this.#readers.get(key) ?? []) reader.invalidate();
    });
    connection.on('state', () => this.#invalidateAll((reader) => !reader.isArmed));
  }

  #invalidateAll(isMeant: (reader: TrackedReader) => boolean = () => true): void {
    for (const readers of this.#readers.values())
      for (const reader of readers) if (isMeant(reader)) reader.invalidate();
  }
}

/** The lifetime of one client of a connection. */
type Lifetime = Pick<LiveRoute, 'connection' | 'epoch'>;

/**
 * The reads of one stream over connections that it shares with others: for its read loop it is the connection, and {@link router}
 * leads the commands of the loop to the node of the stream.
 */
export class TrackedReader {
  readonly key: string;
  readonly router: ConnectionRouter;
  readonly #readers: TrackedReaders;
  #isClosed = false;
  #seen: Lifetime | undefined;
  #epoch = 0;
  #wantsInvalidation = true;
  #invalidation: Deferred<void> = withResolvers<void>();
  /** Where the server announces the next change. */
  #armed: Lifetime | undefined;

  constructor(key: string, nodes: ClusterNodes, readers: TrackedReaders) {
    this.key = key;
    this.router = new WatchingRouter(nodes, this);
    this.#readers = readers;
  }

  /** Rises whenever a read may have been lost: with every client, with another node, and when a read fails with its connection. */
  get epoch(): number {
    this.router.find(this.key);
    return this.#epoch;
  }

  get reconnects(): number {
    return this.#seen?.connection.reconnects ?? 0;
  }

  get liveSince(): number | undefined {
    return this.router.find(this.key)?.connection.liveSince;
  }

  /** Whether the next change of the stream will be announced, as the last read has asked for. */
  get isArmed(): boolean {
    const route = this.#armed && this.router.find(this.key);
    return route !== undefined && !route.isAsking && isSame(route, this.#armed);
  }

  /** Resolves when the node of the stream is connected, however long that takes. */
  async ready(signal: AbortSignal): Promise<void> {
    while (!this.#isClosed && !signal.aborted) {
      if (this.router.find(this.key)) return;
      try {
        return void (await this.router.ready(this.key, WAIT_STEP));
      } catch (error) {
        if (!(error instanceof ConnectTimeoutError)) throw error;
      }
    }
    throw new ClosedError('The connection to Redis');
  }

  /** A read begins. @param wantsInvalidation whether the next change after it is to be announced */
  begin(wantsInvalidation: boolean): void {
    this.#wantsInvalidation = wantsInvalidation;
    this.#armed = undefined;
    this.#invalidation = withResolvers<void>();
  }

  /** Resolves when the stream may have changed since the last read began. */
  async invalidated(): Promise<void> {
    await this.#invalidation.promise;
  }

  invalidate(): void {
    this.#invalidation.resolve();
  }

  /** The node answers no read: it is connected again, for all streams that are read over the connection. */
  drop(): void {
    this.lost();
    this.#seen?.connection.drop(this.#seen.epoch);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.invalidate();
    this.#readers.remove(this);
  }

  /** Commands take this route from now on. */
  follow(route: LiveRoute): void {
    if (isSame(route, this.#seen)) return;
    this.#seen = { connection: route.connection, epoch: route.epoch };
    this.#epoch += 1;
    this.#readers.follow(route.connection);
  }

  /** A read has failed with its connection. */
  lost(): void {
    this.#epoch += 1;
  }

  /**
   * In the same step before a read: whatever is added after what it returns is announced. Redis follows the keys of commands that
   * only read, and XREADGROUP is none of them.
   */
  arm({ connection, channel, epoch, isAsking }: LiveRoute): void {
    if (!this.#wantsInvalidation || isAsking || !connection.isTracking) return;
    channel.command(['XLEN', this.key], 'utf8').then(
      () => (this.#armed = { connection, epoch }),
      // Without the permission, or on another node by now: the loop looks again by itself.
      () => undefined,
    );
  }
}

/** Leads the commands of one reader to the node of its stream. */
class WatchingRouter extends ClusterRouter {
  readonly #reader: TrackedReader;

  constructor(nodes: ClusterNodes, reader: TrackedReader) {
    super(nodes, 'watcher');
    this.#reader = reader;
  }

  override find(key: string): LiveRoute | undefined {
    const route = super.find(key);
    if (!route) return undefined;
    this.#reader.follow(route);
    return { ...route, beforeRead: () => this.#reader.arm(route) };
  }

  override failed(): void {
    this.#reader.lost();
    super.failed();
  }
}

function isSame(one: Lifetime, other: Lifetime | undefined): boolean {
  return one.connection === other?.connection && one.epoch === other.epoch;
}
