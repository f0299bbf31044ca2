import { errorText } from '../../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../../shared/logger.js';
import { within } from '../../../shared/backoff.js';
import { classifyRedisError, isOfKey } from '../../../redis/commands/redis-error.js';
import type { StreamCommands } from '../../../redis/commands/stream-commands.js';
import type { ResolvedConsumerOptions } from '../../options/resolve-options.js';
import type { StreamMessage } from '../../messages/stream-message.js';
import { partitionOf } from '../partition.js';
import type { Partition } from '../partition.js';

/** A step that only helps the rest of the group is not worth a longer wait for a server that does not answer. */
const BEST_EFFORT_LIMIT = 1_000;

export interface ReleaseOptions {
  readonly consumer: ResolvedConsumerOptions;
  readonly commands: Pick<StreamCommands, 'pending' | 'groups'>;
  readonly logger: RedisStreamsLogger;
}

/**
 * The steps in which a consumer leaves its group, each of them best effort: a warning reports the first step that fails, and the
 * next one runs. Everything that a failed step leaves behind stays pending, so that other consumers claim it after the claim idle.
 */
export class Release {
  readonly #options: ReleaseOptions;
  #hasFailed = false;

  constructor(options: ReleaseOptions) {
    this.#options = options;
  }

  /** Runs one step; never rejects. */
  async attempt(step: () => Promise<unknown>): Promise<void> {
    try {
      await step();
    } catch (error) {
      if (!this.#hasFailed) this.#warn(error);
      this.#hasFailed = true;
    }
  }

  #warn(error: unknown): void {
    const { consumer: options, logger } = this.#options;
    const consequence =
      options.group === undefined
        ? ''
        : '; messages whose acknowledgements were not sent are delivered again, and its name may stay in the group';
    logger.warn(
      `Consumer '${options.consumer}' could not leave its streams in order: ${errorText(error)}${consequence}`,
    );
  }

  /** Gives messages that no handler was given back to the group, as if they had not been read. */
  async giveBack(messages: readonly StreamMessage[]): Promise<void> {
    const partitions = [...new Set(messages.map((message) => partitionOf(message)))];
    await this.#forEach(partitions, (partition) =>
      this.giveBackTo(
        partition,
        messages.filter((message) => partitionOf(message) === partition),
      ),
    );
  }

  /** Removes the consumer's name from the group wherever nothing is pending for it. */
  async removeName(partitions: readonly Partition[]): Promise<void> {
    const { consumer: options, commands } = this.#options;
    const { group, consumer } = options;
    if (group === undefined) return;
    await this.#forEach(
      partitions.filter(({ isReadable }) => isReadable),
      async ({ key }) => {
        try {
          await commands.groups.removeConsumer(key, group, consumer);
        } catch (error) {
          // The name is gone with its stream or group.
          if (!isOfKey(classifyRedisError(error))) throw error;
        }
      },
    );
  }

  /**
   * The same for the messages of one partition, and it rejects when Redis does not take them.
   * Other consumers may claim the entries at once, and their delivery count forgets this delivery. With NOACK they are not
   * in the pending entries list. A resumable group, which has only one consumer, is moved back before them; in a
   * load-balanced group they are put into the list, from where any consumer claims them.
   */
  async giveBackTo(partition: Partition, messages: readonly StreamMessage[]): Promise<void> {
    const { group } = this.#options.consumer;
    if (group === undefined || partition.isOffGroup) return;
    // The next owner of a shard has them already. If that is this consumer again, it must not count them as held.
    if (!partition.isFenced) await this.#putBack(group, partition, messages);
    for (const { id } of messages) partition.owned.delete(id);
  }

  async #putBack(group: string, partition: Partition, messages: readonly StreamMessage[]): Promise<void> {
    const { consumer: options, commands } = this.#options;
    const { consumer, mode, autoCommit, autoClaimIdle } = options;
    if (autoCommit !== 'immediate') {
      const entries = messages.map(({ id, deliveryCount }) => ({ id, deliveryCount: deliveryCount - 1 }));
      await commands.pending.setIdle(partition.key, group, consumer, entries, autoClaimIdle);
    } else if (mode === 'resumable') {
      await commands.groups.setGroupPosition(partition.key, group, partition.handedOut);
    } else {
      const ids = messages.map(({ id }) => id);
      await commands.pending.forcePending(partition.key, group, consumer, ids, autoClaimIdle);
    }
  }

  /** All partitions at once, and no longer than it is worth. */
  async #forEach(partitions: readonly Partition[], step: (partition: Partition) => Promise<unknown>): Promise<void> {
    const steps = partitions.map((partition) => this.attempt(() => step(partition)));
    await within(BEST_EFFORT_LIMIT, Promise.all(steps));
  }
}
