import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ShardDiscovery } from '../../lib/engine/consuming/shard-discovery.js';
import { ConnectionError } from '../../lib/errors.js';
import type { ReadCommands } from '../../lib/redis/commands/stream-commands.js';
import { ReplyError } from '../../lib/redis/wire/resp-reader.js';

const INTERVAL = 30_000;
const DAY = 86_400_000;
const KEYS_PER_PAGE = 500;

/** A keyspace of streams, whose commands are counted. */
class Keyspace {
  readonly streams: Set<string>;
  readonly warnings: string[] = [];
  types = 0;
  scans = 0;
  failure: Error | undefined;
  scanFailure: Error | undefined;
  readonly discovery: ShardDiscovery;

  constructor(streams: readonly string[], interval = INTERVAL) {
    this.streams = new Set(streams);
    const log = (): void => undefined;
    const logger = { error: log, warn: (line: string) => void this.warnings.push(line), log, debug: log };
    this.discovery = new ShardDiscovery({ reading: this, interval, logger });
  }

  async isStream(key: string): Promise<boolean> {
    this.types += 1;
    if (this.failure) throw this.failure;
    return this.streams.has(key);
  }

  async scan(cursor: string): ReturnType<ReadCommands['scan']> {
    this.scans += 1;
    if (this.scanFailure) throw this.scanFailure;
    const start = Number(cursor);
    const end = start + KEYS_PER_PAGE;
    return {
      cursor: end < this.streams.size ? String(end) : '0',
      streams: [...this.streams].slice(start, end),
      unreachable: [],
    };
  }

  /** The keys that are read after the start. */
  async start(...streamKeys: string[]): Promise<string[]> {
    return (await this.discovery.watch(streamKeys)).map(({ key }) => key);
  }

  /** Looks whenever a look is due, until the time is over or the key is found; returns how long that took. */
  async lookFor(time: number, key?: string): Promise<number> {
    const begin = performance.now();
    while (performance.now() + this.discovery.dueIn - begin <= time) {
      jest.advanceTimersByTime(Math.max(1, this.discovery.dueIn));
      const found = await this.discovery.look();
      if (found.some((partition) => partition.key === key)) return performance.now() - begin;
    }
    return Infinity;
  }
}

const others = (count: number): string[] => Array.from({ length: count }, (_, index) => `other-${index}`);

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

describe('shard discovery: at the start', () => {
  it('finds dense numbers by probing, and the stream itself when it exists or has no shards', async () => {
    const keyspace = new Keyspace(['a', 'b:0', 'b:1', 'c', 'c:0']);
    expect(await keyspace.start('a', 'b', 'c', 'd')).toEqual(['a', 'b:0', 'b:1', 'c', 'c:0', 'd']);
  });

  it('finds numbers behind a gap, however many other keys there are', async () => {
    const streams = [...others(100_000), 'a:7', 'a:499', 'b:9007199254740991', 'a:x', 'a:01', 'a:1:5', 'x:a:5'];
    const keyspace = new Keyspace(streams);
    expect(await keyspace.start('a', 'b')).toEqual(['a:7', 'a:499', 'b:9007199254740991']);
  });

  it('takes few pages of a large keyspace when every stream is found at its key or has dense numbers', async () => {
    const keyspace = new Keyspace([...others(100_000), 'a', 'b:0', 'b:1']);
    expect(await keyspace.start('a', 'b')).toEqual(['a', 'b:0', 'b:1']);
    expect(keyspace.scans).toBeLessThanOrEqual(10);
  });

  it('reports a number that is too large once, and does not read that shard', async () => {
    const keyspace = new Keyspace(['a:9007199254740992']);
    expect(await keyspace.start('a')).toEqual(['a']);
    await keyspace.lookFor(DAY);
    expect(keyspace.warnings).toEqual([
      "The shard 'a:9007199254740992' is not read: its number is over 9007199254740991",
    ]);
  });

  it('finds the other shards of a stream that appears soon, and then looks ever more rarely, up to the interval', async () => {
    const keyspace = new Keyspace(['a:0']);
    expect(await keyspace.start('a')).toEqual(['a:0']);
    keyspace.streams.add('a:1');
    expect(await keyspace.lookFor(INTERVAL, 'a:1')).toBe(1_000);
    const looks: number[] = [];
    for (const begin = performance.now(); looks.length < 7;) {
      const types = keyspace.types;
      jest.advanceTimersByTime(keyspace.discovery.dueIn);
      await keyspace.discovery.look();
      if (keyspace.types > types) looks.push((performance.now() - begin) / 1_000);
    }
    expect(looks).toEqual([1, 3, 7, 15, 31, 61, 91]);
  });
});

it('shard discovery: reports at most 100 numbers that are too large', async () => {
  const keyspace = new Keyspace(
    Array.from({ length: 300 }, (_, index) => `a:${9_007_199_254_740_992n + BigInt(index)}`),
  );
  await keyspace.start('a');
  await keyspace.lookFor(DAY);
  expect(keyspace.warnings).toHaveLength(100);
});

describe('shard discovery: later', () => {
  it('sends fewer than 2,000 commands a day for a stream that never had a shard', async () => {
    const keyspace = new Keyspace(['a', ...others(300)]);
    await keyspace.start('a');
    keyspace.types = keyspace.scans = 0;
    await keyspace.lookFor(DAY);
    expect(keyspace.types + keyspace.scans).toBeGreaterThan(100);
    expect(keyspace.types + keyspace.scans).toBeLessThan(2_000);
  });

  it('finds the first shard of a stream without shards within 20 intervals, its further shards at once', async () => {
    const keyspace = new Keyspace(['a']);
    await keyspace.start('a');
    await keyspace.lookFor(DAY);
    for (const id of [0, 1, 40]) keyspace.streams.add(`a:${id}`);
    expect(await keyspace.lookFor(DAY, 'a:0')).toBeLessThanOrEqual(20 * INTERVAL);
    expect((await keyspace.discovery.look()).map(({ key }) => key)).toEqual(['a:0', 'a:1', 'a:40']);
  });

  it('finds the next shard of a stream that has some within the interval', async () => {
    const keyspace = new Keyspace(['a:0', 'a:1']);
    await keyspace.start('a');
    await keyspace.lookFor(DAY);
    keyspace.streams.add('a:2');
    expect(await keyspace.lookFor(DAY, 'a:2')).toBeLessThanOrEqual(INTERVAL + 1);
  });

  it('finds a sparse number among n keys within n ÷ 5,000 looks', async () => {
    const keyspace = new Keyspace(['a', ...others(50_000)]);
    await keyspace.start('a');
    keyspace.streams.add('a:1000');
    expect(await keyspace.lookFor(DAY, 'a:1000')).toBeLessThanOrEqual(11 * 20 * INTERVAL);
  });

  it('returns a shard again until it was added, and finds it after a failed look', async () => {
    const keyspace = new Keyspace(['a:0']);
    await keyspace.start('a');
    keyspace.failure = new ConnectionError('lost');
    jest.advanceTimersByTime(INTERVAL);
    await expect(keyspace.discovery.look()).rejects.toThrow('lost');
    expect(keyspace.discovery.dueIn).toBeGreaterThan(0);

    keyspace.failure = undefined;
    keyspace.streams.add('a:1');
    expect(await keyspace.lookFor(2 * INTERVAL, 'a:1')).toBeLessThanOrEqual(INTERVAL + 1);
    expect((await keyspace.discovery.look()).map(({ key }) => key)).toEqual(['a:0', 'a:1']);
  });

  it('continues to watch a stream when a further look at it fails', async () => {
    const keyspace = new Keyspace(['a']);
    await keyspace.start('a');
    keyspace.failure = new ConnectionError('lost');
    await expect(keyspace.start('a', 'b')).rejects.toThrow('lost');
    keyspace.failure = undefined;
    expect([keyspace.discovery.isWatching('a'), keyspace.discovery.isWatching('b')]).toEqual([true, false]);
    keyspace.streams.add('a:0');
    expect(await keyspace.lookFor(DAY, 'a:0')).toBeLessThan(DAY);
  });

  it('only probes where SCAN is not permitted', async () => {
    const keyspace = new Keyspace(['a:0', 'a:500']);
    keyspace.scanFailure = new ReplyError('NOPERM no permission to run scan');
    expect(await keyspace.start('a')).toEqual(['a:0']);
    keyspace.streams.add('a:1');
    expect(await keyspace.lookFor(DAY, 'a:1')).toBeLessThanOrEqual(INTERVAL + 1);
    expect(keyspace.scans).toBe(1);
  });

  it('looks for nothing when no stream is watched any more', async () => {
    const keyspace = new Keyspace(['a']);
    await keyspace.start('a');
    keyspace.discovery.unwatch('a');
    expect(keyspace.discovery.dueIn).toBe(Infinity);
  });

  it('is never due later than a timer can wait, which would fire at once', async () => {
    const longest = 2 ** 31 - 1;
    const keyspace = new Keyspace([], longest);
    await keyspace.start('quiet');
    for (let look = 0; look < 8; look += 1) {
      jest.advanceTimersByTime(longest);
      await keyspace.discovery.look();
      expect(keyspace.discovery.dueIn).toBeLessThanOrEqual(longest);
    }
  });
});
