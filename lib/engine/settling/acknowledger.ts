import { limited } from '../../shared/backoff.js';
import { monotonicNow } from '../../shared/clock.js';
import { classifyRedisError, isOfKey } from '../../redis/commands/redis-error.js';
import type { RedisStreamsError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { PendingCommands } from '../../redis/commands/stream-commands.js';
import { partitionOf } from '../consuming/partition.js';
import type { Partition } from '../consuming/partition.js';
import { retryMargin } from '../consuming/recovery/retry-schedule.js';
import type { RetrySchedules } from '../consuming/recovery/retry-schedule.js';
import type { StreamMessage } from '../messages/stream-message.js';
import type { ResolvedConsumerOptions } from '../options/resolve-options.js';
import { CommitScheduler } from './commit-scheduler.js';

export interface AcknowledgerOptions {
  readonly consumer: ResolvedConsumerOptions;
  readonly pending: PendingCommands;
  /** Returns how many of the ids were pending. */
  readonly ack: (partition: Partition, ids: readonly string[]) => Promise<number>;
  readonly retries: RetrySchedules;
  readonly logger: Required<RedisStreamsLogger>;
  readonly onError: (error: RedisStreamsError) => void;
  /** Whether no other consumer can have claimed an entry of the partition that this process owns. */
  readonly isOursAlone: (partition: Partition) => boolean;
}

/**
 * How long a suspect waits for acks to be confirmed before it, in milliseconds: in Cluster the node of another stream may stand
 * still.
 */
const COMMIT_LIMIT = 2_000;

/** An ack of the commit policy `delayed`, which waits for its delay. */
interface DelayedAck {
  readonly partition: Partition;
  readonly id: string;
  readonly dueAt: number;
}

/**
 * Carries out how a message that was handed out is settled. An acknowledgement goes to the {@link CommitScheduler}, with the
 * commit policy `delayed` after its delay; a retry goes to the {@link RetrySchedule} of its partition; a message that is left
 * pending is only forgotten.
 *
 * In real-time mode and with NOACK nothing is pending, and it does nothing.
 */
export class Acknowledger {
  readonly #options: AcknowledgerOptions;
  readonly #commits: CommitScheduler | undefined;
  /** In order of their due time, because the delay is the same for all. */
  #delayed: DelayedAck[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: AcknowledgerOptions) {
    this.#options = options;
    const { group, autoCommit } = options.consumer;
    if (group !== undefined && autoCommit !== 'immediate') this.#commits = this.#createCommits();
  }

  /** Whether the messages in this process are pending on the server. */
  get hasPending(): boolean {
    return this.#commits !== undefined;
  }

  /** For a message that was handed out to a taker who never settles it: acknowledges it later, with the commit policy `delayed`. */
  acknowledgeAfterDelay(message: StreamMessage): void {
    if (this.#isDelayed) this.#ackAfterDelay(partitionOf(message), message.id);
  }

  /** A handler has processed the message; with the commit policy `delayed` it is acknowledged after the delay. */
  acknowledge(message: StreamMessage): void {
    const partition = partitionOf(message);
    if (this.#isDelayed) this.#ackAfterDelay(partition, message.id);
    else this.ack(partition, message.id);
  }

  /** Acknowledges at once, with every commit policy: the dead letter of the message is stored, and a redrive may come any time. */
  async acknowledgeNow(message: StreamMessage): Promise<void> {
    const partition = partitionOf(message);
    partition.owned.set(message.id, 'settled');
    try {
      await this.#options.ack(partition, [message.id]);
      this.leavePending(message);
    } catch {
      // The scheduler repeats it, and reports a refusal.
      this.ack(partition, message.id);
    }
  }

  /** Queues an acknowledgement. */
  ack(partition: Partition, id: string): void {
    if (!this.#commits) return;
    partition.failedFirst.delete(id);
    partition.unburied.delete(id);
    partition.owned.set(id, 'settled');
    this.#commits.add(partition, id);
  }

  /** Leaves a message pending: a consumer that claims idle entries, possibly this one, will get it again. */
  leavePending(message: StreamMessage): void {
    const partition = partitionOf(message);
    partition.owned.delete(message.id);
    partition.handledSince.delete(message.id);
    partition.failedFirst.delete(message.id);
    partition.unburied.delete(message.id);
  }

  /**
   * Counts the delivery of a suspect on the server, right before its handler starts. Acks that wait are sent before: if the
   * suspect ends the process, what has succeeded must not be handled again, and counted again, each time. With the commit
   * policy `disabled` the handler decides about that itself.
   *
   * Returns false when the entry is no longer ours. Ends early, uncounted, when the signal aborts. Rejects when it could not
   * be counted: without a count, a message that ends its process would do that without end.
   */
  async countStart(message: StreamMessage, signal: AbortSignal): Promise<boolean> {
    const { consumer: options, pending, isOursAlone } = this.#options;
    const { consumer } = options;
    const group = options.group as string;
    const partition = partitionOf(message);
    const { id, deliveryCount } = message;
    await limited(COMMIT_LIMIT, signal, (limit) => this.#commitAll(limit));
    if (signal.aborted) return true;
    try {
      const wanted = [{ id, deliveryCount, consumer, idle: 0 }];
      const { entries, deleted } = await pending.claimOwn(partition.key, group, consumer, wanted, false);
      if (deleted.length > 0) await pending.ack(partition.key, group, deleted);
      partition.deletedWhilePending += deleted.length;
      if (entries.length > 0 || deleted.length > 0) return entries.length > 0;
      if (!isOursAlone(partition)) return false;
      // Pending for no consumer: its group was created again, or this consumer was deleted. Put back, it is counted.
      const { restored, gone } = await pending.restore(partition.key, group, consumer, [{ id, deliveryCount }]);
      return restored.length + gone.length > 0;
    } catch (error) {
      // With its group or stream the count is gone, and so is every other way to the message.
      if (isOfKey(classifyRedisError(error))) return isOursAlone(partition);
      throw error;
    }
  }

  /** Acknowledges a suspect at once, so that a later crash does not repeat it. */
  acknowledgeSuspect(message: StreamMessage): void {
    this.acknowledge(message);
    void this.#commitAll();
  }

  /** When the handling of this message first failed in this process; now, if it has not failed before. */
  failedFirst(message: StreamMessage): Date {
    return new Date(partitionOf(message).failedFirst.get(message.id) ?? Date.now());
  }

  /**
   * Hands a message out again after the delay, here or, if this process dies, in another consumer. Resolves with false when it does
   * not wait here, because its partition is no longer read.
   */
  async retryLater(message: StreamMessage, delay: number, isUncounted = false): Promise<boolean> {
    const { consumer: options, pending, retries } = this.#options;
    const { group, consumer, autoClaimIdle, mode } = options;
    const partition = partitionOf(message);
    const schedule = retries.retriesOf(partition);
    if (group === undefined || !schedule) {
      this.leavePending(message);
      return false;
    }
    partition.failedFirst.set(message.id, this.failedFirst(message).getTime());
    const dueAt = monotonicNow() + delay;
    const outlastsIdle = delay + retryMargin(autoClaimIdle) > autoClaimIdle;
    let isWaiting = false;
    schedule.expect();
    try {
      // Before the retry can start: an entry that others may claim must not be in a handler here.
      const idle = Math.max(0, autoClaimIdle - delay - retryMargin(autoClaimIdle));
      // The next delivery adds one.
      const count = isUncounted ? { deliveryCount: message.deliveryCount - 1 } : {};
      const entries = [{ id: message.id, ...count }];
      if (mode === 'load-balanced' || isUncounted) await pending.setIdle(partition.key, group, consumer, entries, idle);
    } finally {
      schedule.endExpecting();
      // It may have been removed in the meantime, and its schedule forgets nothing again.
      isWaiting = retries.retriesOf(partition) === schedule;
      const isFirst = isWaiting && schedule.add(partition, message, Math.max(0, dueAt - monotonicNow()), outlastsIdle);
      if (!isWaiting) this.leavePending(message);
      if (isFirst) await retries.restart(partition);
    }
    return isWaiting;
  }

  /** Why Redis refuses acks on one of these partitions now. */
  refusalOf(partitions: readonly Partition[]): RedisStreamsError | undefined {
    for (const partition of partitions) {
      const refusal = this.#commits?.refusalOf(partition);
      if (refusal) return refusal;
    }
    return undefined;
  }

  /** Resolves when every ack that was queued before is settled, or every one of a partition. */
  async commit(signal?: AbortSignal, only?: Partition): Promise<void> {
    await this.#commits?.flush(signal, only);
  }

  /** Queues the acks that wait for their delay, all or those of a partition. */
  flushDelayed(only?: Partition): void {
    const isMeant = ({ partition }: DelayedAck): boolean => only === undefined || partition === only;
    const due = this.#delayed.filter(isMeant);
    this.#delayed = this.#delayed.filter((ack) => !isMeant(ack));
    for (const { partition, id } of due) this.ack(partition, id);
    if (this.#delayed.length > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Queued acks are not sent; call {@link flushDelayed} and {@link commit} before. */
  close(): void {
    this.#commits?.close();
  }

  /** Sends every ack that waits. Never rejects: the scheduler reports the acks that Redis refuses. */
  async #commitAll(signal?: AbortSignal): Promise<void> {
    if (this.#options.consumer.autoCommit === 'disabled') return;
    this.flushDelayed();
    await this.commit(signal).catch(() => undefined);
  }

  get #isDelayed(): boolean {
    return this.#commits !== undefined && this.#options.consumer.autoCommit === 'delayed';
  }

  #ackAfterDelay(partition: Partition, id: string): void {
    const { autoCommitDelay: delay } = this.#options.consumer;
    if (delay === 0) {
      this.ack(partition, id);
      return;
    }
    this.#delayed.push({ partition, id, dueAt: monotonicNow() + delay });
    this.#timer ??= setTimeout(() => this.#ackDue(), delay);
  }

  #ackDue(): void {
    const now = monotonicNow();
    const firstLater = this.#delayed.findIndex(({ dueAt }) => dueAt > now);
    const due = this.#delayed.splice(0, firstLater === -1 ? this.#delayed.length : firstLater);
    for (const { partition, id } of due) this.ack(partition, id);
    const next = this.#delayed[0];
    this.#timer = next ? setTimeout(() => this.#ackDue(), Math.max(1, next.dueAt - now)) : undefined;
  }

  #createCommits(): CommitScheduler {
    const { consumer, ack, logger, onError } = this.#options;
    return new CommitScheduler({
      ack,
      interval: consumer.autoCommit === 'disabled' ? undefined : consumer.autoCommitInterval,
      onError,
      onMissed: (streamKey, count) => {
        logger.debug(`${count} acknowledgements on '${streamKey}' were for entries that are not pending`);
      },
    });
  }
}
