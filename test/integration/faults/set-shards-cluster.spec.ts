import { expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import type { RedisStreamer } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import { ShardRecorder } from '../../support/shard-recorder.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const STREAM = 'orders';
const LAYOUT = `nrs:{${STREAM}}:layout:${STREAM}`;
const LAST = '18446744073709551615-18446744073709551615';
const KEYS = ['a', 'b', 'c', 'd', 'e', 'f'];

it('setShards() in a cluster: a change that lost its process half way, and a slot that moves during one: keys in order', async () => {
  const cluster = await RedisCluster.start();
  bench.endLater(() => cluster.stop());
  const nodes = cluster.masters.map(({ server: { host, port } }) => ({ host, port }));
  const connect = (): Promise<RedisStreamer> => bench.streamer({ cluster: nodes });
  const [streamer, other] = await Promise.all([connect(), connect()]);
  const recorder = new ShardRecorder();
  const members = await Promise.all([streamer, other].map((each) => recorder.join(each, STREAM, { shards: 4 })));
  const producer = await streamer.createProducer(STREAM, {
    sharder: new KeyHashSharder(4),
    delivery: 'exactly-once',
  });
  let round = 0;
  const sendMore = async (): Promise<void> => {
    const end = round + 40;
    for (; round < end; round += 1) await Promise.all(KEYS.map((key) => producer.send(`${key}:${round}`, { key })));
  };
  await sendMore();

  // One shard is closed, the others are open, and the layout is not set.
  const master = await cluster.masterOf(LAYOUT);
  await master.admin.hset(LAYOUT, 'layouts', '0:4', 'pending', '4:7:0');
  const { shardId: half } = await producer.send('a:half', { key: 'a' });
  await (await cluster.masterOf(`${STREAM}:${half}`)).admin.call('XSETID', `${STREAM}:${half}`, LAST);
  await sendMore();
  expect(await master.admin.hget(LAYOUT, 'layouts')).toBe('0:4,4:7');

  const manager = await streamer.createManager();
  const target = cluster.masters.find((each) => each !== master) as typeof master;
  await Promise.all([manager.setShards(STREAM, 3), cluster.move(LAYOUT, target), sendMore()]);
  await manager.setShards(STREAM, 5);
  await manager.setShards(STREAM, 2);
  await sendMore();

  const texts = (key: string): string[] =>
    recorder.handled.map(({ text }) => text).filter((text) => text.startsWith(key) && text !== 'a:half');
  const isHandled = (key: string): boolean => new Set(texts(key)).size === round;
  await until('everything is handled', () => KEYS.every(isHandled), 60_000);
  for (const key of KEYS)
    expect([...new Set(texts(key))]).toEqual(Array.from({ length: round }, (_, n) => `${key}:${n}`));
  await Promise.all(members.map(({ consumer }) => consumer.end()));
}, 120_000);
