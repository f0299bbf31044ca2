import { describe, expect, it } from '@jest/globals';

import { KeyHashSharder, PseudoRandomSharder, RoundRobinSharder } from '../../../lib/index.js';
import type { ProducerOptions, Receipt, RedisStreamsError, StreamProducer } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { numbers, useStreams } from '../../support/streams.js';

const streams = useStreams();
const HOUR = 3_600_000;

const once = (id: string, within = HOUR) => ({ deduplication: { id, within } });
const stored = async (stream: string): Promise<Array<string | undefined>> =>
  (await streams.redis.xrange(stream, '-', '+')).map(([, fields]) => fields[1]);

async function producerOf(stream: string, options: ProducerOptions = {}): Promise<StreamProducer> {
  return (await streams.connect()).createProducer(stream, options);
}

describe.each(['at-least-once', 'at-most-once', 'exactly-once'] as const)('deduplication, %s', (delivery) => {
  it('stores a message once, and every send with its id gets the receipt of the first', async () => {
    const stream = uniqueName('dedup');
    const [first, second] = [await producerOf(stream, { delivery }), await producerOf(stream, { delivery })];
    const receipts = [
      await first.send('one', once('order-1')),
      await first.send('two', once('order-1')),
      await second.send('three', once('order-1')),
    ];
    const other = await second.send('four', once('order-2'));

    const [entry] = await streams.redis.xrange(stream, '-', '+');
    expect(receipts.map(({ id }) => id)).toEqual([entry?.[0], entry?.[0], entry?.[0]]);
    expect(other.id).not.toBe(entry?.[0]);
    expect(await stored(stream)).toEqual(['one', 'four']);
  });

  it('keeps the order of messages with and without an id, in one turn and over many batches', async () => {
    const stream = uniqueName('dedup');
    const producer = await producerOf(stream, { delivery, maxBatch: 7 });
    await Promise.all(
      numbers(0, 999).map((text, index) => producer.send(text, index % 3 === 0 ? once(`id-${index}`) : {})),
    );
    expect(await stored(stream)).toEqual(numbers(0, 999));
  });

  it('stores one of many sends with the same id that run at the same time', async () => {
    const stream = uniqueName('dedup');
    const producers = await Promise.all([1, 2, 3].map(() => producerOf(stream, { delivery })));
    const sends = numbers(0, 99).flatMap((text) => producers.map((producer) => producer.send(text, once('same'))));
    const ids = new Set((await Promise.all(sends)).map(({ id }) => id));
    expect(ids.size).toBe(1);
    expect(await stored(stream)).toHaveLength(1);
  });
});

describe('deduplication', () => {
  it('ends after its time by the clock of Redis: the next send with the id is stored, and is the first again', async () => {
    const stream = uniqueName('dedup');
    const producer = await producerOf(stream);
    const first = await producer.send('one', once('a', 40));
    let next: Receipt;
    do next = await producer.send('two', once('a', HOUR));
    while (next.id === first.id);
    expect((await producer.send('three', once('a', 40))).id).toBe(next.id);
    expect(await stored(stream)).toEqual(['one', 'two']);
    expect(Number(next.timestamp) - Number(first.timestamp)).toBeGreaterThanOrEqual(40);
  });

  it('works with headers, bytes, a timestamp, enqueue() and both ways to trim', async () => {
    const stream = uniqueName('dedup');
    const time = new Date('2020-01-02T03:04:05Z');
    const producer = await producerOf(stream);
    const options = { headers: { kind: 'ü' }, timestamp: time, ...once('bytes') };
    const receipt = await producer.send(Uint8Array.of(0, 255, 13, 10), options);
    producer.enqueue('again', options);
    await producer.flush();

    expect(receipt.timestamp).toEqual(time);
    const [[, fields] = ['', []]] = await streams.redis.xrangeBuffer(stream, '-', '+');
    expect(fields).toEqual([Buffer.from('msg'), Buffer.of(0, 255, 13, 10), Buffer.from('h:kind'), Buffer.from('ü')]);
    expect(await streams.redis.xlen(stream)).toBe(1);

    const [trimmed, aged] = [uniqueName('trimmed'), uniqueName('aged')];
    await Promise.all((await bulk(trimmed, { maxLen: 100 })).concat(await bulk(aged, { minAge: HOUR })));
    expect(await streams.redis.xlen(trimmed)).toBeLessThan(1_000);
    expect(await streams.redis.xlen(aged)).toBe(2_000);
  });

  async function bulk(stream: string, options: ProducerOptions): Promise<Array<Promise<Receipt>>> {
    const producer = await producerOf(stream, options);
    return numbers(0, 1_999).map((text) => producer.send(text, once(text)));
  }

  it('keeps no record of a message that Redis refused, so that it can be sent again', async () => {
    const stream = uniqueName('dedup');
    const producer = await producerOf(stream);
    await producer.send('now');
    const past = { timestamp: new Date(0), ...once('late') };
    await expect(producer.send('late', past)).rejects.toMatchObject({ code: 'ERR_TIMESTAMP_REFUSED' });
    await producer.send('late', once('late'));
    expect(await stored(stream)).toEqual(['now', 'late']);

    const list = uniqueName('list');
    await streams.redis.lpush(list, 'x');
    const other = await producerOf(list);
    await expect(other.send('a', once('a'))).rejects.toMatchObject({ code: 'ERR_WRONG_TYPE' });
    await streams.redis.del(list);
    await other.send('a', once('a'));
    expect(await stored(list)).toEqual(['a']);
  });

  it('survives SCRIPT FLUSH, without a failure and without a change of the order', async () => {
    const stream = uniqueName('dedup');
    const producer = await producerOf(stream, { maxBatch: 50 });
    const sends: Array<Promise<unknown>> = [];
    for (const [index, text] of numbers(0, 1_999).entries()) {
      if (index % 500 === 0) sends.push(streams.redis.script('FLUSH'));
      sends.push(producer.send(text, index % 2 === 0 ? once(text) : {}));
      if (index % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(sends);
    expect(await stored(stream)).toEqual(numbers(0, 1_999));
  });

  it.each([
    ['in turn', () => new RoundRobinSharder(4)],
    ['by chance', () => new PseudoRandomSharder(4)],
    ['by key', () => new KeyHashSharder(4)],
  ])('finds the id in a stream whose shards are chosen %s', async (_, sharder) => {
    const stream = uniqueName('shards');
    const producer = await producerOf(stream, { sharder });
    const receipts = await Promise.all(
      numbers(0, 19).flatMap((id) => [1, 2, 3].map(() => producer.send(id, once(id)))),
    );
    expect(new Set(receipts.map(({ shardId, id }) => `${shardId}/${id}`)).size).toBe(20);
    expect(new Set(receipts.map(({ shardId }) => shardId)).size).toBe(4);
    const lengths = await Promise.all([0, 1, 2, 3].map((shard) => streams.redis.xlen(`${stream}:${shard}`)));
    expect(lengths.reduce((sum, length) => sum + length)).toBe(20);
  });

  it('of one id in two shards stores both, because each shard has its own record', async () => {
    const stream = uniqueName('shards');
    const producer = await producerOf(stream, { sharder: new KeyHashSharder(16) });
    const keys = numbers(0, 15);
    const receipts = await Promise.all(keys.map((key) => producer.send(key, { key, ...once('same') })));
    expect(
      receipts.every(({ shardId }, index) => shardId === new KeyHashSharder(16).shardOf(stream, keys[index])),
    ).toBe(true);
    expect(new Set(receipts.map(({ shardId }) => shardId)).size).toBeGreaterThan(1);
  });

  it('keeps one key for each id beside the stream, with the key prefix, which expires', async () => {
    const stream = uniqueName('dedup');
    const streamer = await streams.connect({ keyPrefix: 'app:', timeout: 1_000 });
    await (await streamer.createProducer(stream)).send('x', once('a:b{c}', 60_000));
    const key = `app:nrs:{app:${stream}}:dedup:app:${stream}:a:b{c}`;
    expect((await streams.redis.keys('*:dedup:*')).sort()).toEqual([key]);
    expect(await streams.redis.pttl(key)).toBeLessThanOrEqual(60_000);
  });

  it('stores messages of two streams that share a hash tag, whatever the names of the streams and the ids', async () => {
    const stream = uniqueName('dedup');
    const producer = await (await streams.connect({ keyPrefix: '{shop}:' })).createGenericProducer();
    await producer.sendTo(stream, 'one', once('eu:17'));
    await producer.sendTo(`${stream}:eu`, 'other', once('17'));
    expect(await streams.redis.xlen(`{shop}:${stream}:eu`)).toBe(1);
  });

  it.each([
    ['an empty id', { id: '', within: 1 }, 'deduplication.id must be a non-empty string'],
    ['a number', { id: 7, within: 1 }, 'deduplication.id must be a non-empty string; got 7'],
    ['a long id', { id: 'x'.repeat(513), within: 1 }, 'deduplication.id must have at most 512 characters'],
    ['no time', { id: 'a' }, 'deduplication.within must be a whole number from 1 to 604800000; got undefined'],
    ['a time of 0', { id: 'a', within: 0 }, 'deduplication.within must be a whole number'],
    ['more than 7 days', { id: 'a', within: 604_800_001 }, 'deduplication.within must be a whole number'],
    ['a misspelt name', { id: 'a', withn: 1 }, "deduplication.withn is not an option here; did you mean 'within'?"],
    ['no object', 'a', 'deduplication must be an object'],
  ])('refuses %s before any I/O, by name', async (_, deduplication, message) => {
    const producer = await producerOf(uniqueName('dedup'));
    const send = producer.send('x', { deduplication: deduplication as { id: string; within: number } });
    await expect(send).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining(message) });
  });

  it('refuses a stream beside which nothing can be kept, and more headers than a script can pass on', async () => {
    const producer = await (await streams.connect()).createGenericProducer();
    const failures: RedisStreamsError[] = [];
    const headers = Object.fromEntries(numbers(0, 1_999).map((name) => [name, 'x']));
    for (const send of [
      producer.sendTo('a}b', 'x', once('a')),
      producer.sendTo(uniqueName('dedup'), 'x', { headers, ...once('a') }),
    ]) {
      await send.catch((error: RedisStreamsError) => failures.push(error));
    }
    expect(failures.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^streamKey .* for deduplication; got "a}b"$/),
      expect.stringContaining('headers must be at most 1999 with deduplication, which needs a script; got 2000'),
    ]);
    await expect(producer.sendTo(uniqueName('dedup'), 'x', { headers })).resolves.toBeDefined();
  });
});
