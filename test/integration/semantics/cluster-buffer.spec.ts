import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';

import type { RedisStreamer, StreamerHealth } from '../../../lib/index.js';
import { onEvent } from '../../support/controllers.js';
import { FaultBench } from '../../support/fault-bench.js';
import { GROUP, useNest } from '../../support/nest.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import { uniqueName } from '../../support/redis.js';
import { take } from '../../support/streams.js';
import { until } from '../../support/until.js';

const STREAMS = 12;
const bench = new FaultBench();
const nest = useNest();
let cluster: RedisCluster;

beforeAll(async () => {
  cluster = await RedisCluster.start();
});
afterAll(() => cluster.stop());

async function flood(key: string, count: number): Promise<void> {
  const { admin } = await cluster.masterOf(key);
  const pipeline = admin.pipeline();
  for (let n = 0; n < count; n += 1) pipeline.xadd(key, '*', 'msg', String(n));
  await pipeline.exec();
}

const messagesIn = ({ loops }: StreamerHealth): number =>
  loops.reduce((sum, { buffered, inFlight }) => sum + buffered + inFlight, 0);

/** Floods the streams one after the other, and returns the most messages that the process ever had. */
async function mostWhileFlooded(keys: readonly string[], health: () => Promise<StreamerHealth>): Promise<number> {
  let most = 0;
  const look = async (): Promise<number> => (most = Math.max(most, messagesIn(await health())));
  for (const key of keys) {
    await flood(key, 50);
    await look();
  }
  let pending = -1;
  const isStill = async (): Promise<boolean> => {
    const before = pending;
    pending = 0;
    for (const key of keys) {
      const { admin } = await cluster.masterOf(key);
      const groups = (await admin.call('XINFO', 'GROUPS', key)) as unknown[][];
      for (const group of groups) pending += Number(group[group.indexOf('pending') + 1]);
    }
    await pause(300);
    return pending === before;
  };
  await until('nothing more is read', isStill);
  return Math.max(most, pending, await look());
}

const options = (batchSize: number, prefetch: number) =>
  ({ mode: 'load-balanced', group: GROUP, autoCommit: 'rolling', mkStream: true, batchSize, prefetch }) as const;

async function consume(streamer: RedisStreamer, keys: readonly string[], batchSize: number, prefetch: number) {
  const consumer = await streamer.createConsumer(keys, {
    ...options(batchSize, prefetch),
    autoStreamReset: 'earliest',
    shardDiscoveryInterval: false,
  });
  await until('every loop reads', async () => {
    const { loops } = await streamer.health();
    return (
      loops.length === keys.length &&
      loops.every(({ lastReadAge, state }) => lastReadAge !== undefined || state === 'reading')
    );
  });
  return consumer;
}

it.each([
  ['many more places than streams', 100, 200],
  ['more places than streams', 10, 20],
  ['fewer places than streams', 10, 5],
  ['one place', 1, 1],
])(
  'never more messages than prefetch are buffered when streams of a cluster fill one after the other, and each is read (%s)',
  async (_, batchSize, prefetch) => {
    const streamer = await bench.streamer(cluster.connection);
    const keys = await cluster.keys(uniqueName('places'), STREAMS);
    const consumer = await consume(streamer, keys, batchSize, prefetch);
    const most = await mostWhileFlooded(keys, () => streamer.health());
    expect(most).toBeLessThanOrEqual(prefetch);
    expect(most).toBeGreaterThanOrEqual(Math.ceil(prefetch / 2));

    // While all streams have more than enough, none of them waits for the others to be empty.
    const first = await take(consumer, STREAMS * 40);
    const streamsOf = new Map<string, number>();
    for (const { streamKey } of first) streamsOf.set(streamKey, (streamsOf.get(streamKey) ?? 0) + 1);
    expect(streamsOf.size).toBe(STREAMS);
    await take(consumer, STREAMS * 10);
  },
);

it('buffered messages and those in handlers never exceed prefetch and concurrency in a cluster', async () => {
  const keys = await cluster.keys(uniqueName('handlers'), STREAMS);
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  let running = 0;
  let most = 0;
  let handled = 0;
  const controller = onEvent([...keys], async () => {
    running += 1;
    most = Math.max(most, running);
    await gate;
    running -= 1;
    handled += 1;
  });
  const { server } = await nest.serve(controller, {
    connection: cluster.connection,
    concurrency: 1,
    batchSize: 1,
    prefetch: 2,
  });
  expect(await mostWhileFlooded(keys, () => server.health())).toBe(3);
  release();
  await until('all are handled', () => handled === STREAMS * 50, 20_000);
  expect(most).toBe(1);
});

it('a message of a quiet stream does not wait for a blocked read when there are fewer places than streams', async () => {
  const streamer = await bench.streamer(cluster.connection, { blockTimeout: 20_000 });
  const keys = await cluster.keys(uniqueName('quiet'), STREAMS);
  const consumer = await consume(streamer, keys, 10, 3);
  for (const key of keys) {
    await flood(key, 1);
    expect((await consumer.next({ signal: AbortSignal.timeout(5_000) })).streamKey).toBe(key);
  }
});
