import type { EventEmitter } from 'node:events';

import { ClosedError, ConnectionError, ConnectTimeoutError } from '../../errors.js';
import { withResolvers } from '../../shared/deferred.js';
import type { CommandChannel } from '../wire/command-channel.js';
import type { ConnectionRole } from './client-factory.js';
import type { ClusterNodes } from './cluster-nodes.js';
import { hashSlot } from './hash-slot.js';
import { isMisconfiguration } from './connect-failure.js';
import type { RedisConnection } from './redis-connection.js';

/** The connection that serves a key. */
interface Route {
  readonly connection: RedisConnection;
  /** Each command needs ASKING before it. */
  readonly isAsking: boolean;
  /** Called in the step that writes a read of a stream, before it is written. */
  readonly beforeRead?: (() => void) | undefined;
}

/** A route whose connection is live. */
export interface LiveRoute extends Route {
  readonly channel: CommandChannel;
  /** Epoch of the connection to which the channel belongs. */
  readonly epoch: number;
}

/** A node that serves keys, and how many such nodes there are. */
export interface LiveNode {
  readonly route: LiveRoute;
  readonly nodes: number;
}

/** Finds the connection that serves a key: one for all, or in Cluster one for each node. */
export interface ConnectionRouter {
  /** For messages; never contains credentials. */
  readonly address: string;
  /** Undefined until a given function has been asked for its first client. */
  readonly isCluster: boolean | undefined;
  /** Whether a connection was ever live. */
  readonly wasReached: boolean;
  /**
   * Names the connection that serves a key, so that commands over one connection can be kept together. The empty name
   * stands for the only connection, and in Cluster for a connection that is not known before Redis is reached.
   */
  laneOf(key: string): string;
  /** The live connection of a key; undefined while there is none. */
  find(key: string): LiveRoute | undefined;
  /**
   * Resolves when the connection of a key is live.
   * @throws ConnectTimeoutError after `timeout` ms; PermissionError when the first connection fails for its credentials;
   * InvalidOptionError when its client cannot be used; ClosedError
   */
  ready(key: string, timeout: number): Promise<LiveRoute>;
  /** Resolves when Redis is reached; in Cluster, when one of the nodes that serve keys is. Throws as {@link ready}. */
  reached(timeout: number): Promise<void>;
  /**
   * The live connection to one of the nodes that serve keys, by its place in a fixed order; undefined when there are not so
   * many.
   */
  readyNode(index: number, timeout: number): Promise<LiveNode | undefined>;
  /**
   * The connection to the node that serves a key, or to one of the nodes that serve keys, as in {@link readyNode}. Undefined where no such
   * node is known.
   */
  connectionOf(keyOrIndex: string | number): RedisConnection | undefined;
  /** Notes a redirection; true when the command can be sent again to another node. */
  redirected(key: string, error: Error, route: LiveRoute): boolean;
  /** A command failed because its connection broke, or because the node cannot serve slots at present. */
  failed(route: LiveRoute): void;
}

/** All keys are served by one connection. */
export class SingleRouter implements ConnectionRouter {
  readonly isCluster = false;
  readonly #connection: RedisConnection;

  constructor(connection: RedisConnection) {
    this.#connection = connection;
  }

  get address(): string {
    return this.#connection.address;
  }

  get wasReached(): boolean {
    return this.#connection.epoch > 0;
  }

  laneOf(): string {
    return '';
  }

  find(): LiveRoute | undefined {
    return liveRoute({ connection: this.#connection, isAsking: false });
  }

  /** @param find how the live connection becomes a route */
  async ready(_key: string, timeout: number, find = () => this.find()): Promise<LiveRoute> {
    const connection = this.#connection;
    return untilLive({
      find,
      open: () => connection.open(),
      sources: () => [connection],
      isClosed: () => connection.state === 'closed',
      failure: () => (connection.epoch === 0 ? connection.lastFailure : undefined),
      lastFailure: () => connection.lastFailure,
      address: this.address,
      timeout,
    });
  }

  async reached(timeout: number): Promise<void> {
    await this.ready('', timeout);
  }

  async readyNode(index: number, timeout: number): Promise<LiveNode | undefined> {
    return index === 0 ? { route: await this.ready('', timeout), nodes: 1 } : undefined;
  }

  connectionOf(): RedisConnection {
    return this.#connection;
  }

  redirected(): boolean {
    return false;
  }

  failed(): void {
    // The connection replaces its client by itself.
  }
}

/** In Cluster each key is served by the node that has its slot. */
export class ClusterRouter implements ConnectionRouter {
  readonly isCluster = true;
  readonly #nodes: ClusterNodes;
  readonly #role: ConnectionRole;

  constructor(nodes: ClusterNodes, role: ConnectionRole) {
    this.#nodes = nodes;
    this.#role = role;
  }

  get address(): string {
    return this.#nodes.address;
  }

  get wasReached(): boolean {
    return this.#nodes.wasReached;
  }

  /** A slot without a node has a lane of its own, because it may stay without one while other slots are served. */
  laneOf(key: string): string {
    const { topology } = this.#nodes;
    if (!topology.isKnown) return '';
    return topology.targetOf(key)?.node ?? `slot ${hashSlot(key)}`;
  }

  find(key: string): LiveRoute | undefined {
    const target = this.#nodes.topology.targetOf(key);
    if (!target) return undefined;
    return liveRoute({ connection: this.#nodes.connectionTo(target.node, this.#role), isAsking: target.isAsking });
  }

  async ready(key: string, timeout: number): Promise<LiveRoute> {
    return this.#untilLive(() => this.find(key), timeout);
  }

  /** Opens the connections to all nodes, of which one may stand still. */
  async reached(timeout: number): Promise<void> {
    const { topology } = this.#nodes;
    const isLive = (route: LiveRoute | undefined): boolean => route !== undefined;
    await this.#untilLive(() => topology.masters().map(this.#toNode).find(isLive), timeout);
  }

  async readyNode(index: number, timeout: number): Promise<LiveNode | undefined> {
    const { topology } = this.#nodes;
    await this.reached(timeout);
    const masters = topology.masters();
    const node = masters[index];
    if (node === undefined) return undefined;
    return { route: await this.#untilLive(() => this.#toNode(node), timeout), nodes: masters.length };
  }

  connectionOf(keyOrIndex: string | number): RedisConnection | undefined {
    const { topology } = this.#nodes;
    const node = typeof keyOrIndex === 'number' ? topology.masters()[keyOrIndex] : topology.targetOf(keyOrIndex)?.node;
    return node === undefined ? undefined : this.#nodes.connectionTo(node, this.#role);
  }

  redirected(key: string, error: Error, { connection }: LiveRoute): boolean {
    return this.#nodes.topology.redirected(key, error, connection.address);
  }

  failed(): void {
    this.#nodes.topology.refresh();
  }

  /**
   * Why the cluster cannot be used, before any node was reached. The nodes have other addresses than those by which it was
   * discovered, and may have other certificates and users; one that refuses is odd if another one does not.
   */
  #refusal(): Error | undefined {
    const { topology, lastFailure } = this.#nodes;
    const masters = topology.masters();
    if (masters.length === 0 || !isMisconfiguration(lastFailure)) return lastFailure;
    const failures = masters.map((node) => this.#nodes.connectionTo(node, this.#role).lastFailure);
    return failures.every(isMisconfiguration) ? lastFailure : undefined;
  }

  readonly #toNode = (node: string): LiveRoute | undefined =>
    liveRoute({ connection: this.#nodes.connectionTo(node, this.#role), isAsking: false });

  #untilLive(find: () => LiveRoute | undefined, timeout: number): Promise<LiveRoute> {
    const nodes = this.#nodes;
    return untilLive({
      find,
      open: () => nodes.open(),
      sources: () => [nodes.topology, ...nodes.connections()],
      isClosed: () => nodes.isClosed,
      failure: () => (nodes.wasReached ? undefined : this.#refusal()),
      lastFailure: () => nodes.lastFailure,
      address: nodes.address,
      timeout,
    });
  }
}

/** The reader connection of one key in Cluster, which follows the key to another node by a new client. */
export class ReaderRouter implements ConnectionRouter {
  readonly isCluster = true;
  readonly #nodes: ClusterNodes;
  readonly #connection: RedisConnection;
  readonly #key: string;

  constructor(nodes: ClusterNodes, connection: RedisConnection, key: string) {
    this.#nodes = nodes;
    this.#connection = connection;
    this.#key = key;
  }

  get address(): string {
    return this.#connection.address;
  }

  get wasReached(): boolean {
    return this.#connection.epoch > 0;
  }

  laneOf(): string {
    return '';
  }

  find(): LiveRoute | undefined {
    const connection = this.#connection;
    const target = this.#nodes.topology.targetOf(this.#key);
    return liveRoute({ connection, isAsking: target?.isAsking === true && target.node === connection.address });
  }

  async ready(_key: string, timeout: number): Promise<LiveRoute> {
    return new SingleRouter(this.#connection).ready('', timeout, () => this.find());
  }

  async reached(timeout: number): Promise<void> {
    await this.ready('', timeout);
  }

  async readyNode(index: number, timeout: number): Promise<LiveNode | undefined> {
    return index === 0 ? { route: await this.ready('', timeout), nodes: 1 } : undefined;
  }

  connectionOf(): RedisConnection {
    return this.#connection;
  }

  /** The read fails all the same: what it had taken is looked for over the next connection. */
  redirected(key: string, error: Error, { connection, epoch }: LiveRoute): boolean {
    if (this.#nodes.topology.redirected(key, error, connection.address)) connection.drop(epoch);
    return false;
  }

  failed({ connection, epoch }: LiveRoute): void {
    this.#nodes.topology.refresh();
    connection.drop(epoch);
  }
}

function liveRoute({ connection, isAsking }: Route): LiveRoute | undefined {
  const { channel, epoch } = connection;
  return channel && { connection, isAsking, channel, epoch };
}

interface Wait {
  readonly find: () => LiveRoute | undefined;
  readonly open: () => void;
  /** After one of their `state`, `change` and `failure` events {@link find} may have another result. */
  readonly sources: () => readonly EventEmitter[];
  readonly isClosed: () => boolean;
  /** The failure of a first attempt to connect. */
  readonly failure: () => Error | undefined;
  readonly lastFailure: () => Error | undefined;
  readonly address: string;
  readonly timeout: number;
}

const EVENTS = ['state', 'change', 'failure'] as const;

async function untilLive(wait: Wait): Promise<LiveRoute> {
  wait.open();
  const limit = AbortSignal.timeout(Math.max(0, Math.ceil(wait.timeout)));
  for (;;) {
    if (wait.isClosed()) throw new ClosedError('The connection to Redis');
    const route = wait.find();
    if (route) return route;
    const failure = wait.failure();
    if (isMisconfiguration(failure)) throw failure;
    if (limit.aborted) throw connectTimeout(wait);
    await nextEvent(wait.sources(), limit);
  }
}

function connectTimeout({ lastFailure, address, timeout }: Wait): ConnectTimeoutError {
  const failure = lastFailure();
  // The first attempt may still wait, for a host or a server that does not answer.
  const cause = failure instanceof ConnectionError ? failure.cause : (failure ?? new Error('it does not answer'));
  return new ConnectTimeoutError(address, timeout, cause);
}

async function nextEvent(sources: readonly EventEmitter[], limit: AbortSignal): Promise<void> {
  const { promise, resolve } = withResolvers<void>();
  const onEvent = (): void => resolve();
  for (const source of sources) for (const event of EVENTS) source.on(event, onEvent);
  limit.addEventListener('abort', onEvent, { once: true });
  await promise;
  for (const source of sources) for (const event of EVENTS) source.off(event, onEvent);
  limit.removeEventListener('abort', onEvent);
}
