import { expect, it } from '@jest/globals';

import { FaultBench } from '../../support/fault-bench.js';
import { SentinelRedis } from '../../support/redis-sentinel.js';
import type { RedisNode } from '../../support/redis-sentinel.js';
import { OWNED, ShardRecorder } from '../../support/shard-recorder.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const LIMIT = 30_000;
const STREAM = 'orders';

it('owned shards: an owner and a stand-by when Sentinel replaces the master', async () => {
  const redis = await SentinelRedis.start();
  bench.endLater(() => redis.stop());
  const master = (await redis.master()) as RedisNode;
  const recorder = new ShardRecorder();
  // With a stream without shards one of them stands by.
  const options = { shards: undefined, shardDiscoveryInterval: false, leaseTime: 3_000 } as const;
  const owner = await recorder.join(await bench.streamer(redis.connection), STREAM, options);
  await until('it owns the stream', () => owner.owned.size === 1, LIMIT);
  const standBy = await recorder.join(await bench.streamer(redis.connection), STREAM, options);
  const producer = await (await bench.streamer(redis.connection)).createProducer(STREAM);
  const send = async (from: number, to: number): Promise<void> => {
    for (let number = from; number < to; number += 1) await producer.send(String(number));
  };
  const handled = (count: number): Promise<void> =>
    until('all are handled', () => new Set(recorder.handled.map(({ text }) => text)).size === count, LIMIT);
  await send(0, 50);
  await handled(50);
  await until('they are acknowledged', async () => (await master.admin.xpending(STREAM, OWNED.group))[0] === 0, LIMIT);
  await master.admin.set('marker', 'x');
  expect(await master.admin.wait(2, 5_000)).toBe(2);
  const before = recorder.handled.at(-1)?.token as bigint;

  await master.server.kill();
  const successor = await redis.successorOf(master);
  await send(50, 100);
  await handled(100);
  const owners = [owner, standBy].filter(({ owned }) => owned.size === 1);
  expect(owners).toHaveLength(1);
  const [row] = await (await (await bench.streamer(redis.connection)).createManager()).owners(STREAM, OWNED.group);
  expect(row?.owner).toBe(owners[0]?.name);
  expect(row?.generation).toBe(recorder.handled.at(-1)?.token);
  expect(recorder.handled.at(-1)?.token).toBeGreaterThanOrEqual(before);

  await owners[0]?.consumer.end();
  const [successorMember] = [owner, standBy].filter((member) => member !== owners[0]);
  await until('the other one owns it', () => successorMember?.owned.size === 1, LIMIT);
  await send(100, 110);
  await handled(110);
  expect(recorder.handled.at(-1)?.token).toBeGreaterThan(row?.generation as bigint);
  expect(recorder.overtaken).toEqual([]);
  expect(recorder.sharedShards).toEqual([]);
  await until('nothing is pending', async () => (await successor.admin.xpending(STREAM, OWNED.group))[0] === 0, LIMIT);
}, 90_000);
