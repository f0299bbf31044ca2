import type { Partition } from '../partition.js';
import type { ReadBudget } from './stream-reader.js';

/** A read of some of the partitions blocks at most this long, so that the others get their turn soon. */
const ROTATION_BLOCK = 100;

/**
 * Decides which partitions the next read asks, and for how many entries.
 *
 * Redis applies COUNT to each stream, so COUNT × partitions must not exceed the credit. With fewer places than partitions,
 * a read asks as many partitions as there are places, and the next read asks the following ones. Such a read blocks only
 * when every partition was empty at its last turn; otherwise an empty partition would delay one that has more.
 */
export class ReadRotation {
  #offset = 0;
  /** Partitions that were empty, counted in turn since the last one that was not. */
  #quiet = 0;

  plan(
    partitions: readonly Partition[],
    { credit, batchSize, block }: ReadBudget,
  ): { partitions: readonly Partition[]; count: number; block: number | undefined } {
    if (credit >= partitions.length) {
      return { partitions, count: Math.min(batchSize, Math.floor(credit / partitions.length)), block };
    }
    const start = this.#offset % partitions.length;
    this.#offset = start + credit;
    const turn = [...partitions.slice(start), ...partitions.slice(0, start)].slice(0, credit);
    const mayBlock = block !== undefined && this.#quiet >= partitions.length;
    return { partitions: turn, count: 1, block: mayBlock ? Math.min(block, ROTATION_BLOCK) : undefined };
  }

  /** Must be called after each read: how many partitions it asked, and how many of them had entries. */
  note(asked: number, found: number): void {
    this.#quiet = found > 0 ? 0 : this.#quiet + asked;
  }
}
