import { EventEmitter } from 'node:events';

import type { Redis } from 'ioredis';

import { ClosedError } from '../../errors.js';
import { outsideContext } from '../../shared/async-context.js';
import { RECONNECT_BACKOFF, backoffDelay, pause } from '../../shared/backoff.js';
import { monotonicNow } from '../../shared/clock.js';
import { withResolvers } from '../../shared/deferred.js';
import type { CommandChannel } from '../wire/command-channel.js';
import type { ConnectionRole } from './client-factory.js';
import { connectFailure, isMisconfiguration } from './connect-failure.js';
import { IoredisChannel } from './ioredis-channel.js';
import { publicCause } from './ioredis-errors.js';
import { accessOf } from './node-access.js';
import type { NodeAccess } from './node-access.js';
import { classifyRedisError } from '../commands/redis-error.js';
import { selectDatabase, untilServing } from './readiness.js';
import { SentinelWatch } from './sentinel-watch.js';
import { clearSocketTimer, isTakeOverEnabled, keepErrorsCaught, takeOver, TakeOverError } from './take-over.js';

/** `idle` until first used, `ready` while a client is live, `connecting` otherwise, `closed` at the end. */
export type ConnectionState = 'idle' | 'connecting' | 'ready' | 'closed';

interface ConnectionEvents {
  state: [state: ConnectionState];
  /** One attempt to connect failed; `attempt` counts since the connection was last ready. */
  failure: [error: Error, attempt: number];
  /** Only of a `watcher`: the server announces that these keys, or if undefined all keys, may have changed. */
  invalidated: [keys: readonly string[] | undefined];
}

/** Where the clients of a connection come from. */
export interface ClientSource {
  /** For messages; never contains credentials. */
  readonly address: string;
  /** A client for one attempt to connect. */
  createClient(): Redis;
}

/** What all connections of a streamer have in common. */
export interface ConnectionSettings {
  /** Limit of one attempt to connect, in milliseconds. */
  readonly connectTimeout: number;
  /** Longest silence of the peer while a reply is due, in milliseconds. */
  readonly replyTimeout: (role: ConnectionRole) => number;
  /** Reports something that the server or its client lacks, once. */
  readonly onMissing: (what: string) => void;
}

/** From this silence on the loss of a connection on which nothing was under way is the end of an idle connection. */
const IDLE_FROM = 1_000;

/** What is missing where a client is used through ioredis. */
const DIRECT_SOCKET = 'direct use of the socket of this ioredis client';

/** Wrong credentials are not corrected within a second. */
const CONFIGURATION_RETRY_DELAY = 10_000;

/**
 * One logical connection: a succession of clients of which at most one is live. It owns the client of the current epoch and
 * the loop that replaces it.
 *
 * ```
 *   idle ── open() ──▶ connecting ──── client ready, socket taken over ────▶ ready
 *                       ▲      │ ▲                                             │
 *                       │      └─┘ attempt failed: back off                    │
 *                       └─────────────── client lost, or drop() ───────────────┘      any ── close() ──▶ closed
 * ```
 *
 * A client that is lost is never revived: its commands fail, `epoch` moves on, and a fresh client is made after a back-off. Servers
 * and proxies end connections that were idle for some time. The loss of one is a renewal, and no outage, unless the first attempt
 * to replace it fails.
 * Commands are not repeated here: the sender knows whether that is safe.
 */
export class RedisConnection extends EventEmitter<ConnectionEvents> {
  readonly role: ConnectionRole;
  readonly #source: ClientSource;
  readonly #settings: ConnectionSettings;
  readonly #closing = new AbortController();
  #state: ConnectionState = 'idle';
  #epoch = 0;
  #droppedEpoch = 0;
  #client: Redis | undefined;
  #channel: CommandChannel | undefined;
  #usesIoredisChannel = !isTakeOverEnabled();
  #loop: Promise<void> | undefined;
  #lastFailure: Error | undefined;
  #isRenewing = false;
  #reconnects = -1;
  #clientId: number | undefined;
  #isTracking = false;
  #serverVersion: string | undefined;
  /** When the state became what it is, on the monotonic clock. */
  #changedAt = 0;

  constructor(source: ClientSource, role: ConnectionRole, settings: ConnectionSettings) {
    super();
    // One listener for each loop and command that waits for the connection.
    this.setMaxListeners(0);
    this.#source = source;
    this.#settings = settings;
    this.role = role;
  }

  get address(): string {
    return this.#source.address;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Grows with every client; what was asked of an earlier epoch has no meaning any more. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Number of lost clients that were replaced. */
  get reconnects(): number {
    return Math.max(0, this.#reconnects);
  }

  get lastFailure(): Error | undefined {
    return this.#lastFailure;
  }

  /** Whether an idle connection was ended by the server and is replaced, with no failed attempt yet. */
  get isRenewing(): boolean {
    return this.#isRenewing;
  }

  /** Name and version of the server that was connected last, such as `Redis 7.2.4`; undefined where it does not tell. */
  get serverVersion(): string | undefined {
    return this.#serverVersion;
  }

  /** Whether ioredis writes the commands and reads the replies, in place of our own wire. */
  get isIoredisChannel(): boolean {
    return this.#channel instanceof IoredisChannel;
  }

  /** When the live client became ready, on the monotonic clock; undefined between two clients. */
  get liveSince(): number | undefined {
    return this.#state === 'ready' ? this.#changedAt : undefined;
  }

  /**
   * Sends commands over the live client; undefined between two clients. A channel that has ended or was dropped is no
   * longer offered, although its client is lost a little later: a command that is not sent must not count as lost.
   */
  get channel(): CommandChannel | undefined {
    return this.#state === 'ready' && this.#channel?.isOpen ? this.#channel : undefined;
  }

  /** How long the node has answered nothing, neither a command nor an attempt to connect, in milliseconds; 0 when none is under way. */
  get silentFor(): number {
    if (this.channel) return this.channel.silentFor;
    return this.#state === 'connecting' ? monotonicNow() - this.#changedAt : 0;
  }

  /** The id by which CLIENT UNBLOCK ends a blocked read; undefined when the server does not permit that. */
  get clientId(): number | undefined {
    return this.#state === 'ready' ? this.#clientId : undefined;
  }

  /** What another thread needs for a connection to the same node; undefined between two clients. */
  access(): NodeAccess | undefined {
    const client = this.#state === 'ready' ? this.#client : undefined;
    return client && accessOf(client, this.#settings.connectTimeout);
  }

  /** Only of a `watcher`: whether the server announces changes of the keys that are read over the live client. */
  get isTracking(): boolean {
    return this.#state === 'ready' && this.#isTracking;
  }

  /** Starts to connect, unless that has happened; returns at once. */
  open(): void {
    if (this.#state !== 'idle') return;
    this.#setState('connecting');
    this.#loop = outsideContext(() => this.#keepConnected());
  }

  /**
   * Resolves with the channel of the live client, however long that takes.
   * @throws ClosedError once the connection is closed; the signal's reason when it aborts; PermissionError when the very
   * first connection fails for its credentials, ConnectionError when it fails for the certificate of the server, or
   * InvalidOptionError when its client cannot be used, because waiting does not help.
   */
  async ready(signal?: AbortSignal): Promise<CommandChannel> {
    this.open();
    while (!this.channel) {
      if (this.#state === 'closed') throw new ClosedError('The connection to Redis');
      if (this.#epoch === 0 && isMisconfiguration(this.#lastFailure)) throw this.#lastFailure;
      await this.#change(signal);
    }
    return this.channel;
  }

  /** Drops the client of that epoch, as after a failover: the next one asks again which node is the master. */
  drop(epoch: number): void {
    // Every command of a pipeline may report the same; once is enough.
    if (epoch !== this.#epoch || epoch === this.#droppedEpoch) return;
    this.#droppedEpoch = epoch;
    // Until the server closes its side, the socket seems open, but a command that is written to it would count as lost.
    this.#channel = undefined;
    this.#client?.disconnect();
  }

  /** Ends the connection for good; commands in flight fail. Idempotent. */
  async close(): Promise<void> {
    if (this.#state !== 'closed') {
      this.#setState('closed');
      this.#closing.abort();
      this.#client?.disconnect();
    }
    await this.#loop;
  }

  async #keepConnected(): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      try {
        await this.#serve(await this.#connect());
        attempt = 0;
      } catch (error) {
        // Closing ends an attempt in progress; that is no failure.
        if (signal.aborted) return;
        if ((error as Error).cause instanceof TakeOverError) {
          // Reported already. The next attempt goes through ioredis, so nothing has to be waited for.
          attempt -= 1;
          continue;
        }
        this.#lastFailure = error as Error;
        this.#isRenewing = false;
        this.emit('failure', this.#lastFailure, attempt);
      }
      if (signal.aborted) return;
      await pause(
        isMisconfiguration(this.#lastFailure)
          ? CONFIGURATION_RETRY_DELAY
          : backoffDelay(RECONNECT_BACKOFF, attempt + 1),
        signal,
      );
    }
  }

  /** Resolves when the client was live and is lost, or when the connection was closed. */
  async #serve(client: Redis): Promise<void> {
    // The connection may have been closed, or the client lost, before this line: `closed` stays `closed`.
    if (this.#closing.signal.aborted) return;
    const isLive = client.status === 'ready' && this.#channel?.isOpen;
    if (!isLive) throw this.#connectFailure(new Error('Connection is closed'));
    this.#epoch += 1;
    this.#reconnects += 1;
    this.#lastFailure = undefined;
    this.#isRenewing = false;
    const lost = withResolvers<void>();
    const onLost = (): void => {
      // Now: ioredis fails what was under way before anything that awaits this loss continues.
      if (this.#client === client) this.#isRenewing = (this.#channel?.quietFor ?? 0) >= IDLE_FROM;
      lost.resolve();
    };
    client.once('close', onLost).once('end', onLost);
    this.#setState('ready');
    await lost.promise;
    if (client.status !== 'end') client.disconnect();
    this.#client = undefined;
    this.#channel = undefined;
    if (this.#state !== 'closed') this.#setState('connecting');
  }

  /** One attempt. ioredis's own promises may never settle when the peer stalls, so this has a timer of its own. */
  async #connect(): Promise<Redis> {
    const { connectTimeout } = this.#settings;
    const { promise: limit, reject } = withResolvers<never>();
    limit.catch(() => undefined);
    const limited = <T>(step: Promise<T>): Promise<T> => Promise.race([step, limit]);
    const onClosing = (): void => reject(new Error('Connection is closed'));
    this.#closing.signal.addEventListener('abort', onClosing);
    const timer = setTimeout(() => reject(new Error(`not ready within ${connectTimeout} ms`)), connectTimeout);
    const attempt = new ConnectionAttempt();
    try {
      const client = this.#source.createClient();
      this.#client = client;
      const isChecked = client.options.enableReadyCheck !== false;
      client.options.enableReadyCheck = false;
      attempt.watch(client, connectTimeout);
      await limited(attempt.ready);
      if (isChecked) {
        const onMissing = (): void => this.#settings.onMissing('INFO');
        this.#serverVersion = await limited(untilServing(client, onMissing));
      }
      await limited(selectDatabase(client));
      const channel = await limited(this.#openChannel(client));
      this.#clientId = this.role === 'reader' ? await limited(this.#idForUnblock(channel)) : undefined;
      this.#isTracking = this.role === 'watcher' && (await limited(this.#track(channel)));
      this.#channel = channel;
      return client;
    } catch (error) {
      const client = this.#client;
      this.#client = undefined;
      this.#channel = undefined;
      if (client && client.status !== 'end') client.disconnect();
      throw this.#connectFailure(attempt.cause ?? error);
    } finally {
      clearTimeout(timer);
      this.#closing.signal.removeEventListener('abort', onClosing);
    }
  }

  async #openChannel(client: Redis): Promise<CommandChannel> {
    if (this.#usesIoredisChannel) return IoredisChannel.open(client);
    const channel = await this.#takeOver(client);
    if (channel instanceof IoredisChannel) this.#settings.onMissing(DIRECT_SOCKET);
    return channel;
  }

  async #takeOver(client: Redis): Promise<CommandChannel> {
    try {
      const replyTimeout = this.#settings.replyTimeout(this.role);
      const watching = this.role === 'watcher' ? { onPush: this.#onPush } : {};
      return await takeOver(client, { replyTimeout, ...watching });
    } catch (error) {
      if (error instanceof TakeOverError) {
        this.#usesIoredisChannel = true;
        this.#settings.onMissing(DIRECT_SOCKET);
      }
      throw error;
    }
  }

  /** The connection's id, if CLIENT ID and CLIENT UNBLOCK are both permitted; no client has the id 0. */
  async #idForUnblock(channel: CommandChannel): Promise<number | undefined> {
    const outcomes = await channel.commands(
      [
        ['CLIENT', 'ID'],
        ['CLIENT', 'UNBLOCK', 0],
      ],
      'utf8',
    );
    const refusal = outcomes.find((outcome) => outcome instanceof Error);
    if (refusal === undefined) return outcomes[0] as number;
    if (['permission', 'unsupported'].includes(classifyRedisError(refusal))) this.#settings.onMissing('CLIENT UNBLOCK');
    return undefined;
  }

  /** Announcements come between the replies only in RESP3. Whether HELLO and CLIENT TRACKING are both permitted. */
  async #track(channel: CommandChannel): Promise<boolean> {
    if (channel instanceof IoredisChannel) return false;
    const outcomes = await channel.commands(
      [
        ['HELLO', '3'],
        ['CLIENT', 'TRACKING', 'ON'],
      ],
      'utf8',
    );
    return !outcomes.some((outcome) => outcome instanceof Error);
  }

  readonly #onPush = (values: unknown): void => {
    const [kind, keys] = Array.isArray(values) ? (values as [unknown, unknown]) : [];
    if (kind === 'invalidate') this.emit('invalidated', Array.isArray(keys) ? (keys as string[]) : undefined);
  };

  #connectFailure(error: unknown): Error {
    return connectFailure(`Redis at ${this.address}`, publicCause(error));
  }

  async #change(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = withResolvers<void>();
    const onChange = (): void => resolve();
    const onAbort = (): void => reject(signal?.reason);
    this.on('state', onChange).on('failure', onChange);
    signal?.addEventListener('abort', onAbort);
    try {
      await promise;
    } finally {
      this.off('state', onChange).off('failure', onChange);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #setState(state: ConnectionState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#changedAt = monotonicNow();
    this.emit('state', state);
  }
}

/** Follows a client from its creation until it is ready or lost, and keeps the first error that explains a loss. */
class ConnectionAttempt {
  readonly #outcome = withResolvers<void>();
  #cause: Error | undefined;
  #sentinels: SentinelWatch | undefined;

  get ready(): Promise<void> {
    return this.#outcome.promise;
  }

  /** ioredis says of Sentinels only that none can be reached. */
  get cause(): Error | undefined {
    return this.#sentinels?.failure ?? this.#cause;
  }

  /** @param limit of the whole attempt, in milliseconds */
  watch(client: Redis, limit: number): void {
    const fail = (): void => this.#outcome.reject(this.cause ?? new Error('Connection is closed'));
    this.#outcome.promise.catch(() => undefined);
    if (client.options.sentinels) this.#sentinels = new SentinelWatch(client, limit);
    client.on('error', (error: Error) => (this.#cause = error));
    keepErrorsCaught(client);
    client.once('close', () => clearSocketTimer(client));
    client.once('ready', () => this.#outcome.resolve()).once('end', fail);
    if (client.status === 'ready') this.#outcome.resolve();
    else if (client.status === 'wait') client.connect().catch((error: Error) => (this.#cause ??= error));
    else if (client.status === 'end') fail();
  }
}
