import type { Cluster, ClusterOptions, Redis, RedisOptions } from 'ioredis';

import { DEFAULT_REDIS_URL } from '../../constants.js';
import { InvalidOptionError } from '../../errors.js';
import { kindOf } from '../../shared/error-text.js';
import { check, optionNames } from '../../shared/option-checks.js';
import { checkGivenOptions, clusterOptions, serverOptions } from './ioredis-options.js';

/** An ioredis client of either kind. */
export type RedisClient = Redis | Cluster;

/** A Redis Cluster, named by some of its nodes. */
export interface ClusterConnection {
  /** `host:port`, a URL, or `{ host, port }` of each node; user name, password and TLS of a URL are used for all nodes. */
  cluster: Array<
    | string
    | {
        /** Host name or IP address. */
        host: string;
        /** Port, 1 to 65,535. */
        port: number;
      }
  >;
  /** Options of ioredis for the cluster. @defaultValue those of ioredis */
  options?: ClusterOptions;
}

/**
 * Where Redis is: a `redis://` or `rediss://` URL, ioredis options (standalone or Sentinel), a Cluster, or a function that
 * returns a client. Options that decide about repeating commands, reconnecting, time limits of commands and the form of
 * replies are set by this package, whatever the form; what cannot work is refused before anything is connected.
 *
 * A URL takes these options in its query: `db`, `family`, `keyPrefix`, `tls`, `username`, `password`, `connectTimeout`.
 *
 * The function is called once for each connection that is needed, again after every loss, and must return a new client each
 * time. The client refuses commands of its maker, because its socket is used directly. A function that returns a Cluster is
 * called once: the connections to its nodes are made with its options.
 */
export type RedisStreamsConnection = string | RedisOptions | ClusterConnection | (() => RedisClient);

/** Where Redis is, after everything that a user may have written has been decided. `address` never contains credentials. */
export type ConnectionTarget =
  | { readonly kind: 'server'; readonly address: string; readonly keyPrefix: string; readonly options: RedisOptions }
  | {
      readonly kind: 'cluster';
      readonly address: string;
      readonly keyPrefix: string;
      readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }>;
      readonly options: ClusterOptions;
    }
  | { readonly kind: 'function'; readonly make: () => RedisClient };

type ServerTarget = Extract<ConnectionTarget, { kind: 'server' }>;

const DEFAULT_PORT = 6379;
const DEFAULT_SENTINEL_PORT = 26379;

/** The options that a URL may have in its query. */
const QUERY_OPTIONS = optionNames<
  Pick<RedisOptions, 'db' | 'family' | 'keyPrefix' | 'tls' | 'username' | 'password' | 'connectTimeout'>
>({ db: true, family: true, keyPrefix: true, tls: true, username: true, password: true, connectTimeout: true });

const CLUSTER_CONNECTION = optionNames<ClusterConnection>({ cluster: true, options: true });

const VALID_URL =
  'must be a valid URL, as redis://user:password@host:6379/0; ' +
  'the characters / ? # [ ] @ % of a user name or password must be percent-encoded, as by encodeURIComponent()';
const VALID_URL_WITHOUT_LOGIN =
  'must be a valid URL, as redis://host:6379/0; a port is at most 65535, and an IPv6 address stands in brackets: ' +
  'redis://[::1]:6379';

/** Options of other packages that ioredis does not have, and what to write in their place. */
const MISPLACED: Readonly<Record<string, string>> = {
  url: "write the URL itself: connection: 'redis://host:6379'",
  uri: "write the URL itself: connection: 'redis://host:6379'",
  connection: 'give the value itself, as in connect(url)',
  socket: 'write { host, port } without it',
  nodes: 'write { cluster: [{ host, port }] } for a cluster',
};

/**
 * Decides where Redis is, and with which of the user's options it is reached, for every form of connection. A function is
 * not called yet; {@link checkGivenClient} decides about what it returns. @throws InvalidOptionError
 */
export function connectionTarget(connection: RedisStreamsConnection | undefined): ConnectionTarget {
  if (connection === undefined) {
    const url = process.env['REDIS_URL'];
    return url === undefined ? targetOfUrl('connection', DEFAULT_REDIS_URL) : targetOfUrl('REDIS_URL', url);
  }
  if (typeof connection === 'string') return targetOfUrl('connection', connection);
  if (typeof connection === 'function') return { kind: 'function', make: connection };
  if (typeof connection !== 'object' || connection === null || Array.isArray(connection))
    throw noConnection(connection);
  if (typeof (connection as Partial<Redis>).connect === 'function') {
    const rule =
      'must be a function that returns a new client on each call: () => client.duplicate(), or () => new Redis(…)';
    throw InvalidOptionError.withoutValue('connection', `${rule}; got a client`);
  }
  if (connection instanceof URL) throw InvalidOptionError.withoutValue('connection', 'must be text: write url.href');
  if (Object.keys(connection).length === 0 && !isPlain(connection)) throw noConnection(connection);
  for (const [name, advice] of Object.entries(MISPLACED)) {
    if ((connection as Record<string, unknown>)[name] === undefined) continue;
    throw InvalidOptionError.withoutValue(`connection.${name}`, `is not an option of ioredis; ${advice}`);
  }
  return 'cluster' in connection ? targetOfCluster(connection) : targetOfServer('connection', connection);
}

/**
 * Decides about a client that a function returned: what it has begun with cannot be changed.
 * @throws InvalidOptionError
 */
export function checkGivenClient(client: unknown): asserts client is RedisClient {
  if (typeof (client as Promise<unknown> | undefined)?.then === 'function') {
    const rule = 'must return the client itself when it is a function, so the function cannot be async; got a promise';
    throw InvalidOptionError.withoutValue('connection', rule);
  }
  if (!isClient(client)) {
    const rule = 'must return an ioredis client when it is a function: () => new Redis(…)';
    throw InvalidOptionError.withoutValue('connection', `${rule}; got ${kindOf(client)}`);
  }
  checkGivenOptions('connection()', client);
  const { options, status } = client;
  if (options.keyPrefix) {
    const rule =
      "must return a client without keyPrefix, which does not reach every command; set this package's keyPrefix";
    throw new InvalidOptionError('connection', rule, options.keyPrefix);
  }
  if (status === 'end') throw new InvalidOptionError('connection', 'must return a client that is not closed', status);
  if (client.isCluster) {
    if (!(options as ClusterOptions).redisOptions?.stringNumbers) return;
    // It compares the numbers of slots as text.
    const rule = 'must return a Cluster without stringNumbers, with which ioredis does not find the node of each slot';
    throw new InvalidOptionError('connection', rule, true);
  }
  const { mode } = client as Redis;
  if (mode === 'subscriber' || mode === 'monitor') {
    throw new InvalidOptionError('connection', 'must return a client that nothing else uses', `a ${mode}`);
  }
  // The parser of the replies has been made with it.
  if ((options as RedisOptions).stringNumbers && ['connect', 'ready'].includes(status)) {
    const rule = 'must return a client without stringNumbers, or one that has not connected yet';
    throw new InvalidOptionError('connection', rule, `one that is ${status}`);
  }
}

/** An instance of a class whose options are no properties of its own would be taken for one without options. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function noConnection(value: unknown): InvalidOptionError {
  const rule = 'must be a URL, ioredis options, { cluster: [node, …] }, or a function that returns a client';
  // Either may hold a password.
  if (typeof value === 'object' && value !== null && Object.keys(value).length > 0) {
    return InvalidOptionError.withoutValue('connection', `${rule}; got ${kindOf(value)}`);
  }
  return new InvalidOptionError('connection', rule, value);
}

/** By what an ioredis client has and clients of other packages do not: it may be of another copy of ioredis. */
function isClient(value: unknown): value is RedisClient {
  const client = value as Partial<Record<keyof Redis, unknown>> | null | undefined;
  return (
    typeof client?.sendCommand === 'function' &&
    typeof client.connect === 'function' &&
    typeof client.disconnect === 'function' &&
    typeof client.status === 'string' &&
    typeof client.isCluster === 'boolean' &&
    typeof client.options === 'object'
  );
}

function targetOfServer(at: string, given: unknown): ServerTarget {
  const { keyPrefix = '', ...options } = serverOptions(at, given);
  return { kind: 'server', address: addressOf(options), keyPrefix, options };
}

/** Where a client connects to, without credentials. */
export function addressOf({ sentinels, path, host, port }: RedisOptions): string {
  if (!sentinels) return path ?? endpoint(host, port, DEFAULT_PORT);
  return `sentinels ${sentinels.map((node) => endpoint(node.host, node.port, DEFAULT_SENTINEL_PORT)).join(', ')}`;
}

/** As ioredis completes it. */
function endpoint(host = 'localhost', port: number | undefined, defaultPort: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port ?? defaultPort}`;
}

function targetOfUrl(at: string, url: string): ServerTarget {
  return targetOfServer(at, optionsOfUrl(at, url));
}

/** The options that a URL holds, as text where they are numbers. Its parts are shown once none of them can be a password. */
function optionsOfUrl(at: string, url: string): Record<string, unknown> {
  const trimmed = url.trim();
  if (!/^rediss?:\/\//i.test(trimmed)) {
    const rule = 'must be a URL that begins with redis:// or rediss://';
    const [scheme] = /^[a-z][a-z\d+.-]*:(?=\/\/)/i.exec(trimmed) ?? [];
    if (trimmed.startsWith('/') || /unix|sock/i.test(scheme ?? '')) {
      throw InvalidOptionError.withoutValue(at, `${rule}; for a Unix socket write { path }`);
    }
    if (scheme) throw new InvalidOptionError(at, rule, scheme);
    if (!/^[\w.-]+(:\d+)?$/.test(trimmed)) throw InvalidOptionError.withoutValue(at, rule);
    throw new InvalidOptionError(at, `${rule}: write redis://${trimmed}`, url);
  }
  // What stands behind the first / ? or # is no password only if the user name and password before it are complete.
  const [, rest = ''] = /^\w+:\/\/[^/?#]*(.*)$/s.exec(trimmed) ?? [];
  if (rest.includes('@') || rest.includes('#') || !URL.canParse(trimmed)) {
    throw InvalidOptionError.withoutValue(at, trimmed.includes('@') ? VALID_URL : VALID_URL_WITHOUT_LOGIN);
  }
  const { protocol, username, password, hostname, port, pathname, searchParams } = new URL(trimmed);
  if (!/^\/?\d*$/.test(pathname)) {
    const rule = 'must be the number of a database; parseStreamUrl() takes a URL that names streams in its place';
    throw new InvalidOptionError(`${at}.db`, rule, pathname.slice(1));
  }
  const options: Record<string, unknown> = {
    host: hostname.replace(/^\[|\]$/g, '') || undefined,
    port: port || undefined,
    db: pathname.slice(1) || undefined,
    username: decoded(at, username),
    password: decoded(at, password),
  };
  check.options(at, Object.fromEntries(searchParams), QUERY_OPTIONS, `a URL can set ${[...QUERY_OPTIONS].join(', ')}`);
  for (const [name, value] of searchParams) {
    if (options[name] !== undefined)
      throw InvalidOptionError.withoutValue(`${at}.${name}`, 'is given twice in the URL');
    options[name] = name === 'tls' ? isOn(`${at}.tls`, value) : value;
  }
  if (protocol === 'rediss:') {
    if (options['tls'] === false)
      throw new InvalidOptionError(`${at}.tls`, 'cannot be false in a rediss:// URL', false);
    options['tls'] = true;
  }
  return options;
}

function isOn(at: string, value: string): boolean {
  check.oneOf(at, value, ['true', 'false']);
  return value === 'true';
}

function decoded(at: string, part: string): string | undefined {
  try {
    return decodeURIComponent(part) || undefined;
  } catch {
    throw InvalidOptionError.withoutValue(at, VALID_URL);
  }
}

function targetOfCluster(connection: ClusterConnection): ConnectionTarget {
  const { cluster, options = {} } = connection;
  if (!Array.isArray(cluster) || cluster.length === 0) {
    const rule = "must be a list of at least one node: ['host:6379', …]";
    if (typeof cluster !== 'string') throw new InvalidOptionError('connection.cluster', rule, cluster);
    throw InvalidOptionError.withoutValue('connection.cluster', `${rule}; got a string`);
  }
  check.options('connection', connection, CLUSTER_CONNECTION);
  const servers = cluster.map((node: unknown, index) => nodeOf(`connection.cluster[${index}]`, node));
  const { keyPrefix, redisOptions = {}, ...rest } = clusterOptions('connection.options', options);
  const { keyPrefix: prefixOfNodes, ...ofNodes } = redisOptions;
  return {
    kind: 'cluster',
    address: `cluster ${servers.map(addressOf).join(', ')}`,
    keyPrefix: keyPrefix ?? prefixOfNodes ?? '',
    nodes: servers.map(({ host = '127.0.0.1', port = DEFAULT_PORT }) => ({ host, port })),
    options: { ...rest, redisOptions: { ...commonAccess(servers), ...ofNodes } },
  };
}

function nodeOf(at: string, node: unknown): RedisOptions {
  const { options } = targetOfServer(at, typeof node === 'string' ? optionsOfNode(at, node) : node);
  if (options.db) throw new InvalidOptionError(`${at}.db`, 'must be 0, the only database of a cluster', options.db);
  return options;
}

function optionsOfNode(at: string, text: string): Record<string, unknown> {
  if (/^rediss?:\/\//i.test(text)) return optionsOfUrl(at, text);
  const [, host, port] = /^(\[[^\]]*\]|[^:@/?#\s]+):(\d+)$/.exec(text) ?? [];
  if (host === undefined) throw InvalidOptionError.withoutValue(at, "must be 'host:port', a URL, or { host, port }");
  return { host: host.replace(/^\[|\]$/g, ''), port };
}

/** What some nodes are reached with, all nodes are: those that are discovered have no options of their own. */
function commonAccess(nodes: readonly RedisOptions[]): RedisOptions {
  const access: RedisOptions = {};
  for (const name of ['username', 'password', 'tls'] as const) {
    const [value, ...others] = nodes.flatMap((node) => node[name] ?? []);
    if (value !== undefined) Object.assign(access, { [name]: value });
    if (name === 'tls' || others.every((other) => other === value)) continue;
    const rule = `must have the same ${name} in each node, which is used for all nodes of the cluster`;
    throw InvalidOptionError.withoutValue('connection.cluster', rule);
  }
  return access;
}
