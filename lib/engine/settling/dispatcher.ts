import { monotonicNow } from '../../shared/clock.js';
import { outsideContext } from '../../shared/async-context.js';
import { callSafely, promiseOf } from '../../shared/callbacks.js';
import { takeFrom } from '../../shared/take-from.js';
import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';
import { ShardHaltedError } from '../../errors.js';
import { within } from '../../shared/backoff.js';
import { classifyRedisError, isTransient, toPublicError } from '../../redis/commands/redis-error.js';
import type { HandlerReport, MessageTaker } from '../consuming/message-taker.js';
import { Delivery } from './settlement.js';
import { ABORT_GRACE, DEAD_LETTER_RETRY_DELAY, MAX_PARKED_OUTSIDE } from './dispatcher-options.js';
import type { DispatcherOptions } from './dispatcher-options.js';
import { RunningCalls, newCall } from './running-calls.js';
import type { Call } from './running-calls.js';
import type { Settlement } from './settlement.js';
import { KeyQueues } from './key-queues.js';
import { StreamMessage } from '../messages/stream-message.js';
import { UncountedPartitions } from './suspect-turn.js';
import type { Turn } from './suspect-turn.js';
import { isStopped, partitionOf } from '../consuming/partition.js';
import type { Partition } from '../consuming/partition.js';

/**
 * Takes the messages of a {@link ConsumerSession}, gives them to handlers, up to `concurrency` deliveries at once, and passes
 * each {@link Settlement} on to the {@link Acknowledger}. It owns the deliveries that run, and the messages that are parked
 * behind others of their key, or wait to be a batch of one. Buffered messages and those in handlers together never exceed
 * the session's capacity.
 *
 * A suspect, which an earlier process may have begun, runs only while no other suspect does, and is counted before its
 * handler starts: if it ends this process too, it alone is blamed. Messages that are new run beside it. While it cannot be
 * counted, in an outage or without a permission, it waits, and suspects of other partitions have their turn.
 *
 * Every event (messages arrived, a delivery ended, a message was settled) ends in `#pump`, which starts the next deliveries.
 */
export class Dispatcher implements MessageTaker {
  readonly #options: DispatcherOptions;
  readonly #queues: KeyQueues | undefined;
  /** Suspects that may be handled once it is their turn, in order. */
  readonly #suspects: StreamMessage[] = [];
  readonly #uncounted = new UncountedPartitions();
  /** Each of them is a batch of one: handed out on the way to a batch, or of a batch that has failed. */
  readonly #alone: StreamMessage[] = [];
  readonly #closing = new AbortController();
  /** Parked messages that occupy no place in the buffer. */
  #parkedOutside = 0;
  #running = 0;
  readonly #calls = new RunningCalls();
  #settling = 0;
  #idle: Deferred<void> | undefined;
  #batchTimer: NodeJS.Timeout | undefined;
  #isBatchDue = false;
  #isPumping = false;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#queues = options.keyOf && new KeyQueues(options.keyOf);
    options.rateLimit?.onAvailable(this.#pump);
    options.session.handOutTo(this);
  }

  onArrival(): void {
    this.#pump();
  }

  onTakenAway(message: StreamMessage): void {
    this.#queues?.leave(message);
    this.#pump();
  }

  onLeaseLost(partition: Partition, ids: ReadonlySet<string>): void {
    const { acknowledger, buffer } = this.#options.session;
    const isLost = (message: StreamMessage): boolean => ids.has(message.id) && partitionOf(message) === partition;
    this.#calls.abort('lease-lost', isLost);
    for (const message of takeFrom(this.#alone, isLost)) {
      acknowledger.leavePending(message);
      buffer.release();
    }
  }

  get waiting(): readonly StreamMessage[] {
    return [...this.#suspects, ...this.#alone, ...(this.#queues?.waiting ?? [])];
  }

  withdraw(isWanted: (message: StreamMessage) => boolean): StreamMessage[] {
    const { buffer } = this.#options.session;
    const suspects = takeFrom(this.#suspects, isWanted);
    for (const suspect of suspects) this.#queues?.leave(suspect);
    const parked = [...suspects, ...(this.#queues?.withdraw(isWanted) ?? [])];
    const alone = takeFrom(this.#alone, isWanted);
    // Of the parked ones, some occupy no place.
    for (let count = parked.length; count > 0; count -= 1) this.#unpark();
    for (let count = parked.length + alone.length; count > 0; count -= 1) buffer.release();
    return [...parked, ...alone];
  }

  /** Messages in handlers now. */
  get running(): number {
    return this.#running;
  }

  report(): HandlerReport {
    return this.#calls.report(this.#running >= this.#options.concurrency);
  }

  /**
   * Takes no more messages, gives back those that reached no handler, and waits for the running deliveries. At the deadline
   * their signals are aborted, and handlers that have asked for theirs get a moment to end.
   * Returns how many of them still ran at the deadline, which is on the monotonic clock; their messages stay pending.
   */
  async close(deadline: number): Promise<number> {
    const { session } = this.#options;
    this.#closing.abort();
    session.environment.suspectTurn.forget(this.#pump);
    clearTimeout(this.#batchTimer);
    this.#options.rateLimit?.close();
    this.#uncounted.close();
    await session.stopReading();
    await session.giveBack([...(this.#queues?.drain() ?? []), ...this.#suspects.splice(0), ...this.#alone.splice(0)]);
    if (this.#isIdle) return 0;
    this.#idle = withResolvers<void>();
    await within(Math.max(0, deadline - monotonicNow()), this.#idle.promise);
    if (this.#calls.abort('shutdown')) await within(ABORT_GRACE, this.#idle.promise);
    return this.#running;
  }

  readonly #pump = (): void => {
    // Deliveries that end at once call it again.
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      this.#startDeliveries();
    } finally {
      this.#isPumping = false;
    }
  };

  #startDeliveries(): void {
    while (!this.#isClosed && this.#running < this.#options.concurrency && this.#isInRate()) {
      if (this.#suspects.length > 0 && this.#runSuspect()) continue;
      const known = this.#suspects.length;
      const messages = this.#options.batch ? this.#nextBatch(this.#options.batch) : this.#nextMessage();
      if (messages.length > 0) this.#run(messages);
      else if (this.#suspects.length === known) return;
    }
  }

  /** False while the rate leaves nothing for the messages that wait; it calls `#pump` when it does. */
  #isInRate(): boolean {
    const { rateLimit, session } = this.#options;
    if (!rateLimit) return true;
    const waiting = session.buffer.size + this.#suspects.length + this.#alone.length + (this.#queues?.runnable ?? 0);
    return waiting === 0 || rateLimit.available(waiting) > 0;
  }

  /** Returns false while another suspect has the turn, or none can be counted. */
  #runSuspect(): boolean {
    const index = this.#suspects.findIndex((suspect) => !this.#uncounted.waits(partitionOf(suspect)));
    const turn = index === -1 ? undefined : this.#options.session.environment.suspectTurn.enter(this.#pump);
    if (!turn) return false;
    this.#unpark();
    this.#run(this.#suspects.splice(index, 1), turn);
    return true;
  }

  #park(message: StreamMessage): void {
    StreamMessage.detach(message);
    if (this.#parkedOutside >= MAX_PARKED_OUTSIDE) return;
    this.#parkedOutside += 1;
    this.#options.session.buffer.release();
  }

  #unpark(): void {
    if (this.#parkedOutside === 0) return;
    this.#parkedOutside -= 1;
    this.#options.session.buffer.occupy();
  }

  /** The next message that was handed out and is no suspect; suspects join their list on the way. */
  #nextMessage(): StreamMessage[] {
    const { session } = this.#options;
    if (this.#isSuspectFirst) return [];
    for (let message = this.#queues?.next(); message; message = this.#queues?.next()) {
      if (!StreamMessage.isSuspect(message)) {
        this.#unpark();
        return [message];
      }
      this.#suspects.push(message);
      if (this.#isSuspectFirst) return [];
    }
    for (let message = session.handOut(); message; message = session.handOut()) {
      const isItsTurn = this.#queues?.enter(message) ?? true;
      if (isItsTurn && !StreamMessage.isSuspect(message)) return [message];
      if (isItsTurn) this.#suspects.push(message);
      this.#park(message);
      if (this.#isSuspectFirst) return [];
    }
    // The read loop waits for room. It must not, if only a retry that the loop itself hands out can make room.
    if (session.buffer.isStarved) session.buffer.wake();
    return [];
  }

  /** Whether those behind a suspect wait for it: with one handler at a time, all messages of an owned shard are in order. */
  get #isSuspectFirst(): boolean {
    const [suspect] = this.#suspects;
    return this.#options.concurrency === 1 && suspect !== undefined && partitionOf(suspect).lease !== undefined;
  }

  #nextBatch({ size, timeout }: { size: number; timeout: number }): StreamMessage[] {
    const { session } = this.#options;
    if (this.#isSuspectFirst) return [];
    if (this.#alone.length > 0) return this.#alone.splice(0, 1);
    if (session.buffer.size === 0) {
      this.#isBatchDue = false;
      return [];
    }
    if (session.buffer.size < size && !this.#isBatchDue) {
      this.#batchTimer ??= setTimeout(() => {
        this.#batchTimer = undefined;
        this.#isBatchDue = true;
        this.#pump();
      }, timeout);
      return [];
    }
    const limit = Math.min(size, this.#options.rateLimit?.available(size) ?? size);
    // The span of the rate may have ended since it was asked a moment ago.
    if (limit <= 0) return [];
    clearTimeout(this.#batchTimer);
    this.#batchTimer = undefined;
    this.#isBatchDue = false;
    const batch: StreamMessage[] = [];
    for (let message = session.handOut(); message; message = session.handOut()) {
      if (StreamMessage.isSuspect(message)) {
        this.#suspects.push(message);
        this.#park(message);
      } else if (message.deliveryCount > 1) {
        // It may be the one that made its batch fail.
        this.#alone.push(message);
      } else {
        batch.push(message);
      }
      if (batch.length === limit || this.#isSuspectFirst) break;
    }
    return batch.length > 0 ? batch : this.#alone.splice(0, 1);
  }

  /** @param turn of a suspect */
  #run(messages: readonly StreamMessage[], turn?: Turn): void {
    this.#running += 1;
    this.#options.rateLimit?.take(messages.length);
    const call = newCall(messages, turn);
    if (turn) void this.#runCounted(call, turn);
    else this.#handle(call);
  }

  async #runCounted(call: Call, turn: Turn): Promise<void> {
    const [suspect] = call.messages as [StreamMessage];
    const start = await this.#countStart(suspect);
    if (start === 'now') {
      // The first delivery was counted at the read, each later one at its start. From the third on, an earlier process ended
      // after it had started.
      turn.begin(suspect.deliveryCount > 2);
      // A suspect that waits for its count is no handler that hangs.
      call.handlersStartedAt = monotonicNow();
      this.#handle(call);
    } else {
      if (start === 'later') this.#park(suspect);
      this.#end(call, start === 'never');
    }
  }

  /** Without an async function for each step: a message that costs less garbage is handled faster. */
  #handle(call: Call): void {
    this.#calls.add(call);
    const { onFailed, onError } = this.#options;
    const handling = this.#deliver(call);
    const end = (): void => {
      this.#calls.delete(call);
      this.#end(call, true);
    };
    if (!handling) return end();
    handling.then(end, (error: unknown) => {
      callSafely(
        () => outsideContext(() => onFailed(call.deliveries, error)),
        (failure) => {
          const [{ streamKey }] = call.messages as [StreamMessage];
          onError(toPublicError(failure, streamKey, 'handling messages of'));
          for (const delivery of call.deliveries) delivery.settle({ kind: 'pending' });
        },
      );
      end();
    });
  }

  /** @param isOver the messages are not handled later */
  #end({ messages, startedAt, turn }: Call, isOver: boolean): void {
    const { session, pace } = this.#options;
    this.#running -= 1;
    if (isOver) {
      pace?.handled(messages.length, performance.now() - startedAt);
      session.releasePlaces(messages.length);
    }
    this.#announceIdle();
    turn?.end();
    this.#pump();
  }

  /** Undefined when none of the messages reaches a handler. */
  #deliver(call: Call): Promise<void> | undefined {
    const { deliver, session } = this.#options;
    const limit = call.handlersStartedAt + session.maxHandlerTime;
    const deliveries: Delivery[] = [];
    for (const message of call.messages) {
      const delivery = new Delivery(message, this.#settle, limit);
      if (partitionOf(message).endIfFenced()) {
        delivery.settle({ kind: 'pending' });
        continue;
      }
      const unburied = partitionOf(message).unburied.get(message.id);
      if (unburied) delivery.settle(unburied);
      else deliveries.push(delivery);
    }
    if (deliveries.length === 0) return undefined;
    call.deliveries = deliveries;
    // The context of whatever called `#pump`, perhaps another handler, is none of this message's.
    return outsideContext(() => promiseOf(() => deliver(deliveries)));
  }

  /** Counts the start of a suspect; `never` when another consumer has it, or when we are closing. Never rejects. */
  async #countStart(message: StreamMessage): Promise<'now' | 'later' | 'never'> {
    const { session } = this.#options;
    const { acknowledger } = session;
    try {
      const isOurs = await acknowledger.countStart(message, this.#closing.signal);
      this.#uncounted.delete(partitionOf(message));
      if (isOurs && !this.#mustReturn(message)) return 'now';
      if (isOurs) await session.giveBack([message]);
      else acknowledger.leavePending(message);
    } catch (error) {
      if (!this.#mustReturn(message)) {
        this.#countLater(message, error);
        return 'later';
      }
      this.#uncounted.delete(partitionOf(message));
      await session.giveBack([message]);
    }
    this.#leaveQueue(message);
    return 'never';
  }

  #countLater(message: StreamMessage, error: unknown): void {
    const partition = partitionOf(message);
    this.#suspects.unshift(message);
    const isFirst = this.#uncounted.failed(partition, () => {
      // Its shard may be lost, or its stream no longer read.
      if (!this.#suspects.some((suspect) => partitionOf(suspect) === partition)) this.#uncounted.delete(partition);
      this.#pump();
    });
    if (isFirst && !isTransient(classifyRedisError(error))) {
      this.#options.onError(toPublicError(error, partition.key, 'counting a delivery of'));
    }
  }

  readonly #settle = (message: StreamMessage, settlement: Settlement): void => {
    const { acknowledger } = this.#options.session;
    switch (settlement.kind) {
      case 'ack':
        if (StreamMessage.isSuspect(message)) acknowledger.acknowledgeSuspect(message);
        else acknowledger.acknowledge(message);
        this.#leaveQueue(message);
        break;
      case 'pending':
        acknowledger.leavePending(message);
        this.#leaveQueue(message);
        break;
      case 'retry':
        void this.#carryOut(message, this.#retryLater(message, settlement.delay, settlement.isUncounted));
        break;
      case 'alone':
        this.#setAside(message);
        break;
      case 'dead-letter':
        void this.#carryOut(message, this.#deadLetter(message, settlement));
    }
  };

  /** For a batch of one. Its place is released with those of the batch that has failed. */
  #setAside(message: StreamMessage): void {
    const { session } = this.#options;
    const partition = partitionOf(message);
    const isOverdue = partition.owned.get(message.id) === 'overdue';
    if (isStopped(partition) || isOverdue) return session.acknowledger.leavePending(message);
    if (this.#mustReturn(message)) return void this.#carryOut(message, session.giveBack([message]));
    // The time of its handler begins again.
    partition.handledSince.delete(message.id);
    session.buffer.occupy();
    this.#alone.push(message);
  }

  /** Counts a settlement that needs the server, so that {@link close} waits for it. Never rejects. */
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

  async #deadLetter(message: StreamMessage, settlement: Settlement & { kind: 'dead-letter' }): Promise<void> {
    const { session, storeDeadLetter } = this.#options;
    const partition = partitionOf(message);
    // The next owner of the shard handles the message, and decides what becomes of it.
    const mustHalt = session.options.onPoison === 'halt';
    if (partition.isFenced || mustHalt) {
      const { reason, error } = settlement;
      if (!partition.isFenced) session.halt(partition, new ShardHaltedError(partition.key, message.id, reason, error));
      session.acknowledger.leavePending(message);
      this.#leaveQueue(message);
      return;
    }
    try {
      // Stored first, acknowledged second: a crash between the two leaves a second dead letter, never none.
      await storeDeadLetter(message, settlement);
    } catch (error) {
      partition.unburied.set(message.id, settlement);
      await this.#retryLater(message, DEAD_LETTER_RETRY_DELAY);
      throw error;
    }
    await session.acknowledger.acknowledgeNow(message);
    this.#leaveQueue(message);
  }

  /** Those behind it wait for it only while it waits here. */
  async #retryLater(message: StreamMessage, delay: number, isUncounted?: boolean): Promise<void> {
    let isWaiting = false;
    try {
      isWaiting = await this.#options.session.acknowledger.retryLater(message, delay, isUncounted);
    } catch (error) {
      isWaiting = partitionOf(message).owned.has(message.id);
      throw error;
    } finally {
      if (!isWaiting) this.#leaveQueue(message);
    }
  }

  #leaveQueue(message: StreamMessage): void {
    if (!this.#queues) return;
    this.#queues.leave(message);
    this.#pump();
  }

  /** Whether no handler may be started with a message that was taken. */
  #mustReturn(message: StreamMessage): boolean {
    return this.#isClosed || partitionOf(message).isPaused;
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  get #isIdle(): boolean {
    return this.#running + this.#settling === 0;
  }

  #announceIdle(): void {
    if (this.#isIdle) this.#idle?.resolve();
  }
}
