import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Redis } from 'ioredis';

import { KeyHashSharder } from '../../../lib/index.js';
import type { LoadBalancedOptions, RedisStreamer, StreamConsumer } from '../../../lib/index.js';
import { NEEDED, PROMPT_UNBLOCK, SCRIPTS, setUser } from '../../support/acl.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import type { RedisServer } from '../../support/redis-server.js';
import { numbers, pendingOf, sendNumbers, take, takeTexts } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;
let admin: Redis;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
});

const options = {
  mode: 'load-balanced',
  group: 'g',
  autoStreamReset: 'earliest',
  autoCommit: 'disabled',
  mkStream: true,
  autoClaimIdle: 600,
  autoClaimInterval: 50,
} as const satisfies LoadBalancedOptions;

/** Every instance heeds a pause within two seconds; the rest is for a machine that is busy. */
const HEEDED = 6_000;

async function isPaused(streamer: RedisStreamer): Promise<boolean> {
  const { isHealthy, loops } = await streamer.health();
  const read = loops.flatMap((loop) => loop.streams);
  return isHealthy && read.length > 0 && read.every(({ pausedBy }) => pausedBy === 'group');
}

const heeded = (streamer: RedisStreamer): Promise<void> =>
  until('every stream is paused by the group', () => isPaused(streamer), HEEDED);

const resumed = (streamer: RedisStreamer): Promise<void> =>
  until(
    'no stream is paused',
    async () => (await streamer.health()).loops.every(({ streams }) => streams.every(({ pausedBy }) => !pausedBy)),
    HEEDED,
  );

/** Long enough for a message to arrive that must not. */
async function nothingComes(consumer: StreamConsumer, time = 300): Promise<void> {
  await expect(consumer.next({ signal: AbortSignal.timeout(time) })).rejects.toMatchObject({ name: 'TimeoutError' });
}

describe('a group that is paused', () => {
  it('is heeded by every instance, also by one that starts later, until it is resumed; other groups are not paused', async () => {
    const [one, two, three] = [
      await bench.streamer(server.url, { blockTimeout: 30_000 }),
      await bench.streamer(server.url),
      await bench.streamer(server.url),
    ];
    const first = await one.createConsumer('s', options);
    const second = await two.createConsumer('s', options);
    const other = await two.createConsumer('s', { ...options, group: 'other' });
    const manager = await three.createManager();
    await manager.pauseGroup('s', 'g');
    await manager.pauseGroup('s', 'g');
    await heeded(one);
    const third = await three.createConsumer('s', options);
    await until('the second has heeded it', async () => {
      const loops = (await two.health()).loops.filter(({ group }) => group === 'g');
      return loops.length === 1 && loops[0]?.state === 'paused';
    });
    expect(await isPaused(three)).toBe(true);
    expect(first.isPaused).toBe(false);

    await sendNumbers(await one.createProducer('s'), 0, 9);
    expect((await takeTexts(other as unknown as StreamConsumer, 10)).sort()).toEqual(numbers(0, 9));
    for (const consumer of [first, second, third]) await nothingComes(consumer as unknown as StreamConsumer);
    expect(await pendingOf(admin, 's', 'g')).toEqual([]);

    await manager.resumeGroup('s', 'g');
    await manager.resumeGroup('s', 'g');
    const got: string[] = [];
    for (const consumer of [first, second, third]) void drain(consumer, (message) => got.push(message.text()));
    await until('all are handled', () => got.length === 10);
    expect([...got].sort()).toEqual(numbers(0, 9));
    await Promise.all([resumed(one), resumed(two), resumed(three)]);
  });

  it('is paused apart from its consumers: each pause lasts until it is ended itself', async () => {
    const streamer = await bench.streamer(server.url);
    const consumer = await streamer.createConsumer('s', options);
    const manager = await streamer.createManager();
    await consumer.pause();
    await manager.pauseGroup('s', 'g');
    await sendNumbers(await streamer.createProducer('s'), 0, 0);
    await consumer.resume();
    await heeded(streamer);
    await nothingComes(consumer as unknown as StreamConsumer);
    await manager.resumeGroup('s', 'g');
    expect(await takeTexts(consumer as unknown as StreamConsumer, 1)).toEqual(['0']);
  });

  it('is paused by one key on all shards of the stream, those that appear later included', async () => {
    const streamer = await bench.streamer(server.url);
    const producer = await streamer.createProducer('s', { sharder: new KeyHashSharder(3) });
    const keys = numbers(0, 29);
    await Promise.all(keys.map((key) => producer.send(key, { key })));
    const manager = await streamer.createManager();
    await manager.pauseGroup('s', 'g');
    const consumer = await streamer.createConsumer('s', { ...options, shardDiscoveryInterval: 100 });
    expect(consumer.streamShards).toHaveLength(3);
    expect(await isPaused(streamer)).toBe(true);
    await admin.xadd('s:3', '*', 'msg', 'late');
    await until('the new shard is found', () => consumer.streamShards.length === 4);
    expect(await isPaused(streamer)).toBe(true);
    await nothingComes(consumer as unknown as StreamConsumer);

    await manager.resumeGroup('s', 'g');
    expect(await take(consumer as unknown as StreamConsumer, 31)).toHaveLength(31);
  });

  it('keeps what an instance had that died: no consumer claims it in the pause, and one does after it', async () => {
    const [one, two] = [await bench.streamer(server.url), await bench.streamer(server.url)];
    const manager = await two.createManager();
    await sendNumbers(await one.createProducer('s'), 0, 0);
    await admin.xgroup('CREATE', 's', 'g', '0');
    // A process that read it and was killed.
    await admin.xreadgroup('GROUP', 'g', 'dead', 'COUNT', 1, 'STREAMS', 's', '>');
    await manager.pauseGroup('s', 'g');
    const first = await one.createConsumer('s', options);
    const second = await two.createConsumer('s', options);
    // Twice the claim idle time.
    await nothingComes(first as unknown as StreamConsumer, 1_200);
    expect(await pendingOf(admin, 's', 'g')).toMatchObject([{ consumer: 'dead', deliveryCount: 1 }]);

    await manager.resumeGroup('s', 'g');
    const got: string[] = [];
    const counts: number[] = [];
    for (const consumer of [first, second]) {
      void drain(consumer, async (message) => {
        got.push(message.text());
        counts.push(message.deliveryCount);
      });
    }
    await until('it is claimed', () => got.length === 1);
    expect([got, counts]).toEqual([['0'], [2]]);
  });

  it('costs one command for each stream and look, whatever the number of its consumers', async () => {
    const streamer = await bench.streamer(server.url);
    for (let count = 0; count < 10; count += 1) await streamer.createConsumer('s', options);
    const calls = async (): Promise<number> => {
      const stats = await admin.info('commandstats');
      return Number(/cmdstat_exists:calls=(\d+)/.exec(stats)?.[1] ?? 0);
    };
    await admin.config('RESETSTAT');
    const start = performance.now();
    await until('six looks are over', async () => (await calls()) >= 6);
    // One in 1.5 s, and one a second for delayed messages; ten consumers would look six times in the first second.
    expect(performance.now() - start).toBeGreaterThan(1_500);
  });

  it('is read after a restart of Redis that lost the key, and stays paused through one that did not', async () => {
    const streamer = await bench.streamer(server.url);
    const manager = await streamer.createManager();
    const consumer = await streamer.createConsumer('s', options);
    await manager.pauseGroup('s', 'g');
    await heeded(streamer);
    await admin.save();
    await server.restart();
    await until('it is connected again', () => streamer.status === 'connected');
    await sendNumbers(await streamer.createProducer('s'), 0, 0);
    await nothingComes(consumer as unknown as StreamConsumer, 2_500);
    expect(await isPaused(streamer)).toBe(true);

    await admin.flushall();
    await sendNumbers(await streamer.createProducer('s'), 1, 1);
    expect(await takeTexts(consumer as unknown as StreamConsumer, 1)).toEqual(['1']);
  });

  it('is not noticed by a user who may not read the key: one debug line, and everything else holds', async () => {
    await setUser(admin, 'app', `${NEEDED} ${SCRIPTS} ${PROMPT_UNBLOCK}`.replace('~app:*', '~s'));
    const debug: string[] = [];
    const log = (): void => undefined;
    const logger = { error: log, warn: log, log, debug: (line: string) => void debug.push(line) };
    const url = server.url.replace('redis://', 'redis://app:pw@');
    const streamer = await bench.streamer(url, { logger });
    const manager = await (await bench.streamer(server.url)).createManager();
    await manager.pauseGroup('s', 'g');
    const consumer = await streamer.createConsumer('s', { ...options, shardDiscoveryInterval: false });
    await sendNumbers(await streamer.createProducer('s'), 0, 9);
    expect((await takeTexts(consumer as unknown as StreamConsumer, 10)).sort()).toEqual(numbers(0, 9));
    await nothingComes(consumer as unknown as StreamConsumer, 2_000);
    expect(debug.filter((line) => line.includes("Pauses of group 'g' on 's' are not looked for"))).toHaveLength(1);
    expect((await streamer.health()).isHealthy).toBe(true);
    await expect((await streamer.createManager()).pauseGroup('s', 'g')).rejects.toMatchObject({
      code: 'ERR_PERMISSION',
    });
  });

  it('cannot be one of a stream that has no place for a key beside it, which is read as always', async () => {
    const streamer = await bench.streamer(server.url);
    const manager = await streamer.createManager();
    await expect(manager.pauseGroup('a{b', 'g')).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      message: expect.stringContaining('pausing a group'),
    });
    await expect(manager.pauseGroup('', 'g')).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });
    await expect(manager.resumeGroup('s', '')).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });
    const consumer = await streamer.createConsumer('a{b', options);
    await sendNumbers(await streamer.createProducer('a{b'), 0, 0);
    expect(await takeTexts(consumer as unknown as StreamConsumer, 1)).toEqual(['0']);
  });
});

describe('a pause in an outage', () => {
  it('takes effect at once, and what was read and could not be given back is handled once after it', async () => {
    const proxy = await bench.proxy(server);
    const streamer = await bench.streamer(proxy.url);
    const consumer = await streamer.createConsumer('s', { ...options, batchSize: 5, prefetch: 5 });
    await sendNumbers(await streamer.createProducer('s'), 0, 4);
    await until('all are buffered', async () => (await streamer.health()).loops[0]?.buffered === 5);
    proxy.refuse();
    proxy.cut();
    await consumer.pause();
    await nothingComes(consumer as unknown as StreamConsumer);
    await proxy.accept();
    await until('it is connected again', () => streamer.status === 'connected');
    await consumer.resume();
    expect((await takeTexts(consumer as unknown as StreamConsumer, 5)).sort()).toEqual(numbers(0, 4));
    await nothingComes(consumer as unknown as StreamConsumer, 1_500);
  });

  it('of a server that stands still ends with it, and nothing is lost or handled twice', async () => {
    const streamer = await bench.streamer(server.url);
    const consumer = await streamer.createConsumer('s', { ...options, batchSize: 5, prefetch: 5 });
    await sendNumbers(await streamer.createProducer('s'), 0, 9);
    await until('five are buffered', async () => (await streamer.health()).loops[0]?.buffered === 5);
    server.pause();
    const paused = consumer.pause();
    await nothingComes(consumer as unknown as StreamConsumer, 1_500);
    server.resume();
    await paused;
    await consumer.resume();
    expect((await takeTexts(consumer as unknown as StreamConsumer, 10)).sort()).toEqual(numbers(0, 9));
    await nothingComes(consumer as unknown as StreamConsumer, 1_500);
  });
});

describe('a group that is paused in a cluster', () => {
  it('is heeded on the streams of all masters, and resumed', async () => {
    const cluster = await RedisCluster.start();
    bench.endLater(() => cluster.stop());
    const streamer = await bench.streamer(cluster.connection);
    const keys = await cluster.keys('paused:', 6);
    const manager = await streamer.createManager();
    const consumer = await streamer.createConsumer(keys, options);
    for (const key of keys) await manager.pauseGroup(key, 'g');
    await heeded(streamer);
    const producer = await streamer.createGenericProducer();
    await Promise.all(keys.map((key) => producer.sendTo(key, key)));
    await nothingComes(consumer as unknown as StreamConsumer);
    const [first, ...others] = keys as [string, ...string[]];
    await manager.resumeGroup(first, 'g');
    expect(await takeTexts(consumer as unknown as StreamConsumer, 1)).toEqual([first]);
    await nothingComes(consumer as unknown as StreamConsumer);
    for (const key of others) await manager.resumeGroup(key, 'g');
    expect((await takeTexts(consumer as unknown as StreamConsumer, 5)).sort()).toEqual([...others].sort());
  });
});
