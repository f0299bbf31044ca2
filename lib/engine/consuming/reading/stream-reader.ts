import { classifyRedisError, toPublicError } from '../../../redis/commands/redis-error.js';
import type { ReadCommands, StreamEntry } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';

/** The entries that a read returned for one partition, in order. */
export interface ReadPage {
  readonly partition: Partition;
  /** Generation of the partition when the read was sent; a page of an earlier generation is not handed out. */
  readonly generation: number;
  readonly entries: readonly StreamEntry[];
}

/** How many entries one read may return, and how long it may block. */
export interface ReadBudget {
  /** Free places in the buffer. */
  readonly credit: number;
  readonly batchSize: number;
  /** Longest wait in milliseconds; undefined does not block. */
  readonly block: number | undefined;
  /** The previous page is still arriving, and {@link StreamReader.mayReadAhead} has allowed it. */
  readonly isAhead?: boolean;
  /** Called with the number of entries when the first of them arrive, if the reader can tell. */
  readonly onCount?: (entries: number) => void;
}

/** One of the two ways to read: {@link GroupReader} or {@link TailReader}. The read loop decides when, the reader how. */
export interface StreamReader {
  /**
   * Fixes the start position of a partition on the server.
   * @param isAllNew the partition appeared while the consumer was reading, so all of its entries are new to it
   */
  open(partition: Partition, isAllNew: boolean): Promise<void>;
  /** One read over some of the partitions; resolves with what it returned, possibly nothing. */
  read(partitions: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]>;
  /** Whether the next read may be sent while a page is still arriving. A reader without this method never allows it. */
  mayReadAhead?(partitions: readonly Partition[]): boolean;
  /**
   * Repairs the state of keys that made a read fail, or sets the `failure` of the partitions that cannot be read any more.
   * Rejects with an error that it cannot repair: the loop reports it and reads again later.
   */
  heal(partitions: readonly Partition[], error: unknown): Promise<void>;
}

/**
 * Reads a resumable group with `position: 'consumer'`: as its member, until the first seek or rewind takes the partitions off
 * the group; from then on without the group. A partition that is added later begins where the group is, and is off it as well:
 * one read cannot be of both kinds.
 */
export class OffGroupReader implements StreamReader {
  readonly #group: StreamReader;
  readonly #tail: StreamReader;

  constructor(group: StreamReader, tail: StreamReader) {
    this.#group = group;
    this.#tail = tail;
  }

  async open(partition: Partition, isAllNew: boolean): Promise<void> {
    await this.#group.open(partition, isAllNew);
  }

  async read(partitions: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    return this.#readerOf(partitions).read(partitions, budget);
  }

  async heal(partitions: readonly Partition[], error: unknown): Promise<void> {
    await this.#readerOf(partitions).heal(partitions, error);
  }

  #readerOf(partitions: readonly Partition[]): StreamReader {
    if (!partitions.some(({ isOffGroup }) => isOffGroup)) return this.#group;
    for (const partition of partitions) partition.isOffGroup = true;
    return this.#tail;
  }
}

/** For a read that Redis refuses with WRONGTYPE, which names no key: the partitions whose key has the wrong type fail. */
export async function failWrongTypes(
  partitions: readonly Partition[],
  error: unknown,
  control: Pick<ReadCommands, 'streamInfo'>,
): Promise<void> {
  for (const partition of partitions) {
    if (await hasWrongType(partition, control)) partition.failure = toPublicError(error, partition.key, 'reading from');
  }
}

async function hasWrongType(partition: Partition, control: Pick<ReadCommands, 'streamInfo'>): Promise<boolean> {
  try {
    await control.streamInfo(partition.key);
    return false;
  } catch (error) {
    if (classifyRedisError(error) === 'wrong-type') return true;
    throw error;
  }
}
