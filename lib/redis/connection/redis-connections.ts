import { EventEmitter } from 'node:events';

import { ConnectTimeoutError, ConnectionError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { ClientFactory, ConnectionRole, ConnectionTimes, RedisStreamsConnection } from './client-factory.js';
import { clientFactory } from './client-factory.js';
import { RedisConnection } from './redis-connection.js';

/** `connected` while every connection in use is live, `reconnecting` while one is not, `disconnected` before and after. */
export type RedisStreamsStatus = 'connected' | 'reconnecting' | 'disconnected';

interface ConnectionsEvents {
  status: [status: RedisStreamsStatus];
}

/**
 * All connections of one streamer: one writer, one control, and a reader for each read loop.
 * It knows their joint status; it never sends a command.
 */
export class RedisConnections extends EventEmitter<ConnectionsEvents> {
  readonly keyPrefix: string;
  readonly writer: RedisConnection;
  readonly control: RedisConnection;
  readonly #factory: ClientFactory;
  readonly #times: ConnectionTimes;
  readonly #logger: RedisStreamsLogger;
  readonly #open = new Set<RedisConnection>();
  readonly #told = new Set<string>();
  #status: RedisStreamsStatus = 'disconnected';

  /** @throws InvalidOptionError when the connection is of no known form. */
  constructor(connection: RedisStreamsConnection | undefined, times: ConnectionTimes, logger: RedisStreamsLogger) {
    super();
    this.#times = times;
    this.#logger = logger;
    this.#factory = clientFactory(connection, times);
    this.keyPrefix = this.#factory.keyPrefix;
    this.writer = this.#add('writer');
    this.control = this.#add('control');
  }

  get address(): string {
    return this.#factory.address;
  }

  get status(): RedisStreamsStatus {
    return this.#status;
  }

  /** How often any connection of this streamer was made anew after a loss. */
  get reconnects(): number {
    let sum = 0;
    for (const connection of this.#open) sum += connection.reconnects;
    return sum;
  }

  /** Opens writer and control.
   * @throws ConnectTimeoutError after `timeout`, PermissionError at once when the credentials are refused. */
  async connect(timeout: number): Promise<void> {
    // Nest's client asks before every event and request; a time limit for each would be a twentieth of their cost.
    if (this.writer.client && this.control.client) return;
    const limit = AbortSignal.timeout(timeout);
    try {
      await Promise.all([this.writer.ready(limit), this.control.ready(limit)]);
    } catch (error) {
      if (!limit.aborted) throw error;
      const failure = this.writer.lastFailure ?? this.control.lastFailure;
      // The first attempt is still waiting, for a host or a server that says nothing.
      const cause = failure instanceof ConnectionError ? failure.cause : (failure ?? new Error('it does not answer'));
      throw new ConnectTimeoutError(this.address, timeout, cause);
    }
  }

  /** A connection of its own for one read loop; whoever asked for it gives it back with {@link release}. */
  acquireReader(): RedisConnection {
    return this.#add('reader');
  }

  async release(connection: RedisConnection): Promise<void> {
    this.#open.delete(connection);
    await connection.close();
    this.#updateStatus();
  }

  /** Closes every connection. Idempotent. */
  async close(): Promise<void> {
    await Promise.all([...this.#open].map((connection) => connection.close()));
    this.#open.clear();
    this.#setStatus('disconnected');
  }

  #add(role: ConnectionRole): RedisConnection {
    const connection = new RedisConnection(this.#factory, role, this.#times.connectTimeout, this.#told);
    connection.on('state', () => this.#updateStatus());
    connection.on('failure', (error, attempt) => this.#reportFailure(role, error, attempt));
    connection.on('missing', (what) => {
      this.#logger.debug?.(`Redis at ${this.address} does not offer ${what}; another way is used`);
    });
    this.#open.add(connection);
    return connection;
  }

  #updateStatus(): void {
    // A reader that connects for the first time is no loss.
    const states = [...this.#open].filter(({ epoch }) => epoch > 0).map(({ state }) => state);
    if (states.length === 0 || states.includes('closed')) return;
    if (states.every((state) => state === 'ready')) this.#setStatus('connected');
    else if (this.#status === 'connected') this.#setStatus('reconnecting');
  }

  #setStatus(status: RedisStreamsStatus): void {
    if (this.#status === status) return;
    this.#status = status;
    if (status === 'reconnecting') this.#logger.warn(`Connection to Redis at ${this.address} lost, reconnecting`);
    this.emit('status', status);
  }

  /** The first failure and then every tenth: an outage of an hour must not fill a disk. */
  #reportFailure(role: ConnectionRole, error: Error, attempt: number): void {
    if (attempt % 10 === 1) this.#logger.warn(`${error.message} (${role}, attempt ${attempt})`);
  }
}
