import { monotonicNow } from '../../../shared/clock.js';
import type { OwnershipCommands, ShardOwner } from '../../../redis/commands/shard-owners.js';
import { groupBy } from '../partition.js';
import type { Partition } from '../partition.js';

export interface ShardRequestsOptions {
  readonly consumer: string;
  readonly group: string;
  /** Milliseconds after which a request expires. */
  readonly leaseTime: number;
  readonly commands: Pick<OwnershipCommands, 'wanted' | 'ask' | 'withdraw'>;
}

/** Which owners a member asks for shards, and which of them it has. */
export interface Ask {
  readonly candidates: readonly Partition[];
  /** Of each candidate. */
  readonly owners: ReadonlyArray<ShardOwner | undefined>;
  /** How many shards the member needs of others; its earlier requests count. */
  readonly missing: number;
  /** How many shards each owner keeps. */
  readonly least: number;
}

/** What this consumer has asked the owners of shards for, and was not given yet. A request expires, here as on the server. */
export class ShardRequests {
  readonly #options: ShardRequestsOptions;
  /** By the key of the shard, on the monotonic clock. */
  readonly #expiresAt = new Map<string, number>();

  constructor(options: ShardRequestsOptions) {
    this.#options = options;
  }

  /** Asks the owners, first those with the most, for what is above the smallest share. */
  async ask({ candidates, owners, missing, least }: Ask): Promise<void> {
    const { commands, consumer, group, leaseTime } = this.#options;
    const wanted = await commands.wanted(candidates.map(({ key }) => ({ streamKey: key, group })));
    const asked = wanted.filter((by) => by === consumer).length;
    const byOwner = groupBy(candidates, (_, index) =>
      wanted[index] === undefined ? owners[index]?.consumer : undefined,
    );
    const mostFirst = [...byOwner.values()].sort((one, other) => other.length - one.length);
    const spare = mostFirst.flatMap((shards) => shards.slice(0, Math.max(0, shards.length - least)));
    for (const { key } of spare.slice(0, Math.max(0, missing - asked))) {
      const expiresAt = monotonicNow() + leaseTime;
      if (await commands.ask({ streamKey: key, group }, consumer, leaseTime)) this.#expiresAt.set(key, expiresAt);
    }
  }

  /** Withdraws the requests that this member no longer needs, for instance because other members have joined. */
  async keep(partitions: readonly Partition[], needed: number): Promise<void> {
    const now = monotonicNow();
    for (const [key, expiresAt] of this.#expiresAt) if (expiresAt <= now) this.#expiresAt.delete(key);
    await this.withdraw(partitions, needed);
  }

  /** How many of the partitions are asked for. */
  countOf(partitions: readonly Partition[]): number {
    const now = monotonicNow();
    return partitions.filter(({ key }) => (this.#expiresAt.get(key) ?? 0) > now).length;
  }

  /**
   * Withdraws the requests for these partitions. Until a request is withdrawn or expires, no other member can take its shard.
   * @param kept number of requests that stay
   */
  async withdraw(partitions: readonly Partition[], kept = 0): Promise<void> {
    const { commands, consumer, group } = this.#options;
    const asked = partitions.filter(({ key }) => this.#expiresAt.has(key));
    await Promise.all(
      asked.slice(kept).map(async ({ key }) => {
        await commands.withdraw({ streamKey: key, group }, consumer);
        this.#expiresAt.delete(key);
      }),
    );
  }

  /** The shard was given. */
  forget({ key }: Partition): void {
    this.#expiresAt.delete(key);
  }
}
