import { RedisStreamsError } from '../errors.js';
import { toPublicError } from '../redis/redis-error.js';
import { pause } from '../redis/backoff.js';
import { withResolvers } from '../deferred.js';
import type { Deferred } from '../deferred.js';
import type { ConsumerSession } from './consumer-session.js';
import { Delivery } from './delivery.js';
import type { Settlement } from './delivery.js';
import type { StreamMessage } from './stream-message.js';

export interface DispatcherOptions {
  readonly session: ConsumerSession;
  /** Messages in handlers at the same time. */
  readonly concurrency: number;
  /** Handles one message to its end and settles it, or leaves that to somebody who settles it later. */
  readonly deliver: (delivery: Delivery) => Promise<void>;
  /** Makes a message a dead letter: appends it to its stream of dead letters. Acknowledging is done here, afterwards. */
  readonly bury: (message: StreamMessage, settlement: Settlement & { kind: 'dead-letter' }) => Promise<void>;
  readonly onError: (error: RedisStreamsError) => void;
}

/** How long a message whose settlement failed waits until it is handed out again. */
const RETRY_AFTER_FAILED_SETTLEMENT = 5_000;

/**
 * Hands buffered messages to a handler, up to `concurrency` at once, and carries out how each was settled. What is buffered
 * and what is in handlers together never exceed the session's capacity.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  #running = 0;
  #settling = 0;
  #isClosed = false;
  #idle: Deferred<void> | undefined;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    options.session.buffer.onArrival(() => this.#pump());
  }

  /** Messages in handlers now. */
  get running(): number {
    return this.#running;
  }

  /**
   * Takes no more messages, gives back those that no handler has, and waits for the others.
   * Returns how many handlers were still running after the timeout; their messages stay pending.
   */
  async close(timeout: number): Promise<number> {
    this.#isClosed = true;
    await this.#options.session.stopReading();
    if (this.#running + this.#settling === 0) return 0;
    this.#idle = withResolvers<void>();
    const limit = new AbortController();
    await Promise.race([this.#idle.promise, pause(timeout, limit.signal)]);
    limit.abort();
    return this.#running;
  }

  #pump(): void {
    const { session, concurrency } = this.#options;
    while (!this.#isClosed && this.#running < concurrency) {
      const message = session.handOut();
      if (!message) return;
      void this.#run(message);
    }
  }

  async #run(message: StreamMessage): Promise<void> {
    const { session, deliver } = this.#options;
    const delivery = new Delivery(message, (settlement) => void this.#settle(message, settlement));
    this.#running += 1;
    try {
      await deliver(delivery);
    } catch (error) {
      // Handlers are run by somebody who reports and settles; this is what went wrong with that.
      this.#report(error, message);
      delivery.settle({ kind: 'pending' });
    }
    this.#running -= 1;
    session.buffer.release();
    this.#announceIdle();
    this.#pump();
  }

  async #settle(message: StreamMessage, settlement: Settlement): Promise<void> {
    const { session, bury } = this.#options;
    this.#settling += 1;
    try {
      switch (settlement.kind) {
        case 'ack':
          session.ack(session.streamOf(message), message.id);
          break;
        case 'retry':
          await session.retryLater(message, settlement.delay);
          break;
        case 'dead-letter':
          // In this order: a crash in between leaves a second dead letter, never none.
          await bury(message, settlement);
          session.ack(session.streamOf(message), message.id);
          break;
        case 'pending':
          session.leavePending(message);
          break;
      }
    } catch (error) {
      this.#report(error, message);
      if (settlement.kind === 'dead-letter') await this.#tryAgainLater(message);
    } finally {
      this.#settling -= 1;
      this.#announceIdle();
    }
  }

  /** A dead letter that could not be written must not be forgotten: the message is handled, and buried, again. */
  async #tryAgainLater(message: StreamMessage): Promise<void> {
    try {
      await this.#options.session.retryLater(message, RETRY_AFTER_FAILED_SETTLEMENT);
    } catch (error) {
      this.#report(error, message);
    }
  }

  #announceIdle(): void {
    if (this.#running + this.#settling === 0) this.#idle?.resolve();
  }

  #report(error: unknown, message: StreamMessage): void {
    this.#options.onError(
      error instanceof RedisStreamsError ? error : toPublicError(error, message.streamKey, `settling ${message.id} of`),
    );
  }
}
