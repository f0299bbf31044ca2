import type { Partition } from '../partition.js';
import type { ReadPage } from './stream-reader.js';

/** Work that a read loop does between two reads, at times of its own: retries that are due, and claiming idle entries. */
export interface PeriodicTask {
  /** Milliseconds until the task has something to do; Infinity when it has nothing. */
  dueIn(): number;
  /**
   * The entries of this task may be the ones that every occupied place of the buffer waits for. Therefore it gets one place
   * even when none is free.
   */
  readonly isVital?: boolean;
  /** The task has reached its limit: until it is below it again, the loop reads nothing and runs vital tasks only. */
  readonly isFull?: boolean;
  /**
   * Returns at most `credit` entries.
   * @param batchSize most entries of one command; it follows the pace of the consumer
   */
  run(partitions: readonly Partition[], credit: number, batchSize: number): Promise<ReadPage[]>;
}

/**
 * How many of the free places a periodic task may fill: half of them; a single place, every second time. A task that always
 * has something to do would otherwise leave no place for new entries.
 */
export class FairShare {
  #isTaken = false;

  of(places: number): number {
    if (places > 1) return Math.ceil(places / 2);
    this.#isTaken = !this.#isTaken;
    return this.#isTaken ? places : 0;
  }
}
