import type { RedisStreamsError } from '../../../errors.js';
import type { Partition } from '../partition.js';
import type { PeriodicTask } from './periodic-task.js';
import type { RefusedPartitions } from './refused-partitions.js';
import type { ReadPage, StreamReader } from './stream-reader.js';

/** The connection on which a loop reads. */
export interface ReadConnection {
  readonly epoch: number;
  ready(signal: AbortSignal): Promise<unknown>;
  /** Replaces the client of this epoch by a new one. */
  drop(epoch: number): void;
  close(): Promise<void>;
}

/** The buffer that loops fill, as far as they need to know it. */
export interface EntryBuffer {
  /** Free places: the most entries that may be read. */
  readonly credit: number;
  /** Most entries of one read of a partition. */
  readonly batchSize: number;
  /** Whether {@link room} would resolve now. */
  readonly hasRoom: boolean;
  /** Nothing is left to hand out, yet there is no room: every message is in a handler or waits for a retry. */
  readonly isStarved: boolean;
  /** Resolves when there are enough free places for a read. */
  room(): Promise<void>;
}

/** What places are reserved for: a periodic task; a read that answers at once, with or without a watch after it; one that may block. */
export type ReadUse = 'task' | 'read' | 'watched read' | 'blocking read';

/** The part of a buffer that one loop may fill. */
export interface ReadBuffer extends EntryBuffer {
  /** Other loops need the places that a blocked read would keep. */
  readonly mustNotBlock: boolean;
  /** A whole batch fits into the places that are not reserved, and no other loop shares the buffer. */
  readonly mayReadAhead: boolean;
  /**
   * Keeps places, so that loops that share a buffer do not count on the same places. Returns the function that gives them
   * back, with the number of entries that were found.
   */
  reserve(places: number, use: ReadUse): (found: number) => void;
}

/** Says when a stream may have new entries, after a read that asked for it. */
export interface EntryWatch {
  /** Whether the next change will be announced, as the last read has asked for. */
  readonly isArmed: boolean;
  /** A read begins. @param wantsInvalidation whether the next change after it is to be announced */
  begin(wantsInvalidation: boolean): void;
  /** Resolves when there may be new entries since the last read began. */
  invalidated(): Promise<void>;
}

export interface ReadLoopListener {
  /** @param isLate the pages come from an abandoned round: some of their entries may have been read again since */
  onPages(pages: readonly ReadPage[], isLate: boolean): void;
  /** The partition failed permanently and is not read any more; the others are. */
  onPartitionFailure(partition: Partition): void;
  onError(error: RedisStreamsError): void;
}

export interface ReadLoopOptions {
  readonly reader: StreamReader;
  readonly connection: ReadConnection;
  readonly interrupt: { readonly isPossible: boolean; interrupt(isOver: () => boolean): Promise<void> };
  readonly refused: Pick<RefusedPartitions, 'separate' | 'retain'>;
  /** Run in this order. */
  readonly tasks: readonly PeriodicTask[];
  readonly buffer: ReadBuffer;
  readonly listener: ReadLoopListener;
  /** Longest BLOCK of a read, in milliseconds. */
  readonly blockTimeout: number;
  /** Reads never block; between those that find nothing the loop waits. */
  readonly isPolling: boolean;
  /** Reads never block; the loop waits until new entries are announced. */
  readonly watch?: EntryWatch | undefined;
  /** Since when all connections that reading needs have been live, on the monotonic clock; undefined while one is not. */
  readonly liveSince: () => number | undefined;
}
