import { describe, expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import type { RedisStreamer } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { OWNED, ShardRecorder } from '../../support/shard-recorder.js';
import { consumersOf, pendingOf, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();
const LIMIT = 30_000;

async function sendNumbers(streamer: RedisStreamer, stream: string, count: number, shards: number): Promise<void> {
  const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(shards) });
  for (let number = 0; number < count; number += 1) await producer.send(String(number), { key: `k${number}` });
}

describe('a consumer of owned shards leaves nothing behind', () => {
  it('of its requests for shards, when it ends before it was given them', async () => {
    const stream = uniqueName('stream');
    const recorder = new ShardRecorder();
    const streamer = await streams.connect();
    // A request is kept for so long, and the shard is given to no other in that time.
    const options = { shards: 4, leaseTime: 60_000 };
    const first = await recorder.join(streamer, stream, options);
    await until('it owns all', () => first.owned.size === 4, LIMIT);
    const second = await recorder.join(streamer, stream, options);
    const requests = async (): Promise<number> => (await streams.redis.keys(`nrs:*:wanted:${stream}:*`)).length;
    await until('it has asked', async () => (await requests()) === 2, LIMIT);
    await second.consumer.end();
    await until('it asks no more', async () => (await requests()) === 0, 3_000);
  });

  it('of its name, in a shard whose lease it had lost before it ended', async () => {
    const stream = uniqueName('stream');
    const recorder = new ShardRecorder();
    const streamer = await streams.connect();
    const member = await recorder.join(streamer, stream, { shards: 2 });
    await until('it owns both', () => member.owned.size === 2, LIMIT);
    await sendNumbers(streamer, stream, 20, 2);
    await until('all are handled', () => recorder.handled.length === 20, LIMIT);
    const pending = async (): Promise<number> => (await pendingOf(streams.redis, `${stream}:0`, OWNED.group)).length;
    await until('all are acknowledged', async () => (await pending()) === 0, LIMIT);
    const [lease] = await streams.redis.keys(`nrs:*:lease:${stream}:0:*`);
    await streams.redis.set(lease as string, 'another:99999999999999', 'PX', 60_000);
    await until('it is lost', () => member.owned.size === 1, LIMIT);
    await member.consumer.end();
    for (const shardId of [0, 1]) {
      expect(await consumersOf(streams.redis, `${stream}:${shardId}`, OWNED.group)).toEqual([]);
    }
  });
});
