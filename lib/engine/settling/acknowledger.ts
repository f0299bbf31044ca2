import { monotonicNow } from '../../shared/clock.js';
import type { RedisStreamsError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { PendingCommands } from '../../redis/commands/stream-commands.js';
import { partitionOf } from '../consuming/partition.js';
import type { Partition } from '../consuming/partition.js';
import { CommitScheduler } from './commit-scheduler.js';
import { DelayedAcks } from './delayed-acks.js';
import type { ResolvedConsumerOptions } from '../options/options.js';
import type { RetrySchedule } from '../consuming/recovery/retry-schedule.js';
import type { StreamMessage } from '../messages/stream-message.js';

export interface AcknowledgerOptions {
  readonly consumer: ResolvedConsumerOptions;
  readonly pending: PendingCommands;
  readonly logger: Required<RedisStreamsLogger>;
  readonly retriesOf: (stream: Partition) => RetrySchedule | undefined;
  /** A retry is due before all that the read loops wait for. */
  readonly onEarlierRetry: () => Promise<void>;
  readonly onError: (error: RedisStreamsError) => void;
}

/**
 * Carries out what becomes of a message that was handed out: acknowledged, as the commit policy says; left pending; or
 * handed out again later.
 */
export class Acknowledger {
  readonly #options: AcknowledgerOptions;
  readonly #commits: CommitScheduler | undefined;
  readonly #delayedAcks: DelayedAcks | undefined;

  constructor(options: AcknowledgerOptions) {
    this.#options = options;
    const { group, autoCommit, autoCommitDelay } = options.consumer;
    if (group === undefined || autoCommit === 'immediate') return;
    this.#commits = this.#createCommits(group);
    if (autoCommit === 'delayed') {
      this.#delayedAcks = new DelayedAcks(autoCommitDelay, (stream, id) => this.ack(stream, id));
    }
  }

  /** Whether messages are pending on the server while they are here. */
  get hasPending(): boolean {
    return this.#commits !== undefined;
  }

  /** With `delayed`, who asks for messages one by one never says that one is processed. */
  acknowledgeLater(message: StreamMessage): void {
    this.#delayedAcks?.add(partitionOf(message), message.id);
  }

  /** A handler has processed the message: it is acknowledged, with `delayed` some time later. */
  acknowledge(message: StreamMessage): void {
    const stream = partitionOf(message);
    if (this.#delayedAcks) this.#delayedAcks.add(stream, message.id);
    else this.ack(stream, message.id);
  }

  /** The same without delay, whatever the commit policy: its dead letter is stored, and may be put back at any time. */
  async acknowledgeNow(message: StreamMessage): Promise<void> {
    const stream = partitionOf(message);
    try {
      await this.#options.pending.ack(stream.key, this.#options.consumer.group as string, [message.id]);
      this.leavePending(message);
    } catch {
      this.ack(stream, message.id);
    }
  }

  /** Queues an acknowledgement. */
  ack(stream: Partition, id: string): void {
    if (!this.#commits) return;
    stream.failedFirst.delete(id);
    stream.held.set(id, 'settled');
    this.#commits.add(stream, id);
  }

  /** Leaves a message pending: whoever claims idle entries, maybe we, will get it again. */
  leavePending(message: StreamMessage): void {
    const stream = partitionOf(message);
    stream.held.delete(message.id);
    stream.failedFirst.delete(message.id);
  }

  /** When handling this message first failed in this process: now, unless it did before. */
  failedFirst(message: StreamMessage): Date {
    return new Date(partitionOf(message).failedFirst.get(message.id) ?? Date.now());
  }

  /** Sees to it that a message is handed out again after the delay, here or, if this process dies, elsewhere. */
  async retryLater(message: StreamMessage, delay: number): Promise<void> {
    const { consumer: options, pending, retriesOf, onEarlierRetry } = this.#options;
    const { group, consumer, autoClaimIdle, mode } = options;
    const stream = partitionOf(message);
    const retries = retriesOf(stream);
    if (group === undefined || !retries) return this.leavePending(message);
    stream.failedFirst.set(message.id, this.failedFirst(message).getTime());
    const dueAt = monotonicNow() + delay;
    try {
      // Before the retry can start: an entry that others may claim must not be in a handler here.
      const idle = Math.max(0, autoClaimIdle - delay);
      if (mode === 'load-balanced') await pending.setIdle(stream.key, group, consumer, [{ id: message.id }], idle);
    } finally {
      const isFirst = retries.add(stream, message, Math.max(0, dueAt - monotonicNow()), delay > autoClaimIdle);
      if (isFirst) await onEarlierRetry();
    }
  }

  /** Resolves when every ack queued before is settled. */
  async commit(signal?: AbortSignal): Promise<void> {
    await this.#commits?.flush(signal);
  }

  /** Acknowledges now what would have been later. */
  flushDelayed(): void {
    this.#delayedAcks?.flush();
  }

  close(): void {
    this.#commits?.close();
  }

  #createCommits(group: string): CommitScheduler {
    const { consumer, pending, logger, onError } = this.#options;
    return new CommitScheduler({
      pending,
      group,
      interval: consumer.autoCommit === 'disabled' ? undefined : consumer.autoCommitInterval,
      onError,
      onMissed: (streamKey, count) => {
        logger.debug(`${count} acknowledgements on '${streamKey}' named entries that are not pending`);
      },
    });
  }
}
