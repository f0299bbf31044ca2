import { Cluster, Redis } from 'ioredis';
import type { ClusterOptions, RedisOptions } from 'ioredis';

import { DEFAULT_REDIS_URL } from '../../constants.js';
import { InvalidOptionError } from '../../errors.js';
import { CLUSTER_SETTINGS, guardCluster } from './cluster-client.js';

/** An ioredis client of either kind. */
export type RedisClient = Redis | Cluster;

/** A Redis Cluster, named by some of its nodes. */
export interface ClusterConnection {
  cluster: Array<string | { host: string; port: number }>;
  options?: ClusterOptions;
}

/**
 * Where Redis is: a `redis://` or `rediss://` URL, ioredis options (standalone or Sentinel), a Cluster, or a function that
 * makes a client. The function is called once for each connection needed, again after every loss, and must return a new
 * client each time; reconnecting and resending are switched off on it, because this package does both itself.
 */
export type RedisStreamsConnection = string | RedisOptions | ClusterConnection | (() => RedisClient);

/** What a connection is for: blocking reads, appends, or everything else (acks, claims, group management). */
export type ConnectionRole = 'reader' | 'writer' | 'control';

/** Times that the connection layer adds to whatever the user configured, in milliseconds. */
export interface ConnectionTimes {
  /** How long TCP, TLS, AUTH and the readiness check may take together. */
  readonly connectTimeout: number;
  /** How long a command may go without any reply before its connection counts as dead. */
  readonly replyTimeout: number;
  /** Longest BLOCK of a read. */
  readonly blockTimeout: number;
}

/** Makes the ioredis client of one attempt to connect. */
export interface ClientFactory {
  /** For messages; never contains credentials. */
  readonly address: string;
  /** ioredis's own `keyPrefix`, which is taken out of the options because it does not reach every command. */
  readonly keyPrefix: string;
  create(role: ConnectionRole): RedisClient;
}

/** A blocked read answers up to 200 ms late; anything later means that the peer is gone. */
const BLOCK_MARGIN = 2_000;

/** How long a peer that does not answer may hold up the end of a connection; whatever mattered was awaited before. */
const DISCONNECT_TIMEOUT = 200;

/** How often a server that loads its data is asked whether it is ready. */
const LOADING_POLL = 200;

/** @throws InvalidOptionError when the connection is of no known form. */
export function clientFactory(connection: RedisStreamsConnection | undefined, times: ConnectionTimes): ClientFactory {
  const target = connection ?? process.env['REDIS_URL'] ?? DEFAULT_REDIS_URL;
  if (typeof target === 'string') return fromUrl(target, times);
  if (typeof target === 'function') return fromFunction(target, times);
  if (typeof target !== 'object' || target === null || Array.isArray(target)) {
    throw new InvalidOptionError('connection', 'must be a URL, ioredis options, a cluster, or a function', target);
  }
  return 'cluster' in target ? fromCluster(target, times) : fromOptions(target, times);
}

function fromUrl(url: string, times: ConnectionTimes): ClientFactory {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !['redis:', 'rediss:'].includes(parsed.protocol)) {
    throw new InvalidOptionError('connection', 'must be a redis:// or rediss:// URL', parsed ? parsed.protocol : url);
  }
  return {
    address: `${parsed.hostname || '127.0.0.1'}:${parsed.port || '6379'}`,
    keyPrefix: '',
    create: (role) => new Redis(url, ownOptions(role, times)),
  };
}

function fromOptions(options: RedisOptions, times: ConnectionTimes): ClientFactory {
  // A command that is given up by the client still takes its messages on the server, so these two must not be used.
  const { keyPrefix = '', commandTimeout, blockingTimeout, ...rest } = options;
  void commandTimeout;
  void blockingTimeout;
  const sentinels = options.sentinels?.map((sentinel) => `${sentinel.host ?? '127.0.0.1'}:${sentinel.port ?? 26379}`);
  return {
    address: sentinels
      ? `sentinels ${sentinels.join(', ')}`
      : (options.path ?? `${options.host ?? '127.0.0.1'}:${options.port ?? 6379}`),
    keyPrefix,
    create: (role) =>
      new Redis({
        ...rest,
        ...ownOptions(role, times),
        connectTimeout: options.connectTimeout ?? times.connectTimeout,
        ...(sentinels ? { sentinelRetryStrategy: () => null, failoverDetector: options.failoverDetector ?? true } : {}),
      }),
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
    create: (role) =>
      guardCluster(
        new Cluster(cluster, {
          slotsRefreshInterval: 5_000,
          slotsRefreshTimeout: 3_000,
          ...rest,
          ...CLUSTER_SETTINGS,
          lazyConnect: true,
          enableOfflineQueue: true,
          redisOptions: { ...options.redisOptions, ...ownOptions(role, times) },
        }),
        role === 'writer',
      ),
  };
}

function fromFunction(make: () => RedisClient, times: ConnectionTimes): ClientFactory {
  const seen = new WeakSet<RedisClient>();
  return {
    address: 'the given client',
    keyPrefix: '',
    create(role) {
      const client = make();
      if (typeof client?.sendCommand !== 'function') {
        throw new InvalidOptionError('connection', 'must return an ioredis client when it is a function', client);
      }
      if (seen.has(client)) {
        throw new InvalidOptionError('connection', 'must return a new client on each call', 'the same client twice');
      }
      if (client.options.keyPrefix) {
        throw new InvalidOptionError(
          'connection',
          'must return a client without keyPrefix; set our keyPrefix instead',
          client.options.keyPrefix,
        );
      }
      seen.add(client);
      takeOver(client, role, times);
      return client;
    },
  };
}

export function isCluster(client: RedisClient): client is Cluster {
  return client.isCluster;
}

/** A client made by somebody else reconnects and resends by default; both would run writes twice. */
function takeOver(client: RedisClient, role: ConnectionRole, times: ConnectionTimes): void {
  if (isCluster(client)) {
    Object.assign(client.options, CLUSTER_SETTINGS);
    guardCluster(client, role === 'writer', ownOptions(role, times));
  } else {
    Object.assign(client.options, ownOptions(role, times), { lazyConnect: client.options.lazyConnect });
  }
}

/**
 * What this package decides on every connection. Without `retryStrategy` a lost connection settles all of its commands;
 * with it, and with `autoResendUnfulfilledCommands`, ioredis either repeats writes or leaves promises that never settle.
 * `protocol: 2` gives one reply shape in ioredis 5 and 6.
 */
function ownOptions(role: ConnectionRole, times: ConnectionTimes): RedisOptions & { protocol: 2 } {
  return {
    lazyConnect: true,
    protocol: 2,
    retryStrategy: () => null,
    reconnectOnError: null,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    enableOfflineQueue: true,
    maxRetriesPerRequest: null,
    // While it loads its data a server guesses when it will be ready; right after its start that can be far too late.
    maxLoadingRetryTime: LOADING_POLL,
    connectTimeout: times.connectTimeout,
    disconnectTimeout: DISCONNECT_TIMEOUT,
    socketTimeout: role === 'reader' ? times.blockTimeout + BLOCK_MARGIN : times.replyTimeout,
    connectionName: `nestjs-redis-streams:${role}`,
  };
}
