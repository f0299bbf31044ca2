import { Cluster, Redis } from 'ioredis';
import type { ClusterOptions, RedisOptions } from 'ioredis';

import { DEFAULT_REDIS_URL } from '../../constants.js';
import { InvalidOptionError } from '../../errors.js';
import { RECONNECT_BACKOFF, backoffDelay } from '../../shared/backoff.js';

/** An ioredis client of either kind. */
export type RedisClient = Redis | Cluster;

/** A Redis Cluster, named by some of its nodes. */
export interface ClusterConnection {
  cluster: Array<string | { host: string; port: number }>;
  options?: ClusterOptions;
}

/**
 * Where Redis is: a `redis://` or `rediss://` URL, ioredis options (standalone or Sentinel), a Cluster, or a function that
 * returns a client. The function is called once for each connection that is needed and again after every loss, and must
 * return a new client each time. The client belongs to this package from then on: reconnecting and resending are switched
 * off, because this package does both itself, and commands of the application are refused, because the socket is used
 * directly. A function that returns a Cluster is called once: the connections to its nodes are made with its options.
 */
export type RedisStreamsConnection = string | RedisOptions | ClusterConnection | (() => RedisClient);

/** What a connection is for: blocking reads, appends, or everything else (acks, claims, group management). */
export type ConnectionRole = 'reader' | 'writer' | 'control';

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
}

/** A blocked read answers up to 200 ms late; anything later means that the peer is gone. */
const BLOCK_MARGIN = 2_000;

/** Limit for ending a connection whose peer does not answer; everything that matters was awaited before. */
const DISCONNECT_TIMEOUT = 200;

/** Interval at which a server that loads its data is asked whether it is ready. */
const LOADING_POLL = 200;

/** @throws InvalidOptionError when the connection has no known form. */
export function clientFactory(connection: RedisStreamsConnection | undefined, times: ConnectionTimes): ClientFactory {
  const target = connection ?? process.env['REDIS_URL'] ?? DEFAULT_REDIS_URL;
  if (typeof target === 'string') return fromUrl(target, times);
  if (typeof target === 'function') return new GivenClients(target, times);
  if (typeof target !== 'object' || target === null || Array.isArray(target)) {
    throw new InvalidOptionError('connection', 'must be a URL, ioredis options, a cluster, or a function', target);
  }
  return 'cluster' in target ? fromCluster(target, times) : fromOptions(target, times);
}

/** Longest silence of the peer while a reply is due. */
export function replyTimeoutOf(role: ConnectionRole, { blockTimeout, replyTimeout }: ConnectionTimes): number {
  return role === 'reader' ? blockTimeout + BLOCK_MARGIN : replyTimeout;
}

/**
 * The options that this package sets on every connection. Without `retryStrategy` a lost connection settles all of its
 * commands; with it, and with `autoResendUnfulfilledCommands`, ioredis either repeats writes or leaves promises that never
 * settle. `protocol: 2` gives one reply shape in ioredis 5 and 6. Automatic pipelines would write commands later than they
 * are sent, and ioredis 6 ends the process when a command with Buffers as its reply gets into one.
 */
export function ownOptions(role: ConnectionRole, times: ConnectionTimes): RedisOptions & { protocol: 2 } {
  return {
    lazyConnect: true,
    protocol: 2,
    retryStrategy: () => null,
    reconnectOnError: null,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    enableOfflineQueue: true,
    enableAutoPipelining: false,
    maxRetriesPerRequest: null,
    // A server that loads its data estimates when it will be ready; right after its start the estimate can be far too long.
    maxLoadingRetryTime: LOADING_POLL,
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
    lazyConnect: true,
    enableOfflineQueue: true,
    redisOptions: {
      ...options.redisOptions,
      ...ownOptions('control', times),
      connectionName: 'nestjs-redis-streams:discovery',
    },
  };
}

function fromUrl(url: string, times: ConnectionTimes): ClientFactory {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !['redis:', 'rediss:'].includes(parsed.protocol)) {
    const shown = parsed ? parsed.protocol : withoutCredentials(url);
    throw new InvalidOptionError('connection', 'must be a redis:// or rediss:// URL', shown);
  }
  return {
    address: `${parsed.hostname || '127.0.0.1'}:${parsed.port || '6379'}`,
    keyPrefix: '',
    isCluster: () => false,
    createClient: (role) => new Redis(url, ownOptions(role, times)),
    createCluster: noCluster,
  };
}

/** A URL that cannot be parsed often has a password with characters that must be escaped. */
function withoutCredentials(url: string): string {
  return url.replace(/^([a-z]+:\/\/)?.*@/is, '$1…@').replace(/\?.*$/s, '?…');
}

function fromOptions(options: RedisOptions, times: ConnectionTimes): ClientFactory {
  // A command that the client gives up still takes its messages on the server, so these two must not be used.
  const { keyPrefix = '', commandTimeout, blockingTimeout, ...rest } = options;
  void commandTimeout;
  void blockingTimeout;
  const sentinels = options.sentinels?.map((sentinel) => `${sentinel.host ?? '127.0.0.1'}:${sentinel.port ?? 26379}`);
  return {
    address: sentinels
      ? `sentinels ${sentinels.join(', ')}`
      : (options.path ?? `${options.host ?? '127.0.0.1'}:${options.port ?? 6379}`),
    keyPrefix,
    isCluster: () => false,
    createClient: (role) =>
      new Redis({
        ...rest,
        ...ownOptions(role, times),
        connectTimeout: options.connectTimeout ?? times.connectTimeout,
        ...(sentinels ? { sentinelRetryStrategy: () => null, failoverDetector: options.failoverDetector ?? true } : {}),
      }),
    createCluster: noCluster,
  };
}

function fromCluster({ cluster, options = {} }: ClusterConnection, times: ConnectionTimes): ClientFactory {
  if (!Array.isArray(cluster) || cluster.length === 0) {
    throw new InvalidOptionError('connection.cluster', 'must name at least one node', cluster);
  }
  const { keyPrefix = '', ...rest } = options;
  return {
    address: `cluster ${cluster.map((node) => (typeof node === 'string' ? node : `${node.host}:${node.port}`)).join(', ')}`,
    keyPrefix,
    isCluster: () => true,
    createClient: () => {
      throw new TypeError('A cluster has clients for its nodes only');
    },
    createCluster: () => new Cluster(cluster, discoveryOptions(rest, times)),
  };
}

function noCluster(): never {
  throw new TypeError('The connection is no cluster');
}

/** Clients that a function of the user returns; whether they are clusters is known after its first call. */
class GivenClients implements ClientFactory {
  readonly address = 'the given client';
  readonly keyPrefix = '';
  readonly #make: () => RedisClient;
  readonly #times: ConnectionTimes;
  readonly #seen = new WeakSet<RedisClient>();
  /** The client of the first call, until it is used. */
  #first: RedisClient | undefined;
  #isCluster: boolean | undefined;

  constructor(make: () => RedisClient, times: ConnectionTimes) {
    this.#make = make;
    this.#times = times;
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
    // A client that is connecting already has asked for its protocol.
    const { protocol, lazyConnect, ...own } = ownOptions(role, this.#times);
    void lazyConnect;
    Object.assign(client.options, own, client.status === 'wait' ? { protocol } : {});
    return client;
  }

  createCluster(): Cluster {
    const cluster = this.#takeFirst() as Cluster;
    const { clusterRetryStrategy, retryDelayOnFailover, retryDelayOnClusterDown } = discoveryOptions({}, this.#times);
    Object.assign(cluster.options, { clusterRetryStrategy, retryDelayOnFailover, retryDelayOnClusterDown });
    cluster.options.slotsRefreshInterval ??= 5_000;
    return cluster;
  }

  #takeFirst(): RedisClient {
    const client = this.#first ?? this.#next();
    this.#first = undefined;
    return client;
  }

  #next(): RedisClient {
    const client = this.#make();
    if (typeof client?.sendCommand !== 'function') {
      throw new InvalidOptionError('connection', 'must return an ioredis client when it is a function', client);
    }
    if (this.#seen.has(client)) {
      throw new InvalidOptionError('connection', 'must return a new client on each call', 'the same client twice');
    }
    if (client.options.keyPrefix) {
      const rule = 'must return a client without keyPrefix; set our keyPrefix instead';
      throw new InvalidOptionError('connection', rule, client.options.keyPrefix);
    }
    this.#seen.add(client);
    return client;
  }
}
