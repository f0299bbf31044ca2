import { CallbackError } from '../../errors.js';
import { check } from '../../shared/option-checks.js';
import { MAX_SHARDS } from '../options/options.js';
import type { Sharder } from '../options/options.js';

/** Streams whose turn is kept: that many that were used last, and up to as many more. */
const KEPT_STREAMS = 5_000;

/**
 * Each stream's messages go to its shards in turn. Turns are kept for the 5,000 streams that were used last, and for 10,000
 * at most.
 * @example
 * ```ts
 * const producer = await streamer.createProducer('clicks', { sharder: new RoundRobinSharder(4) });
 * ```
 */
export class RoundRobinSharder implements Sharder {
  readonly shards: number;
  /** Two generations, because finding the oldest entry of a Map takes longer the more of them were deleted. */
  #recent = new Map<string, number>();
  #older: ReadonlyMap<string, number> = new Map();
  #forgets = false;

  /** @param shards 1 to 10,000. @throws InvalidOptionError */
  constructor(shards: number) {
    check.integer('shards', shards, 1, MAX_SHARDS);
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

/**
 * Each message goes to a shard drawn at random; over many messages all shards get the same share. For producers that
 * run too briefly for {@link RoundRobinSharder} to spread their messages.
 * @example
 * ```ts
 * const producer = await streamer.createProducer('clicks', { sharder: new PseudoRandomSharder(4) });
 * ```
 */
export class PseudoRandomSharder implements Sharder {
  readonly shards: number;

  /** @param shards 1 to 10,000. @throws InvalidOptionError */
  constructor(shards: number) {
    check.integer('shards', shards, 1, MAX_SHARDS);
    this.shards = shards;
  }

  shardOf(): number {
    return Math.floor(Math.random() * this.shards);
  }
}

/**
 * Messages with the same key go to the same shard, while the number of shards stays the same: the 32-bit FNV-1a
 * hash of the key's UTF-8 bytes, modulo the number of shards. Messages without a key go to the shards in turn.
 * @example
 * ```ts
 * const producer = await streamer.createProducer('orders', { sharder: new KeyHashSharder(12) });
 * await producer.send(payload, { key: order.customer });
 * ```
 */
export class KeyHashSharder implements Sharder {
  readonly shards: number;
  readonly #keyless: RoundRobinSharder;

  /** @param shards 1 to 10,000. @throws InvalidOptionError */
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

const FNV_OFFSET_BASIS = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
const LAST_ASCII = 127;

/** FNV-1a, 32 bits, over UTF-8. */
export function fnv1a(text: string): number {
  let hash = FNV_OFFSET_BASIS;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code > LAST_ASCII) return hashOfBytes(Buffer.from(text, 'utf8'));
    hash = Math.imul(hash ^ code, FNV_PRIME);
  }
  return hash >>> 0;
}

function hashOfBytes(bytes: Buffer): number {
  let hash = FNV_OFFSET_BASIS;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, FNV_PRIME);
  return hash >>> 0;
}
