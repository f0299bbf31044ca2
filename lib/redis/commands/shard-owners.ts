import type { ThreadLease } from '../connection/renewal-thread.js';

/** A shard, by its key, as the members of a group share it. */
export interface GroupShard {
  readonly streamKey: string;
  readonly group: string;
}

/** The lease of a shard that a consumer was given. */
export interface HeldLease extends GroupShard {
  readonly consumer: string;
  readonly generation: bigint;
}

/** Who owns a shard. */
export interface ShardOwner {
  readonly consumer: string;
  readonly generation: bigint;
  /** Milliseconds until the lease ends, unless it is renewed. */
  readonly expiresIn: number;
}

/** What a consumer reports to the others of its group. */
export interface ShareReport extends GroupShard {
  readonly consumer: string;
  /** Milliseconds after which it counts as gone, unless it reports again. */
  readonly ttl: number;
  /** How many shards the stream has. */
  readonly shards: number;
  /** How many of them the consumer owns. */
  readonly owned: number;
  /** The same of all streams. */
  readonly load: number;
}

/** How the shards of a stream are shared by the members of a group, by what each of them has reported. */
export interface GroupShares {
  readonly members: number;
  /** How many own more than the smallest share, which is shards ÷ members, rounded down. */
  readonly above: number;
  /** How many shards the member with the most owns, and how many of all streams. */
  readonly most: number;
  readonly loadOfMost: number;
}

/** Which pending entries of a shard its owner takes over. */
export interface TakeOverRequest {
  /** Where the last page has ended. */
  readonly after: string | undefined;
  readonly count: number;
  /** Minimum idle time of an entry, in milliseconds; 0 by default. */
  readonly minIdle?: number;
}

/** Pending entries that an owner has taken over, with the delivery counts that they have. */
export interface TakenOver {
  readonly taken: ReadonlyArray<{ readonly id: string; readonly deliveryCount: number }>;
  /** Where the next page continues; undefined at the end. */
  readonly next: string | undefined;
}

/** Each method but `owners`, `wanted` and `ask` throws UnsupportedOperationError where scripts are not permitted. */
export interface OwnershipCommands {
  /** Without I/O. @throws InvalidOptionError when nothing can be kept beside a stream of that name */
  requireSideKeys(shard: GroupShard): void;
  /** Reports to the other members, and forgets those that are gone. */
  join(report: ShareReport): Promise<GroupShares>;
  leave(streamKey: string, group: string, consumer: string): Promise<void>;
  /** Each answer may be an error of its own: in Cluster, nodes fail one by one. */
  owners(shards: readonly GroupShard[]): Promise<Array<ShardOwner | Error | undefined>>;
  /** The generation of the new lease; undefined where another consumer owns the shard, or asked for it before. */
  acquire(shard: GroupShard, consumer: string, ttl: number): Promise<bigint | undefined>;
  /** Undefined when the lease is lost. `wantedBy` is the consumer that asks for the shard. */
  renew(lease: HeldLease, ttl: number): Promise<{ wantedBy: string | undefined } | undefined>;
  /** The consumer that asks for each shard. */
  wanted(shards: readonly GroupShard[]): Promise<Array<string | undefined>>;
  /** Asks the owner to hand the shard over; false when another consumer has asked before. */
  ask(shard: GroupShard, consumer: string, ttl: number): Promise<boolean>;
  /** What a thread needs to do the same as {@link renew} while the event loop is blocked. Without I/O. */
  threadLeaseOf(lease: HeldLease, ttl: number): ThreadLease;
  /** Withdraws a request of {@link ask}. */
  withdraw(shard: GroupShard, consumer: string): Promise<void>;
  release(lease: HeldLease): Promise<void>;
  /**
   * One page of what is pending in the shard for any consumer, in the order of the stream; it is pending for the owner now, with its
   * delivery counts. Undefined when the lease is lost.
   */
  takeOver(lease: HeldLease, request: TakeOverRequest): Promise<TakenOver | undefined>;
  /** Returns how many of the ids were pending; undefined when the lease is lost. */
  ack(lease: HeldLease, ids: readonly string[]): Promise<number | undefined>;
}
