import type { Socket } from 'node:net';

import type { Redis, RedisOptions, SentinelAddress } from 'ioredis';

import type { CommandChannel } from '../wire/command-channel.js';
import { ConnectionLost, ProtocolError, ReplyError } from '../wire/resp-reader.js';
import { RespChannel } from '../wire/resp-channel.js';
import { RespConnection } from '../wire/resp-connection.js';
import { IoredisChannel } from './ioredis-channel.js';

/*
 * Everything that this package relies on inside ioredis 5.4.1 and later, and 6:
 *
 * - `client.stream` is the connected socket, plain, TLS or Unix, once the client is `ready`.
 * - Replies reach ioredis by listeners for `data` on it alone; its time-outs come from `timeout` of the socket and from
 *   `socketTimeoutTimer`. Without these a client stays `ready`, however long it sends nothing.
 * - When no command is under way, nothing of a reply is left in ioredis's parser.
 * - Its listeners for `close` and `error` of the socket, which stay, turn the end of the socket into its `close` and `end`;
 *   `disconnect()` ends the socket.
 * - Every command of the client, those of pipelines included, goes through its method `sendCommand`.
 * - `client.stream` is the socket that failed, when the client emits the error of a socket.
 * - `options.protocol` is 3 when the client asked for RESP3 (ioredis 6, its default there).
 *
 * `takeOver` tries all of this on each connection. A client for which it does not hold is used through {@link IoredisChannel}.
 *
 * Of a Cluster client, which only discovers (cluster-topology.ts):
 *
 * - `slots` has the nodes of each slot as `host:port`, its master first, after each `refresh` event; without it the cluster
 *   cannot be used, and that is the error.
 * - `nodes('all')` are clients whose `options` connect to single nodes; `duplicate()` makes another one.
 * - `refreshSlotsCache()` discovers again; `slotsTimer` is the timer of the next discovery.
 *
 * Of a client with Sentinels (sentinel-watch.ts), without which it still connects, and says less of why it cannot:
 *
 * - `client.connector` makes its clients to Sentinels by `connectToSentinel()`, and asks one after the other by `resolve()`. Those
 *   that it makes at other times wait for a failover, as do those of its `failoverDetector`.
 */

/** A command of ioredis, as far as a refusal needs to know it. */
interface RefusableCommand {
  readonly promise: Promise<unknown>;
  reject(error: Error): void;
}

/** The parts of an ioredis client that its types hide. */
interface ClientInternals {
  sendCommand: (command: RefusableCommand) => unknown;
  readonly stream?: Socket;
  readonly commandQueue?: { readonly length: number };
  readonly socketTimeoutTimer?: NodeJS.Timeout;
  readonly options: { readonly protocol?: number };
}

export interface TakeOverOptions {
  /** See {@link RespConnection}; also the limit of the self-test. */
  readonly replyTimeout: number;
  /** See {@link RespConnection}. */
  readonly onPush?: (values: unknown) => void;
}

/** ioredis 5 leaves this timer behind when a connection is lost, which keeps the process alive until it fires. */
export function clearSocketTimer(client: Redis): void {
  clearTimeout((client as unknown as ClientInternals).socketTimeoutTimer);
}

const ignoreError = (): void => undefined;

/**
 * ioredis listens for one error of a socket only, and a socket may have a second: the alert of the server after a certificate
 * was refused, for instance. Without a listener that would end the process.
 */
export function keepErrorsCaught(client: Redis): void {
  const keep = (): void => {
    const { stream } = client as unknown as ClientInternals;
    stream?.off('error', ignoreError).on('error', ignoreError);
  };
  client.on('connect', keep).on('error', keep);
}

/** The part of an ioredis client that finds the master by Sentinels. */
export interface SentinelConnector {
  connectToSentinel: (endpoint: Partial<SentinelAddress>, options?: RedisOptions) => Redis;
  resolve: (endpoint: Partial<SentinelAddress>) => Promise<unknown>;
  readonly failoverDetector?: { readonly sentinels?: ReadonlyArray<{ readonly client: Redis }> } | null;
}

/** Undefined for a client without Sentinels, or with a `Connector` of the application. */
export function sentinelConnectorOf(client: Redis): SentinelConnector | undefined {
  const { connector } = client as unknown as { readonly connector?: Partial<SentinelConnector> };
  const isKnown = typeof connector?.connectToSentinel === 'function' && typeof connector.resolve === 'function';
  return isKnown ? (connector as SentinelConnector) : undefined;
}

/** The self-test of a take-over got another reply than expected: this kind of client must be used through ioredis. */
export class TakeOverError extends Error {
  override readonly name = 'TakeOverError';
}

/** Switches the take-over off, for comparisons and to rule it out when looking for a fault. */
export function isTakeOverEnabled(): boolean {
  return process.env['NESTJS_REDIS_STREAMS_WIRE'] !== 'ioredis';
}

/**
 * Takes a ready client's socket over for good: from now on it is read and written here, and no command may be sent through
 * the client any more. Returns an {@link IoredisChannel} when the client does not look as expected.
 * @throws TakeOverError when the self-test fails; the socket is then lost
 */
export async function takeOver(client: Redis, options: TakeOverOptions): Promise<CommandChannel> {
  const internals = client as unknown as ClientInternals;
  const { stream: socket } = internals;
  if (!isSocket(socket) || socket.listenerCount('data') === 0) return IoredisChannel.open(client);
  // The reply to the last command says that the replies to all before it have been read.
  await client.ping().catch(() => undefined);
  if ((internals.commandQueue?.length ?? 0) > 0) return IoredisChannel.open(client);
  socket.removeAllListeners('data');
  socket.removeAllListeners('timeout');
  socket.setTimeout(0);
  clearSocketTimer(client);
  internals.sendCommand = refuseCommand;
  const connection = new RespConnection(socket, options);
  const channel = new RespChannel(connection);
  await testChannel(client, channel, internals.options.protocol === 3);
  return channel;
}

/**
 * Takes the place of the client's own `sendCommand`: the reply to a command of a user who still has the client would be read
 * as the reply to a command of this package, and so would every reply after it.
 */
function refuseCommand(command: RefusableCommand): unknown {
  command.reject(new Error('The connection of this client belongs to nestjs-redis-streams: use a client of your own'));
  return command.promise;
}

/** A few commands with known answers, in one write. Where they are not permitted the answer is an error, which is known too. */
async function testChannel(client: Redis, channel: CommandChannel, speaksResp3: boolean): Promise<void> {
  const probe = `nestjs-redis-streams ${Math.random()}`;
  // Its reply is RESP2 already. A server that refuses it has refused HELLO 3 before.
  const hello = speaksResp3 ? [channel.command(['HELLO', '2'], 'utf8').catch(refusalOf)] : [];
  const replies = channel.commands([['PING'], ['PING', probe], ['XADD']], 'utf8');
  const [greeting] = await Promise.all(hello);
  const [pong, echo, refusal] = await replies;
  const lost = [greeting, pong, echo, refusal].find((reply) => reply instanceof ConnectionLost);
  if (lost && !(lost.cause instanceof ProtocolError)) throw lost;
  const isExpected =
    lost === undefined &&
    (pong === 'PONG' || pong instanceof ReplyError) &&
    (echo === probe || echo instanceof ReplyError) &&
    refusal instanceof ReplyError &&
    client.status === 'ready';
  if (!isExpected) throw new TakeOverError('The socket of the ioredis client cannot be used directly');
}

function refusalOf(error: unknown): Error {
  return error as Error;
}

function isSocket(stream: unknown): stream is Socket {
  const candidate = stream as Partial<Socket> | undefined;
  return (
    typeof candidate?.write === 'function' &&
    typeof candidate.cork === 'function' &&
    typeof candidate.setTimeout === 'function' &&
    typeof candidate.removeAllListeners === 'function'
  );
}
