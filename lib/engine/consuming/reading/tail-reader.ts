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
  readonly control: Pick<ReadCommands, 'streamInfo'>;
  readonly autoStreamReset: AutoStreamReset;
}

/**
 * Reads without a group (XREAD). It pins the tail of each stream to a real id once, at the start: with `$` sent in each read,
 * an entry that arrives between two reads of a quiet stream would be skipped.
 */
export class TailReader implements StreamReader {
  readonly #options: TailReaderOptions;
  readonly #rotation = new ReadRotation();

  constructor(options: TailReaderOptions) {
    this.#options = options;
  }

  async open(partition: Partition, isAllNew: boolean): Promise<void> {
    const info = await this.#options.control.streamInfo(partition.key);
    const isLatest = this.#options.autoStreamReset === 'latest' && !isAllNew;
    partition.position = isLatest && info ? info.lastGeneratedId : ID_BEFORE_ALL;
  }

  async read(partitions: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    const turn = this.#rotation.plan(partitions, budget);
    const generations = turn.partitions.map((partition) => partition.generation);
    const positions = turn.partitions.map((partition) => [partition.key, partition.position] as const);
    const pages = await this.#options.reading.read({
      positions,
      count: turn.count,
      block: turn.block,
    });
    this.#rotation.note(turn.partitions.length, pages.length);
    const byKey = new Map(pages.map((page) => [page.streamKey, page.entries]));
    if (pages.length === 0) await this.#rewindIfReplaced(turn.partitions);
    return turn.partitions.flatMap((partition, index) => {
      const entries = byKey.get(partition.key);
      if (!entries || partition.generation !== generations[index]) return [];
      // The read of an abandoned round may come back after the read that replaced it.
      if (partition.position !== positions[index]?.[1]) return [];
      partition.position = entries.at(-1)?.id ?? partition.position;
      return [{ partition, generation: partition.generation, entries }];
    });
  }

  async heal(partitions: readonly Partition[], error: unknown): Promise<void> {
    if (classifyRedisError(error) !== 'wrong-type') throw error;
    await failWrongTypes(partitions, error, this.#options.control);
  }

  /** A stream that was deleted and created again may have ids below our position; XREAD would wait for ever. */
  async #rewindIfReplaced(partitions: readonly Partition[]): Promise<void> {
    for (const partition of partitions) {
      const { generation, position } = partition;
      if (position === ID_BEFORE_ALL) continue;
      const info = await this.#options.control.streamInfo(partition.key);
      if (partition.generation !== generation || partition.position !== position) continue;
      if (!info || compareEntryIds(info.lastGeneratedId, position) < 0) partition.position = ID_BEFORE_ALL;
    }
  }
}
