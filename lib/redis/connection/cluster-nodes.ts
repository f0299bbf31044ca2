import type { Redis } from 'ioredis';

import type { ClientFactory, ConnectionRole, ConnectionTimes } from './client-factory.js';
import { ClusterTopology } from './cluster-topology.js';
import { connectFailure } from './connect-failure.js';
import { RedisConnection } from './redis-connection.js';
import type { ClientSource, ConnectionSettings } from './redis-connection.js';

/** Interval at which connections to nodes that serve no slots any more are looked at. */
const RETIRE_INTERVAL = 1_000;

/**
 * The connections to the nodes of a cluster: for each node one that writes and one for control commands, made when they are
 * first needed, and one for each reader. Each is a standalone connection to its node. A connection to a node that serves no
 * slots any more is closed once its replies have arrived.
 */
export class ClusterNodes {
  readonly address: string;
  readonly topology: ClusterTopology;
  readonly #settings: ConnectionSettings;
  readonly #onConnection: (connection: RedisConnection) => void;
  readonly #onRetired: (connection: RedisConnection) => void;
  /** By role and node. */
  readonly #connections = new Map<string, RedisConnection>();
  #retireTimer: NodeJS.Timeout | undefined;
  #wasReached = false;
  #isClosed = false;

  constructor(
    factory: ClientFactory,
    times: ConnectionTimes,
    settings: ConnectionSettings,
    listeners: {
      onConnection: (connection: RedisConnection) => void;
      onRetired: (connection: RedisConnection) => void;
    },
  ) {
    this.address = factory.address;
    this.#settings = settings;
    this.#onConnection = listeners.onConnection;
    this.#onRetired = listeners.onRetired;
    this.topology = new ClusterTopology(factory, times);
    this.topology.on('change', () => this.#retire());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether a connection to a node was ever live. Slots may be known of a node while none can be reached at its address. */
  get wasReached(): boolean {
    return this.#wasReached;
  }

  /** Why the cluster cannot be reached: the last failure of discovery, or of a connection to a node. */
  get lastFailure(): Error | undefined {
    const { lastFailure } = this.topology;
    if (!lastFailure) return [...this.#connections.values()].find((connection) => connection.lastFailure)?.lastFailure;
    return connectFailure(`Redis at ${this.address}`, lastFailure);
  }

  open(): void {
    this.topology.open();
  }

  connections(): readonly RedisConnection[] {
    return [...this.#connections.values()];
  }

  /** The connection to a node, which is opened. */
  connectionTo(node: string, role: ConnectionRole): RedisConnection {
    const name = `${role} ${node}`;
    let connection = this.#connections.get(name);
    if (!connection) {
      const source: ClientSource = { address: node, createClient: () => this.topology.createClient(node, role) };
      connection = this.#create(source, role);
      this.#connections.set(name, connection);
      this.#onConnection(connection);
      connection.open();
    }
    return connection;
  }

  /** A connection of its own to the node that serves a key, which it finds again after every loss. */
  readerOf(key: string): RedisConnection {
    return this.#create(new KeySource(this, key), 'reader');
  }

  /** Closes the connections of a role. */
  closeAll(role: ConnectionRole): void {
    for (const [name, connection] of this.#connections) if (connection.role === role) this.#remove(name, connection);
  }

  /** Closes all but the readers, which belong to their loops. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retireTimer);
    this.topology.close();
    await Promise.all(this.connections().map((connection) => connection.close()));
  }

  #create(source: ClientSource, role: ConnectionRole): RedisConnection {
    const connection = new RedisConnection(source, role, this.#settings);
    // A node that cannot be reached may have been replaced.
    connection.on('failure', () => this.topology.refresh());
    connection.on('state', (state) => {
      if (state === 'ready') this.#wasReached = true;
      if (state !== 'connecting' || connection.epoch === 0 || connection.isRenewing) return;
      this.topology.refresh();
      // It has no replies under way any more: if its node was replaced, its loss is no loss of the cluster.
      this.#retire();
    });
    return connection;
  }

  /** Closes connections to nodes without slots; those with replies under way are looked at again. */
  #retire(): void {
    clearTimeout(this.#retireTimer);
    if (this.#isClosed || !this.topology.isKnown) return;
    const serving = this.topology.servingNodes();
    if (serving.size === 0) return;
    let isAnyLeft = false;
    for (const [name, connection] of this.#connections) {
      if (serving.has(connection.address)) continue;
      if (connection.channel && connection.channel.waiting > 0) {
        isAnyLeft = true;
        continue;
      }
      this.#remove(name, connection);
    }
    if (isAnyLeft) this.#retireTimer = setTimeout(() => this.#retire(), RETIRE_INTERVAL);
  }

  #remove(name: string, connection: RedisConnection): void {
    this.#connections.delete(name);
    this.#onRetired(connection);
    void connection.close();
  }
}

/** Makes clients for the node that serves a key at the time. */
class KeySource implements ClientSource {
  readonly #nodes: ClusterNodes;
  readonly #key: string;
  #node: string | undefined;

  constructor(nodes: ClusterNodes, key: string) {
    this.#nodes = nodes;
    this.#key = key;
  }

  get address(): string {
    return this.#node ?? this.#nodes.address;
  }

  createClient(): Redis {
    const { topology } = this.#nodes;
    topology.open();
    this.#node = topology.targetOf(this.#key)?.node;
    if (this.#node === undefined) throw topology.lastFailure ?? new Error(`no node serves '${this.#key}' at present`);
    return topology.createClient(this.#node, 'reader');
  }
}
