import { EventEmitter } from 'node:events';

import { monotonicNow } from '../../shared/clock.js';
import { withResolvers } from '../../shared/deferred.js';
import { errorText } from '../../shared/error-text.js';
import { ClosedError, ConnectionError, PermissionError } from '../../errors.js';
import { RECONNECT_BACKOFF, backoffDelay, pause } from '../../shared/backoff.js';
import type { ClientFactory, ConnectionRole, RedisClient } from './client-factory.js';
import { isCluster } from './client-factory.js';
import { classifyRedisError } from '../commands/redis-error.js';
import { isTapped, tapReplies } from '../wire/reply-tap.js';

/** `idle` until first used, `ready` while a client is live, `connecting` otherwise, `closed` at the end. */
export type ConnectionState = 'idle' | 'connecting' | 'ready' | 'closed';

interface ConnectionEvents {
  state: [state: ConnectionState];
  /** One attempt to connect failed; `attempt` counts since the connection was last ready. */
  failure: [error: Error, attempt: number];
  /** The server does not permit something that can be done without. */
  missing: [what: string];
}

/** Wrong credentials do not cure themselves within a second. */
const CONFIGURATION_RETRY_DELAY = 10_000;

/**
 * One logical connection: a succession of ioredis clients of which at most one is live.
 *
 * A client that is lost is never revived. Its commands are rejected by ioredis, `epoch` moves on, and a fresh client is
 * made after a back-off, for as long as the connection is not closed. Commands are not repeated here: whoever sent them
 * knows whether that is safe.
 */
export class RedisConnection extends EventEmitter<ConnectionEvents> {
  readonly role: ConnectionRole;
  readonly address: string;
  readonly #factory: ClientFactory;
  readonly #connectTimeout: number;
  readonly #told: Set<string>;
  readonly #closing = new AbortController();
  #state: ConnectionState = 'idle';
  #epoch = 0;
  #droppedEpoch = 0;
  #client: RedisClient | undefined;
  #isCluster = false;
  #loop: Promise<void> | undefined;
  #lastFailure: Error | undefined;
  #reconnects = -1;
  #clientId: number | undefined;
  #liveSince: number | undefined;

  /** @param told what has been said to be missing, on any connection to the same server */
  constructor(factory: ClientFactory, role: ConnectionRole, connectTimeout: number, told = new Set<string>()) {
    super();
    // One listener for each loop and command that waits for the connection.
    this.setMaxListeners(0);
    this.#factory = factory;
    this.#connectTimeout = connectTimeout;
    this.#told = told;
    this.role = role;
    this.address = factory.address;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Grows with every client; what was asked of an earlier epoch means nothing any more. */
  get epoch(): number {
    return this.#epoch;
  }

  /** How often a lost connection was made anew. */
  get reconnects(): number {
    return Math.max(0, this.#reconnects);
  }

  get lastFailure(): Error | undefined {
    return this.#lastFailure;
  }

  /** When the live client came, on the monotonic clock; undefined between two of them. */
  get liveSince(): number | undefined {
    return this.#liveSince;
  }

  /** Known from the first attempt to connect on, also between two clients. */
  get isCluster(): boolean {
    return this.#isCluster;
  }

  /** Whether commands that read their own replies may be sent to the live client. */
  get isTapped(): boolean {
    return this.#client !== undefined && isTapped(this.#client);
  }

  /** The live client; undefined between two of them. */
  get client(): RedisClient | undefined {
    return this.#state === 'ready' ? this.#client : undefined;
  }

  /** By which CLIENT UNBLOCK ends a blocked read; undefined when the server does not permit that, and in Cluster. */
  get clientId(): number | undefined {
    return this.#state === 'ready' ? this.#clientId : undefined;
  }

  /** Whether nobody has said yet that this is missing here; whoever asks says it now. */
  isNews(what: string): boolean {
    const isNews = !this.#told.has(what);
    this.#told.add(what);
    return isNews;
  }

  /** Starts connecting, if nobody has; returns at once. */
  open(): void {
    if (this.#state !== 'idle') return;
    this.#setState('connecting');
    this.#loop = this.#keepConnected();
  }

  /**
   * Resolves with the live client, however long that takes.
   * @throws ClosedError once the connection is closed; the signal's reason when it aborts; PermissionError when the very
   * first connection fails for its credentials, because waiting will not help.
   */
  async ready(signal?: AbortSignal): Promise<RedisClient> {
    this.open();
    while (!this.client) {
      if (this.#state === 'closed') throw new ClosedError('The connection to Redis');
      if (this.#epoch === 0 && this.#lastFailure instanceof PermissionError) throw this.#lastFailure;
      await this.#change(signal);
    }
    return this.client;
  }

  /** Drops the live client, as after a failover: the next one asks anew who the master is. */
  drop(epoch: number): void {
    // Every command of a pipeline may say the same; once is enough.
    if (epoch !== this.#epoch || epoch === this.#droppedEpoch) return;
    this.#droppedEpoch = epoch;
    this.#client?.disconnect();
  }

  /**
   * A cluster client outlives the loss of a node. A reader must not, because only in a new epoch does it look for what its
   * lost read took.
   */
  nodeLost(epoch: number): void {
    if (this.role === 'reader' && this.#isCluster) this.drop(epoch);
    else this.slotsMoved(epoch);
  }

  /**
   * A cluster client looks at once who serves what now. Until then it would ask a node at random for each command, and
   * those that are sent on by it are overtaken by those that are not.
   */
  slotsMoved(epoch: number): void {
    const { client } = this;
    if (epoch === this.#epoch && client && isCluster(client)) client.refreshSlotsCache();
  }

  /** Ends the connection for good; commands in flight are rejected. Idempotent. */
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
        // Closing ends an attempt that is under way; that is no failure.
        if (signal.aborted) return;
        this.#lastFailure = error as Error;
        this.emit('failure', this.#lastFailure, attempt);
      }
      if (signal.aborted) return;
      const isConfiguration = this.#lastFailure instanceof PermissionError;
      await pause(isConfiguration ? CONFIGURATION_RETRY_DELAY : backoffDelay(RECONNECT_BACKOFF, attempt + 1), signal);
    }
  }

  /** Resolves when the client was live and is lost, or when the connection was closed. */
  async #serve(client: RedisClient): Promise<void> {
    // Closed, or lost, between its being ready and this line: a state that is `closed` must stay so.
    if (this.#closing.signal.aborted) return;
    const isLive = client.status === 'ready';
    if (!isLive) throw this.#connectFailure(new Error('Connection is closed'));
    this.#epoch += 1;
    this.#reconnects += 1;
    this.#lastFailure = undefined;
    const lost = withResolvers<void>();
    client.once('close', lost.resolve).once('end', lost.resolve);
    this.#setState('ready');
    await lost.promise;
    // A cluster says `close` for its pool; it may still be trying to come back, and must not.
    if (client.status !== 'end') client.disconnect();
    this.#client = undefined;
    if (this.#state !== 'closed') this.#setState('connecting');
  }

  /** One attempt. ioredis's own promises may never settle when the peer stalls, so a timer of ours has the last word. */
  async #connect(): Promise<RedisClient> {
    const client = this.#factory.create(this.role);
    this.#client = client;
    this.#isCluster = isCluster(client);
    let cause: Error | undefined;
    client.on('error', (error: Error) => (cause = error));
    client.once('close', () => clearSocketTimer(client));
    const { promise, resolve, reject } = withResolvers<void>();
    const fail = (): void => reject(cause ?? new Error('Connection is closed'));
    const timer = setTimeout(
      () => reject(new Error(`not ready within ${this.#connectTimeout} ms`)),
      this.#connectTimeout,
    );
    this.#closing.signal.addEventListener('abort', fail);
    const onReady = (): void => void selectDatabase(client).then(resolve, reject);
    client.once('ready', onReady).once('end', fail);
    if (client.status === 'ready') onReady();
    else if (client.status === 'wait') client.connect().catch((error: Error) => (cause ??= error));
    else if (client.status === 'end') fail();
    try {
      await promise;
      this.#clientId = this.role === 'reader' ? await this.#idForUnblock(client) : undefined;
      if (this.role !== 'control' && !isCluster(client)) tapReplies(client);
      return client;
    } catch (error) {
      this.#client = undefined;
      if (client.status !== 'end') client.disconnect();
      throw this.#connectFailure(cause ?? error);
    } finally {
      clearTimeout(timer);
      this.#closing.signal.removeEventListener('abort', fail);
    }
  }

  /** The connection's id, if CLIENT ID and CLIENT UNBLOCK are both permitted; no client has the id 0. */
  async #idForUnblock(client: RedisClient): Promise<number | undefined> {
    if (isCluster(client)) return undefined;
    try {
      const [id] = await Promise.all([client.client('ID'), client.client('UNBLOCK', 0)]);
      return id;
    } catch (error) {
      const isDenied = ['permission', 'unsupported'].includes(classifyRedisError(error));
      if (isDenied && this.isNews('CLIENT UNBLOCK')) this.emit('missing', 'CLIENT UNBLOCK');
      return undefined;
    }
  }

  #connectFailure(cause: unknown): Error {
    const text = errorText(cause);
    return classifyRedisError(cause) === 'permission'
      ? new PermissionError(`Redis at ${this.address} refused the login: ${text}`, cause)
      : new ConnectionError(`Redis at ${this.address} cannot be reached: ${text}`, cause);
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
    this.#liveSince = state === 'ready' ? monotonicNow() : undefined;
    this.emit('state', state);
  }
}

/** ioredis 5 leaves the timer of `socketTimeout` behind when a connection is lost, which keeps a process alive for as long. */
function clearSocketTimer(client: RedisClient): void {
  clearTimeout((client as { socketTimeoutTimer?: NodeJS.Timeout }).socketTimeoutTimer);
}

/**
 * Makes sure of the database: where SELECT is refused, ioredis goes on in database 0, and messages would be stored where
 * nobody looks for them.
 */
async function selectDatabase(client: RedisClient): Promise<void> {
  if (!isCluster(client) && client.options.db) await client.select(client.options.db);
}
