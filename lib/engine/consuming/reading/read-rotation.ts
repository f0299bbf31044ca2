import type { Partition } from '../partition.js';
import type { ReadBudget } from './stream-reader.js';

/** A read of some of the partitions blocks at most this long, so that the others get their turn soon. */
const ROTATION_BLOCK = 100;
/**
 * Entries of each partition that are worth asking for it. To find its position Redis walks from the beginning of a node of the
 * stream, which has up to 100 entries.
 */
const WORTHWHILE = 32;
/** The least partitions of a read that asks only some of the busy ones. */
const VARIETY = 32;

/** A read that found at least this many entries makes the next one expect several. */
const SEVERAL = 4;
/** A read of more partitions does not expect several: for a second command the server would look at each of them again. */
const MAX_PARTITIONS_FOR_SEVERAL = 8;

/**
 * Entries that a read of so many partitions may return: at most a batch of each, and at most the credit. After a full page it leaves
 * a batch of the credit to the next read, which is then sent while this page is decoded. It takes a batch itself even so, and takes
 * all that it can where a batch has fewer than {@link WORTHWHILE} entries for each partition.
 */
export function placesFor(
  partitions: number,
  { credit, batchSize }: Pick<ReadBudget, 'credit' | 'batchSize'>,
  wasFull: boolean,
): number {
  const most = Math.min(credit, batchSize * partitions);
  if (!wasFull || batchSize < WORTHWHILE * partitions) return most;
  return Math.min(most, Math.max(batchSize, credit - batchSize));
}

/**
 * Entries from which on a page is full: a batch, or all that were asked for. COUNT is the same for each partition, so
 * `places % partitions` entries are never asked for.
 */
export function fullPage(partitions: number, batchSize: number, places: number): number {
  return Math.min(batchSize, places < partitions ? places : places - (places % partitions));
}

/** One read: the partitions that it asks, and for how many entries of each. */
export interface ReadTurn {
  readonly partitions: readonly Partition[];
  readonly count: number;
  readonly block: number | undefined;
  /** The read waits, and the one before it found several entries, but fewer than it asked for: see {@link GroupReadRequest}. */
  readonly expectsSeveral: boolean;
}

/**
 * Decides which partitions the next read asks, and for how many entries.
 *
 * Redis applies COUNT to each stream, so COUNT × partitions must not exceed the credit. Divided among many partitions, a large
 * credit leaves only a few entries for each. While most of them are busy, a read therefore asks a part of the busy ones for more, and
 * the next read the following ones. A partition is busy when it had as many entries as it was last asked for. The others are asked by
 * every read, so that what arrives there does not wait.
 *
 * With fewer places than partitions otherwise, a read asks as many partitions as there are places, and the next read asks the
 * following ones. Such a read blocks only when every partition was empty at its last turn; otherwise an empty partition would delay
 * one that has more.
 */
export class ReadRotation {
  /** The one that was asked longest ago comes first. With turns by place in the list, which changes, one might never be asked. */
  readonly #busy = new Set<Partition>();
  #offset = 0;
  /** Partitions that were empty, counted in turn since the last one that was not. */
  #empty = 0;
  /** Entries of the last read. */
  #found = 0;

  plan(partitions: readonly Partition[], budget: ReadBudget): ReadTurn {
    const { credit, batchSize, block, isAhead = false } = budget;
    const even = Math.floor(credit / partitions.length);
    if (this.#busy.size > 0) this.#retain(partitions);
    const turn = even < WORTHWHILE && even < batchSize ? this.#planBusy(partitions, budget, even) : undefined;
    if (turn) return turn;
    if (even > 0) {
      const count = Math.min(batchSize, even);
      const foundSeveral = this.#found >= SEVERAL && this.#busy.size === 0 && !isAhead;
      const mayTakeTwo = block !== undefined && count > 1 && partitions.length <= MAX_PARTITIONS_FOR_SEVERAL;
      return { partitions, count, block, expectsSeveral: foundSeveral && mayTakeTwo };
    }
    const mayBlock = block !== undefined && this.#empty >= partitions.length;
    return {
      partitions: this.#next(partitions, credit),
      count: 1,
      block: mayBlock ? Math.min(block, ROTATION_BLOCK) : undefined,
      expectsSeveral: false,
    };
  }

  /** Must be called after each read, with its pages by key. */
  note({ partitions, count }: ReadTurn, pages: ReadonlyMap<string, readonly unknown[]>): void {
    this.#empty = pages.size > 0 ? 0 : this.#empty + partitions.length;
    this.#found = 0;
    for (const entries of pages.values()) this.#found += entries.length;
    // Most have no more by now. A loop that polls waits after such a read, and must not wait again for each part of them.
    if (pages.size === 0) return this.#busy.clear();
    for (const partition of partitions) {
      this.#busy.delete(partition);
      if ((pages.get(partition.key)?.length ?? 0) >= count) this.#busy.add(partition);
    }
  }

  /** @param even entries of each partition if all were asked */
  #planBusy(partitions: readonly Partition[], { credit, batchSize }: ReadBudget, even: number): ReadTurn | undefined {
    const quiet = partitions.filter((partition) => !this.#busy.has(partition));
    // At least half of the places are for the busy ones.
    const count = Math.min(WORTHWHILE, batchSize, Math.floor(credit / Math.max(2 * quiet.length, VARIETY)));
    if (count < 2 * Math.max(even, 1)) return undefined;
    const turn = [...this.#busy].slice(0, Math.floor(credit / count) - quiet.length);
    return { partitions: [...quiet, ...turn], count, block: undefined, expectsSeveral: false };
  }

  /** Forgets the busy ones that are not read any more. */
  #retain(partitions: readonly Partition[]): void {
    const read = new Set(partitions);
    for (const partition of this.#busy) if (!read.has(partition)) this.#busy.delete(partition);
  }

  #next(partitions: readonly Partition[], places: number): Partition[] {
    const start = this.#offset % partitions.length;
    this.#offset = start + places;
    return [...partitions.slice(start), ...partitions.slice(0, start)].slice(0, places);
  }
}
