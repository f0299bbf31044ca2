import type { Cluster, ClusterOptions, Redis, RedisOptions } from 'ioredis';

import { InvalidOptionError } from '../../errors.js';
import { kindOf } from '../../shared/error-text.js';
import { check } from '../../shared/option-checks.js';

/** Decides about one option: returns the value to use, or undefined where this package decides. @throws InvalidOptionError */
type Rule = (at: string, value: unknown) => unknown;

const MAX_PORT = 65_535;
/** SELECT takes a signed 32-bit number. */
const MAX_DATABASE = 2 ** 31 - 1;
/** Sets of TLS options that ioredis has by name. */
const TLS_PROFILES = ['RedisCloudFixed', 'RedisCloudFlexible'];

/** This package sets it in every form of connection, whatever it was; see `ownOptions`. */
const ours: Rule = () => undefined;
const anything: Rule = (_, value) => value;

/** Environment variables are text; ioredis itself takes the number in it. */
function numberIn(value: unknown): unknown {
  return typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
}

const whole =
  (min: number, max: number): Rule =>
  (at, value) => {
    const number = numberIn(value);
    check.integer(at, number, min, max);
    return number;
  };

const port = whole(1, MAX_PORT);

const time: Rule = (at, value) => {
  const number = numberIn(value);
  check.time(at, number, 0);
  return number;
};

const flag: Rule = (at, value) => {
  check.boolean(at, value);
  return value;
};

const text: Rule = (at, value) => {
  check.string(at, value);
  return value;
};

const callback: Rule = (at, value) => {
  check.function(at, value);
  return value;
};

/** A password of digits may come as a number, from YAML for instance. Neither is shown. */
const secret: Rule = (at, value) => {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value);
  throw InvalidOptionError.withoutValue(at, `must be a string; got ${kindOf(value)}`);
};

/** A URL in place of a host would be asked of the DNS, and would be named, with its password, in every message. */
const host: Rule = (at, value) => {
  const [, name, number] = /^([^:/@?#\s]+):(\d+)$/.exec(String(value)) ?? [];
  if (name) {
    throw new InvalidOptionError(
      at,
      `must be the name of a host alone; write { host: '${name}', port: ${number} }`,
      value,
    );
  }
  if (typeof value === 'string' && /^[^\s/@?#]+$/.test(value)) return value;
  if (typeof value !== 'string' || value === '') throw new InvalidOptionError(at, 'must be the name of a host', value);
  throw InvalidOptionError.withoutValue(
    at,
    "must be the name of a host alone; write a URL as connection: 'redis://user:password@host:6379'",
  );
};

/** A URL would be taken for the name of a file, and shown. */
const path: Rule = (at, value) => {
  check.name(at, value);
  if (!String(value).includes('://')) return value;
  const rule = "must be the path of a Unix socket; write a URL as connection: 'redis://user:password@host:6379'";
  throw InvalidOptionError.withoutValue(at, rule);
};

const family: Rule = (at, value) => {
  const number = numberIn(value);
  if (number === 0 || number === 4 || number === 6) return number;
  throw new InvalidOptionError(at, 'must be 4, 6, or 0 for both', value);
};

const tls: Rule = (at, value) => {
  if (value === false) return undefined;
  if (value === true) return {};
  if (typeof value === 'string' && TLS_PROFILES.includes(value)) return value;
  if (typeof value === 'object' && !Array.isArray(value)) return value;
  throw InvalidOptionError.withoutValue(at, `must be an object with options of TLS, or true; got ${kindOf(value)}`);
};

const master: Rule = (at, value) => {
  if (value === 'master') return value;
  throw new InvalidOptionError(at, "must be 'master', because a replica takes no messages", value);
};

const sentinels: Rule = (at, value) => {
  if (!Array.isArray(value) || value.length === 0) {
    throw InvalidOptionError.withoutValue(at, 'must be a list with at least one { host, port }');
  }
  return value.map((sentinel: unknown, index) => applyRules(`${at}[${index}]`, sentinel, SENTINEL_RULES));
};

const SENTINEL_RULES = { host, port, family } as const satisfies Readonly<Record<string, Rule>>;

const SERVER_RULES: Readonly<Record<keyof RedisOptions, Rule>> = {
  // Where the server is, and how it is reached.
  host,
  port,
  path,
  family,
  tls,
  db: whole(0, MAX_DATABASE),
  username: secret,
  password: secret,
  keyPrefix: text,
  connectTimeout: time,
  keepAlive: time,
  noDelay: flag,
  enableReadyCheck: flag,
  disableClientInfo: flag,
  clientInfoTag: text,
  Connector: callback,
  // Sentinel.
  sentinels,
  name: text,
  role: master,
  sentinelUsername: secret,
  sentinelPassword: secret,
  sentinelTLS: tls,
  enableTLSForSentinelMode: flag,
  sentinelCommandTimeout: time,
  sentinelMaxConnections: whole(1, MAX_PORT),
  natMap: anything,
  updateSentinels: flag,
  failoverDetector: flag,
  // What becomes of a command, its reply and a lost connection is decided here.
  autoPipeliningIgnoredCommands: ours,
  autoResendUnfulfilledCommands: ours,
  autoResubscribe: ours,
  blockingTimeout: ours,
  blockingTimeoutGrace: ours,
  commandQueue: ours,
  commandTimeout: ours,
  connectionName: ours,
  disconnectTimeout: ours,
  enableAutoPipelining: ours,
  enableOfflineQueue: ours,
  himportFieldsets: ours,
  lazyConnect: ours,
  maxLoadingRetryTime: ours,
  maxRetriesPerRequest: ours,
  monitor: ours,
  offlineQueue: ours,
  preferredSlaves: ours,
  protocol: ours,
  readOnly: ours,
  reconnectOnError: ours,
  replyMapping: ours,
  retryStrategy: ours,
  scripts: ours,
  sentinelReconnectStrategy: ours,
  sentinelRetryStrategy: ours,
  showFriendlyErrorStack: ours,
  socketTimeout: ours,
  stringNumbers: ours,
};

const notOfOneNode: Rule = (at) => {
  throw InvalidOptionError.withoutValue(at, 'is for one server; name the nodes in connection.cluster');
};

const databaseOfCluster: Rule = (at, value) => {
  if (numberIn(value) === 0) return undefined;
  throw new InvalidOptionError(at, 'must be 0, the only database of a cluster', value);
};

const NODE_RULES: Readonly<Record<string, Rule>> = {
  ...SERVER_RULES,
  db: databaseOfCluster,
  host: notOfOneNode,
  path: notOfOneNode,
  port: notOfOneNode,
  sentinels: notOfOneNode,
  name: notOfOneNode,
};

/** No message passes through the client of a cluster: it discovers nodes and slots. */
const CLUSTER_RULES: Readonly<Record<keyof ClusterOptions, Rule>> = {
  dnsLookup: callback,
  keyPrefix: text,
  natMap: anything,
  redisOptions: (at, value) => applyRules(at, value, NODE_RULES),
  resolveSrv: callback,
  slotsRefreshInterval: time,
  slotsRefreshTimeout: time,
  useSRVRecords: flag,
  autoPipeliningIgnoredCommands: ours,
  clusterNodeRetryStrategy: ours,
  clusterRetryStrategy: ours,
  enableAutoPipelining: ours,
  enableOfflineQueue: ours,
  enableReadyCheck: ours,
  himportFieldsets: ours,
  lazyConnect: ours,
  maxRedirections: ours,
  retryDelayOnClusterDown: ours,
  retryDelayOnFailover: ours,
  retryDelayOnMoved: ours,
  retryDelayOnTryAgain: ours,
  scaleReads: ours,
  scripts: ours,
  shardedSubscribers: ours,
  showFriendlyErrorStack: ours,
};

/** The options of one server, or of Sentinels, as far as they are the user's. @throws InvalidOptionError */
export function serverOptions(at: string, given: unknown): RedisOptions {
  const options = applyRules(at, given, SERVER_RULES) as RedisOptions;
  const { host: name, path, sentinels: list } = options;
  if (path !== undefined && (name !== undefined || list)) {
    throw new InvalidOptionError(`${at}.path`, 'cannot be combined with host or sentinels', path);
  }
  if (list && !options.name) {
    throw new InvalidOptionError(`${at}.name`, 'must name the master that the Sentinels watch', options.name);
  }
  if (!list && options.name !== undefined) {
    throw new InvalidOptionError(`${at}.name`, 'is the name of a master and needs sentinels', options.name);
  }
  return options;
}

/** The options of a cluster, as far as they are the user's. @throws InvalidOptionError */
export function clusterOptions(at: string, given: unknown): ClusterOptions {
  return applyRules(at, given, CLUSTER_RULES) as ClusterOptions;
}

/** What the maker of a client has decided, and nothing here can change any more. @throws InvalidOptionError */
export function checkGivenOptions(at: string, { options, isCluster }: Redis | Cluster): void {
  const given = (isCluster ? (options as ClusterOptions).redisOptions : options) ?? {};
  const rules = isCluster ? NODE_RULES : SERVER_RULES;
  for (const name of ['db', 'host', 'path', 'port', 'role'] as const) {
    const value = (given as RedisOptions)[name];
    if (value !== undefined && value !== null) (rules[name] as Rule)(`${at}.${name}`, value);
  }
}

const ADVICE =
  'an option that is new in ioredis can be set by a function that returns a client: () => new Redis({ … })';

/** An option that is undefined or null has ioredis's default. */
function applyRules(at: string, given: unknown, rules: Readonly<Record<string, Rule>>): object {
  check.options(at, given, new Set(Object.keys(rules)), ADVICE);
  const options: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given as object)) {
    if (value === undefined || value === null) continue;
    const decided = (rules[name] as Rule)(`${at}.${name}`, value);
    if (decided !== undefined) options[name] = decided;
  }
  return options;
}
