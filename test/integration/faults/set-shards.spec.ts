import { expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { uniqueName } from '../../support/redis.js';
import { ShardRecorder } from '../../support/shard-recorder.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();

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
