import { describe, expect, it, jest } from '@jest/globals';

import { RoundRobinSharder } from '../../../lib/index.js';
import type { ProducerOptions, RedisStreamer, StreamProducer } from '../../../lib/index.js';
import { nanosecondTests } from '../../support/nanoseconds.js';
import { uniqueName } from '../../support/redis.js';
import { numbers, take, takeTexts, texts, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();
const FAR = 4_000_000_000_000;
const MILLION = 1_000_000n;

const connect = (): Promise<RedisStreamer> => streams.connect({ timestampFormat: 'ns' });

async function producerOf(stream: string, options: ProducerOptions = {}): Promise<StreamProducer> {
  return (await connect()).createProducer(stream, options);
}

const idsIn = async (stream: string): Promise<string[]> =>
  (await streams.redis.xrange(stream, '-', '+')).map(([id]) => id);
const timesIn = async (stream: string): Promise<bigint[]> =>
  (await idsIn(stream)).map((id) => BigInt(id.split('-')[0] as string));
const storedIn = async (stream: string): Promise<Array<string | undefined>> =>
  (await streams.redis.xrange(stream, '-', '+')).map(([, fields]) => fields[1]);

const itSends = nanosecondTests({
  info: () => streams.redis.info('server'),
  producer: () => producerOf(uniqueName('ns')),
});

describe('ids in nanoseconds', () => {
  describe.each(['at-least-once', 'at-most-once', 'exactly-once'] as const)('%s', (delivery) => {
    itSends('have the time of this machine, rise with each message, and keep the order', async () => {
      const stream = uniqueName('ns');
      const producer = await producerOf(stream, { delivery, maxBatch: 7 });
      const before = BigInt(Date.now()) * MILLION;
      const receipts = await Promise.all(numbers(0, 499).map((text) => producer.send(text)));
      for (const text of numbers(500, 999)) producer.enqueue(text, { headers: { kind: 'number' } });
      await producer.flush();
      const after = (BigInt(Date.now()) + 1n) * MILLION;

      expect(await storedIn(stream)).toEqual(numbers(0, 999));
      const times = await timesIn(stream);
      expect(times.every((time, index) => index === 0 || time > (times[index - 1] as bigint))).toBe(true);
      expect(times.at(0)).toBeGreaterThanOrEqual(before);
      expect(times.at(-1)).toBeLessThan(after);
      expect(receipts.map(({ id }) => id)).toEqual((await idsIn(stream)).slice(0, 500));
      const [{ id, sequence, timestamp }] = receipts as [(typeof receipts)[number]];
      const [time, counter] = id.split('-').map(BigInt) as [bigint, bigint];
      expect(sequence).toBe((time << 16n) | counter);
      expect(timestamp.getTime()).toBe(Number(time / MILLION));
    });

    itSends('are never below the last id, however far ahead the clock of another producer is', async () => {
      const stream = uniqueName('ns');
      const ahead = 9_000_000_000_999_999_998n;
      await streams.redis.xadd(stream, `${ahead}-7`, 'msg', 'ahead');
      const producer = await producerOf(stream, { delivery });
      await Promise.all(numbers(0, 9).map((text) => producer.send(text)));

      expect(await storedIn(stream)).toEqual(['ahead', ...numbers(0, 9)]);
      expect((await timesIn(stream)).slice(1)).toEqual(numbers(1, 10).map((step) => ahead + BigInt(step)));
    });

    itSends('end with counters where the last id has the last time there is', async () => {
      const stream = uniqueName('ns');
      const last = 2n ** 64n - 1n;
      await streams.redis.xadd(stream, `${last - 1n}-0`, 'msg', 'far');
      const producer = await producerOf(stream, { delivery });
      await Promise.all(numbers(0, 2).map((text) => producer.send(text)));
      expect((await idsIn(stream)).slice(1)).toEqual([0, 1, 2].map((counter) => `${last}-${counter}`));
    });

    itSends('are refused in a stream with milliseconds, which gets nothing', async () => {
      const stream = uniqueName('ns');
      await streams.redis.xadd(stream, '*', 'msg', 'old');
      const producer = await producerOf(stream, { delivery });
      const refused = { code: 'ERR_TIMESTAMP_FORMAT', retryable: false, streamKey: stream };
      const hour = { deduplication: { id: 'a', within: 3_600_000 } };
      for (const options of [{}, { timestamp: new Date() }, { headers: { a: 'b' } }, hour, { delay: 10 }]) {
        await expect(producer.send('new', options)).rejects.toMatchObject(refused);
      }
      producer.enqueue('new');
      await expect(producer.flush()).rejects.toMatchObject({ errors: [expect.objectContaining(refused)] });
      expect(await storedIn(stream)).toEqual(['old']);
      expect((await streams.redis.keys('nrs:*')).filter((key) => !key.includes(':producer:'))).toEqual([]);
    });

    itSends('have a given time, which must not be before the last entry', async () => {
      const stream = uniqueName('ns');
      const producer = await producerOf(stream, { delivery });
      const { id } = await producer.send('late', { timestamp: new Date(FAR) });
      expect(id).toBe(`${FAR}000000-0`);
      expect((await producer.send('later')).id).toBe(`${FAR}000001-0`);
      expect((await producer.send('same', { timestamp: new Date(FAR + 1) })).id).toBe(`${FAR + 1}000000-0`);
      await expect(producer.send('early', { timestamp: new Date(FAR) })).rejects.toMatchObject({
        code: 'ERR_TIMESTAMP_REFUSED',
      });
      expect(await storedIn(stream)).toEqual(['late', 'later', 'same']);
    });
  });

  itSends(
    'stay apart from milliseconds where the clock of this machine was never set, and begins in 1970',
    async () => {
      const producer = await producerOf(uniqueName('ns'));
      const clock = jest.spyOn(Date, 'now').mockReturnValue(5_000);
      try {
        const early = await Promise.all(['a', 'b'].map((text) => producer.send(text)));
        clock.mockRestore();
        const ids = [...early, await producer.send('c')].map(({ id }) => BigInt(id.replace('-0', '')));
        expect(ids[0]).toBe(8_640_000_000_000_001n);
        expect(ids[1]).toBe(8_640_000_000_000_002n);
        expect(ids[2]).toBeGreaterThan(10n ** 18n);
      } finally {
        clock.mockRestore();
      }
    },
  );

  itSends('are of shards, and of messages with conditions, too', async () => {
    const stream = uniqueName('ns');
    const streamer = await connect();
    const producer = await streamer.createProducer(stream, { sharder: new RoundRobinSharder(2) });
    await Promise.all(numbers(0, 9).map((text) => producer.send(text)));
    const deduplication = { id: 'order-1', within: 60_000 };
    const first = await producer.send('once', { deduplication });
    expect((await producer.send('twice', { deduplication })).id).toBe(first.id);
    for (const shard of [0, 1]) {
      const times = await timesIn(`${stream}:${shard}`);
      expect(times.length).toBeGreaterThanOrEqual(5);
      expect(times.every((time) => time > 10n ** 18n)).toBe(true);
    }
  });

  itSends('are given to a delayed message when it is due, also to the first one of a stream', async () => {
    const stream = uniqueName('ns');
    const streamer = await connect();
    const producer = await streamer.createProducer(stream, { minAge: 3_600_000 });
    const before = Date.now();
    await producer.send('first', { delay: 50 });
    await until('the message was moved', async () => (await streams.redis.xlen(stream)) === 1);
    await producer.send('second');
    await producer.send('third', { delay: 50 });
    await until('the other was moved, too', async () => (await streams.redis.xlen(stream)) === 3);
    expect(await storedIn(stream)).toEqual(['first', 'second', 'third']);
    const times = await timesIn(stream);
    expect(times.every((time) => time > BigInt(before) * MILLION)).toBe(true);
  });

  itSends('are read here with sequences of 80 bits, from which reading can go on', async () => {
    const stream = uniqueName('ns');
    const streamer = await connect();
    const producer = await streamer.createProducer(stream);
    await Promise.all(numbers(0, 9).map((text) => producer.send(text)));
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    const [, , third] = await take(consumer, 10);
    expect(third?.sequence).toBe((BigInt(third?.id.split('-')[0] as string) << 16n) | 0n);
    await consumer.rewind({ sequence: third?.sequence as bigint });
    expect(await takeTexts(consumer, 7)).toEqual(numbers(3, 9));
  });

  itSends('trim by age as they append', async () => {
    const stream = uniqueName('ns');
    const producer = await producerOf(stream, { minAge: 60_000 });
    const old = new Date(Date.now() - 120_000);
    for (const text of numbers(0, 299)) producer.enqueue(text, { timestamp: old });
    await producer.flush();
    await producer.send('young', { timestamp: new Date(Date.now() - 30_000) });
    await producer.send('new');
    // The server removes whole nodes of 100 entries.
    const stored = await storedIn(stream);
    expect(stored.slice(-2)).toEqual(['young', 'new']);
    expect(stored.length).toBeLessThan(202);
  });

  it.each(['ms', 'ns'] as const)('are found and trimmed by time, with timestampFormat %s', async (timestampFormat) => {
    const stream = uniqueName('ns');
    const at = (milliseconds: number, nanoseconds = 0): string =>
      String(BigInt(milliseconds) * MILLION + BigInt(nanoseconds));
    const start = Date.now() - 10_000;
    const ids = [at(start), at(start, 999_999), at(start + 1), at(start + 2, 5), at(start + 3)];
    for (const [index, id] of ids.entries()) await streams.redis.xadd(stream, id, 'msg', index);
    const streamer = await streams.connect({ timestampFormat });
    const manager = await streamer.createManager();
    const date = (offset: number): Date => new Date(start + offset);
    const range = async (...bounds: [Parameters<typeof manager.range>[1], Parameters<typeof manager.range>[2]]) =>
      texts(await manager.range(stream, ...bounds));

    expect(await range(date(0), date(0))).toEqual(['0', '1']);
    expect(await range(date(1), date(2))).toEqual(['2', '3']);
    expect(await range({ after: date(0) }, { before: date(3) })).toEqual(['2', '3']);
    expect(await range('-', { before: date(1) })).toEqual(['0', '1']);
    expect(await range(date(3), '+')).toEqual(['4']);
    const producer = await streamer.createProducer(stream);
    await producer.trimMinTimestamp(stream, date(1));
    expect(await streams.redis.xlen(stream)).toBeGreaterThanOrEqual(3);
    await producer.trimMinTimestamp(stream, new Date(0));
    expect(await streams.redis.xlen(stream)).toBeGreaterThanOrEqual(3);
  });

  it('count for retention: young entries stay, and a dead group is one whose last entry is old', async () => {
    const stream = uniqueName('ns');
    const old = BigInt(Date.now() - 60_000) * MILLION;
    const young = BigInt(Date.now() + 60_000) * MILLION;
    for (const [index, time] of [old, old + 1n, young].entries()) {
      await streams.redis.xadd(stream, `${time}-0`, 'msg', index);
    }
    await streams.redis.xgroup('CREATE', stream, 'alive', `${young}-0`);
    await streams.redis.xgroup('CREATE', stream, 'dead', `${old}-0`);
    const manager = await (await streams.connect()).createManager();
    const kept = { keepFor: 30_000 };
    expect(await manager.trimAcknowledged(stream, { ...kept, dryRun: true })).toMatchObject({ trimmed: 1 });
    const ignoring = { ...kept, deadGroups: 'ignore', deadAfter: 30_000 } as const;
    expect(await manager.trimAcknowledged(stream, ignoring)).toMatchObject({ trimmed: 2, deadGroups: ['dead'] });
    expect(await storedIn(stream)).toEqual(['2']);
  });

  it('cause one warning when a producer with milliseconds sends to the same stream', async () => {
    const stream = uniqueName('ns');
    const id = `${BigInt(Date.now()) * MILLION}`;
    await streams.redis.xadd(stream, `${id}-0`, 'msg', 'theirs');
    const warnings: string[] = [];
    const logger = { error: () => undefined, warn: (text: string) => void warnings.push(text), log: () => undefined };
    const producer = await (await streams.connect({ logger })).createProducer(stream);
    const [receipt] = await Promise.all([producer.send('one'), producer.send('two')]);
    // Redis gives the present time, which is less, as the counter of the last one.
    expect(receipt.id).toBe(`${id}-1`);
    expect(() => receipt.sequence).toThrow(expect.objectContaining({ code: 'ERR_SEQUENCE_OVERFLOW' }));
    expect(warnings).toEqual([expect.stringMatching(/nanoseconds.*timestampFormat: 'ns'/)]);
  });

  it('have no place for a time that could be milliseconds as well', async () => {
    const producer = await producerOf(uniqueName('ns'));
    for (const timestamp of [new Date(0), new Date(8_640_000_000), new Date(2 ** 48 - 1)]) {
      await expect(producer.send('x', { timestamp })).rejects.toMatchObject({
        code: 'ERR_INVALID_OPTION',
        option: 'timestamp',
      });
    }
  });
});
