import tls from 'node:tls';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import type { Redis, RedisOptions } from 'ioredis';

import { InvalidOptionError } from '../../errors.js';
import { kindOf } from '../../shared/error-text.js';
import type { Command } from '../wire/resp-writer.js';
import type { ConnectionTarget } from './connection-target.js';

/**
 * What another thread needs for a connection to the node to which a client is connected: values that can be passed to a thread.
 * It holds the password, so it must not be shown.
 */
export interface NodeAccess {
  /** For `connect()` of `node:net` and `node:tls`. */
  readonly endpoint: Readonly<Record<string, unknown>>;
  /** Undefined without TLS. */
  readonly tls: Readonly<Record<string, unknown>> | undefined;
  /** Commands that must succeed before all others. */
  readonly login: readonly Command[];
  /** Limit of one attempt to connect, in milliseconds. */
  readonly timeout: number;
}

/** The node to which a live client is connected. What its maker left to ioredis, DNS and Sentinels is decided by then. */
export function accessOf(client: Redis, timeout: number): NodeAccess {
  const { options } = client;
  const { host, port, path, family, sentinels, username, password, db } = options;
  // The node that the Sentinels have named.
  const { remoteAddress, remotePort } = client.stream as Socket;
  const endpoint = path ? { path } : sentinels ? { host: remoteAddress, port: remotePort } : { host, port, family };
  const login: Command[] = [];
  if (password) login.push(username ? ['AUTH', username, password] : ['AUTH', password]);
  if (db) login.push(['SELECT', db]);
  return {
    endpoint,
    tls: isSecure(client.stream as Socket) ? tlsOf(options, client.stream as TLSSocket) : undefined,
    login,
    timeout,
  };
}

function isSecure(socket: Socket): boolean {
  return (socket as Partial<TLSSocket>).encrypted === true;
}

/** A thread does not have the flags and variables of its process that change defaults of TLS. */
function tlsOf({ tls: given = {} }: RedisOptions, { servername }: Pick<TLSSocket, 'servername'>): NodeAccess['tls'] {
  return {
    minVersion: tls.DEFAULT_MIN_VERSION,
    maxVersion: tls.DEFAULT_MAX_VERSION,
    ciphers: tls.DEFAULT_CIPHERS,
    rejectUnauthorized: process.env['NODE_TLS_REJECT_UNAUTHORIZED'] !== '0',
    ...(servername ? { servername } : {}),
    ...given,
  };
}

/** @throws InvalidOptionError for a connection that another thread cannot make, because its options do not reach it */
export function requireThreadable(target: ConnectionTarget): void {
  const rule = "cannot be 'thread' where connection is a function: the thread makes connections of its own";
  if (target.kind === 'function') throw new InvalidOptionError('leaseRenewal', rule, 'thread');
  const isCluster = target.kind === 'cluster';
  const { Connector, tls: secure }: RedisOptions = (isCluster ? target.options.redisOptions : target.options) ?? {};
  const at = isCluster ? 'connection.options.redisOptions' : 'connection';
  if (Connector) throw notThreadable(`${at}.Connector`, Connector);
  if (typeof secure !== 'object') return;
  for (const [name, value] of Object.entries(secure)) {
    if (!isTransferable(value)) throw notThreadable(`${at}.tls.${name}`, value);
  }
}

function notThreadable(option: string, value: unknown): InvalidOptionError {
  const rule = "cannot be combined with leaseRenewal 'thread', to which it cannot be passed";
  return InvalidOptionError.withoutValue(option, `${rule}; got ${kindOf(value)}`);
}

/** Text, numbers and bytes, and lists and objects of them. An instance of a class would lose what it is. */
function isTransferable(value: unknown): boolean {
  if (typeof value === 'function' || typeof value === 'symbol') return false;
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return true;
  if (!Array.isArray(value) && Object.getPrototypeOf(Object.getPrototypeOf(value) ?? null) !== null) return false;
  return Object.values(value).every(isTransferable);
}
