import { expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import type { RedisStreamer } from '../../../lib/index.js';
import { NEEDED, SCRIPTS, documentedFor, refusedCommands, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import { uniqueName } from '../../support/redis.js';
import { ShardRecorder } from '../../support/shard-recorder.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const PREFIX = { keyPrefix: 'app:' } as const;

it('setShards(): the documented permissions suffice, and who may not end a change waits until another does', async () => {
  const server = await bench.server({ args: ['--appendonly', 'no'] });
  const admin = bench.admin(server.url);
  const [taking = '', calling = ''] = documentedFor('`StreamManager.setShards()`');
  const [owning = ''] = documentedFor("`shardOwnership: 'owned'`");
  await setUser(admin, 'service', `${NEEDED} ${SCRIPTS} ${owning} ${taking}`);
  await setUser(admin, 'operator', `${NEEDED} ${taking} ${calling}`);
  const as = (user: string): Promise<RedisStreamer> =>
    bench.streamer(server.url.replace('redis://', `redis://${user}:pw@`), PREFIX);
  const streamer = await as('service');
  const producer = await streamer.createProducer('orders', { sharder: new KeyHashSharder(2) });
  await producer.send('k:0', { key: 'k' });
  const recorder = new ShardRecorder();
  const member = await recorder.join(streamer, 'orders', { shards: 2 });
  const manager = await (await as('operator')).createManager();
  await manager.setShards('orders', 3);
  await producer.send('k:1', { key: 'k' });
  await until('both are handled', () => recorder.handled.length === 2, 30_000);

  // A change whose process has died after it closed the shards.
  await admin.hset('app:nrs:{app:orders}:layout:app:orders', 'pending', '5:2:0');
  const last = '18446744073709551615-18446744073709551615';
  for (const shardId of [2, 3, 4]) await admin.call('XSETID', `app:orders:${shardId}`, last);
  const waiting = producer.send('k:2', { key: 'k' });
  await until('it may not end the change', async () => (await refusedCommands(admin)).includes('xsetid'), 30_000);
  await manager.setShards('orders', 2);
  expect((await waiting).shardId).toBeGreaterThanOrEqual(5);
  await until('all are handled', () => recorder.handled.length === 3, 30_000);
  expect(recorder.handled.map(({ text }) => text)).toEqual(['k:0', 'k:1', 'k:2']);
  await member.consumer.end();
}, 90_000);

it.each(['delivers late', 'loses'] as const)(
  'setShards(): what the network %s over two changes is stored once, in the last shards, in order',
  async (fault) => {
    const stream = uniqueName('stream');
    const server = await bench.server({ args: ['--appendonly', 'no'] });
    const proxy = await bench.proxy(server);
    const streamer = await bench.streamer(server.url);
    const behind = await bench.streamer(proxy.url);
    const producer = await behind.createProducer(stream, {
      sharder: new KeyHashSharder(2),
      delivery: 'exactly-once',
    });
    for (let number = 0; number < 10; number += 1) await producer.send(`k:${number}`, { key: 'k' });

    proxy.stall();
    const stalled = Array.from({ length: 10 }, (_, index) => producer.send(`k:${10 + index}`, { key: 'k' }));
    const manager = await streamer.createManager();
    await manager.setShards(stream, 5);
    await manager.setShards(stream, 3);
    if (fault === 'loses') proxy.cut('rst');
    proxy.unstall();
    for (const { shardId } of await Promise.all(stalled)) expect(shardId).toBeGreaterThanOrEqual(7);
    await producer.send('k:20', { key: 'k' });

    const recorder = new ShardRecorder();
    const member = await recorder.join(streamer, stream, { shards: 2 });
    await until('all are handled', () => recorder.handled.length >= 21, 30_000);
    expect(recorder.handled.map(({ text }) => text)).toEqual(Array.from({ length: 21 }, (_, index) => `k:${index}`));
    await member.consumer.end();
  },
  60_000,
);
