import { errorText } from '../../shared/error-text.js';
import { ConnectionError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import type { LocalLoopHealth } from '../health.js';
import { Housekeeping } from '../admin/housekeeping.js';
import { StreamMessage } from '../messages/stream-message.js';
import type { ResolvedConsumerOptions } from '../options/resolve-options.js';
import { Acknowledger } from '../settling/acknowledger.js';
import type { ConsumerEnvironment, LiveSession } from './consumer-environment.js';
import { MessageBuffer } from './message-buffer.js';
import type { MessageTaker, SessionCapacity, SessionListeners } from './message-taker.js';
import { NameLease } from './name-lease.js';
import { PartitionSet, isStopped, partitionOf } from './partition.js';
import type { OwnedState, Partition } from './partition.js';
import { Pausing } from './pausing.js';
import type { ReadLoopListener } from './reading/read-loop-options.js';
import { ReadLoops } from './reading/read-loops.js';
import type { ReadLoopReport } from './reading/read-loops.js';
import type { ReadPage } from './reading/stream-reader.js';
import { HandlingLimit } from './recovery/handling-limit.js';
import { LeaseRenewal } from './recovery/lease-renewal.js';
import type { LeaseListener } from './recovery/lease-renewal.js';
import { Release } from './recovery/release.js';
import type { RetryListener } from './recovery/retry-schedule.js';
import { ThreadedRenewal } from './recovery/threaded-renewal.js';

/**
 * Lease of a resumable consumer, from which no other one claims, in milliseconds. Pending entries that it has lost are put back
 * within a third of it.
 */
const RESUMABLE_LEASE = 15_000;
/** Acks that cannot be sent mean messages delivered twice, not lost ones: the end waits at most this long for the server. */
const LAST_COMMIT_LIMIT = 5_000;

/**
 * One consumer's membership in its streams. It owns the buffer, the partitions with the entries that are in this process,
 * and the parts that read, claim, renew, commit and leave.
 *
 * A message on its way in: {@link ReadLoop} → {@link onPages} → {@link MessageBuffer} → {@link MessageTaker.onArrival} →
 * {@link handOut} → handler. Its way back: handler → {@link Acknowledger} → CommitScheduler → XACK.
 *
 * The states: created, {@link open} (reads), {@link stopReading} (hands out nothing new, still acknowledges), {@link leave}
 * (closed). Each is entered once, in this order; a session that failed to open goes through the last two as well.
 *
 * It never decides how a message is settled; its {@link MessageTaker} does.
 */
export class ConsumerSession implements LiveSession, ReadLoopListener, RetryListener, LeaseListener {
  readonly environment: ConsumerEnvironment;
  readonly options: ResolvedConsumerOptions;
  readonly partitions = new PartitionSet();
  readonly buffer: MessageBuffer<StreamMessage>;
  readonly acknowledger: Acknowledger;
  readonly pausing: Pausing;
  readonly #capacity: SessionCapacity;
  readonly #listeners: SessionListeners;
  readonly #loops: ReadLoops;
  readonly #release: Release;
  readonly #leaseRenewal: LeaseRenewal | undefined;
  readonly #threadedRenewal: ThreadedRenewal | undefined;
  readonly #handlingLimit: HandlingLimit | undefined;
  readonly #housekeeping: Housekeeping | undefined;
  readonly #nameLease: NameLease | undefined;
  /** Ends the moving of delayed messages to the partition here. */
  readonly #delayed = new Map<Partition, () => void>();
  #ack: (partition: Partition, ids: readonly string[]) => Promise<number>;
  #taker: MessageTaker | undefined;

  constructor(
    environment: ConsumerEnvironment,
    options: ResolvedConsumerOptions,
    capacity: SessionCapacity,
    listeners: SessionListeners,
  ) {
    const { control, logger } = environment;
    const { pending, groups } = control;
    const { group, consumer, mode, prefetch, batchSize, autoClaimIdle: claimIdle } = options;
    const { onError } = listeners;
    const { partitions } = this;
    this.environment = environment;
    this.options = options;
    this.#capacity = capacity;
    this.#listeners = listeners;
    this.#ack = ({ key }, ids) => pending.ack(key, group as string, ids);
    this.buffer = new MessageBuffer(prefetch + capacity.inHandlers, batchSize, capacity.holdsUntilReleased);
    this.#loops = new ReadLoops({
      environment,
      consumer: options,
      buffer: this.buffer,
      // A taker that does not settle its messages cannot tell when a handler starts.
      countsStarts: capacity.holdsUntilReleased,
      listener: this,
    });
    this.acknowledger = new Acknowledger({
      consumer: options,
      pending,
      ack: (partition, ids) => this.#ack(partition, ids),
      retries: this.#loops,
      logger,
      onError,
      isOursAlone: (partition) => this.#leaseRenewal?.isOnTime(partition) ?? true,
    });
    this.#release = new Release({ consumer: options, commands: control, logger });
    const isShared =
      mode === 'load-balanced' && options.autoClaimInterval !== false && options.shardOwnership === 'shared';
    this.pausing = new Pausing({
      group,
      givesBack: isShared && this.acknowledger.hasPending,
      groupPauses: environment.groupPauses,
      partitions,
      buffer: this.buffer,
      withdraw: (isWanted) => this.#taker?.withdraw?.(isWanted) ?? [],
      lookAgain: (changed) => this.#loops.lookAgain(changed),
      giveBack: (partition, messages) => this.#release.giveBackTo(partition, messages),
      logger,
    });
    if (group !== undefined) {
      this.#housekeeping = new Housekeeping({ consumer: options, group, groups, partitions, logger, onError });
      if (!options.isNameGenerated) {
        this.#nameLease = new NameLease({ consumer: options, group, groups, partitions, logger, onError });
      }
      if (this.acknowledger.hasPending) {
        const retries = this.#loops;
        this.#leaseRenewal = new LeaseRenewal({
          pending,
          group,
          consumer,
          claimIdle: mode === 'load-balanced' ? claimIdle : RESUMABLE_LEASE,
          partitions,
          retries,
          listener: this,
        });
      }
      if (options.leaseRenewal === 'thread' && this.maxHandlerTime < Infinity) {
        const every = claimIdle / 3;
        this.#threadedRenewal = new ThreadedRenewal({
          client: environment.createRenewalClient({ every, limit: this.maxHandlerTime, onFailure: onError }),
          pending,
          group,
          consumer,
          claimIdle,
          maxHandlerTime: this.maxHandlerTime,
          partitions,
          retries: this.#loops,
        });
      }
      if (this.maxHandlerTime < Infinity) {
        const waiting = (): readonly StreamMessage[] => this.#taker?.waiting ?? [];
        this.#handlingLimit = new HandlingLimit({ maxHandlerTime: this.maxHandlerTime, partitions, waiting, logger });
      }
    }
    environment.sessions.add(this);
  }

  /** How long a message may be in a handler, in milliseconds; Infinity where no other consumer can claim it. */
  get maxHandlerTime(): number {
    const isLimited = this.options.mode === 'load-balanced' && this.acknowledger.hasPending;
    return isLimited ? this.options.maxHandlerTime : Infinity;
  }

  /** Must be called before {@link open}. */
  handOutTo(taker: MessageTaker): void {
    this.#taker = taker;
    this.buffer.onArrival(() => taker.onArrival());
  }

  /** Must be called before {@link open}, where shards are owned: their acknowledgements go another way. */
  acknowledgeBy(ack: (partition: Partition, ids: readonly string[]) => Promise<number>): void {
    this.#ack = ack;
  }

  /** Fixes the start position of every partition, then starts to read. @throws RedisStreamsError when that is impossible. */
  async open(partitions: readonly Partition[]): Promise<void> {
    await this.add(partitions, false);
    this.#loops.requireRunning();
    this.#nameLease?.start();
    this.#leaseRenewal?.start();
    this.#handlingLimit?.start();
    this.#threadedRenewal?.start();
    this.#housekeeping?.start();
  }

  /** Reads more partitions. @param isAllNew they appeared while the consumer was reading */
  async add(partitions: readonly Partition[], isAllNew: boolean): Promise<void> {
    try {
      await this.#add(partitions, isAllNew);
    } catch (error) {
      // What is still in handlers must be known when they are added again.
      this.partitions.remove(partitions);
      this.partitions.remember(partitions);
      throw error;
    }
  }

  async #add(partitions: readonly Partition[], isAllNew: boolean): Promise<void> {
    await this.#loops.open(partitions, isAllNew);
    for (const partition of partitions) partition.handedOut = partition.position;
    await this.pausing.prepare(partitions);
    for (const partition of partitions) this.partitions.inherit(partition);
    this.pausing.mark(partitions);
    this.partitions.add(partitions);
    this.#resizeBuffer();
    this.#threadedRenewal?.sendLeases();
    await this.#loops.assign(this.partitions.current);
    const { onError } = this.#listeners;
    for (const partition of partitions) {
      this.#delayed.set(partition, this.environment.moveDelayed(partition.key, onError));
    }
    for (const partition of partitions) if (partition.failure) this.onPartitionFailure(partition);
  }

  /**
   * Another consumer may own the shard: hands nothing of it out any more, aborts the signals of its handlers, and forgets
   * what it has of it, for {@link remove} follows.
   */
  fence(partition: Partition): void {
    this.pausing.dismiss([partition]);
    this.#takeBuffered([partition]);
    const { owned } = partition;
    const running = new Set([...owned.keys()].filter((id) => isRunning(owned.get(id))));
    for (const [id, state] of owned) {
      // A handler that runs on settles its message here, even if this consumer gets the shard again; a caller of next() may not.
      const isInHandler = isRunning(state) && this.#capacity.holdsUntilReleased;
      if (!isInHandler && state !== 'settled') owned.delete(id);
    }
    if (running.size > 0) this.#taker?.onLeaseLost?.(partition, running);
  }

  /** Reads nothing more of a shard, because a message of it failed for good. Nothing of it is given back. */
  halt(partition: Partition, failure: RedisStreamsError): void {
    partition.failure = failure;
    this.pausing.dismiss([partition]);
    for (const { id } of this.#takeBuffered([partition])) partition.owned.delete(id);
    this.onPartitionFailure(partition);
  }

  /**
   * Sends the acknowledgements of a partition that wait; what is refused is reported. With the commit policy `disabled` the
   * application decides when. What was handed out by `next()` is not known to be handled before its delay is over.
   */
  async sendAcks(partition: Partition, limit: AbortSignal): Promise<void> {
    if (this.#capacity.holdsUntilReleased) this.acknowledger.flushDelayed(partition);
    if (this.options.autoCommit === 'disabled') return;
    await this.acknowledger.commit(limit, partition).catch(() => undefined);
  }

  /** Removes the consumer's name from a shard that was handed over, if nothing is pending for it. */
  async removeName(partition: Partition): Promise<void> {
    await this.#release.removeName([partition]);
  }

  /** Stops reading partitions; their buffered messages are given back to the group, and the name is removed where none is left. */
  async remove(partitions: readonly Partition[]): Promise<void> {
    this.partitions.remove(partitions);
    this.#resizeBuffer();
    this.pausing.dismiss(partitions);
    this.#leaveDelayed(partitions);
    await this.#loops.assign(this.partitions.current);
    await this.#giveBackBuffered(partitions);
    this.partitions.remember(partitions);
    await this.#release.removeName(partitions.filter(({ lease, owned }) => !lease && owned.size === 0));
  }

  /** The next message, if one is buffered; its taker settles it. */
  handOut(): StreamMessage | undefined {
    let message = this.buffer.take();
    while (message && isStopped(partitionOf(message))) message = this.#passOver(message);
    if (!message) return undefined;
    const partition = partitionOf(message);
    partition.handedOut = message.id;
    this.#threadedRenewal?.handedOut();
    if (this.#isPending(partition)) partition.owned.set(message.id, 'running');
    if (!this.#capacity.holdsUntilReleased) this.acknowledger.acknowledgeAfterDelay(message);
    return message;
  }

  /** The message after one whose shard was halted, or may have another owner by now. */
  #passOver(message: StreamMessage): StreamMessage | undefined {
    const partition = partitionOf(message);
    partition.endIfFenced();
    partition.owned.delete(message.id);
    if (this.#capacity.holdsUntilReleased) this.buffer.release();
    return this.buffer.take();
  }

  /** Frees the places of the messages of a delivery that is over. */
  releasePlaces(messages: number): void {
    for (let count = messages; count > 0; count -= 1) this.buffer.release();
  }

  /** Drops the buffered messages of a partition, and every page of it that was requested before. */
  invalidate(partition: Partition): void {
    partition.generation += 1;
    for (const { id } of this.#takeBuffered([partition])) {
      if (this.#isPending(partition)) partition.owned.set(id, 'skipped');
    }
  }

  /** An entry is expected: loops that poll read now. */
  lookSoon(): void {
    this.#loops.lookSoon();
  }

  /** Runs a change of read positions while no read is in flight. */
  async betweenReads(change: () => Promise<void>): Promise<void> {
    await this.#loops.betweenReads(change);
  }

  /** Stops reading and gives back the messages that were not handed out. */
  async stopReading(): Promise<void> {
    this.pausing.close();
    await Promise.all([this.#loops.stop(), this.#housekeeping?.stop()]);
    await this.#giveBackBuffered(this.partitions.current);
  }

  /** Gives back messages that were handed out but reached no handler. */
  async giveBack(messages: readonly StreamMessage[]): Promise<void> {
    await this.#release.giveBack(this.pausing.holdBack(messages));
  }

  /**
   * Sends the acknowledgements, and waits until the server has confirmed them.
   * @throws ConnectionError when that takes longer than `timeout`; RedisStreamsError when Redis refuses some of them
   */
  async commit(): Promise<void> {
    const { timeout } = this.environment;
    const limit = AbortSignal.timeout(timeout);
    try {
      await this.acknowledger.commit(limit);
    } catch (error) {
      if (!limit.aborted) throw error;
      throw new ConnectionError(
        `The acknowledgements were not confirmed within ${timeout} ms; they stay queued`,
        error,
      );
    }
  }

  giveUp(): void {
    this.acknowledger.close();
  }

  /** Commits the acknowledgements, removes the consumer's name where nothing is pending for it, closes the connections. */
  async leave(): Promise<void> {
    this.acknowledger.flushDelayed();
    await this.#release.attempt(() => this.acknowledger.commit(AbortSignal.timeout(LAST_COMMIT_LIMIT)));
    this.#leaseRenewal?.stop();
    this.#handlingLimit?.stop();
    this.#leaveDelayed([...this.#delayed.keys()]);
    this.acknowledger.close();
    await Promise.all([
      this.#release.removeName(this.partitions.owning),
      this.#nameLease?.stop(),
      this.#threadedRenewal?.stop(),
    ]);
    await this.#loops.release();
    this.environment.sessions.delete(this);
  }

  /** How each of the read loops is doing. */
  health(): LocalLoopHealth[] {
    const { mode, group, consumer } = this.options;
    const handlers = this.#taker?.report?.() ?? { oldestHandler: undefined, allBusyFor: undefined };
    const running = (partitions: readonly Partition[]): number =>
      partitions.reduce((sum, { owned }) => sum + [...owned.values()].filter(isRunning).length, 0);
    return this.#loops.reports().map((report) => ({
      ...report,
      ...this.#withRefusedAcks(report),
      ...handlers,
      mode,
      group,
      consumer: group === undefined ? undefined : consumer,
      isForReplies: this.environment.isForReplies,
      nameConflict: this.#nameLease?.conflict,
      buffered:
        this.buffer.count((message) => report.partitions.includes(partitionOf(message))) +
        this.pausing.count(report.partitions),
      inFlight: this.acknowledger.hasPending ? running(report.partitions) : this.buffer.inFlight,
    }));
  }

  /** What is not acknowledged is handled again after a restart, so that a loop whose acks are refused is not healthy. */
  #withRefusedAcks(report: ReadLoopReport): Pick<LocalLoopHealth, 'isHealthy' | 'refusal'> {
    const refusal = report.refusal ?? this.acknowledger.refusalOf(report.partitions);
    return { isHealthy: report.isHealthy && refusal === undefined, refusal };
  }

  /** Called by a read loop. An abandoned round may return entries that a later one has read already. */
  onPages(pages: readonly ReadPage[], isLate: boolean): void {
    const messages: StreamMessage[] = [];
    for (const { partition, generation, entries } of pages) {
      // The connection of an abandoned round is replaced, and what was read there is recovered before anything else. What belongs
      // to a lease that has ended is for the next owner.
      if (partition.lease && (isLate || partition.lease.isEnded)) continue;
      this.#threadedRenewal?.arrived(partition, entries);
      this.#capacity.adaptivePrefetch?.arrived(entries);
      const isCurrent = partition.generation === generation;
      const read: StreamMessage[] = partition.isPaused ? [] : messages;
      for (const entry of entries) {
        if (isLate ? partition.owned.has(entry.id) : this.#isInHand(partition, entry.id)) continue;
        if (this.#isPending(partition)) partition.owned.set(entry.id, isCurrent ? 'buffered' : 'skipped');
        if (isCurrent) read.push(StreamMessage.create(partition, entry, this.environment.format));
      }
      if (partition.isPaused) this.#onUnwanted(partition, read);
    }
    this.#resizeBuffer();
    this.buffer.push(messages);
  }

  #resizeBuffer(): void {
    const { adaptivePrefetch, inHandlers } = this.#capacity;
    if (!adaptivePrefetch) return;
    const isOwned = this.options.shardOwnership === 'owned';
    const { prefetch, batchSize } = adaptivePrefetch.size(isOwned ? this.partitions.current.length : 0);
    this.buffer.resize(prefetch + inHandlers, batchSize);
  }

  /** Messages that a read has returned after their partition was paused or removed. */
  #onUnwanted(partition: Partition, messages: readonly StreamMessage[]): void {
    if (this.partitions.current.includes(partition)) this.pausing.hold(partition, messages);
    else void this.giveBack(messages);
  }

  /** Called by a read loop. */
  onPartitionFailure(partition: Partition): void {
    this.#listeners.onStreamFailure(partition.failure as RedisStreamsError, partition);
  }

  /** Called by a read loop. */
  onError(error: RedisStreamsError): void {
    this.#listeners.onError(error);
  }

  /** Called by the retry schedule of a read loop. */
  onTakenAway(message: StreamMessage): void {
    this.#taker?.onTakenAway(message);
  }

  /** Called by the lease renewal. */
  onLeaseLost(partition: Partition, ids: ReadonlySet<string>): void {
    this.#takeBuffered([partition], ({ id }) => ids.has(id));
    for (const id of ids) if (partition.owned.get(id) === 'buffered') partition.owned.delete(id);
    this.#taker?.onLeaseLost?.(partition, ids);
  }

  /** Called by the lease renewal. */
  onRenewalFailure(error: unknown): void {
    this.environment.logger.debug(`Renewing the lease of entries failed: ${errorText(error)}`);
  }

  /**
   * A group that is moved back (XGROUP SETID) delivers entries again that are still in this process. Where a taker settles
   * every message, they are not handed out once more: a message would be in two handlers at once, or before others of its
   * key. What was settled is handled again.
   */
  #isInHand({ owned }: Partition, id: string): boolean {
    if (!this.#capacity.holdsUntilReleased) return false;
    const state = owned.get(id);
    return isRunning(state) || state === 'buffered' || state === 'waiting';
  }

  /** Whether what is read of the partition is pending for this consumer on the server. */
  #isPending(partition: Partition): boolean {
    return this.acknowledger.hasPending && !partition.isOffGroup;
  }

  #leaveDelayed(partitions: readonly Partition[]): void {
    for (const partition of partitions) {
      this.#delayed.get(partition)?.();
      this.#delayed.delete(partition);
    }
  }

  async #giveBackBuffered(partitions: readonly Partition[]): Promise<void> {
    await this.giveBack(this.#takeBuffered(partitions));
  }

  #takeBuffered(
    partitions: readonly Partition[],
    isWanted: (message: StreamMessage) => boolean = () => true,
  ): StreamMessage[] {
    const buffered = this.buffer.remove((message) => partitions.includes(partitionOf(message)) && isWanted(message));
    return [...this.pausing.take(partitions, isWanted), ...buffered];
  }
}

function isRunning(state: OwnedState | undefined): boolean {
  return state === 'running' || state === 'overdue';
}
