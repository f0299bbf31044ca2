import { describe, expect, it } from '@jest/globals';
import { resolveProducerOptions } from '../../lib/engine/options/resolve-options.js';
import { KeyHashSharder, PseudoRandomSharder, RoundRobinSharder, fnv1a } from '../../lib/engine/producing/sharder.js';

describe('sharders', () => {
  // The published test vectors of 32-bit FNV-1a, and texts with a character of more than one byte.
  it.each([
    ['', 0x811c9dc5],
    ['a', 0xe40c292c],
    ['b', 0xe70c2de5],
    ['foobar', 0xbf9cf968],
    ['chongo was here!\n', 0xd49930d5],
    ['ü', 0x119dd44a],
    ['aü', 0x66d78413],
  ])('the hash of %j is that of FNV-1a', (text, hash) => {
    expect(fnv1a(text)).toBe(hash);
  });

  it('a key always has the same shard, in every process', () => {
    const sharder = new KeyHashSharder(7);
    expect(sharder.shardOf('orders', 'foobar')).toBe(0xbf9cf968 % 7);
    expect(new KeyHashSharder(7).shardOf('others', 'foobar')).toBe(0xbf9cf968 % 7);
  });

  it('messages without a key go to the shards in turn, each stream for itself', () => {
    for (const sharder of [new RoundRobinSharder(3), new KeyHashSharder(3)]) {
      const shards = Array.from({ length: 4 }, () => [
        sharder.shardOf('a', undefined),
        sharder.shardOf('b', undefined),
      ]);
      expect(shards).toEqual([0, 1, 2, 0].map((shard) => [shard, shard]));
    }
  });

  it('each producer has a state of its own, whether it is given an object or a function', () => {
    for (const sharder of [new RoundRobinSharder(3), new KeyHashSharder(3), () => new RoundRobinSharder(3)]) {
      const [one, other] = [resolveProducerOptions({ sharder }), resolveProducerOptions({ sharder })];
      const shards = [one, other, one, other].map((options) => options.sharder?.shardOf('a', undefined, ''));
      expect(shards).toEqual([0, 0, 1, 1]);
    }
    const own = { shards: 1, shardOf: () => 0 };
    expect(resolveProducerOptions({ sharder: own }).sharder).toBe(own);
    expect(() => resolveProducerOptions({ sharder: (() => undefined) as never })).toThrow(/sharder/);
  });

  it('streams with one message each, more than it remembers, still use all shards', () => {
    const sharder = new RoundRobinSharder(4);
    const used = new Set<number>();
    sharder.shardOf('first');
    for (let stream = 0; stream < 10_500; stream += 1) {
      const shard = sharder.shardOf(`stream ${stream}`);
      if (stream >= 10_000) used.add(shard);
    }
    expect(used).toEqual(new Set([0, 1, 2, 3]));
  });

  it('a random sharder uses every shard and no other', () => {
    const sharder = new PseudoRandomSharder(4);
    const drawn = new Set(Array.from({ length: 1_000 }, () => sharder.shardOf()));
    expect(drawn).toEqual(new Set([0, 1, 2, 3]));
  });
});
