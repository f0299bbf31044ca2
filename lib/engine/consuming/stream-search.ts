import { monotonicNow } from '../../shared/clock.js';
import type { ReadCommands } from '../../redis/commands/stream-commands.js';

/** Most pages of SCAN, of about 500 keys each, in one look. */
const PAGES_PER_LOOK = 20;

/** In place of bytes that are no UTF-8; a key that has such bytes cannot be named as a string. */
const REPLACEMENT = '\uFFFD';

/** Which streams a consumer reads beside those that it names, as far as they exist. */
export interface StreamSearchOptions {
  /** For errors: what is looked for, such as `orders.*`. */
  readonly name: string;
  /** Milliseconds between two looks. */
  readonly interval: number;
  readonly isWanted: (streamKey: string) => boolean;
  /** Called before the first message of these streams. */
  readonly onFound: (streamKeys: readonly string[]) => Promise<void>;
  /** These streams are not read any more. */
  readonly onDropped: (streamKeys: readonly string[]) => void;
}

/**
 * Finds the streams that a consumer wants, on all masters: at the start with a whole walk through the keyspace (SCAN), later
 * with looks of at most {@link PAGES_PER_LOOK} pages, each of which continues where the last one stopped. So a new stream in a
 * keyspace of n keys is found within n ÷ 10,000 looks.
 *
 * It never reads a stream, and remembers none: the caller knows which of them it reads.
 */
export class StreamSearch {
  readonly options: StreamSearchOptions;
  readonly #reading: Pick<ReadCommands, 'scan' | 'isStream'>;
  /** The stream that a key is a shard of, or the key itself. */
  readonly #streamOf: (key: string) => string;
  #cursor = '0';
  #dueAt = Infinity;
  /** The wanted streams that the current walk has come across. */
  #seen = new Set<string>();

  constructor(
    options: StreamSearchOptions,
    reading: Pick<ReadCommands, 'scan' | 'isStream'>,
    streamOf: (key: string) => string,
  ) {
    this.options = options;
    this.#reading = reading;
    this.#streamOf = streamOf;
  }

  /** Milliseconds until the next look is due; Infinity before {@link all}. */
  get dueIn(): number {
    return Math.max(0, this.#dueAt - monotonicNow());
  }

  /** Every wanted stream that exists. */
  async all(): Promise<string[]> {
    this.#begin();
    do await this.#page();
    while (this.#cursor !== '0');
    this.#plan();
    return [...this.#seen];
  }

  /** The next part of the walk. Returns the wanted streams in it, and whether the walk has reached its end. */
  async look(): Promise<{ streams: string[]; isComplete: boolean }> {
    // Before the first command: a look that fails must not be repeated at once.
    this.#plan();
    if (this.#cursor === '0') this.#begin();
    const streams: string[] = [];
    for (let page = 0; page < PAGES_PER_LOOK; page += 1) {
      streams.push(...(await this.#page()));
      if (this.#cursor === '0') return { streams, isComplete: true };
    }
    return { streams, isComplete: false };
  }

  /**
   * Those of the keys that do not exist any more, when a walk is complete. A walk returns every key that exists from its
   * beginning to its end, unless a cluster moves its slot to a master that was walked through before; so the others are asked for.
   */
  async gone(keys: readonly string[]): Promise<string[]> {
    const missing = keys.filter((key) => !this.#seen.has(this.#streamOf(key)));
    const exist = await Promise.all(missing.map((key) => this.#reading.isStream(key)));
    return missing.filter((_, index) => !exist[index]);
  }

  #begin(): void {
    this.#cursor = '0';
    this.#seen = new Set();
  }

  #plan(): void {
    this.#dueAt = monotonicNow() + this.options.interval;
  }

  async #page(): Promise<string[]> {
    const { cursor, streams } = await this.#reading.scan(this.#cursor);
    this.#cursor = cursor;
    const readable = streams.filter((key) => !key.includes(REPLACEMENT));
    const wanted = [...new Set(readable.map(this.#streamOf))].filter(this.options.isWanted);
    for (const streamKey of wanted) this.#seen.add(streamKey);
    return wanted;
  }
}
