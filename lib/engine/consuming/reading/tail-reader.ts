import { ID_BEFORE_ALL } from '../../../constants.js';
import { compareEntryIds } from '../../../redis/commands/entry-id.js';
import { classifyRedisError } from '../../../redis/commands/redis-error.js';
import type { ReadCommands } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';
import type { AutoStreamReset } from '../../options/options.js';
import { ReadRotation } from './read-rotation.js';
import { failWrongTypes } from './stream-reader.js';
import type { ReadBudget, ReadPage, StreamReader } from './stream-reader.js';

export interface TailReaderOptions {
  /** Over the connection that may block. */
  readonly reading: Pick<ReadCommands, 'read'>;
  /** Over a connection that never blocks. */
  readonly control: Pick<ReadCommands, 'streamInfo' | 'range'>;
  readonly autoStreamReset: AutoStreamReset;
}

/** Ids of a stream that were read, by which it can be recognised. */
interface Trail {
  /** The start position, or the first id that was read. */
  readonly first: string;
  /** Of the beginnings of pages: the older they are, the further apart. */
  readonly ids: string[];
  pages: number;
}

/** Pages are counted up to here and then from 1 again: bitwise operators take 32 bits. */
const MAX_PAGES = 2 ** 30;

/**
 * Reads without a group (XREAD). It pins the tail of each stream to a real id once, at the start: with `$` sent in each read,
 * an entry that arrives between two reads of a quiet stream would be skipped.
 */
export class TailReader implements StreamReader {
  readonly #options: TailReaderOptions;
  readonly #rotation = new ReadRotation();
  readonly #trails = new WeakMap<Partition, Trail>();

  constructor(options: TailReaderOptions) {
    this.#options = options;
  }

  async open(partition: Partition, isAllNew: boolean): Promise<void> {
    const info = await this.#options.control.streamInfo(partition.key);
    const isLatest = this.#options.autoStreamReset === 'latest' && !isAllNew;
    partition.position = isLatest && info ? info.lastGeneratedId : ID_BEFORE_ALL;
    if (partition.position !== ID_BEFORE_ALL) this.#leaveTrail(partition, partition.position);
  }

  async read(partitions: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    const turn = this.#rotation.plan(partitions, budget);
    const generations = turn.partitions.map((partition) => partition.generation);
    const positions = turn.partitions.map((partition) => [partition.key, partition.position] as const);
    const pages = await this.#options.reading.read({
      positions,
      count: turn.count,
      block: turn.block,
      // The second command repeats an entry of each stream.
      expectsSeveral: turn.expectsSeveral && partitions.length === 1,
    });
    const byKey = new Map(pages.map((page) => [page.streamKey, page.entries]));
    this.#rotation.note(turn, byKey);
    if (pages.length === 0) await this.#rewindIfReplaced(turn.partitions);
    return turn.partitions.flatMap((partition, index) => {
      const entries = byKey.get(partition.key);
      if (!entries || partition.generation !== generations[index]) return [];
      // The read of an abandoned round may come back after the read that replaced it.
      if (partition.position !== positions[index]?.[1]) return [];
      partition.position = entries.at(-1)?.id ?? partition.position;
      if (entries[0]) this.#leaveTrail(partition, entries[0].id);
      return [{ partition, generation: partition.generation, entries }];
    });
  }

  async heal(partitions: readonly Partition[], error: unknown): Promise<void> {
    if (classifyRedisError(error) !== 'wrong-type') throw error;
    await failWrongTypes(partitions, error, this.#options.control);
  }

  /**
   * XREAD would wait for ever where all ids are below our position. A stream that was deleted and created again is read from its
   * beginning. One that has lost its last entries, because a replica without them took over, was read up to its end.
   */
  async #rewindIfReplaced(partitions: readonly Partition[]): Promise<void> {
    for (const partition of partitions) {
      const { generation, position } = partition;
      if (position === ID_BEFORE_ALL) continue;
      const last = (await this.#options.control.streamInfo(partition.key))?.lastGeneratedId;
      if (last !== undefined && compareEntryIds(last, position) >= 0) continue;
      const start = last !== undefined && (await this.#isKnown(partition, last)) ? last : ID_BEFORE_ALL;
      if (partition.generation === generation && partition.position === position) partition.position = start;
    }
  }

  /** Whether the stream still has an entry that was read, at or before `last`. */
  async #isKnown(partition: Partition, last: string): Promise<boolean> {
    const trail = this.#trails.get(partition);
    for (const id of trail ? [...trail.ids, trail.first] : []) {
      if (compareEntryIds(id, last) > 0) continue;
      if ((await this.#options.control.range(partition.key, id, id)).length > 0) return true;
    }
    return false;
  }

  #leaveTrail(partition: Partition, id: string): void {
    const trail = this.#trails.get(partition);
    if (!trail) return void this.#trails.set(partition, { first: id, ids: [], pages: 0 });
    trail.pages = (trail.pages % MAX_PAGES) + 1;
    // By the zeros at the end of the number in binary: each place is written half as often as the one before.
    trail.ids[31 - Math.clz32(trail.pages & -trail.pages)] = id;
  }
}
