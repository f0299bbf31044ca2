import type { RedisStreamsError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { within } from '../../shared/backoff.js';
import { classifyRedisError, isTransient, toPublicError } from '../../redis/commands/redis-error.js';
import type { GroupCommands } from '../../redis/commands/stream-commands.js';
import type { Partition, PartitionSet } from '../consuming/partition.js';
import type { ResolvedConsumerOptions } from '../options/resolve-options.js';
import { trimAcknowledged } from './retention.js';
import type { ResolvedRetention } from './retention.js';

export interface HousekeepingOptions {
  readonly consumer: Pick<ResolvedConsumerOptions, 'consumer' | 'consumerExpiry' | 'retention'>;
  readonly group: string;
  readonly groups: Pick<GroupCommands, 'consumers' | 'removeIdleConsumer' | 'trimAcknowledged'>;
  readonly partitions: Pick<PartitionSet, 'current'>;
  readonly logger: Required<RedisStreamsLogger>;
  readonly onError: (error: RedisStreamsError) => void;
}

/** The name of a dead consumer does little harm; a sweep every ten minutes, in milliseconds, is often enough. */
const LONGEST_SWEEP_INTERVAL = 600_000;
/** Shortens an interval by up to a tenth, so that the consumers of a group do not all begin at the same moment. */
const SPREAD = 0.1;
/** Longest wait for a step that runs when the consumer ends, in milliseconds. */
const STOP_LIMIT = 1_000;

/**
 * Owns the timers of the maintenance of a group's streams: removing the names of dead consumers, and trimming entries that
 * every group has acknowledged. Every consumer of the group does it, because each step is atomic on the server.
 */
export class Housekeeping {
  readonly #options: HousekeepingOptions;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #running = new Set<Promise<void>>();
  #isStopped = false;

  constructor(options: HousekeepingOptions) {
    this.#options = options;
  }

  start(): void {
    const { consumerExpiry, retention } = this.#options.consumer;
    if (consumerExpiry !== false) {
      this.#repeat(Math.min(consumerExpiry, LONGEST_SWEEP_INTERVAL), 'removing dead consumers from', (partition) =>
        this.#removeDeadConsumers(partition, consumerExpiry),
      );
    }
    if (retention !== false) {
      this.#repeat(retention.interval, 'trimming', (partition) => this.#trim(partition, retention));
    }
  }

  /** Resolves when the step that runs is over, or soon: its server may stand still, and the step may be left undone. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await within(STOP_LIMIT, Promise.all(this.#running));
  }

  #repeat(interval: number, action: string, work: (partition: Partition) => Promise<void>): void {
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer);
        const run = this.#runForEach(action, work).then(() => {
          this.#running.delete(run);
          if (!this.#isStopped) this.#repeat(interval, action, work);
        });
        this.#running.add(run);
      },
      interval * (1 - SPREAD * Math.random()),
    );
    this.#timers.add(timer);
  }

  /** Never rejects. An outage is not reported: the work is repeated after the interval. */
  async #runForEach(action: string, work: (partition: Partition) => Promise<void>): Promise<void> {
    for (const partition of this.#options.partitions.current) {
      if (this.#isStopped) return;
      try {
        if (partition.isReadable) await work(partition);
      } catch (error) {
        const kind = classifyRedisError(error);
        const isExpected = isTransient(kind) || kind === 'group-missing' || kind === 'stream-gone';
        if (!isExpected && !this.#isStopped) this.#options.onError(toPublicError(error, partition.key, action));
      }
    }
  }

  async #removeDeadConsumers({ key }: Partition, consumerExpiry: number): Promise<void> {
    const { groups, group, consumer: own, logger } = this.#options;
    for (const { name, pending, idle } of await groups.consumers(key, group)) {
      if (name === own.consumer || pending > 0 || idle < consumerExpiry || this.#isStopped) continue;
      if (await groups.removeIdleConsumer(key, group, name, consumerExpiry)) {
        logger.debug(`Removed the consumer '${name}' from '${group}' on '${key}': idle for ${idle} ms`);
      }
    }
  }

  async #trim({ key }: Partition, retention: ResolvedRetention): Promise<void> {
    const { groups, logger } = this.#options;
    const { trimmed, firstKept, keptFor, deadGroups } = await trimAcknowledged(
      key,
      retention,
      groups,
      () => this.#isStopped,
    );
    const ignored = deadGroups.length > 0 ? `; ignored dead groups: ${deadGroups.join(', ')}` : '';
    const first = `first kept ${firstKept ?? 'unknown'}${keptFor ? ` for '${keptFor}'` : ''}${ignored}`;
    if (retention.dryRun) logger.log(`Retention of '${key}' would delete ${trimmed} entries, ${first}`);
    else if (trimmed > 0) logger.debug(`Retention of '${key}' deleted ${trimmed} entries, ${first}`);
  }
}
