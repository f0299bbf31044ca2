import { within } from '../../../shared/backoff.js';
import { monotonicNow } from '../../../shared/clock.js';
import { errorText } from '../../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../../shared/logger.js';
import type { OwnershipCommands } from '../../../redis/commands/shard-owners.js';
import type { RenewalClient } from '../../../redis/connection/renewal-thread.js';
import type { ResolvedConsumerOptions } from '../../options/resolve-options.js';
import { Partition } from '../partition.js';
import { ShardLease } from './shard-lease.js';

/** A shard that this consumer owns. */
export interface OwnedShard {
  /** As the group shares it. */
  readonly candidate: Partition;
  /** As the session reads it, with the lease. */
  readonly partition: Partition;
  readonly lease: ShardLease;
  /** It is being handed over, or was lost. */
  isLeaving: boolean;
  /** It has been assigned to the session. */
  isRead: boolean;
}

export interface ShardLeasesOptions {
  readonly consumer: Pick<ResolvedConsumerOptions, 'consumer' | 'leaseTime'>;
  readonly group: string;
  readonly commands: OwnershipCommands;
  /** Renews while the event loop of this process is blocked. */
  readonly thread: RenewalClient | undefined;
  readonly logger: Required<RedisStreamsLogger>;
  /** Another member of the group asks for the shard. */
  readonly onWanted: (shard: OwnedShard) => void;
  /** Another consumer may own the shard: it is no longer held here. */
  readonly onLost: (shard: OwnedShard) => void;
}

/** Renewals of a lease, and of a membership, in one lease time. */
export const RENEWALS = 3;
/** How often in a lease time it is checked whether leases are still valid. */
const CHECKS = 20;

/**
 * The leases of one consumer. It owns what is held: acquires it, renews it in time, notices that it is lost, and gives it back. It does not
 * decide which shards that should be, see {@link ShareRounds}, and does not read them, see {@link ShardOwnership}.
 *
 * A lease that cannot be renewed ends here earlier than on the server, see {@link ShardLease}.
 */
export class ShardLeases {
  readonly #options: ShardLeasesOptions;
  readonly #held = new Map<string, OwnedShard>();
  /** Keys of shards whose leases were lost, and that this consumer has not had since. */
  readonly #lost = new Set<string>();
  /** Renewals that are under way. */
  readonly #renewals = new Map<OwnedShard, Promise<void>>();
  #renewTimer: NodeJS.Timeout | undefined;
  #checkTimer: NodeJS.Timeout | undefined;
  #threadUpdate: NodeJS.Immediate | undefined;

  constructor(options: ShardLeasesOptions) {
    this.#options = options;
  }

  /** Idempotent. */
  start(): void {
    const { leaseTime } = this.#options.consumer;
    this.#renewTimer ??= setInterval(() => this.#renewAll(), leaseTime / RENEWALS);
    this.#checkTimer ??= setInterval(() => this.#checkAll(), leaseTime / CHECKS);
  }

  get size(): number {
    return this.#held.size;
  }

  get held(): readonly OwnedShard[] {
    return [...this.#held.values()];
  }

  find(key: string): OwnedShard | undefined {
    return this.#held.get(key);
  }

  holds(shard: OwnedShard): boolean {
    return this.#held.get(shard.candidate.key) === shard;
  }

  /** Those of the partitions that are held here. */
  among(partitions: readonly Partition[]): OwnedShard[] {
    return partitions.flatMap((partition) => {
      const shard = this.#held.get(partition.key);
      return shard?.candidate === partition ? [shard] : [];
    });
  }

  /** Whether this consumer owned the shard before, and has lost it. */
  wasLost(key: string): boolean {
    return this.#lost.has(key);
  }

  /** These partitions are not shared any more. */
  forget(partitions: readonly Partition[]): void {
    for (const { key } of partitions) this.#lost.delete(key);
  }

  /** Undefined when another consumer owns the shard, or has asked for it before. */
  async acquire(candidate: Partition): Promise<OwnedShard | undefined> {
    const { commands, group, thread } = this.#options;
    const { consumer, leaseTime } = this.#options.consumer;
    const { key, streamKey, shardId } = candidate;
    const shard = { streamKey: key, group };
    const sentAt = monotonicNow();
    const generation = await commands.acquire(shard, consumer, leaseTime);
    if (generation === undefined) return undefined;
    const held = { ...shard, consumer, generation };
    const { key: leaseKey } = commands.threadLeaseOf(held, leaseTime);
    const lease = new ShardLease(held, sentAt, leaseTime, () => thread?.renewedAt(leaseKey) ?? -Infinity);
    const partition = new Partition(streamKey, shardId, key, lease);
    partition.mustExist = candidate.mustExist;
    const owned: OwnedShard = { candidate, partition, lease, isLeaving: false, isRead: false };
    this.#held.set(key, owned);
    this.#lost.delete(key);
    this.#updateThreadSoon();
    return owned;
  }

  /** Ends a lease that another consumer may have. */
  lose(shard: OwnedShard): void {
    if (!this.holds(shard)) return;
    this.#end(shard);
    this.#lost.add(shard.candidate.key);
    this.#options.onLost(shard);
  }

  /** Ends a lease here at once, and then on the server. */
  async giveUp(shard: OwnedShard): Promise<void> {
    this.#end(shard);
    await this.#options.commands.release(shard.lease);
  }

  /** Ends the renewals. What is held stays so, to be given up. */
  stop(): void {
    clearInterval(this.#renewTimer);
    clearInterval(this.#checkTimer);
    clearImmediate(this.#threadUpdate);
  }

  #end(shard: OwnedShard): void {
    shard.lease.end();
    if (this.holds(shard)) this.#held.delete(shard.candidate.key);
  }

  #renewAll(): void {
    this.#updateThread();
    for (const shard of this.held) void this.#renew(shard);
  }

  /** One update for all leases whose replies arrive together. It comes in time: a message of a new shard needs one more reply. */
  #updateThreadSoon(): void {
    if (!this.#options.thread) return;
    this.#threadUpdate ??= setImmediate(() => this.#updateThread());
  }

  #updateThread(): void {
    clearImmediate(this.#threadUpdate);
    this.#threadUpdate = undefined;
    const { thread, commands, consumer } = this.#options;
    thread?.setLeases(this.held.map(({ lease }) => commands.threadLeaseOf(lease, consumer.leaseTime)));
  }

  /** Never rejects. */
  #renew(shard: OwnedShard): Promise<void> {
    const renewal =
      this.#renewals.get(shard) ??
      this.#renewNow(shard)
        .catch((error: unknown) => {
          const { key } = shard.candidate;
          this.#options.logger.debug(`The lease of the shard '${key}' was not renewed: ${errorText(error)}`);
        })
        .finally(() => this.#renewals.delete(shard));
    this.#renewals.set(shard, renewal);
    return renewal;
  }

  async #renewNow(shard: OwnedShard): Promise<void> {
    const { commands, consumer, onWanted } = this.#options;
    const sentAt = monotonicNow();
    const renewed = await commands.renew(shard.lease, consumer.leaseTime);
    if (!this.holds(shard)) return;
    if (!renewed) return this.lose(shard);
    shard.lease.extend(sentAt);
    const { wantedBy } = renewed;
    if (wantedBy !== undefined && wantedBy !== consumer.consumer) onWanted(shard);
  }

  /** An expired lease is not always lost: after a pause of this process, one more renewal decides. */
  #checkAll(): void {
    const { leaseTime } = this.#options.consumer;
    for (const shard of this.held) {
      if (shard.lease.isValid) continue;
      void within(leaseTime / CHECKS, this.#renew(shard)).then(() => {
        if (!shard.lease.isValid) this.lose(shard);
      });
    }
  }
}
