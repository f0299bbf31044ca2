import { CallbackError } from '../../errors.js';
import { check } from '../../shared/option-checks.js';
import type { Sharder } from '../options/options.js';

/** Streams whose turn is kept: that many that were used last, and up to as many more. */
const KEPT_STREAMS = 5_000;

/**
 * Each stream's messages go to its shards in turn. Turns are kept for the 5,000 streams that were used last, and for 10,000
 * at most.
 */
export class RoundRobinSharder implements Sharder {
  readonly shards: number;
  /** Two generations, because finding the oldest entry of a Map takes longer the more of them were deleted. */
  #recent = new Map<string, number>();
  #older: ReadonlyMap<string, number> = new Map();
  #forgets = false;

  constructor(shards: number) {
    check.integer('shards', shards, 1, 65_536);
    this.shards = shards;
  }

  forProducer(): RoundRobinSharder {
    return new RoundRobinSharder(this.shards);
  }

  shardOf(streamKey: string): number {
    let shard = this.#recent.get(streamKey);
    if (shard === undefined) {
      shard = this.#older.get(streamKey) ?? this.#first();
      if (this.#recent.size >= KEPT_STREAMS) this.#turnGeneration();
    }
    this.#recent.set(streamKey, (shard + 1) % this.shards);
    return shard;
  }

  /** A stream that was forgotten begins at any shard: at the first one, streams with one message at a time would fill only that. */
  #first(): number {
    return this.#forgets ? Math.floor(Math.random() * this.shards) : 0;
  }

  #turnGeneration(): void {
    this.#forgets ||= this.#older.size > 0;
    this.#older = this.#recent;
    this.#recent = new Map();
  }
}

/** Each message goes to a shard drawn at random; over many messages all shards get the same share. */
export class PseudoRandomSharder implements Sharder {
  readonly shards: number;

  constructor(shards: number) {
    check.integer('shards', shards, 1, 65_536);
    this.shards = shards;
  }

  shardOf(): number {
    return Math.floor(Math.random() * this.shards);
  }
}

/**
 * Messages with the same key go to the same shard, while the number of shards stays the same: the 32-bit FNV-1a
 * hash of the key's UTF-8 bytes, modulo the number of shards. Messages without a key go to the shards in turn.
 */
export class KeyHashSharder implements Sharder {
  readonly shards: number;
  readonly #keyless: RoundRobinSharder;

  constructor(shards: number) {
    this.#keyless = new RoundRobinSharder(shards);
    this.shards = shards;
  }

  forProducer(): KeyHashSharder {
    return new KeyHashSharder(this.shards);
  }

  shardOf(streamKey: string, key: string | undefined): number {
    return key === undefined ? this.#keyless.shardOf(streamKey) : fnv1a(key) % this.shards;
  }
}

/**
 * @param id of the deduplication of the message
 * @throws CallbackError when the sharder failed, InvalidOptionError when it has chosen no shard
 */
export function chooseShard(
  sharder: Sharder,
  streamKey: string,
  key: string | undefined,
  id: string | undefined,
  payload: string | Uint8Array,
): number {
  // In turn or by chance, messages with the same id would land in different shards, where they are not compared.
  if (id !== undefined && (key === undefined || !isByKey(sharder)) && Number.isInteger(sharder.shards))
    return fnv1a(id) % sharder.shards;
  let shard: number;
  try {
    shard = sharder.shardOf(streamKey, key, payload);
  } catch (error) {
    throw new CallbackError('sharder.shardOf()', error);
  }
  check.integer('sharder.shardOf()', shard, 0, Number.isInteger(sharder.shards) ? sharder.shards - 1 : undefined);
  return shard;
}

/** Whether the key decides about the shard; of a sharder of the application it is unknown, and presumed. */
function isByKey(sharder: Sharder): boolean {
  return !(sharder instanceof RoundRobinSharder) && !(sharder instanceof PseudoRandomSharder);
}

/** The same sharder with another number of shards; undefined for one of the application, which has its own rules. */
export function resized(sharder: Sharder, shards: number): Sharder | undefined {
  switch (sharder.constructor) {
    case KeyHashSharder:
      return new KeyHashSharder(shards);
    case RoundRobinSharder:
      return new RoundRobinSharder(shards);
    case PseudoRandomSharder:
      return new PseudoRandomSharder(shards);
    default:
      return undefined;
  }
}

/** FNV-1a, 32 bits (offset basis 0x811c9dc5, prime 0x01000193), over UTF-8. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text, 'utf8')) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
