import { describe, expect, it } from '@jest/globals';

import { RoundRobinSharder } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { OWNED, ShardRecorder } from '../../support/shard-recorder.js';
import { pendingOf, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();

/** Blocks the event loop, as a long computation does. */
function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe('owned shards', () => {
  it('no message is lost when the event loop was blocked for longer than the lease while messages waited', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const consumer = await streamer.createConsumer(stream, OWNED);
    for (let number = 0; number < 3; number += 1) await producer.send(String(number));
    const first = await consumer.next();
    expect(first.text()).toBe('0');
    consumer.ack(first);
    await consumer.commit();
    block(OWNED.leaseTime);
    const second = await consumer.next();
    expect(second.text()).toBe('1');
    consumer.ack(second);
    const third = await consumer.next();
    expect(third.text()).toBe('2');
    consumer.ack(third);
    expect(second.fencingToken).toBeGreaterThanOrEqual(first.fencingToken as bigint);
  });

  it.each([
    ['', {}],
    [', also while a scan for idle entries is due', { autoClaimInterval: 10 }],
  ])('entries that a read took whose reply was lost come before later ones%s', async (_, scans) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const consumer = await streamer.createConsumer(stream, { ...OWNED, ...scans, batchSize: 1, prefetch: 1 });
    await producer.send('0');
    const first = await consumer.next();
    expect(first.text()).toBe('0');
    await consumer.pause();
    for (let number = 1; number < 5; number += 1) await producer.send(String(number));
    // A read of this owner that the network has delivered late: its connection is gone, and nobody gets its reply.
    const late = ['GROUP', OWNED.group, consumer.consumerId as string, 'COUNT', 2, 'STREAMS', stream, '>'] as const;
    await streams.redis.call('XREADGROUP', ...late);
    const isDue = performance.now() + 20;
    await until('a scan is due', () => performance.now() > isDue);
    await consumer.resume();
    const texts: string[] = [];
    while (texts.length < 4) texts.push((await consumer.next()).text());
    expect(texts).toEqual(['1', '2', '3', '4']);
  });

  it('consumers that start together ask for no more shards than they lack', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const recorder = new ShardRecorder();
    // The owner sees the requests after a third of it.
    const options = { leaseTime: 60_000 };
    const first = await recorder.join(streamer, stream, options);
    await until('it owns all', () => first.owned.size === 12);
    await recorder.join(streamer, stream, options);
    const requests = async (): Promise<string[]> => {
      const keys = await streams.redis.keys('nrs:*:wanted:*');
      return keys.length === 0 ? [] : (await streams.redis.mget(keys)).filter((by) => by !== null);
    };
    await until('the second asks for a half', async () => (await requests()).length === 6);
    await recorder.join(streamer, stream, options);
    await recorder.join(streamer, stream, options);
    await until('each of three asks for a quarter', async () => {
      const asking = await requests();
      const counts = [...new Set(asking)].map((name) => asking.filter((by) => by === name).length);
      return counts.join() === '3,3,3';
    });
    expect(first.owned.size).toBe(12);
  });

  it('a hand-over acknowledges nothing that the delay of its message still protects', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect({ shutdownTimeout: 300 });
    const producer = await streamer.createProducer(stream, { sharder: new RoundRobinSharder(2) });
    for (const text of ['one', 'other']) await producer.send(text);
    const options = { ...OWNED, shards: 2, autoCommit: 'delayed', autoCommitDelay: 60_000 } as const;
    const first = await streamer.createConsumer(stream, options);
    await Promise.all([first.next(), first.next()]);
    const left: number[] = [];
    first.on('revoked', ({ shardId }) => left.push(shardId));
    const second = await streamer.createConsumer(stream, options);
    await until('one shard has moved', () => left.length === 1);
    const stayed = 1 - (left[0] as number);
    expect(await pendingOf(streams.redis, `${stream}:${stayed}`, OWNED.group)).toHaveLength(1);
    // What it had of the other one is handled again, as after a handler that takes too long.
    expect((await second.next()).shardId).toBe(left[0]);
  });

  it.each([
    ['moved', (shard: string, group: string) => streams.redis.xgroup('SETID', shard, group, '$')],
    ['destroyed', (shard: string, group: string) => streams.redis.xgroup('DESTROY', shard, group)],
  ])('a shard whose group is %s does not wait for the backlog of another shard', async (_, harm) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const backlog = Array.from({ length: 500 }, (_each, number) => ['xadd', `${stream}:0`, '*', 'msg', String(number)]);
    await streams.redis.pipeline(backlog).exec();
    await streams.redis.xadd(`${stream}:1`, '*', 'msg', 'before');
    const consumer = await streamer.createConsumer(stream, { ...OWNED, shards: 2, prefetch: 20 });
    const texts: string[] = [];
    while (!texts.includes('before')) texts.push((await consumer.next()).text());
    await streams.redis.xadd(`${stream}:1`, '*', 'msg', 'passed');
    await harm(`${stream}:1`, OWNED.group);
    await streams.redis.xadd(`${stream}:1`, '*', 'msg', 'behind');
    while (!texts.includes('behind')) texts.push((await consumer.next()).text());
    expect(texts.length).toBeLessThan(400);
  });
});
