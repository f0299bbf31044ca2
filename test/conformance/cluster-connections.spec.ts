import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Cluster } from 'ioredis';

import { KeyHashSharder, RoundRobinSharder } from '../../lib/index.js';
import type { ClusterConnection } from '../../lib/index.js';
import { FaultBench, drain } from '../support/fault-bench.js';
import { RedisCluster, type ClusterNode } from '../support/redis-cluster.js';
import { numbers, take } from '../support/streams.js';
import { until } from '../support/until.js';

const SHARDS = 12;
/** Streams of a consumer that are read over a connection of their own. The others share one to each master. */
const OWN_READERS = 4;
const REFRESH_INTERVAL = 500;

const bench = new FaultBench();
let cluster: RedisCluster;

// A node that stands still must not count as failed: the cluster would stop serving all slots.
beforeAll(async () => {
  cluster = await RedisCluster.start({ replicas: true, nodeTimeout: 60_000 });
}, 60_000);
afterAll(() => cluster.stop());

const connection = (): ClusterConnection => ({
  ...cluster.connection,
  options: { slotsRefreshInterval: REFRESH_INTERVAL },
});
const lines = async ({ admin }: ClusterNode): Promise<string[]> =>
  String(await admin.client('LIST'))
    .trim()
    .split('\n');
/** Connections of clients to all nodes; the nodes themselves and the clients of this test are always the same. */
const clients = async (): Promise<number> => (await Promise.all(cluster.nodes.map(lines))).flat().length;
/** How often all nodes were asked for the slots. */
const slotRequests = async (): Promise<number> => {
  const infos = await Promise.all(cluster.nodes.map(({ admin }) => admin.info('commandstats')));
  const calls = infos.map((info) => /^cmdstat_cluster(?:\|slots)?:calls=(\d+)/m.exec(info)?.[1] ?? '0');
  return calls.reduce((sum, count) => sum + Number(count), 0);
};

describe('a consumer of 12 shards in a cluster of three masters and three replicas', () => {
  it('opens no more connections than 4 + 3 × nodes + 3, and asks for the slots once in each interval', async () => {
    const before = await clients();
    const streamer = await bench.streamer(connection());
    const producer = await streamer.createProducer('budget', { sharder: new RoundRobinSharder(SHARDS) });
    await Promise.all(numbers(0, 2 * SHARDS - 1).map((payload) => producer.send(payload)));
    const options = { mode: 'load-balanced', group: 'g', autoStreamReset: 'earliest' } as const;
    const consumer = await streamer.createConsumer('budget', options);
    await take(consumer, 2 * SHARDS);
    expect(consumer.streamShards).toHaveLength(SHARDS);
    const owners = await Promise.all(consumer.streamShards.map(({ shardId }) => cluster.masterOf(`budget:${shardId}`)));
    expect(new Set(owners).size).toBe(3);

    const opened = (await clients()) - before;
    expect(opened).toBeGreaterThanOrEqual(OWN_READERS + new Set(owners).size);
    expect(opened).toBeLessThanOrEqual(OWN_READERS + 3 * cluster.nodes.length + 3);

    const requested = await slotRequests();
    const begin = Date.now();
    await pause(8 * REFRESH_INTERVAL);
    const refreshes = (await slotRequests()) - requested;
    expect(refreshes).toBeGreaterThanOrEqual(4);
    expect(refreshes).toBeLessThanOrEqual(Math.ceil((Date.now() - begin) / REFRESH_INTERVAL) + 1);
    await streamer.disconnect();
    await until('every connection is closed', async () => (await clients()) === before);
  });

  it('with a Cluster of its own asks the application for it once', async () => {
    const { cluster: nodes } = cluster.connection;
    let calls = 0;
    const streamer = await bench.streamer(() => {
      calls += 1;
      return new Cluster(nodes);
    });
    const producer = await streamer.createProducer('own', { sharder: new KeyHashSharder(SHARDS) });
    await Promise.all(numbers(0, 99).map((key) => producer.send('x', { key })));
    const consumer = await streamer.createConsumer('own', { mode: 'real-time', autoStreamReset: 'earliest' });
    await take(consumer, 100);
    expect(calls).toBe(1);
  });
});

describe('a master that stands still', () => {
  it('holds up neither sends to the other masters nor the reading of their streams', async () => {
    const streamer = await bench.streamer(connection(), { timeout: 30_000 });
    const keys = (await cluster.keys('still', 3)) as [string, string, string];
    const producer = await streamer.createGenericProducer();
    const options = { mode: 'resumable', group: 'g', mkStream: true } as const;
    const consumer = await streamer.createConsumer(keys, options);
    const read = new Map<string, number>(keys.map((key) => [key, 0]));
    void drain(consumer, ({ streamKey }) => read.set(streamKey, (read.get(streamKey) as number) + 1));
    await Promise.all(keys.map((key) => producer.sendTo(key, 'before')));
    await until('all is read', () => [...read.values()].every((count) => count === 1));

    const { server } = cluster.masters[0] as ClusterNode;
    let isStopped = true;
    server.pause();
    try {
      let confirmed = 0;
      const held = producer.sendTo(keys[0], 'held').finally(() => (confirmed += 1));
      for (let n = 0; n < 100; n += 1) {
        await Promise.all([producer.sendTo(keys[1], `${n}`), producer.sendTo(keys[2], `${n}`)]);
      }
      await until('the others are read', () => read.get(keys[1]) === 101 && read.get(keys[2]) === 101, 10_000);
      expect(confirmed).toBe(0);
      server.resume();
      isStopped = false;
      await held;
      await until('the first is read', () => (read.get(keys[0]) as number) >= 2);
    } finally {
      if (isStopped) server.resume();
    }
  });
});
