import { check } from '../../shared/option-checks.js';
import type { Sharder } from '../options/options.js';

/** Each stream's messages go to its shards in turn. */
export class RoundRobinSharder implements Sharder {
  readonly shards: number;
  readonly #next = new Map<string, number>();

  constructor(shards: number) {
    check.integer('shards', shards, 1, 65_536);
    this.shards = shards;
  }

  shardOf(streamKey: string): number {
    const shard = this.#next.get(streamKey) ?? 0;
    this.#next.set(streamKey, (shard + 1) % this.shards);
    return shard;
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

  shardOf(streamKey: string, key: string | undefined): number {
    return key === undefined ? this.#keyless.shardOf(streamKey) : fnv1a(key) % this.shards;
  }
}

/** FNV-1a, 32 bits (offset basis 0x811c9dc5, prime 0x01000193), over UTF-8. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text, 'utf8')) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
