import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';
import type { RedisStreamsError } from '../../errors.js';
import { within } from '../../shared/backoff.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import type { ConsumerSession } from '../consuming/consumer-session.js';
import { Delivery } from './settlement.js';
import type { Settlement } from './settlement.js';
import { KeyQueues } from './key-queues.js';
import type { StreamMessage } from '../messages/stream-message.js';

export interface DispatcherOptions {
  readonly session: ConsumerSession;
  /** Deliveries at the same time. */
  readonly concurrency: number;
  /** Hands over several messages at once: as many as are there when `size` is reached or `timeout` ms are over. Default one. */
  readonly batch?: { readonly size: number; readonly timeout: number } | undefined;
  /** Messages for which this is the same are handled one after the other. */
  readonly laneOf?: ((message: StreamMessage) => string | undefined) | undefined;
  /** Handles messages to their end, and settles each or leaves that to somebody who settles it later. */
  readonly deliver: (deliveries: readonly Delivery[]) => Promise<void>;
  /** Stores a message among the dead letters. Acknowledging it is done here, afterwards. */
  readonly bury: (message: StreamMessage, settlement: Settlement & { kind: 'dead-letter' }) => Promise<void>;
  readonly onError: (error: RedisStreamsError) => void;
}

/**
 * So many messages may wait for others of their key beyond the capacity. One key whose first message keeps failing must
 * not stop the others; what comes after this many must wait in the stream.
 */
const MAX_PARKED = 1_000;

/** How long a message whose dead letter could not be stored waits until it is handed out again, in milliseconds. */
const RETRY_BURIAL_AFTER = 5_000;

/**
 * Hands buffered messages to a handler, up to `concurrency` deliveries at once, and carries out how each was settled. What
 * is buffered and what is in handlers together never exceed the session's capacity.
 *
 * Every event, an arrival, an end, a settlement, ends in one `#pump`, which decides what happens next.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #lanes: KeyQueues | undefined;
  /** Messages that wait for others of their key and hold no place. */
  #parkedBeyond = 0;
  #running = 0;
  #settling = 0;
  #isClosed = false;
  #idle: Deferred<void> | undefined;
  #batchTimer: NodeJS.Timeout | undefined;
  #isBatchDue = false;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#lanes = options.laneOf && new KeyQueues(options.laneOf);
    options.session.buffer.onArrival(() => this.#pump());
    options.session.onTakenAway((message) => {
      this.#lanes?.leave(message);
      this.#pump();
    });
  }

  /** Messages in handlers now. */
  get running(): number {
    return this.#running;
  }

  /**
   * Takes no more messages, gives back those that no handler has, and waits for the others.
   * Returns how many deliveries were still running after the timeout; their messages stay pending.
   */
  async close(timeout: number): Promise<number> {
    const { session } = this.#options;
    this.#isClosed = true;
    clearTimeout(this.#batchTimer);
    await session.stopReading();
    await session.giveBack(this.#lanes?.drain() ?? []);
    if (this.#isIdle) return 0;
    this.#idle = withResolvers<void>();
    await within(timeout, this.#idle.promise);
    return this.#running;
  }

  #pump(): void {
    while (!this.#isClosed && this.#running < this.#options.concurrency) {
      const messages = this.#options.batch ? this.#nextBatch(this.#options.batch) : this.#nextMessage();
      if (messages.length === 0) return;
      void this.#run(messages);
    }
  }

  #nextMessage(): StreamMessage[] {
    const { session } = this.#options;
    const freed = this.#lanes?.next();
    if (freed) {
      if (this.#parkedBeyond > 0) {
        this.#parkedBeyond -= 1;
        session.buffer.hold();
      }
      return [freed];
    }
    for (let message = session.handOut(); message; message = session.handOut()) {
      if (this.#lanes?.enter(message) ?? true) return [message];
      if (this.#parkedBeyond < MAX_PARKED) {
        this.#parkedBeyond += 1;
        session.buffer.release();
      }
    }
    // The loop waits for room, and must not when that depends on a retry that it has to bring.
    if (session.buffer.isStuck) session.buffer.wake();
    return [];
  }

  #nextBatch({ size, timeout }: { size: number; timeout: number }): StreamMessage[] {
    const { session } = this.#options;
    if (session.buffer.size === 0) return [];
    if (session.buffer.size < size && !this.#isBatchDue) {
      this.#batchTimer ??= setTimeout(() => {
        this.#batchTimer = undefined;
        this.#isBatchDue = true;
        this.#pump();
      }, timeout);
      return [];
    }
    clearTimeout(this.#batchTimer);
    this.#batchTimer = undefined;
    this.#isBatchDue = false;
    const batch: StreamMessage[] = [];
    for (let message = session.handOut(); message; message = session.handOut()) {
      batch.push(message);
      if (batch.length === size) break;
    }
    return batch;
  }

  async #run(messages: readonly StreamMessage[]): Promise<void> {
    const { session, deliver, onError } = this.#options;
    const deliveries = messages.map((message) => new Delivery(message, this.#settle));
    this.#running += 1;
    const begin = performance.now();
    try {
      await deliver(deliveries);
    } catch (error) {
      // Whoever runs handlers reports and settles their failures; this is a failure of that.
      onError(toPublicError(error, (messages[0] as StreamMessage).streamKey, 'handling messages of'));
      for (const delivery of deliveries) delivery.settle({ kind: 'pending' });
    }
    this.#running -= 1;
    session.readAhead?.handled(messages.length, performance.now() - begin);
    for (let count = messages.length; count > 0; count -= 1) session.buffer.release();
    this.#announceIdle();
    this.#pump();
  }

  readonly #settle = (message: StreamMessage, settlement: Settlement): void => {
    const { settler } = this.#options.session;
    switch (settlement.kind) {
      case 'ack':
        settler.acknowledge(message);
        this.#leaveLane(message);
        break;
      case 'pending':
        settler.leavePending(message);
        this.#leaveLane(message);
        break;
      case 'retry':
        void this.#carryOut(message, settler.retryLater(message, settlement.delay));
        break;
      case 'dead-letter':
        void this.#carryOut(message, this.#bury(message, settlement));
    }
  };

  async #carryOut(message: StreamMessage, work: Promise<void>): Promise<void> {
    this.#settling += 1;
    try {
      await work;
    } catch (error) {
      this.#options.onError(toPublicError(error, message.streamKey, `settling ${message.id} of`));
    }
    this.#settling -= 1;
    this.#announceIdle();
  }

  async #bury(message: StreamMessage, settlement: Settlement & { kind: 'dead-letter' }): Promise<void> {
    const { session, bury } = this.#options;
    try {
      // In this order: a crash in between leaves a second dead letter, never none.
      await bury(message, settlement);
    } catch (error) {
      await session.settler.retryLater(message, RETRY_BURIAL_AFTER);
      throw error;
    }
    await session.settler.acknowledgeNow(message);
    this.#leaveLane(message);
  }

  #leaveLane(message: StreamMessage): void {
    if (!this.#lanes) return;
    this.#lanes.leave(message);
    this.#pump();
  }

  get #isIdle(): boolean {
    return this.#running + this.#settling === 0;
  }

  #announceIdle(): void {
    if (this.#isIdle) this.#idle?.resolve();
  }
}
