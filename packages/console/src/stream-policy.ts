import { NotFoundException } from '@nestjs/common';
import { DEAD_LETTER_SUFFIX } from 'nestjs-redis-streams';
import type { ResolvedConsoleOptions } from './console.options.js';

/** How keys begin that the library writes beside streams, and those of the streams of answers to requests. */
const INTERNAL = ['nrs:', 'reply:'] as const;

/** Shard numbers are looked for in runs of this size, as `StreamManager.info()` does; of a stream without shards only the first. */
const RUN = 32;
const FIRST_NUMBERS = 8;

/** Keys with more numbers are not taken for shards, but for streams of users, orders and the like. */
const MOST_SHARDS = 4_096;

const SHARD = /^(.+):(?:0|[1-9]\d*)$/s;
const NUMBER = /^(?:0|[1-9]\d*)$/;

export function deadLetterStreamOf(stream: string): string {
  return stream + DEAD_LETTER_SUFFIX;
}

/**
 * Knows which streams the console may show and change, by the option `streams`, and which keys are one stream: shards and dead letters
 * belong to their stream, also those of one another.
 */
export class StreamPolicy {
  readonly #isAllowed: (key: string) => boolean;
  /** The streams, where the option names them. */
  readonly named: readonly string[] | undefined;

  constructor({ streams }: Pick<ResolvedConsoleOptions, 'streams'>) {
    if (typeof streams === 'object') {
      const names = new Set(streams);
      const lengths = new Set(streams.map(({ length }) => length));
      this.named = [...names];
      this.#isAllowed = (key) => ownerLengths(key).some((end) => lengths.has(end) && names.has(key.slice(0, end)));
    } else if (streams) {
      this.#isAllowed = (key) => !isInternal(key) && streams(streamOf(key), key) === true;
    } else {
      this.#isAllowed = (key) => !isInternal(key);
    }
  }

  /** @returns the stream @throws NotFoundException, as for a stream that does not exist */
  require(streamKey: string): string {
    if (this.allows(streamKey)) return streamKey;
    throw new NotFoundException(`The console shows no stream '${streamKey}'`);
  }

  /** Whether the key of a stream, of a shard or of dead letters may be shown and written. */
  allows(key: string): boolean {
    return this.#isAllowed(key);
  }

  /** The streams of a keyspace, in the order of their names: shards and dead letters are part of their streams. */
  streamsAmong(all: ReadonlySet<string>): string[] {
    const keys = new Set([...all].filter((key) => !isInternal(key)));
    const shards = new Set<string>();
    const streams = new Set<string>();
    const seen = new Set<string>();
    for (const key of keys) {
      const stream = SHARD.exec(key)?.[1];
      if (stream === undefined || seen.has(stream)) continue;
      seen.add(stream);
      // The numbers of a name that is not shown are streams of their own, if they are shown.
      if (!this.allows(stream)) continue;
      const own = shardsAmong(stream, keys);
      if (own.length === 0 || own.length > MOST_SHARDS) continue;
      streams.add(stream);
      for (const shard of own) shards.add(shard);
    }
    for (const key of keys) if (!shards.has(key)) streams.add(key);
    const isOwn = (key: string): boolean => {
      const stream = withoutSuffix(key);
      return this.allows(key) && (stream === key || !streams.has(stream) || !this.allows(stream));
    };
    return [...streams].filter(isOwn).sort();
  }
}

function isInternal(key: string): boolean {
  return INTERNAL.some((prefix) => key.startsWith(prefix));
}

function withoutSuffix(key: string): string {
  return key.endsWith(DEAD_LETTER_SUFFIX) ? key.slice(0, -DEAD_LETTER_SUFFIX.length) : key;
}

/**
 * The lengths of a key and of the streams that it may belong to: of `a:0.dead`, those of `a:0.dead`, `a:0` and `a`. A key may have
 * hundreds of thousands of them, and as texts they would take minutes.
 */
function ownerLengths(key: string): number[] {
  const lengths = [key.length];
  for (let end = key.length; ;) {
    const shorter = shorterLength(key, end);
    if (shorter <= 0) return lengths;
    lengths.push((end = shorter));
  }
}

/** Of the beginning of a key, without its last number or suffix; 0 or less where it has none. */
function shorterLength(key: string, end: number): number {
  if (key.endsWith(DEAD_LETTER_SUFFIX, end)) return end - DEAD_LETTER_SUFFIX.length;
  const colon = key.lastIndexOf(':', end - 1);
  return NUMBER.test(key.slice(colon + 1, end)) ? colon : 0;
}

function streamOf(key: string): string {
  return key.slice(0, ownerLengths(key).at(-1));
}

/** The keys of the shards that `StreamManager.info()` finds. */
function shardsAmong(stream: string, keys: ReadonlySet<string>): string[] {
  const found: string[] = [];
  let run = numbersAmong(stream, 0, FIRST_NUMBERS, keys);
  for (let start = FIRST_NUMBERS; run.length > 0; start += RUN) {
    found.push(...run);
    run = numbersAmong(stream, start, RUN, keys);
  }
  return found;
}

function numbersAmong(stream: string, start: number, count: number, keys: ReadonlySet<string>): string[] {
  return Array.from({ length: count }, (_, index) => `${stream}:${start + index}`).filter((key) => keys.has(key));
}
