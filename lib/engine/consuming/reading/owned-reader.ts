import { pause } from '../../../shared/backoff.js';
import { monotonicNow } from '../../../shared/clock.js';
import type { ReadCommands } from '../../../redis/commands/stream-commands.js';
import type { ShardLease } from '../ownership/shard-lease.js';
import type { Partition } from '../partition.js';
import type { TakeOver } from '../recovery/take-over.js';
import type { GroupReader } from './group-reader.js';
import { ReadRotation } from './read-rotation.js';
import type { ReadBudget, ReadPage, StreamReader } from './stream-reader.js';

export interface OwnedReaderOptions {
  readonly ofGroup: GroupReader;
  /** Over the connection that may block. */
  readonly reading: Pick<ReadCommands, 'readOwned' | 'read'>;
  readonly takeOver: TakeOver;
}

/** Milliseconds after which all partitions are read again: XREAD does not see the entries behind which a group was moved back. */
const READ_ALL_INTERVAL = 5_000;
/** How long a reader without a lease rests, in milliseconds. */
const WAIT_FOR_LEASE = 50;

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
  /** Partitions whose group is not where this process left it. */
  readonly #moved = new Set<Partition>();
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
    await this.#followMoved();
    const owned = partitions.filter(({ lease }) => lease?.isValid);
    for (const partition of owned) {
      const page = await this.#takeOver(partition, budget);
      if (page) return [page];
    }
    const recovered = owned.length > 0 ? await this.#options.ofGroup.recoverOwn(owned, budget) : [];
    if (recovered.length > 0) return recovered;
    return this.#readNew(owned, budget);
  }

  /** Before anything is read, so that a failure loses no page. */
  async #followMoved(): Promise<void> {
    for (const partition of this.#moved) {
      if (partition.lease?.isValid) await this.#options.ofGroup.follow(partition);
      this.#moved.delete(partition);
    }
  }

  /** The next page of what former owners have left; undefined when nothing is left. */
  async #takeOver(partition: Partition, { credit, batchSize }: ReadBudget): Promise<ReadPage | undefined> {
    while (!partition.isTakenOver) {
      const { generation } = partition;
      const request = { after: this.#cursors.get(partition), count: Math.min(credit, batchSize) };
      const page = await this.#options.takeOver.page(partition, request);
      if (!page) return undefined;
      // Noted last: after a failure the same page is taken over again.
      if (page.next === undefined) partition.isTakenOver = true;
      else this.#cursors.set(partition, page.next);
      if (page.entries.length > 0) return { partition, generation, entries: page.entries };
    }
    return undefined;
  }

  async #readNew(partitions: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    const turn = this.#rotation.plan(partitions, budget);
    // What a former owner has left comes before what is new.
    const ready = turn.partitions.filter(({ isTakenOver, lease }) => isTakenOver && lease?.isValid);
    const quiet = ready.filter((partition) => this.#quiet.has(partition));
    const busy = ready.filter((partition) => !this.#quiet.has(partition));
    let pages = busy.length > 0 ? await this.#readBeside(busy, quiet, turn.count) : [];
    if (pages.length === 0 && this.#moved.size === 0) {
      const hasNew = await this.#look(ready, turn.block);
      pages = await this.#readOwned(
        ready.filter((partition) => !this.#quiet.has(partition)),
        turn.count,
      );
      // Redis gives nothing without the lease, which its renewal finds out; until then nothing else would let that run.
      if (pages.length === 0 && (hasNew || ready.length === 0)) await pause(WAIT_FOR_LEASE);
    }
    this.#rotation.note(turn, new Map(pages.map(({ partition, entries }) => [partition.key, entries])));
    return pages;
  }

  /** In one write, so that partitions with many entries do not hide one that begins to have some. What was read is passed on in any case. */
  async #readBeside(busy: readonly Partition[], quiet: readonly Partition[], count: number): Promise<ReadPage[]> {
    const [read, look] = await Promise.allSettled([this.#readOwned(busy, count), this.#look(quiet, undefined)]);
    if (read.status === 'rejected') throw read.reason;
    if (look.status === 'rejected' && read.value.length === 0) throw look.reason;
    return read.value;
  }

  /** Notes which of the partitions have new entries, and returns whether any has; waits for the first one if it may. */
  async #look(partitions: readonly Partition[], block: number | undefined): Promise<boolean> {
    if (partitions.length === 0) return false;
    const positions = partitions.map(({ key, position }) => [key, position] as const);
    const pages = await this.#options.reading.read({ positions, count: 1, block });
    const found = new Set(pages.map(({ streamKey }) => streamKey));
    const isReadOfAllDue = monotonicNow() >= this.#readAllAt;
    if (isReadOfAllDue) this.#readAllAt = monotonicNow() + READ_ALL_INTERVAL;
    for (const partition of partitions) {
      if (isReadOfAllDue || found.has(partition.key)) this.#quiet.delete(partition);
    }
    return found.size > 0;
  }

  async #readOwned(partitions: readonly Partition[], count: number): Promise<ReadPage[]> {
    const owned = partitions.filter(({ lease }) => lease?.isValid);
    if (owned.length === 0) return [];
    const generations = new Map(owned.map((partition) => [partition, partition.generation]));
    const shards = owned.map(({ lease, position }) => [lease as ShardLease, position] as const);
    const found = await this.#options.reading.readOwned({ shards, count });
    const byKey = new Map(found.map(({ streamKey, entries }) => [streamKey, entries]));
    const pages: ReadPage[] = [];
    for (const partition of owned) {
      const entries = byKey.get(partition.key);
      const last = entries?.at(-1);
      if (!entries) this.#quiet.add(partition);
      else if (!last) this.#moved.add(partition);
      else {
        const generation = generations.get(partition) as number;
        if (partition.generation === generation) partition.position = last.id;
        pages.push({ partition, generation, entries });
      }
    }
    return pages;
  }
}
