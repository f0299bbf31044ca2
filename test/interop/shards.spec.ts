import { describe, expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../lib/engine.js';
import { uniqueName } from '../support/redis.js';
import { useReference } from '../support/reference.js';
import { numbers, take, useStreams } from '../support/streams.js';

const reference = useReference();
const streams = useStreams();
const fromStart = { mode: 'real-time', autoStreamReset: 'earliest' } as const;

describe('shards', () => {
  it.each([
    ['given ones, up to the largest number', { given: ['3', '77', '4000', String(Number.MAX_SAFE_INTEGER)] }, 4],
    ['pseudo-random ones', { pseudoRandom: 500 }, undefined],
  ])('with gaps between their numbers are found here: %s', async (_name, sharder, count) => {
    const stream = uniqueName('interop');
    const receipts = await (await reference.produce(sharder)).send(stream, numbers(0, 19));
    const consumer = await (await streams.connect()).createConsumer(stream, fromStart);
    const shards = [...new Set(receipts.map(({ shardId }) => shardId))].sort((a, b) => Number(a) - Number(b));
    expect(shards.length).toBe(count ?? shards.length);
    expect(consumer.streamShards).toEqual(shards.map((shard) => ({ streamKey: stream, shardId: Number(shard) })));

    const received = (await take(consumer, 20)).map((each) => [String(each.shardId), String(each.sequence)].join(':'));
    expect(received.sort()).toEqual(receipts.map(({ shardId, sequence }) => `${shardId}:${sequence}`).sort());
  });

  it('that a KeyHashSharder chose are found by the reference, each in order', async () => {
    const stream = uniqueName('interop');
    const producer = await (await streams.connect()).createProducer(stream, { sharder: new KeyHashSharder(8) });
    const sends = numbers(0, 29).map((text) => producer.send(text, { key: `customer-${Number(text) % 5}` }));
    const receipts = await Promise.all(sends);
    const consumer = await reference.consume(stream, fromStart);
    const messages = await consumer.take(30);
    for (const shard of new Set(receipts.map(({ shardId }) => shardId))) {
      const sent = numbers(0, 29).filter((_, index) => receipts[index]?.shardId === shard);
      expect(messages.filter(({ shardId }) => shardId === String(shard)).map(({ text }) => text)).toEqual(sent);
    }
    expect(consumer.streamShards).toHaveLength(new Set(receipts.map(({ shardId }) => shardId)).size);
  });
});
