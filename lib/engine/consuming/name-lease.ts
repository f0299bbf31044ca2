import { randomBytes } from 'node:crypto';

import { ConsumerNameInUseError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { within } from '../../shared/backoff.js';
import { monotonicNow } from '../../shared/clock.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { classifyRedisError, isTransient } from '../../redis/commands/redis-error.js';
import type { GroupCommands } from '../../redis/commands/stream-commands.js';
import type { ResolvedConsumerOptions } from '../options/resolve-options.js';
import type { Partition, PartitionSet } from './partition.js';

export interface NameLeaseOptions {
  readonly consumer: Pick<ResolvedConsumerOptions, 'consumer' | 'mode'>;
  readonly group: string;
  readonly groups: Pick<GroupCommands, 'holdName' | 'releaseName'>;
  readonly partitions: Pick<PartitionSet, 'current'>;
  readonly logger: Pick<Required<RedisStreamsLogger>, 'debug'>;
  readonly onError: (error: RedisStreamsError) => void;
}

/** Milliseconds between two looks. */
const INTERVAL = 3_000;
/** Most partitions of one look; where there are more, they take turns. */
const MOST_AT_ONCE = 16;
/** In how many looks the same other consumer must have been seen: one command of a process that crashed may come late. */
const PROOF = 2;
/** Milliseconds between two reports. */
const REPORT_INTERVAL = 300_000;
/** Longest wait for the release of the name, in milliseconds: it expires by itself. */
const STOP_LIMIT = 1_000;

/**
 * Notices that another live consumer has the same name. Beside each stream it keeps a key, the lease of the name, which
 * holds an id of this consumer, and writes it again and again. Another id that was written over ours comes from a process
 * that lives. One that was there before ours, and does not come again, is that of a process that crashed or closed.
 *
 * Two that live write in turn, so both of them notice. It reports that, at most every five minutes; it takes the name from
 * no other consumer, and never holds up a read. Where the user may not use the key, it does nothing.
 */
export class NameLease {
  readonly #options: NameLeaseOptions;
  readonly #holder = randomBytes(8).toString('hex');
  /** Partitions beside which our id was written, so that another id there is later than ours. */
  readonly #held = new WeakSet<Partition>();
  /** Partitions whose key we cannot use. */
  readonly #refused = new WeakSet<Partition>();
  /** In how many looks each other id was seen. */
  readonly #sightings = new Map<string, number>();
  #looks = 0;
  #lastSighting = 0;
  #reportedAt = -Infinity;
  #conflict: ConsumerNameInUseError | undefined;
  #looking: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: NameLeaseOptions) {
    this.#options = options;
  }

  /** Undefined when no other live consumer with this name was seen lately. */
  get conflict(): ConsumerNameInUseError | undefined {
    return this.#conflict;
  }

  start(): void {
    const look = (): void => {
      this.#looking ??= this.#look().finally(() => (this.#looking = undefined));
    };
    this.#timer ??= setInterval(look, INTERVAL);
    look();
  }

  /** Releases the name, so that the key does not remain until it expires. Never rejects. */
  async stop(): Promise<void> {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    await within(STOP_LIMIT, this.#release());
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    const { current } = this.#options.partitions;
    const rounds = Math.max(1, Math.ceil(current.length / MOST_AT_ONCE));
    const start = (this.#looks % rounds) * MOST_AT_ONCE;
    this.#looks += 1;
    const others = new Map<string, Partition>();
    // A partition is looked at once in a round, and its key must not expire in between.
    const ttl = INTERVAL * (rounds + 2) + 1_000;
    await Promise.all(
      current.slice(start, start + MOST_AT_ONCE).map(async (partition) => {
        const other = await this.#hold(partition, ttl);
        if (other !== undefined) others.set(other, partition);
      }),
    );
    for (const [id, partition] of others) this.#see(id, partition);
    if (this.#looks - this.#lastSighting <= 2 * rounds) return;
    this.#sightings.clear();
    this.#conflict = undefined;
  }

  /** Returns the id of another consumer that was written over ours. Never rejects. */
  async #hold(partition: Partition, ttl: number): Promise<string | undefined> {
    const { groups, group, consumer } = this.#options;
    if (!partition.isReadable || this.#refused.has(partition)) return undefined;
    try {
      const before = await groups.holdName(partition.key, group, consumer.consumer, this.#holder, ttl);
      const isOverOurs = this.#held.has(partition);
      this.#held.add(partition);
      return isOverOurs && before !== this.#holder ? before : undefined;
    } catch (error) {
      this.#failed(partition, error);
      return undefined;
    }
  }

  #failed(partition: Partition, error: unknown): void {
    const kind = classifyRedisError(error);
    if (isTransient(kind) || kind === 'no-memory') return;
    this.#refused.add(partition);
    const { consumer, logger } = this.#options;
    logger.debug(
      `Whether another process has the consumer name '${consumer.consumer}' on '${partition.key}' is not looked at: ` +
        errorText(error),
    );
  }

  #see(id: string, partition: Partition): void {
    this.#lastSighting = this.#looks;
    const sightings = (this.#sightings.get(id) ?? 0) + 1;
    this.#sightings.set(id, sightings);
    if (sightings < PROOF || !this.#timer) return;
    const { consumer, group, onError } = this.#options;
    this.#conflict ??= new ConsumerNameInUseError(
      partition.key,
      group,
      consumer.consumer,
      consumer.mode === 'resumable',
    );
    if (monotonicNow() - this.#reportedAt < REPORT_INTERVAL) return;
    this.#reportedAt = monotonicNow();
    onError(this.#conflict);
  }

  /** Never rejects. */
  async #release(): Promise<void> {
    // A look that is under way would write the key again.
    await this.#looking;
    const { partitions, groups, group, consumer } = this.#options;
    const held = partitions.current.filter((partition) => this.#held.has(partition));
    await Promise.allSettled(held.map(({ key }) => groups.releaseName(key, group, consumer.consumer, this.#holder)));
  }
}
