import { classifyRedisError, toPublicError } from '../../../redis/commands/redis-error.js';
import type { ReadCommands, StreamEntry } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';

/** Entries that a read brought for one stream, in order. */
export interface ReadPage {
  readonly stream: Partition;
  /** Of the time when the read was sent; a page of an earlier generation is dropped. */
  readonly generation: number;
  readonly entries: readonly StreamEntry[];
}

/** How much one read may bring, and how long it may wait. */
export interface ReadBudget {
  /** Free places in the buffer. */
  readonly credit: number;
  readonly batchSize: number;
  /** Longest wait in milliseconds; undefined answers at once. */
  readonly block: number | undefined;
}

/**
 * The two ways to read: with a group or without. The read loop owns when; a reader knows how.
 */
export interface StreamReader {
  /**
   * Fixes the start position of a stream on the server.
   * @param isAllNew the stream appeared while we were reading, so nothing in it is older than the consumer
   */
  open(stream: Partition, isAllNew: boolean): Promise<void>;
  /** One read over some of the streams; resolves with what came, maybe nothing. */
  read(streams: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]>;
  /** Finds out what a failed read means for each stream: mends what can be mended, marks what cannot. */
  heal(streams: readonly Partition[], error: unknown): Promise<void>;
}

/** A read over a part of the streams must come round to the others soon. */
const ROTATION_BLOCK = 100;

/**
 * COUNT holds for each stream, so COUNT × streams must not exceed the credit. With fewer places than streams only
 * as many streams as there are places are read, others the next time. Such a turn waits only when all the streams had
 * nothing the last time: else one that has more would be held up by those that have not.
 */
export class ReadRotation {
  #offset = 0;
  /** Streams that had nothing, one after the other, until now. */
  #quiet = 0;

  plan(
    streams: readonly Partition[],
    { credit, batchSize, block }: ReadBudget,
  ): { streams: readonly Partition[]; count: number; block: number | undefined } {
    if (credit >= streams.length) {
      return { streams, count: Math.min(batchSize, Math.floor(credit / streams.length)), block };
    }
    const start = this.#offset % streams.length;
    this.#offset = start + credit;
    const turn = [...streams.slice(start), ...streams.slice(0, start)].slice(0, credit);
    const mayWait = block !== undefined && this.#quiet >= streams.length;
    return { streams: turn, count: 1, block: mayWait ? Math.min(block, ROTATION_BLOCK) : undefined };
  }

  /** Told after each read how many streams were asked and how many of them had something. */
  note(asked: number, found: number): void {
    this.#quiet = found > 0 ? 0 : this.#quiet + asked;
  }
}

/** A read that Redis refuses for good: a wrong type is fatal for the streams that have it, anything else for all of the read. */
export async function failBroken(
  streams: readonly Partition[],
  error: unknown,
  control: Pick<ReadCommands, 'streamInfo'>,
): Promise<void> {
  const isWrongType = classifyRedisError(error) === 'wrong-type';
  for (const stream of streams) {
    if (isWrongType && !(await hasWrongType(stream, control))) continue;
    stream.failure = toPublicError(error, stream.key, 'reading from');
  }
}

async function hasWrongType(stream: Partition, control: Pick<ReadCommands, 'streamInfo'>): Promise<boolean> {
  try {
    await control.streamInfo(stream.key);
    return false;
  } catch (error) {
    if (classifyRedisError(error) === 'wrong-type') return true;
    throw error;
  }
}
