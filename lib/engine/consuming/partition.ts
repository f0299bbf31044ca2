import type { ShardLease } from './ownership/shard-lease.js';
import { ID_BEFORE_ALL } from '../../constants.js';
import type { RedisStreamsError } from '../../errors.js';
import type { Settlement } from '../settling/settlement.js';
import { StreamMessage } from '../messages/stream-message.js';
import type { StoredShard } from '../messages/stream-message.js';

/**
 * The state of an entry that this process owns: it is pending for this consumer on the server, and it is
 *
 * - `buffered`: read, and not handed out yet
 * - `running`: handed out, and not settled
 * - `overdue`: the same for longer than `maxHandlerTime`, so that its lease is not renewed
 * - `waiting`: to be handed out again after a delay
 * - `settled`: acknowledged here, but the server may not have confirmed it yet
 * - `skipped`: read before a seek, and never handed out here
 */
export type OwnedState = 'buffered' | 'running' | 'overdue' | 'settled' | 'waiting' | 'skipped';

/** What has paused a partition: the application, or the group as a whole. */
export type PauseReason = 'consumer' | 'group';

/**
 * One stream, or one shard of it, that a consumer reads: its position, and which of its entries this process owns.
 * It is data with names and decides nothing; the read loop and its readers do.
 */
export class Partition implements StoredShard {
  readonly streamKey: string;
  readonly shardId: number;
  readonly key: string;
  /** Where shards are owned: the right to hand out what is read. */
  readonly lease: ShardLease | undefined;
  /** The last id that was read: real-time reading continues after it, and so does a group that vanished and is created again. */
  position: string = ID_BEFORE_ALL;
  /** The last id that was handed out, or the start position. */
  handedOut: string = ID_BEFORE_ALL;
  /** Rises with every seek; pages that were requested in an earlier generation are not handed out. */
  generation = 0;
  /** Connection epoch in which the own pending entries were last recovered; 0 is never. */
  recoveredEpoch = 0;
  /** When the own pending entries are to be checked once more in the same epoch. */
  lookAgainAt = Infinity;
  /** Where the recovery of the own pending entries continues; undefined is at their beginning. */
  recoveryCursor: string | undefined;
  /**
   * False during the first recovery: its entries were handed out by an earlier process, which counts as a delivery. Also during
   * one that follows a pause: its entries were given back, with the count that they had before.
   */
  hasRecoveredOnce = false;
  /** Where shards are owned: all that former owners have left is in this process, and nothing else was read before it. */
  isTakenOver = false;
  /** It was found by a search: when it vanishes, it is no longer read, and never created. */
  mustExist = false;
  /**
   * It was sought in with `position: 'consumer'`: from then on it is read without its group. Nothing that is read becomes pending,
   * so that none of its entries is owned; an acknowledgement reaches an entry that the group delivered before.
   */
  isOffGroup = false;
  /** Why this partition is not read any more. */
  failure: RedisStreamsError | undefined;
  /** Nothing of it is read or handed out while this is set. */
  pausedBy: PauseReason | undefined;
  /** Why it is not read now, while the others are; it is tried again with a slow back-off. */
  refusal: RedisStreamsError | undefined;
  /** Entries that this process owns, by id. */
  owned = new Map<string, OwnedState>();
  /** When the handling of an unsettled entry first failed in this process, in milliseconds, by id. */
  readonly failedFirst = new Map<string, number>();
  /** Since when entries have been seen in a handler, on the monotonic clock, by id. */
  readonly handledSince = new Map<string, number>();
  /** Settlements of entries whose dead letter could not be stored yet, by id: they are not handled again. */
  readonly unburied = new Map<string, Settlement>();
  /**
   * Delivery counts of entries that were given back in a pause, by id, until the own pending entries were recovered after it: if
   * the group vanishes in between, nothing else knows of them.
   */
  readonly givenBack = new Map<string, number>();
  /** Entries that were deleted while pending; they were acknowledged. */
  deletedWhilePending = 0;

  constructor(streamKey: string, shardId: number, key: string, lease?: ShardLease) {
    this.streamKey = streamKey;
    this.shardId = shardId;
    this.key = key;
    this.lease = lease;
  }

  get fencingToken(): bigint | undefined {
    return this.lease?.generation;
  }

  /** Another consumer may own the shard by now. */
  get isFenced(): boolean {
    return this.lease !== undefined && !this.lease.isValid;
  }

  /** Ends the lease if another consumer may own the shard by now. Returns whether that is so. */
  endIfFenced(): boolean {
    const { isFenced } = this;
    if (isFenced) this.lease?.end();
    return isFenced;
  }

  get isReadable(): boolean {
    return this.failure === undefined;
  }

  get isPaused(): boolean {
    return this.pausedBy !== undefined;
  }

  /** The own pending entries are recovered before the next read. */
  recoverAgain(): void {
    this.recoveredEpoch = 0;
    this.recoveryCursor = undefined;
    this.hasRecoveredOnce = false;
  }
}

/** The partition that a message of a consumer was read from. */
export function partitionOf(message: StreamMessage): Partition {
  return StreamMessage.shardOf(message) as Partition;
}

/** The partitions of one consumer: those it reads, and removed ones whose entries this process still owns. */
export class PartitionSet {
  #current: readonly Partition[] = [];
  /** The same, for the look of every message. */
  #members: ReadonlySet<Partition> = new Set();
  readonly #former = new Map<string, Partition>();

  /** The partitions that are read. */
  get current(): readonly Partition[] {
    return this.#current;
  }

  /** All partitions that may have owned entries. */
  get owning(): readonly Partition[] {
    return [...this.#current, ...this.#former.values()];
  }

  /** Whether a message of this partition, which may have been removed since, is ours to acknowledge. */
  has(partition: Partition): boolean {
    return this.#members.has(partition) || this.#former.get(partition.key) === partition;
  }

  find(streamKey: string, shardId: number): Partition | undefined {
    return this.#current.find((partition) => partition.streamKey === streamKey && partition.shardId === shardId);
  }

  /** Entries that are still in handlers must not be taken for entries of an earlier process, so the new partition owns them. */
  inherit(partition: Partition): void {
    partition.owned = this.#former.get(partition.key)?.owned ?? partition.owned;
    this.#former.delete(partition.key);
  }

  add(partitions: readonly Partition[]): void {
    this.#replace([...this.#current, ...partitions]);
  }

  remove(partitions: readonly Partition[]): void {
    const removed = new Set(partitions);
    this.#replace(this.#current.filter((partition) => !removed.has(partition)));
  }

  /** Remembers a removed partition while this process owns entries of it. */
  remember(partitions: readonly Partition[]): void {
    for (const { key, owned } of this.#former.values()) if (owned.size === 0) this.#former.delete(key);
    for (const partition of partitions) if (partition.owned.size > 0) this.#former.set(partition.key, partition);
  }

  #replace(partitions: readonly Partition[]): void {
    this.#current = partitions;
    this.#members = new Set(partitions);
  }
}

/** Lists of partitions by a name; a partition without one is in no list. */
export function groupBy(
  partitions: readonly Partition[],
  nameOf: (partition: Partition, index: number) => string | undefined,
): Map<string, Partition[]> {
  const groups = new Map<string, Partition[]>();
  for (const [index, partition] of partitions.entries()) {
    const name = nameOf(partition, index);
    if (name === undefined) continue;
    const group = groups.get(name);
    if (group) group.push(partition);
    else groups.set(name, [partition]);
  }
  return groups;
}

/** Whether nothing of an owned shard may be handed out. */
export function isStopped({ lease, isFenced, failure }: Partition): boolean {
  return isFenced || (lease !== undefined && failure !== undefined);
}
