import { MAX_TIME } from '../../shared/option-checks.js';
import { monotonicNow } from '../../shared/clock.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { classifyRedisError } from '../../redis/commands/redis-error.js';
import type { ReadCommands } from '../../redis/commands/stream-commands.js';
import { shardKey } from '../messages/stream-message.js';
import { Partition } from './partition.js';

/** Shard numbers are probed in runs of this size; a whole run without a shard ends the probing. */
const RUN = 32;
/** Of a stream that never had a shard, only this many first numbers are probed. */
const FIRST_NUMBERS = 8;
/** Streams that are probed at the same time. */
const PROBED_AT_ONCE = 16;
/** Longest time until the look after one that has found a shard, in milliseconds. */
const SOON = 1_000;
/** While nothing is found, an interval doubles up to this many times its first value. */
const MAX_BACKOFF = 20;
/** Most pages of SCAN, of about 500 keys each, in one look. */
const PAGES_PER_LOOK = 10;
/** The same at the start, where a stream is not found at its key, or its numbers have gaps. */
const PAGES_AT_START = 400;
/** Most keys whose number is too large that are reported. Other programs make the keys, and each is remembered. */
const MAX_REPORTED = 100;

/**
 * The numbers of a stream's shards by one look, which probes as {@link ShardDiscovery} does and never walks through the
 * keyspace: up to the first run of 32 numbers without a shard, and none where the first 8 have none.
 */
export async function probeShards(streamKey: string, reading: Pick<ReadCommands, 'isStream'>): Promise<number[]> {
  const found = await shardsAmong(streamKey, range(0, FIRST_NUMBERS), reading);
  let run = found;
  for (let start = FIRST_NUMBERS; run.length > 0; start += RUN) {
    run = await shardsAmong(streamKey, range(start, RUN), reading);
    found.push(...run);
  }
  return found;
}

async function shardsAmong(
  streamKey: string,
  numbers: readonly number[],
  reading: Pick<ReadCommands, 'isStream'>,
): Promise<number[]> {
  const areStreams = await Promise.all(numbers.map((id) => reading.isStream(shardKey(streamKey, id, true))));
  return numbers.filter((_, index) => areStreams[index]);
}

/**
 * When the next look is due: soon after a find, because the shards of a new stream appear one after the other; then after delays
 * that double while looks find nothing.
 */
class LookTimes {
  readonly #interval: number;
  #delay: number;
  #dueAt: number;

  constructor(interval: number) {
    this.#interval = interval;
    this.#delay = interval;
    this.#dueAt = monotonicNow() + interval;
  }

  get dueIn(): number {
    return Math.max(0, this.#dueAt - monotonicNow());
  }

  /** The next look comes soon. */
  lookSoon(): void {
    this.#wait(Math.min(SOON, this.#interval));
  }

  /** The next look comes after the interval. */
  keepInterval(): void {
    this.#wait(this.#interval);
  }

  /** The next look comes after twice the last delay, up to the interval. */
  approachInterval(): void {
    this.#wait(Math.min(2 * this.#delay, this.#interval));
  }

  /** The next look comes after twice the last delay, far beyond the interval. */
  backOff(): void {
    this.#wait(Math.min(2 * this.#delay, MAX_BACKOFF * this.#interval, MAX_TIME));
  }

  #wait(delay: number): void {
    this.#delay = delay;
    this.#dueAt = monotonicNow() + delay;
  }
}

/** A stream whose shards are looked for. */
interface WatchedStream {
  readonly streamKey: string;
  readonly shards: Set<number>;
  readonly times: LookTimes;
}

export interface ShardDiscoveryOptions {
  readonly reading: Pick<ReadCommands, 'isStream' | 'scan'>;
  /** Milliseconds between two looks at a stream that has shards. */
  readonly interval: number;
  readonly logger: Required<RedisStreamsLogger>;
}

/**
 * Finds the shards of streams: the keys `key:<number>` that are streams. It works in two ways.
 *
 * Probing asks for the type of `key:0`, `key:1`, … up to the first run of 32 numbers without a shard. It finds dense numbers
 * soon, whatever the size of the keyspace.
 *
 * A walk through the keyspace (SCAN) finds sparse numbers too. It is shared by all streams, takes a bounded number of pages
 * in each look, and continues in the next look where it stopped. So a shard in a keyspace of n keys is found within
 * n ÷ 5,000 looks. At the start more pages are taken if a stream is not found at its own key, or if its numbers have gaps:
 * a shard that is found later would be read from its beginning.
 *
 * A stream that has shards is probed by interval, and sooner after one was found. Probes of a stream that never had one, and the
 * walk, back off while they find nothing, to 20 times the interval: an idle consumer of such a stream sends about 10 commands in 10
 * minutes.
 */
export class ShardDiscovery {
  readonly #options: ShardDiscoveryOptions;
  readonly #streams = new Map<string, WatchedStream>();
  readonly #walkTimes: LookTimes;
  #cursor = '0';
  #mayScan = true;
  /** Counts the shards that were found. */
  #found = 0;
  /** Keys of shards that were reported because their numbers are too large. */
  readonly #tooLarge = new Set<string>();

  constructor(options: ShardDiscoveryOptions) {
    this.#options = options;
    this.#walkTimes = new LookTimes(options.interval);
  }

  /** Milliseconds until the next look is due; Infinity when no stream is watched. */
  get dueIn(): number {
    if (this.#streams.size === 0) return Infinity;
    const probes = [...this.#streams.values()].map(({ times }) => times.dueIn);
    return Math.min(...probes, this.#mayScan ? this.#walkTimes.dueIn : Infinity);
  }

  /** Watches streams from now on. Returns their shards, and a stream itself if it exists or has no shard. */
  async watch(streamKeys: readonly string[]): Promise<Partition[]> {
    const { reading, interval } = this.#options;
    const streams = streamKeys.map((streamKey) => {
      return { streamKey, shards: new Set<number>(), times: new LookTimes(interval) };
    });
    const known = streamKeys.flatMap((streamKey) => this.#streams.get(streamKey) ?? []);
    for (const stream of streams) this.#streams.set(stream.streamKey, stream);
    try {
      const plain = new Set<WatchedStream>();
      for (let begun = 0; begun < streams.length; begun += PROBED_AT_ONCE) {
        const probes = streams.slice(begun, begun + PROBED_AT_ONCE).map(async (stream) => {
          const isPlain = reading.isStream(stream.streamKey);
          await Promise.all([this.#probeRuns(stream), isPlain]);
          if (await isPlain) plain.add(stream);
        });
        await Promise.all(probes);
      }
      const isIncomplete = streams.some(
        (stream) => hasGap(stream.shards) || (isUnsharded(stream) && !plain.has(stream)),
      );
      if (isIncomplete) this.#cursor = '0';
      await this.#walk(isIncomplete ? PAGES_AT_START : PAGES_PER_LOOK);
      return streams.flatMap((stream) => {
        const hasPlain = isUnsharded(stream) || plain.has(stream);
        return [...(hasPlain ? [new Partition(stream.streamKey, 0, stream.streamKey)] : []), ...shardsOf(stream)];
      });
    } catch (error) {
      for (const { streamKey } of streams) this.unwatch(streamKey);
      for (const stream of known) this.#streams.set(stream.streamKey, stream);
      throw error;
    }
  }

  isWatching(streamKey: string): boolean {
    return this.#streams.has(streamKey);
  }

  unwatch(streamKey: string): void {
    this.#streams.delete(streamKey);
  }

  /** Looks where a look is due. Returns all known shards, because the caller may have failed to add those of an earlier look. */
  async look(): Promise<Partition[]> {
    const before = this.#found;
    const dueStreams = [...this.#streams.values()].filter(({ times }) => times.dueIn === 0);
    const isWalkDue = this.#mayScan && this.#walkTimes.dueIn === 0;
    // All before the first command: a look that fails must not be repeated at once.
    for (const stream of dueStreams) {
      if (isUnsharded(stream)) stream.times.backOff();
      else stream.times.approachInterval();
    }
    if (isWalkDue) this.#walkTimes.backOff();

    for (const stream of dueStreams) await this.#probe(stream);
    if (isWalkDue) await this.#walk(PAGES_PER_LOOK);
    // Where one shard appeared, others may follow soon.
    if (this.#found > before) this.#walkTimes.keepInterval();
    return [...this.#streams.values()].flatMap(shardsOf);
  }

  async #probe(stream: WatchedStream): Promise<void> {
    if (isUnsharded(stream)) await this.#probeNumbers(stream, range(0, FIRST_NUMBERS));
    if (!isUnsharded(stream)) await this.#probeRuns(stream);
  }

  async #probeRuns(stream: WatchedStream): Promise<void> {
    for (let start = 0; ; start += RUN) {
      const run = range(start, RUN);
      await this.#probeNumbers(stream, run);
      if (!run.some((id) => stream.shards.has(id))) return;
    }
  }

  async #probeNumbers(stream: WatchedStream, numbers: readonly number[]): Promise<void> {
    const { streamKey, shards } = stream;
    const unknown = numbers.filter((id) => !shards.has(id));
    for (const id of await shardsAmong(streamKey, unknown, this.#options.reading)) this.#note(stream, id);
  }

  /** The next pages of the walk, at most to its end. */
  async #walk(pages: number): Promise<void> {
    for (let page = 0; page < pages && this.#mayScan; page += 1) {
      for (const key of await this.#nextKeys()) this.#noteKey(key);
      if (this.#cursor === '0') return;
    }
  }

  async #nextKeys(): Promise<readonly string[]> {
    const { reading, logger } = this.#options;
    try {
      const { cursor, streams } = await reading.scan(this.#cursor);
      this.#cursor = cursor;
      return streams;
    } catch (error) {
      const kind = classifyRedisError(error);
      if (kind !== 'permission' && kind !== 'unsupported') throw error;
      this.#mayScan = false;
      logger.debug(`SCAN is not permitted: shards are found up to the first gap of ${RUN} numbers only`);
      return [];
    }
  }

  #noteKey(key: string): void {
    const separator = key.lastIndexOf(':');
    const stream = separator === -1 ? undefined : this.#streams.get(key.slice(0, separator));
    const number = key.slice(separator + 1);
    if (!stream || !/^(?:0|[1-9]\d*)$/.test(number)) return;
    const id = Number(number);
    if (Number.isSafeInteger(id)) {
      this.#note(stream, id);
    } else if (!this.#tooLarge.has(key) && this.#tooLarge.size < MAX_REPORTED) {
      this.#tooLarge.add(key);
      this.#options.logger.warn(`The shard '${key}' is not read: its number is over ${Number.MAX_SAFE_INTEGER}`);
    }
  }

  #note({ shards, times }: WatchedStream, id: number): void {
    if (shards.has(id)) return;
    shards.add(id);
    times.lookSoon();
    this.#found += 1;
  }
}

function isUnsharded({ shards }: WatchedStream): boolean {
  return shards.size === 0;
}

function shardsOf({ streamKey, shards }: WatchedStream): Partition[] {
  const ids = [...shards].sort((a, b) => a - b);
  return ids.map((id) => new Partition(streamKey, id, shardKey(streamKey, id, true)));
}

function range(start: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => start + index);
}

/** Whether the numbers are others than 0, 1, … without a gap. */
function hasGap(shards: ReadonlySet<number>): boolean {
  return Math.max(...shards) >= shards.size;
}
