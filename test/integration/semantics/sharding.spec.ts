import { describe, expect, it } from '@jest/globals';
import { KeyHashSharder, PseudoRandomSharder, RoundRobinSharder } from '../../../lib/index.js';
import type { BasicConsumer, RedisStreamer, Sharder, StreamMessage } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { uniqueName } from '../../support/redis.js';
import { addRaw, numbers, sendNumbers, take, takeTexts, texts, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

// Before useStreams(): its checks after a test must not see the connections of the bench.
const bench = new FaultBench();
const streams = useStreams();

const modes = ['real-time', 'resumable'] as const;

async function createConsumer(
  streamer: RedisStreamer,
  stream: string,
  mode: (typeof modes)[number],
  reading: { autoStreamReset: 'earliest' | 'latest'; shardDiscoveryInterval?: number | false },
): Promise<BasicConsumer> {
  return mode === 'real-time'
    ? streamer.createConsumer(stream, { mode, ...reading })
    : streamer.createConsumer(stream, { mode, ...reading, group: uniqueName('group'), mkStream: true });
}

describe('sharding', () => {
  it.each(modes)(
    'scenario 12: a consumer of the base key receives all messages sent round-robin to 3 shards (%s)',
    async (mode) => {
      const stream = uniqueName('stream');
      const streamer = await streams.connect();
      const producer = await streamer.createProducer(stream, { sharder: new RoundRobinSharder(3) });
      const receipts = await Promise.all(numbers(0, 29).map((text) => producer.send(text)));
      for (const [index, receipt] of receipts.entries()) {
        expect(receipt).toMatchObject({ streamKey: stream, shardId: index % 3 });
      }
      for (const shard of [0, 1, 2]) expect(await streams.redis.xlen(`${stream}:${shard}`)).toBe(10);
      expect(await streams.redis.exists(stream)).toBe(0);

      const consumer = await createConsumer(streamer, stream, mode, { autoStreamReset: 'earliest' });
      expect(consumer.streamShards).toEqual([0, 1, 2].map((shardId) => ({ streamKey: stream, shardId })));
      const messages = await take(consumer, 30);

      expect(new Set(messages.map(({ streamKey }) => streamKey))).toEqual(new Set([stream]));
      for (const shard of [0, 1, 2]) {
        const ofShard = messages.filter(({ shardId }) => shardId === shard);
        expect(texts(ofShard)).toEqual(numbers(0, 29).filter((_, index) => index % 3 === shard));
      }
    },
  );

  it('scenario 12: a stream with no shards is shard 0', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const receipt = await (await streamer.createProducer(stream)).send('hello');
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });

    expect(receipt.shardId).toBe(0);
    expect(consumer.streamShards).toEqual([{ streamKey: stream, shardId: 0 }]);
    const [message] = (await take(consumer, 1)) as [StreamMessage];
    expect(message).toMatchObject({ streamKey: stream, shardId: 0 });
  });

  it.each(modes)(
    'scenario 13: a shard that appears later is found within the interval, with all of its entries (%s)',
    async (mode) => {
      const stream = uniqueName('stream');
      const streamer = await streams.connect();
      await (await streamer.createProducer(stream, { sharder: new RoundRobinSharder(1) })).send('old');
      const consumer = await createConsumer(streamer, stream, mode, {
        autoStreamReset: 'latest',
        shardDiscoveryInterval: 50,
      });
      expect(consumer.streamShards).toHaveLength(1);

      const wider = await streamer.createProducer(stream, { sharder: new RoundRobinSharder(3) });
      await sendNumbers(wider, 0, 5);
      const messages = await take(consumer, 6);

      expect(texts(messages).sort()).toEqual(numbers(0, 5));
      expect(new Set(consumer.streamShards.map(({ shardId }) => shardId))).toEqual(new Set([0, 1, 2]));
    },
  );

  it.each(modes)('scenario 13: a consumer that started before any shard existed finds them (%s)', async (mode) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await createConsumer(streamer, stream, mode, {
      autoStreamReset: 'latest',
      shardDiscoveryInterval: 50,
    });

    await sendNumbers(await streamer.createProducer(stream, { sharder: new RoundRobinSharder(2) }), 0, 3);

    expect((await takeTexts(consumer, 4)).sort()).toEqual(numbers(0, 3));
  });

  it.each(modes)('finds shard numbers with any gaps, at the start and later (%s)', async (mode) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    for (const id of [17, 93, 4_711]) await addRaw(streams.redis, `${stream}:${id}`, 'msg', String(id));
    const consumer = await createConsumer(streamer, stream, mode, {
      autoStreamReset: 'earliest',
      shardDiscoveryInterval: 50,
    });
    expect(consumer.streamShards.map(({ shardId }) => shardId)).toEqual([17, 93, 4_711]);
    expect((await takeTexts(consumer, 3)).sort()).toEqual(['17', '4711', '93']);

    await addRaw(streams.redis, `${stream}:${Number.MAX_SAFE_INTEGER}`, 'msg', 'last');
    expect(await takeTexts(consumer, 1)).toEqual(['last']);
  });

  it.each(modes)('reads the shards that are given, whether they exist or not, and no others (%s)', async (mode) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    for (const id of [0, 1, 7]) await addRaw(streams.redis, `${stream}:${id}`, 'msg', `shard ${id}`);
    await addRaw(streams.redis, stream, 'msg', 'the stream itself');
    const reading = { autoStreamReset: 'earliest', shards: [7, 1, Number.MAX_SAFE_INTEGER] } as const;
    const consumer =
      mode === 'real-time'
        ? await streamer.createConsumer(stream, { mode, ...reading })
        : await streamer.createConsumer(stream, { mode, ...reading, group: uniqueName('group'), mkStream: true });
    expect(consumer.streamShards.map(({ shardId }) => shardId)).toEqual(reading.shards);
    expect((await takeTexts(consumer, 2)).sort()).toEqual(['shard 1', 'shard 7']);
    await addRaw(streams.redis, `${stream}:0`, 'msg', 'not read');
    await addRaw(streams.redis, `${stream}:${Number.MAX_SAFE_INTEGER}`, 'msg', 'last');
    expect(await takeTexts(consumer, 1)).toEqual(['last']);
  });

  it('two consumers of a group can have different shards, and shard 0 can be assigned to either', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const options = { mode: 'load-balanced', group: 'g', autoStreamReset: 'earliest', mkStream: true } as const;
    const low = await streamer.createConsumer(stream, { ...options, shards: [1] });
    const high = await streamer.createConsumer(stream, { ...options, shards: [2, 3] });
    const producer = await streamer.createProducer(stream, { sharder: new RoundRobinSharder(4) });
    await sendNumbers(producer, 0, 3);
    expect(await takeTexts(low, 1)).toEqual(['1']);
    expect((await takeTexts(high, 2)).sort()).toEqual(['2', '3']);
    await low.assign(stream, 0);
    expect(await takeTexts(low, 1)).toEqual(['0']);
  });

  it('a number is as many shards, from 0 on', async () => {
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(uniqueName('stream'), { mode: 'real-time', shards: 3 });
    expect(consumer.streamShards.map(({ shardId }) => shardId)).toEqual([0, 1, 2]);
  });

  it.each([[0], [10_001], [1.5], [[]], [[1, 1]], [[-1]], [[2 ** 53]], [['1']], ['3'], [{}]])(
    'refuses %j as its shards',
    async (shards) => {
      const streamer = await streams.connect();
      const creating = streamer.createConsumer('s', { mode: 'real-time', shards: shards as number });
      await expect(creating).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', option: 'shards' });
    },
  );

  it('is nearly silent for a stream without shards, and still finds a shard that appears after a long time', async () => {
    const server = await bench.server({ args: ['--appendonly', 'no'] });
    const admin = bench.admin(server.url);
    const commands = async (): Promise<number> => {
      const stats = await admin.info('commandstats');
      return [...stats.matchAll(/cmdstat_(?:type|scan):calls=(\d+)/g)].reduce(
        (sum, [, calls]) => sum + Number(calls),
        0,
      );
    };
    const interval = 20;
    const streamer = await bench.streamer(server.url, { blockTimeout: 1_000 });
    const consumer = await createConsumer(streamer, 'orders', 'resumable', {
      autoStreamReset: 'latest',
      shardDiscoveryInterval: interval,
    });
    const atStart = await commands();
    // Six looks double the interval to its limit, and cost 9 commands each.
    await until('discovery has backed off', async () => (await commands()) >= atStart + 6 * 9);

    const begin = performance.now();
    const before = await commands();
    await until('three more looks were made', async () => (await commands()) >= before + 3 * 9);
    // At least twice 20 intervals; without back-off it would be three.
    expect(performance.now() - begin).toBeGreaterThan(2 * 20 * interval - 50);

    await addRaw(admin, 'orders:1000000', 'msg', 'late');
    const appeared = performance.now();
    expect(await takeTexts(consumer, 1)).toEqual(['late']);
    expect(performance.now() - appeared).toBeLessThan(20 * interval + 5_000);
    expect(consumer.streamShards.map(({ shardId }) => shardId)).toEqual([0, 1_000_000]);
  });

  it('looks for no shards when discovery is off', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(stream, { sharder: new RoundRobinSharder(2) }), 0, 3);
    const consumer = await createConsumer(streamer, stream, 'real-time', {
      autoStreamReset: 'earliest',
      shardDiscoveryInterval: false,
    });

    expect(consumer.streamShards).toEqual([{ streamKey: stream, shardId: 0 }]);
  });

  it('messages of one key go to one shard, and random ones to all shards', async () => {
    const [keyed, random] = [uniqueName('keyed'), uniqueName('random')];
    const streamer = await streams.connect();
    const byKey = await streamer.createProducer(keyed, { sharder: new KeyHashSharder(8) });
    const receipts = await Promise.all(numbers(0, 19).map((text) => byKey.send(text, { key: 'customer-7' })));
    expect(new Set(receipts.map(({ shardId }) => shardId)).size).toBe(1);

    const byChance = await streamer.createProducer(random, { sharder: new PseudoRandomSharder(2) });
    const drawn = await Promise.all(numbers(0, 99).map((text) => byChance.send(text)));
    expect(new Set(drawn.map(({ shardId }) => shardId))).toEqual(new Set([0, 1]));
  });

  it('a producer uses a custom sharder, and refuses a shard number that is out of its range', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const byLength: Sharder = { shards: 3, shardOf: (_stream, _key, payload) => payload.length };
    const producer = await streamer.createProducer(stream, { sharder: byLength });

    expect(await producer.send('ab')).toMatchObject({ shardId: 2 });
    await expect(producer.send('abc')).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      option: 'sharder.shardOf()',
      value: 3,
    });
  });

  it.each(modes)('assign() and unassign() add and remove single shards (%s)', async (mode) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new RoundRobinSharder(2) });
    await sendNumbers(producer, 0, 1);
    const consumer = await createConsumer(streamer, stream, mode, {
      autoStreamReset: 'earliest',
      shardDiscoveryInterval: 30,
    });
    expect((await takeTexts(consumer, 2)).sort()).toEqual(numbers(0, 1));

    await consumer.unassign(stream, 0);
    expect(consumer.streamShards).toEqual([{ streamKey: stream, shardId: 1 }]);
    await sendNumbers(producer, 2, 5);
    expect(await takeTexts(consumer, 2)).toEqual(['3', '5']);

    await consumer.assign(stream, 0);
    // A group continues at its position; without a group an assigned stream starts as configured.
    const rest = await take(consumer, mode === 'real-time' ? 3 : 2);
    expect(texts(rest)).toEqual(mode === 'real-time' ? ['0', '2', '4'] : ['2', '4']);
  });

  it('a stream that could not be assigned is not read when one of its shards appears later', async () => {
    const [stream, refused] = [uniqueName('stream'), uniqueName('list')];
    const streamer = await streams.connect();
    const options = { autoStreamReset: 'earliest', shardDiscoveryInterval: 50 } as const;
    const consumer = await createConsumer(streamer, stream, 'resumable', options);
    await streams.redis.lpush(refused, 'x');
    await expect(consumer.assign(refused)).rejects.toMatchObject({ code: 'ERR_WRONG_TYPE' });
    // Numbers that only a walk through the keys finds, which notes all of them at once.
    const made = streams.redis.multi().del(refused);
    for (const key of [`${stream}:77`, `${refused}:77`]) made.xadd(key, '*', 'msg', 'x');
    await made.exec();
    const keys = (): string[] => consumer.streamShards.map(({ streamKey, shardId }) => `${streamKey}:${shardId}`);
    await until('the shard is found', () => keys().includes(`${stream}:77`));
    expect(keys()).toEqual([`${stream}:0`, `${stream}:77`]);

    await consumer.assign(refused);
    expect(keys()).toEqual([`${stream}:0`, `${stream}:77`, `${refused}:77`]);
  });

  it('assign() and unassign() add and remove whole streams', async () => {
    const [a, b] = [uniqueName('a'), uniqueName('b')];
    const streamer = await streams.connect();
    const producer = await streamer.createGenericProducer();
    await Promise.all([producer.sendTo(a, 'a0'), producer.sendTo(b, 'b0')]);
    const consumer = await streamer.createConsumer(a, { mode: 'real-time', autoStreamReset: 'earliest' });
    expect(await takeTexts(consumer, 1)).toEqual(['a0']);

    await consumer.assign(b);
    expect(await takeTexts(consumer, 1)).toEqual(['b0']);
    await consumer.unassign(a);
    await producer.sendTo(a, 'a1');
    await producer.sendTo(b, 'b1');

    expect(await takeTexts(consumer, 1)).toEqual(['b1']);
    expect(consumer.streamShards).toEqual([{ streamKey: b, shardId: 0 }]);
    await until('the unassigned stream is no longer read', async () => {
      await producer.sendTo(b, 'b2');
      return (await takeTexts(consumer, 1))[0] === 'b2';
    });
  });
});
