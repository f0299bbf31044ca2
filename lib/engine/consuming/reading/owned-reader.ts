import { monotonicNow } from '../../../shared/clock.js';
import type { OwnershipCommands } from '../../../redis/commands/shard-owners.js';
import type { ReadCommands } from '../../../redis/commands/stream-commands.js';
import type { ShardLease } from '../ownership/shard-lease.js';
import type { Partition } from '../partition.js';
import type { Claims } from '../recovery/claims.js';
import type { GroupReader } from './group-reader.js';
import { ReadRotation } from './read-rotation.js';
import type { ReadBudget, ReadPage, StreamReader } from './stream-reader.js';

export interface OwnedReaderOptions {
  readonly ofGroup: GroupReader;
  /** Over the connection that may block. */
  readonly reading: Pick<ReadCommands, 'readOwned' | 'read'>;
  readonly claims: Claims;
  readonly ownership: Pick<OwnershipCommands, 'takeOver'>;
}

interface OwnedRead {
  readonly pages: ReadPage[];
  /** Some groups are not where this process left them; their own pending entries are recovered first. */
  readonly isMoved: boolean;
}

/** Milliseconds after which all partitions are read again: XREAD does not see the entries behind which a group was moved back. */
const READ_ALL_INTERVAL = 5_000;

/**
 * Reads shards that this consumer owns. First it takes over all that is pending for former owners, in the order of the stream;
 * then it reads new entries, by a script that gives them only to the owner. An XREADGROUP that the network delivers late could take
 * entries of the next owner. A script cannot wait, so where there is nothing to read XREAD waits, which takes nothing.
 *
 * A late read of this owner takes entries too, whose reply is lost. Therefore each read names the position that it continues from. If
 * the group is at another position, what is pending for this consumer is recovered before anything new is read.
 */
export class OwnedReader implements StreamReader {
  readonly #options: OwnedReaderOptions;
  readonly #rotation = new ReadRotation();
  /** Partitions that had nothing new at their last read. */
  readonly #quiet = new WeakSet<Partition>();
  #readAllAt = 0;
  /** Where the taking over of a partition continues. */
  readonly #cursors = new WeakMap<Partition, string>();

  constructor(options: OwnedReaderOptions) {
    this.#options = options;
  }

  async open(partition: Partition, isAllNew: boolean): Promise<void> {
    await this.#options.ofGroup.open(partition, isAllNew);
  }

  async heal(partitions: readonly Partition[], error: unknown): Promise<void> {
    await this.#options.ofGroup.heal(partitions, error);
  }

  async read(partitions: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    for (const partition of partitions) {
      const page = await this.#takeOver(partition, budget);
      if (page) return [page];
    }
    const recovered = await this.#options.ofGroup.recoverOwn(partitions, budget);
    if (recovered.length > 0) return recovered;
    return this.#readNew(partitions, budget);
  }

  /** The next page of what former owners have left; undefined when nothing is left. */
  async #takeOver(partition: Partition, { credit, batchSize }: ReadBudget): Promise<ReadPage | undefined> {
    const { claims, ownership } = this.#options;
    while (partition.lease?.isValid && !partition.isTakenOver) {
      const { generation, lease } = partition;
      const page = { after: this.#cursors.get(partition), count: Math.min(credit, batchSize) };
      const found = await ownership.takeOver(lease, page);
      if (!found) return undefined;
      const entries = await claims.inherit(
        partition,
        found.taken.filter(({ id }) => !partition.owned.has(id)),
      );
      // Noted last: after a failure the same page is taken over again.
      if (found.next === undefined) partition.isTakenOver = true;
      else this.#cursors.set(partition, found.next);
      if (entries.length > 0) return { partition, generation, entries };
    }
    return undefined;
  }

  async #readNew(partitions: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    const turn = this.#rotation.plan(partitions, budget);
    // What a former owner has left comes before what is new.
    const ready = turn.partitions.filter(({ isTakenOver }) => isTakenOver);
    const quiet = ready.filter((partition) => this.#quiet.has(partition));
    const busy = ready.filter((partition) => !this.#quiet.has(partition));
    let read: OwnedRead | undefined;
    if (busy.length > 0) {
      // In one write, so that partitions with many entries do not hide one that begins to have some.
      [read] = await Promise.all([this.#readOwned(busy, turn.count), this.#look(quiet, undefined)]);
    }
    if (!read || (read.pages.length === 0 && !read.isMoved)) {
      await this.#look(ready, turn.block);
      read = await this.#readOwned(
        ready.filter((partition) => !this.#quiet.has(partition)),
        turn.count,
      );
    }
    this.#rotation.note(turn.partitions.length, read.pages.length);
    return read.pages;
  }

  /** Notes which of the partitions have new entries; waits for the first one if it may. */
  async #look(partitions: readonly Partition[], block: number | undefined): Promise<void> {
    if (partitions.length === 0) return;
    const positions = partitions.map(({ key, position }) => [key, position] as const);
    const pages = await this.#options.reading.read({ positions, count: 1, block });
    const found = new Set(pages.map(({ streamKey }) => streamKey));
    const isReadOfAllDue = monotonicNow() >= this.#readAllAt;
    if (isReadOfAllDue) this.#readAllAt = monotonicNow() + READ_ALL_INTERVAL;
    for (const partition of partitions) {
      if (isReadOfAllDue || found.has(partition.key)) this.#quiet.delete(partition);
    }
  }

  async #readOwned(partitions: readonly Partition[], count: number): Promise<OwnedRead> {
    const owned = partitions.filter(({ lease }) => lease?.isValid);
    if (owned.length === 0) return { pages: [], isMoved: false };
    const generations = new Map(owned.map((partition) => [partition, partition.generation]));
    const shards = owned.map(({ lease, position }) => [lease as ShardLease, position] as const);
    const found = await this.#options.reading.readOwned({ shards, count });
    const byKey = new Map(found.map(({ streamKey, entries }) => [streamKey, entries]));
    const pages: ReadPage[] = [];
    const moved: Partition[] = [];
    for (const partition of owned) {
      const entries = byKey.get(partition.key);
      const last = entries?.at(-1);
      if (!entries) this.#quiet.add(partition);
      else if (!last) moved.push(partition);
      else {
        const generation = generations.get(partition) as number;
        if (partition.generation === generation) partition.position = last.id;
        pages.push({ partition, generation, entries });
      }
    }
    // What was read is passed on in any case.
    if (pages.length === 0) await Promise.all(moved.map((partition) => this.#options.ofGroup.follow(partition)));
    return { pages, isMoved: moved.length > 0 };
  }
}
