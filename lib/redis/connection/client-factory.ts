import type { Cluster, ClusterOptions, Redis, RedisOptions } from 'ioredis';

import { InvalidOptionError } from '../../errors.js';
import { RECONNECT_BACKOFF, backoffDelay } from '../../shared/backoff.js';
import { addressOf, checkGivenClient, connectionTarget } from './connection-target.js';
import type { ConnectionTarget, RedisClient, RedisStreamsConnection } from './connection-target.js';
import { requireThreadable } from './node-access.js';
import * as ioredis from './ioredis.js';

/**
 * What a connection is for: blocking reads, appends, everything else (acks, claims, group management), or reads that do not block,
 * of many streams whose changes the server announces.
 */
export type ConnectionRole = 'reader' | 'writer' | 'control' | 'watcher';

/** Times that the connection layer adds to the user's configuration, in milliseconds. */
export interface ConnectionTimes {
  /** Limit for TCP, TLS, AUTH and the readiness check together. */
  readonly connectTimeout: number;
  /** How long a command may go without any reply before its connection counts as dead. */
  readonly replyTimeout: number;
  /** Longest BLOCK of a read. */
  readonly blockTimeout: number;
}

/** Makes ioredis clients. */
export interface ClientFactory {
  /** For messages; never contains credentials. */
  readonly address: string;
  /** ioredis's own `keyPrefix`, which is taken out of the options because it does not reach every command. */
  readonly keyPrefix: string;
  /** Whether this is a cluster; calls a given function for the first time to find out. @throws InvalidOptionError */
  isCluster(): boolean;
  /** A client for one attempt to connect; never for a cluster. */
  createClient(role: ConnectionRole): Redis;
  /** The client that discovers the nodes and slots of a cluster. */
  createCluster(): Cluster;
  /** @throws InvalidOptionError where another thread cannot connect to the same nodes */
  requireThreadable(): void;
}

/** A blocked read answers up to 200 ms late; anything later means that the peer is gone. */
const BLOCK_MARGIN = 2_000;

/** Limit for ending a connection whose peer does not answer; everything that matters was awaited before. */
const DISCONNECT_TIMEOUT = 200;

/** @throws InvalidOptionError for a connection that cannot work */
export function clientFactory(connection: RedisStreamsConnection | undefined, times: ConnectionTimes): ClientFactory {
  const target = connectionTarget(connection);
  switch (target.kind) {
    case 'server':
      return serverClients(target, times);
    case 'cluster':
      return clusterClients(target, times);
    case 'function':
      return new GivenClients(target.make, times);
  }
}

/** Longest silence of the peer while a reply is due. */
export function replyTimeoutOf(role: ConnectionRole, { blockTimeout, replyTimeout }: ConnectionTimes): number {
  return role === 'reader' ? blockTimeout + BLOCK_MARGIN : replyTimeout;
}

/**
 * The options that this package sets on every client, also on one of the application:
 *
 * - Without `retryStrategy` a lost connection settles all of its commands; with it, and with
 *   `autoResendUnfulfilledCommands`, ioredis either repeats writes or leaves promises that never settle.
 * - A command that the client gives up (`commandTimeout`, `blockingTimeout`) still takes its messages on the server.
 * - `protocol: 2`, `replyMapping` and `stringNumbers` give replies one shape in ioredis 5 and 6.
 * - `keyPrefix` does not reach every command; ours does.
 * - Automatic pipelines would write commands later than they are sent, and ioredis 6 ends the process when a command with
 *   Buffers as its reply gets into one.
 */
export function ownOptions(role: ConnectionRole, times: ConnectionTimes): RedisOptions & { protocol: 2 } {
  return {
    lazyConnect: true,
    protocol: 2,
    replyMapping: 'legacy',
    stringNumbers: false,
    keyPrefix: '',
    readOnly: false,
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
    reconnectOnError: null,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    enableOfflineQueue: true,
    enableAutoPipelining: false,
    maxRetriesPerRequest: null,
    commandTimeout: undefined,
    blockingTimeout: undefined,
    connectTimeout: times.connectTimeout,
    disconnectTimeout: DISCONNECT_TIMEOUT,
    socketTimeout: replyTimeoutOf(role, times),
    connectionName: `nestjs-redis-streams:${role}`,
  };
}

/**
 * The options of a client that only discovers a cluster: no message passes through it, so it may reconnect by itself, and
 * no command is repeated by it.
 */
function discoveryOptions(options: ClusterOptions, times: ConnectionTimes): ClusterOptions {
  return {
    slotsRefreshInterval: 5_000,
    slotsRefreshTimeout: 3_000,
    ...options,
    clusterRetryStrategy: (attempt: number) => backoffDelay(RECONNECT_BACKOFF, attempt),
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    // It would need INFO of a node, and CLUSTER INFO. The connections to the nodes find out whether they can be used.
    enableReadyCheck: false,
    lazyConnect: true,
    enableOfflineQueue: true,
    redisOptions: {
      ...options.redisOptions,
      ...ownOptions('control', times),
      connectionName: 'nestjs-redis-streams:discovery',
    },
  };
}

function serverClients(target: Extract<ConnectionTarget, { kind: 'server' }>, times: ConnectionTimes): ClientFactory {
  const { address, keyPrefix, options } = target;
  return {
    address,
    keyPrefix,
    requireThreadable: () => requireThreadable(target),
    isCluster: () => false,
    createClient: (role) =>
      new ioredis.Redis({
        failoverDetector: options.sentinels !== undefined,
        ...options,
        ...ownOptions(role, times),
        connectTimeout: options.connectTimeout ?? times.connectTimeout,
      }),
    createCluster: noCluster,
  };
}

function clusterClients(target: Extract<ConnectionTarget, { kind: 'cluster' }>, times: ConnectionTimes): ClientFactory {
  const { address, keyPrefix, nodes, options } = target;
  return {
    address,
    keyPrefix,
    requireThreadable: () => requireThreadable(target),
    isCluster: () => true,
    createClient: () => {
      throw new TypeError('A cluster has clients for its nodes only');
    },
    // ioredis completes the objects of the nodes.
    createCluster: () =>
      new ioredis.Cluster(
        nodes.map((node) => ({ ...node })),
        discoveryOptions(options, times),
      ),
  };
}

function noCluster(): never {
  throw new TypeError('The connection is no cluster');
}

/** Clients that a function of the user returns; whether they are clusters is known after its first call. */
class GivenClients implements ClientFactory {
  readonly keyPrefix = '';
  #address: string | undefined;
  readonly #make: () => unknown;
  readonly #times: ConnectionTimes;
  readonly #seen = new WeakSet<RedisClient>();
  /** The client of the first call, until it is used. */
  #first: RedisClient | undefined;
  #isCluster: boolean | undefined;

  constructor(make: () => unknown, times: ConnectionTimes) {
    this.#make = make;
    this.#times = times;
  }

  /** Known when the function has been called. */
  get address(): string {
    return this.#address ?? 'the given client';
  }

  isCluster(): boolean {
    if (this.#isCluster === undefined) {
      this.#first = this.#next();
      this.#isCluster = this.#first.isCluster;
    }
    return this.#isCluster;
  }

  createClient(role: ConnectionRole): Redis {
    const client = this.isCluster() ? noCluster() : (this.#takeFirst() as Redis);
    const { lazyConnect, protocol, replyMapping, ...own } = ownOptions(role, this.#times);
    void lazyConnect;
    // A client that is connecting already has asked for its protocol, and a first Sentinel, whose answer nothing here has
    // heard: all are asked once more before it gives up.
    const ofWaiting = { protocol, replyMapping };
    const ofConnecting = { sentinelRetryStrategy: (round: number) => (round === 1 ? 0 : null) };
    Object.assign(client.options, own, client.status === 'wait' ? ofWaiting : ofConnecting);
    return client;
  }

  requireThreadable(): void {
    requireThreadable({ kind: 'function', make: this.#make as () => RedisClient });
  }

  createCluster(): Cluster {
    const cluster = this.#takeFirst() as Cluster;
    const { clusterRetryStrategy, retryDelayOnFailover, retryDelayOnClusterDown } = discoveryOptions({}, this.#times);
    const own = { clusterRetryStrategy, retryDelayOnFailover, retryDelayOnClusterDown, enableReadyCheck: false };
    Object.assign(cluster.options, own);
    cluster.options.slotsRefreshInterval ??= 5_000;
    return cluster;
  }

  #takeFirst(): RedisClient {
    const client = this.#first ?? this.#next();
    this.#first = undefined;
    return client;
  }

  /** @throws InvalidOptionError; a client that is refused is ended, because it may have begun to connect */
  #next(): RedisClient {
    const client: unknown = this.#make();
    if (this.#seen.has(client as RedisClient)) {
      throw InvalidOptionError.withoutValue(
        'connection',
        'must return a new client on each call; got the same one twice',
      );
    }
    try {
      checkGivenClient(client);
      if (this.#isCluster !== undefined && client.isCluster !== this.#isCluster) {
        throw InvalidOptionError.withoutValue(
          'connection',
          'must return clients of one kind; got a Redis and a Cluster',
        );
      }
    } catch (error) {
      endRefused(client);
      throw error;
    }
    this.#seen.add(client);
    this.#address ??= client.isCluster ? 'the given cluster' : addressOf((client as Redis).options);
    return client;
  }
}

/** What a function has made would live on, and keep the process alive, without an owner. */
function endRefused(refused: unknown): void {
  const client = (refused ?? {}) as { then?: unknown; on?: unknown; disconnect?: unknown };
  if (typeof client.then === 'function') Promise.resolve(refused).then(endRefused, () => undefined);
  if (typeof client.on !== 'function' || typeof client.disconnect !== 'function') return;
  client.on('error', () => undefined);
  client.disconnect();
}
