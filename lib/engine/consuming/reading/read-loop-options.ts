import type { RedisStreamsError } from '../../../errors.js';
import type { Partition } from '../partition.js';
import type { ReadDuty } from './read-duty.js';
import type { ReadPage, StreamReader } from './stream-reader.js';

/** The connection on which a loop reads. */
export interface ReadConnection {
  readonly epoch: number;
  ready(signal: AbortSignal): Promise<unknown>;
  /** Gives the client of this epoch up for a new one. */
  drop(epoch: number): void;
  close(): Promise<void>;
}

export interface ReadLoopOptions {
  readonly reader: StreamReader;
  readonly connection: ReadConnection;
  readonly interrupt: { readonly isPossible: boolean; interrupt(isOver: () => boolean): Promise<void> };
  readonly duties: readonly ReadDuty[];
  /** Most entries of one read. */
  readonly batchSize: () => number;
  readonly blockTimeout: number;
  /** Free places for what a read brings, and a wait until there are enough. */
  readonly credit: () => number;
  readonly room: () => Promise<void>;
  /** Nothing waits to be handed out, yet there is no room: all of it is with somebody, or waits for a retry. */
  readonly isStuck: () => boolean;
  /** Whether {@link room} would resolve now. */
  readonly hasRoom: () => boolean;
  /** Since when all connections that reading needs have been live, on the monotonic clock; undefined while one is not. */
  readonly liveSince: () => number | undefined;
  /** @param isLate the pages come from a round that was given up; some of it may be here already */
  readonly onPages: (pages: readonly ReadPage[], isLate: boolean) => void;
  readonly onStreamFailure: (stream: Partition) => void;
  readonly onError: (error: RedisStreamsError) => void;
}
