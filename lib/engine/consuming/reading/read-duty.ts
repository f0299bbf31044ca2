import type { Partition } from '../partition.js';
import type { ReadPage } from './stream-reader.js';

/** What a read loop does besides reading, at times of its own: taking over idle entries, and retries that are due. */
export interface ReadDuty {
  /** Milliseconds until there is something to do; Infinity when there is nothing. */
  dueIn(): number;
  /** What it brings may be what all that holds a place waits for, so it is given one place even when none is free. */
  readonly isVital?: boolean;
  /** It has as much as it may have: nothing is read, and nothing but what is vital is done, until it has less. */
  readonly isFull?: boolean;
  run(streams: readonly Partition[], credit: number): Promise<ReadPage[]>;
}
