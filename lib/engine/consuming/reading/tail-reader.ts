import { ID_BEFORE_ALL } from '../../../constants.js';
import { compareEntryIds } from '../../../redis/commands/entry-id.js';
import type { ReadCommands } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';
import type { AutoStreamReset } from '../../options/options.js';
import { ReadRotation, failBroken } from './stream-reader.js';
import type { ReadBudget, ReadPage, StreamReader } from './stream-reader.js';

export interface TailReaderOptions {
  /** Over the connection that may block. */
  readonly reading: Pick<ReadCommands, 'read'>;
  /** Over a connection that never blocks. */
  readonly control: Pick<ReadCommands, 'streamInfo'>;
  readonly autoStreamReset: AutoStreamReset;
}

/**
 * Reads without a group (XREAD). The tail of each stream is pinned to a real id once, at the start: with `$` sent twice,
 * whatever arrives on a quiet stream between two reads would be skipped.
 */
export class TailReader implements StreamReader {
  readonly #options: TailReaderOptions;
  readonly #rotation = new ReadRotation();

  constructor(options: TailReaderOptions) {
    this.#options = options;
  }

  async open(stream: Partition, isAllNew: boolean): Promise<void> {
    const info = await this.#options.control.streamInfo(stream.key);
    const isLatest = this.#options.autoStreamReset === 'latest' && !isAllNew;
    stream.position = isLatest && info ? info.lastGeneratedId : ID_BEFORE_ALL;
  }

  async read(streams: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    const turn = this.#rotation.plan(streams, budget);
    const generations = turn.streams.map((stream) => stream.generation);
    const positions = turn.streams.map((stream) => [stream.key, stream.position] as const);
    const pages = await this.#options.reading.read({
      positions,
      count: turn.count,
      block: turn.block,
    });
    this.#rotation.note(turn.streams.length, pages.length);
    const byKey = new Map(pages.map((page) => [page.streamKey, page.entries]));
    if (pages.length === 0) await this.#rewindIfReplaced(turn.streams);
    return turn.streams.flatMap((stream, index) => {
      const entries = byKey.get(stream.key);
      if (!entries || stream.generation !== generations[index]) return [];
      // A read that was given up may come back after the one that took its place.
      if (stream.position !== positions[index]?.[1]) return [];
      stream.position = entries.at(-1)?.id ?? stream.position;
      return [{ stream, generation: stream.generation, entries }];
    });
  }

  async heal(streams: readonly Partition[], error: unknown): Promise<void> {
    await failBroken(streams, error, this.#options.control);
  }

  /** A stream that was deleted and begun anew may have ids below our position; XREAD would wait for ever. */
  async #rewindIfReplaced(streams: readonly Partition[]): Promise<void> {
    for (const stream of streams) {
      const { generation, position } = stream;
      if (position === ID_BEFORE_ALL) continue;
      const info = await this.#options.control.streamInfo(stream.key);
      if (stream.generation !== generation || stream.position !== position) continue;
      if (!info || compareEntryIds(info.lastGeneratedId, position) < 0) stream.position = ID_BEFORE_ALL;
    }
  }
}
