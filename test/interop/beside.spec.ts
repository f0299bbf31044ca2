import { describe, expect, it } from '@jest/globals';

import { RoundRobinSharder } from '../../lib/engine.js';
import type { ProducerOptions, StreamMessage } from '../../lib/engine.js';
import { onEvent } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { useReference } from '../support/reference.js';
import { take } from '../support/streams.js';
import { until } from '../support/until.js';

const reference = useReference();
const nest = useNest();
const HOUR = 3_600_000;

/** Sends `order` with a feature of this package that keeps keys beside the stream. */
type Sending = (stream: string, options: ProducerOptions) => Promise<void>;

const sideKeys = async (): Promise<string[]> => (await nest.redis.keys('*')).filter((key) => key.startsWith('nrs:'));

const sendings: ReadonlyArray<readonly [string, Sending]> = [
  [
    'an exactly-once producer',
    async (stream, options) => {
      const producer = await (await nest.connect()).createProducer(stream, { ...options, delivery: 'exactly-once' });
      await producer.send('order');
    },
  ],
  [
    'a deduplicated message',
    async (stream, options) => {
      const producer = await (await nest.connect()).createProducer(stream, options);
      const deduplication = { id: 'order-7', within: HOUR };
      await Promise.all([producer.send('order', { deduplication }), producer.send('again', { deduplication })]);
    },
  ],
  [
    'an inbox with a handled message',
    async (stream, options) => {
      const streamer = await nest.connect();
      await (await streamer.createProducer(stream, options)).send('order');
      const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
      const [message] = (await take(consumer, 1)) as [StreamMessage];
      expect(await streamer.createInbox('workers').once(message, () => Promise.resolve())).toBe(true);
    },
  ],
  [
    'delayed messages, one of which is due',
    async (stream, options) => {
      const producer = await (await nest.connect()).createProducer(stream, options);
      await producer.send('later', { delay: HOUR });
      await producer.send('order', { delay: 10 });
    },
  ],
];

describe.each([
  ['a stream', {}],
  ['a sharded stream', { sharder: () => new RoundRobinSharder(2) }],
])('the reference reads %s beside', (_name, options: ProducerOptions) => {
  it.each(sendings)('%s', async (_sending, send) => {
    const stream = uniqueName('interop');
    await send(stream, options);
    // In a sharded stream the delayed message 'later' waits beside another shard than that of 'order'.
    const keys = options.sharder ? [`${stream}:0`, `${stream}:1`] : [stream];
    await until('the order is stored', async () => (await nest.redis.exists(...keys)) > 0);
    expect(await sideKeys()).not.toEqual([]);

    for (const mode of ['real-time', 'load-balanced'] as const) {
      const consumer = await reference.consume(stream, { mode, autoStreamReset: 'earliest', group: 'theirs' });
      expect(await consumer.takeTexts(1)).toEqual(['order']);
    }
  });
});

describe('a dead letter', () => {
  it('leaves its stream readable for the reference, which reads the stream of dead letters as any other', async () => {
    const stream = uniqueName('interop');
    const fail = (): never => {
      throw new Error('no stock');
    };
    await nest.serve(onEvent(stream, fail), { retry: false });
    await (await reference.produce()).send(stream, ['{"order":7}']);
    await until('it is a dead letter', async () => (await nest.redis.xlen(`${stream}.dead`)) === 1);

    for (const key of [stream, `${stream}.dead`]) {
      const consumer = await reference.consume(key, { mode: 'real-time', autoStreamReset: 'earliest' });
      expect(await consumer.takeTexts(1)).toEqual(['{"order":7}']);
    }
    expect((await (await reference.manage()).scan()).sort()).toEqual([stream, `${stream}.dead`].sort());
  });
});

describe('a handler', () => {
  it('receives what a producer of the reference sends, and a consumer of the reference reads what emit sends', async () => {
    const stream = uniqueName('interop');
    const handled: unknown[] = [];
    await nest.serve(onEvent(stream, (data) => void handled.push(data)));
    await (await reference.produce()).send(stream, ['1', '{"order":2}', '"three"']);
    await until('all are handled', () => handled.length === 3);
    expect(handled).toEqual([1, { order: 2 }, 'three']);
    await nest.emit(stream, { order: 4 });
    const consumer = await reference.consume(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    expect(await consumer.takeTexts(4)).toEqual(['1', '{"order":2}', '"three"', '{"order":4}']);
  });
});
