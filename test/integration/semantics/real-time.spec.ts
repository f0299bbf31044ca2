import { describe, expect, it } from '@jest/globals';
import { uniqueName } from '../../support/redis.js';
import { numbers, sendNumbers, take, takeTexts, texts, useStreams } from '../../support/streams.js';

const streams = useStreams();

describe('real-time', () => {
  it('scenario 1: latest receives messages sent after its start, earliest receives everything of several streams', async () => {
    const [a, b] = [uniqueName('a'), uniqueName('b')];
    const streamer = await streams.connect();
    const producer = await streamer.createGenericProducer();
    for (const text of numbers(0, 4)) await producer.sendTo(a, text);

    const latest = await streamer.createConsumer(a, { mode: 'real-time', autoStreamReset: 'latest' });
    for (const text of numbers(5, 9)) await producer.sendTo(a, text);
    const earliest = await streamer.createConsumer([a, b], { mode: 'real-time', autoStreamReset: 'earliest' });

    expect(await takeTexts(latest, 5)).toEqual(numbers(5, 9));
    expect(await takeTexts(earliest, 10)).toEqual(numbers(0, 9));

    await producer.sendTo(a, 'more of a');
    await producer.sendTo(b, 'more of b');
    const more = await take(earliest, 2);
    expect(new Map(more.map((message) => [message.streamKey, message.text()]))).toEqual(
      new Map([
        [a, 'more of a'],
        [b, 'more of b'],
      ]),
    );
    expect(await takeTexts(latest, 1)).toEqual(['more of a']);
  });

  it.each(['latest', 'earliest'] as const)(
    'scenario 2: nothing on quiet streams is skipped while a busy one delivers (%s)',
    async (autoStreamReset) => {
      const fast = uniqueName('fast');
      const slow = [uniqueName('slow'), uniqueName('slow'), uniqueName('slow')];
      const streamer = await streams.connect();
      const producer = await streamer.createGenericProducer();
      const consumer = await streamer.createConsumer([fast, ...slow], { mode: 'real-time', autoStreamReset });

      for (let round = 0; round < 5; round += 1) {
        await producer.sendTo(fast, `f${round}`);
        expect(await takeTexts(consumer, 1)).toEqual([`f${round}`]);
        // The read loop already waits again, or is about to; either way it must deliver these messages.
        await Promise.all(slow.map((key, index) => producer.sendTo(key, `s${index}-${round}`)));
        await producer.sendTo(fast, `then${round}`);
        expect((await takeTexts(consumer, 4)).sort()).toEqual([
          `s0-${round}`,
          `s1-${round}`,
          `s2-${round}`,
          `then${round}`,
        ]);
      }
    },
  );

  it('scenario 2: a message that arrives on a quiet stream before its first read is delivered', async () => {
    const [fast, slow] = [uniqueName('fast'), uniqueName('slow')];
    const streamer = await streams.connect();
    const producer = await streamer.createGenericProducer();
    await producer.sendTo(slow, 'before the start');
    // The buffer has one place: while f0 fills it, nothing is read.
    const consumer = await streamer.createConsumer([fast, slow], { mode: 'real-time', prefetch: 1 });

    await producer.sendTo(fast, 'f0');
    await producer.sendTo(slow, 's0');
    await producer.sendTo(fast, 'f1');

    const seen = await take(consumer, 3);
    expect(texts(seen).sort()).toEqual(['f0', 'f1', 's0']);
    expect(texts(seen.filter(({ streamKey }) => streamKey === fast))).toEqual(['f0', 'f1']);
  });

  it('scenario 3: two consumers on one stream each receive every message', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const first = await streamer.createConsumer(stream, { mode: 'real-time' });
    const second = await streamer.createConsumer(stream, { mode: 'real-time' });

    await sendNumbers(await streamer.createProducer(stream), 0, 99);

    expect(await takeTexts(first, 100)).toEqual(numbers(0, 99));
    expect(await takeTexts(second, 100)).toEqual(numbers(0, 99));
    expect(first.groupId).toBeUndefined();
    expect(first.consumerId).toBeUndefined();
  });

  it('a consumer without next() calls buffers no more than its prefetch, and misses nothing later', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', batchSize: 3, prefetch: 4 });

    await sendNumbers(await streamer.createProducer(stream), 0, 199);

    expect(await takeTexts(consumer, 200)).toEqual(numbers(0, 199));
  });

  it('end() completes a for await loop, and next() is refused afterwards', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    await sendNumbers(await streamer.createProducer(stream), 0, 2);

    const seen: string[] = [];
    for await (const message of consumer) {
      seen.push(message.text());
      if (seen.length === 3) void consumer.end();
    }

    expect(seen).toEqual(numbers(0, 2));
    await expect(consumer.next()).rejects.toMatchObject({ code: 'ERR_CONSUMER_ENDED' });
  });

  it('leaving a for await loop ends the consumer', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    await sendNumbers(await streamer.createProducer(stream), 0, 2);

    for await (const message of consumer) if (message.text() === '1') break;

    await expect(consumer.next()).rejects.toMatchObject({ code: 'ERR_CONSUMER_ENDED' });
  });

  it('a for await loop throws the failure of its stream when the consumer has ended', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    await sendNumbers(await streamer.createProducer(stream), 0, 0);

    const loop = async (): Promise<void> => {
      for await (const message of consumer) {
        expect(message.text()).toBe('0');
        await streams.redis.multi().del(stream).set(stream, 'no stream').exec();
      }
    };

    await expect(loop()).rejects.toMatchObject({ code: 'ERR_WRONG_TYPE' });
    await expect(consumer.next()).rejects.toMatchObject({ code: 'ERR_CONSUMER_ENDED' });
  });

  it('an iterator that is asked several times at once gives each message once, and return() ends all that wait', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    const iterator = consumer[Symbol.asyncIterator]();
    const given = [iterator.next(), iterator.next(), iterator.next(), iterator.next()];
    await sendNumbers(await streamer.createProducer(stream), 0, 1);
    await Promise.all(given.slice(0, 2));

    expect(await iterator.return?.()).toEqual({ value: undefined, done: true });
    const results = await Promise.all(given);
    expect(results.map(({ value, done }) => (done ? 'over' : value.text()))).toEqual(['0', '1', 'over', 'over']);
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
    await expect(iterator.throw?.(new Error('of a generator around it'))).rejects.toThrow('of a generator around it');
  });

  it('next() rejects with the reason of its signal, and the message goes to the next caller', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time' });
    const abort = new AbortController();
    const given = consumer.next({ signal: abort.signal });
    const waiting = consumer.next();

    abort.abort(new Error('no longer interested'));
    await expect(given).rejects.toThrow('no longer interested');
    await (await streamer.createProducer(stream)).send('hello');

    expect((await waiting).text()).toBe('hello');
  });
});
