import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Redis } from 'ioredis';

import { RoundRobinSharder } from '../../../lib/index.js';
import type { ConsumerOptions, RedisStreamer } from '../../../lib/index.js';
import type { BasicConsumer } from '../../../lib/engine/consuming/consumer-types.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import { numbers, sendNumbers, takeTexts } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const GROUP = { group: 'g', autoStreamReset: 'earliest', mkStream: true } as const;
const MODES: ReadonlyArray<[string, ConsumerOptions]> = [
  ['real-time', { mode: 'real-time', autoStreamReset: 'earliest' }],
  ['resumable', { mode: 'resumable', ...GROUP }],
  ['load-balanced', { mode: 'load-balanced', ...GROUP, autoClaimIdle: 200, autoClaimInterval: 100 }],
];

describe('blockTimeout: false, behind a proxy that takes no blocking reads', () => {
  let admin: Redis;
  let proxy: FaultProxy;
  let streamer: RedisStreamer;

  beforeEach(async () => {
    const server = await bench.server({ args: ['--appendonly', 'no'] });
    admin = bench.admin(server.url);
    proxy = await bench.proxy(server);
    proxy.refuseText('$5\r\nBLOCK\r\n');
    streamer = await bench.streamer(proxy.url, { blockTimeout: false });
  });

  const consume = (stream: string, options: ConsumerOptions): Promise<BasicConsumer> =>
    streamer.createConsumer(stream, options as never) as Promise<BasicConsumer>;
  const reads = async (): Promise<number> => {
    const stats = await admin.info('commandstats');
    return [...stats.matchAll(/cmdstat_xread(?:group)?:calls=(\d+)/g)].reduce(
      (sum, [, calls]) => sum + Number(calls),
      0,
    );
  };

  it.each(MODES)('a consumer gets what was there and what comes, in order (%s)', async (_, options) => {
    const producer = await streamer.createProducer('orders');
    await sendNumbers(producer, 0, 49);
    const consumer = await consume('orders', options);
    expect(await takeTexts(consumer, 50)).toEqual(numbers(0, 49));
    for (const round of numbers(1, 5)) {
      await producer.send(round);
      expect(await takeTexts(consumer, 1)).toEqual([round]);
    }
    await consumer.end();
    expect(proxy.refusals).toBe(0);
    expect(bench.log).toEqual([]);
  });

  it('a quiet stream costs about one read a second, and its next message still comes', async () => {
    const consumer = await consume('orders', { mode: 'real-time' });
    const producer = await streamer.createProducer('orders');
    await until('it looks seldom', async () => (await reads()) >= 8);
    const [before, start] = [await reads(), Date.now()];
    await until('three more looks', async () => (await reads()) >= before + 3);
    expect(Date.now() - start).toBeGreaterThan(1_500);
    await producer.send('late');
    expect(await takeTexts(consumer, 1)).toEqual(['late']);
  });

  it('what a dead consumer of the group has left is claimed', async () => {
    await admin.xgroup('CREATE', 'orders', 'g', '0', 'MKSTREAM');
    await admin.xadd('orders', '*', 'msg', 'left');
    await admin.xreadgroup('GROUP', 'g', 'dead', 'STREAMS', 'orders', '>');
    const consumer = await consume('orders', (MODES[2] as [string, ConsumerOptions])[1]);
    expect(await takeTexts(consumer, 1)).toEqual(['left']);
  });

  it('pause, seek, assign and end do not wait for a look', async () => {
    const consumer = await streamer.createConsumer('orders', { mode: 'real-time', autoStreamReset: 'earliest' });
    const producer = await streamer.createGenericProducer();
    for (const n of numbers(0, 9)) await producer.sendTo('orders', n);
    expect(await takeTexts(consumer, 10)).toEqual(numbers(0, 9));
    await until('it looks seldom', async () => (await reads()) >= 15);
    await consumer.rewind('beginning');
    expect(await takeTexts(consumer, 10)).toEqual(numbers(0, 9));
    await consumer.pause();
    await producer.sendTo('orders', 'paused');
    await consumer.resume();
    expect(await takeTexts(consumer, 1)).toEqual(['paused']);
    await producer.sendTo('others', 'assigned');
    await consumer.assign('others');
    expect(await takeTexts(consumer, 1)).toEqual(['assigned']);
  });

  it('an outage is got over', async () => {
    const consumer = await consume('orders', (MODES[2] as [string, ConsumerOptions])[1]);
    const producer = await streamer.createProducer('orders');
    await producer.send('before');
    expect(await takeTexts(consumer, 1)).toEqual(['before']);
    proxy.cut();
    await producer.send('after');
    expect(await takeTexts(consumer, 1)).toEqual(['after']);
    expect((await streamer.health()).isHealthy).toBe(true);
  });

  it.each([true, 0, 99, 60_001, null])('refuses %j as blockTimeout', async (blockTimeout) => {
    await expect(bench.streamer(proxy.url, { blockTimeout: blockTimeout as false })).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      option: 'blockTimeout',
    });
  });
});

it('in a cluster every shard is polled', async () => {
  const cluster = await RedisCluster.start();
  bench.endLater(() => cluster.stop());
  const streamer = await bench.streamer(cluster.connection, { blockTimeout: false });
  const producer = await streamer.createProducer('orders', { sharder: new RoundRobinSharder(6) });
  await sendNumbers(producer, 0, 11);
  const consumer = await streamer.createConsumer('orders', {
    mode: 'load-balanced',
    ...GROUP,
    shards: 6,
  });
  expect((await takeTexts(consumer, 12)).sort()).toEqual(numbers(0, 11).sort());
  await sendNumbers(producer, 12, 23);
  expect((await takeTexts(consumer, 12)).sort()).toEqual(numbers(12, 23).sort());
  for (const { admin } of cluster.masters) {
    expect(await admin.info('commandstats')).toMatch(/cmdstat_xreadgroup:calls=\d+/);
    expect(/^blocked_clients:(\d+)/m.exec(await admin.info('clients'))?.[1]).toBe('0');
  }
}, 30_000);
