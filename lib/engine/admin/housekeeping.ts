import type { RedisStreamsError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { classifyRedisError, isTransient, toPublicError } from '../../redis/commands/redis-error.js';
import type { GroupCommands } from '../../redis/commands/stream-commands.js';
import type { Partition } from '../consuming/partition.js';
import { trimAcknowledged } from './retention.js';
import type { ResolvedRetention } from './retention.js';

export interface HousekeepingOptions {
  readonly groups: Pick<GroupCommands, 'consumers' | 'removeIdleConsumer' | 'trimAcknowledged'>;
  readonly group: string;
  readonly consumer: string;
  /** Milliseconds after which the name of a consumer that is gone is removed, or false. */
  readonly consumerExpiry: number | false;
  readonly retention: ResolvedRetention | false;
  readonly streams: () => readonly Partition[];
  readonly logger: Required<RedisStreamsLogger>;
  readonly onError: (error: RedisStreamsError) => void;
}

/** Names of gone consumers do little harm; looking for them every ten minutes is often enough. */
const LONGEST_SWEEP_INTERVAL = 600_000;
/** Shortens an interval by up to a tenth, so that the consumers of a group do not all begin at the same moment. */
const SPREAD = 0.1;

/**
 * What has to be done on the streams of a group from time to time, beside the reading: removing the names of consumers that
 * are gone, and trimming what every group has acknowledged. Every consumer of the group does it; each step is atomic.
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
    const { consumerExpiry, retention } = this.#options;
    if (consumerExpiry !== false) {
      this.#repeat(Math.min(consumerExpiry, LONGEST_SWEEP_INTERVAL), 'removing gone consumers from', (stream) =>
        this.#removeGoneConsumers(stream, consumerExpiry),
      );
    }
    if (retention !== false) {
      this.#repeat(retention.interval, 'trimming', (stream) => this.#trim(stream, retention));
    }
  }

  /** Resolves when the step that is under way is over. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all(this.#running);
  }

  #repeat(interval: number, action: string, work: (stream: Partition) => Promise<void>): void {
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

  /** Never rejects; an outage is nothing to report here, for the next time comes. */
  async #runForEach(action: string, work: (stream: Partition) => Promise<void>): Promise<void> {
    for (const stream of this.#options.streams()) {
      if (this.#isStopped) return;
      try {
        if (stream.isReadable) await work(stream);
      } catch (error) {
        const kind = classifyRedisError(error);
        const isExpected = isTransient(kind) || kind === 'group-missing' || kind === 'stream-gone';
        if (!isExpected && !this.#isStopped) this.#options.onError(toPublicError(error, stream.key, action));
      }
    }
  }

  async #removeGoneConsumers({ key }: Partition, consumerExpiry: number): Promise<void> {
    const { groups, group, consumer, logger } = this.#options;
    for (const { name, pending, idle } of await groups.consumers(key, group)) {
      if (name === consumer || pending > 0 || idle < consumerExpiry || this.#isStopped) continue;
      if (await groups.removeIdleConsumer(key, group, name, consumerExpiry)) {
        logger.debug(`Removed the consumer '${name}' from '${group}' on '${key}': nothing heard of it for ${idle} ms`);
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
    const ignored = deadGroups.length > 0 ? `; not counting ${deadGroups.join(', ')}` : '';
    const first = `first kept ${firstKept ?? 'unknown'}${keptFor ? ` for '${keptFor}'` : ''}${ignored}`;
    if (retention.dryRun) logger.log(`Retention of '${key}' would delete ${trimmed} entries, ${first}`);
    else if (trimmed > 0) logger.debug(`Retention of '${key}' deleted ${trimmed} entries, ${first}`);
  }
}
