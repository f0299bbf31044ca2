import { describe, expect, it } from '@jest/globals';
import type { RedisStreamsError } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { numbers, sendNumbers, take, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();

describe('producer', () => {
  it('scenario 15: sends without waiting, and receipts resolve in order with ids that only rise', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { maxBatch: 100 });
    const order: number[] = [];

    const sends = numbers(0, 2_999).map(async (text, index) => {
      const receipt = await producer.send(text);
      order.push(index);
      return receipt;
    });
    expect(await streams.redis.exists(stream)).toBe(0);
    const receipts = await Promise.all(sends);

    expect(order).toEqual(order.map((_, index) => index));
    const sequences = receipts.map(({ sequence }) => sequence);
    expect(sequences.every((sequence, index) => index === 0 || sequence > (sequences[index - 1] as bigint))).toBe(true);
    const stored = (await streams.redis.xrange(stream, '-', '+')).map(([id, fields]) => [id, fields[1]]);
    expect(stored).toEqual(receipts.map(({ id }, index) => [id, String(index)]));
  });

  it('messages with and without an explicit timestamp keep their order, whichever commands send them', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream);
    const timestamp = new Date(Date.now() + 60_000);
    // The first send probes the features of the server; after that no send waits.
    await producer.send('first', { timestamp });
    numbers(0, 1_999).forEach((text, index) => {
      producer.enqueue(text, Math.floor(index / 500) % 2 === 1 ? { timestamp } : {});
    });
    await producer.flush();

    const stored = (await streams.redis.xrange(stream, '-', '+')).map(([, fields]) => fields[1]);
    expect(stored).toEqual(['first', ...numbers(0, 1_999)]);
  });

  it('scenario 15: a receipt has the position of the message, and is safe for JSON', async () => {
    const stream = uniqueName('stream');
    const receipt = await (await (await streams.connect()).createProducer(stream)).send('hello');

    const [milliseconds, counter] = receipt.id.split('-') as [string, string];
    expect(receipt).toMatchObject({ streamKey: stream, shardId: 0, timestamp: new Date(Number(milliseconds)) });
    expect(receipt.sequence).toBe((BigInt(milliseconds) << 16n) | BigInt(counter));
    expect(JSON.parse(JSON.stringify(receipt))).toMatchObject({ streamKey: stream, shardId: 0, id: receipt.id });
  });

  it('scenario 15: flush() resolves when everything before it is accepted, and end() flushes', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream);

    for (const text of numbers(0, 999)) producer.enqueue(text);
    await producer.flush();
    expect(await streams.redis.xlen(stream)).toBe(1_000);

    for (const text of numbers(0, 499)) producer.enqueue(text);
    await producer.end();
    expect(await streams.redis.xlen(stream)).toBe(1_500);
    expect(() => producer.enqueue('late')).toThrow(expect.objectContaining({ code: 'ERR_PRODUCER_ENDED' }));
    await expect(producer.send('late')).rejects.toMatchObject({ code: 'ERR_PRODUCER_ENDED' });
  });

  it('the handlers of failed sends have run when flush() resolves', async () => {
    const stream = uniqueName('stream');
    await streams.redis.set(stream, 'no stream');
    const producer = await (await streams.connect()).createProducer(stream);
    for (const sends of [1, 3]) {
      const codes: string[] = [];
      const note = (error: RedisStreamsError): unknown => codes.push(error.code);
      for (let send = 0; send < sends; send += 1) {
        void producer.send('x').catch(note);
        void producer
          .send('x')
          .then((receipt) => receipt)
          .then(() => undefined)
          .catch(note);
      }
      await producer.flush();
      expect(codes).toEqual(Array(2 * sends).fill('ERR_WRONG_TYPE'));
    }
  });

  it('scenario 15: flush() rejects with one error for each enqueued message that failed, once', async () => {
    const [stream, other] = [uniqueName('stream'), uniqueName('other')];
    await streams.redis.set(other, 'no stream');
    const producer = await (await streams.connect()).createGenericProducer();
    const reported: RedisStreamsError[] = [];
    producer.on('error', (error) => reported.push(error));

    producer.enqueueTo(stream, 'good');
    producer.enqueueTo(other, 'bad');
    producer.enqueueTo(other, 'bad');
    const flush = producer.flush();

    await expect(flush).rejects.toBeInstanceOf(AggregateError);
    await expect(flush).rejects.toMatchObject({ errors: [{ code: 'ERR_WRONG_TYPE' }, { code: 'ERR_WRONG_TYPE' }] });
    expect(reported.map(({ code }) => code)).toEqual(['ERR_WRONG_TYPE', 'ERR_WRONG_TYPE']);
    await expect(producer.flush()).resolves.toBeUndefined();
    await expect(producer.end()).resolves.toBeUndefined();
    expect(await streams.redis.xlen(stream)).toBe(1);
  });

  it('scenario 15: a failed send whose promise is not awaited is reported, not thrown', async () => {
    const stream = uniqueName('stream');
    await streams.redis.set(stream, 'no stream');
    const producer = await (await streams.connect()).createProducer(stream);
    const reported: RedisStreamsError[] = [];
    producer.on('error', (error) => {
      reported.push(error);
      throw new Error('a listener that fails must not matter');
    });

    void producer.send('not awaited');
    await expect(producer.send('awaited')).rejects.toMatchObject({ code: 'ERR_WRONG_TYPE' });
    await until('the send that is not awaited is reported', () => reported.length > 0);

    expect(reported).toHaveLength(1);
  });

  it('scenario 16: an explicit timestamp is the first part of the id', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream);
    const [early, late] = [new Date(0), new Date('2001-02-03T04:05:06.789Z')];

    const receipts = await Promise.all([
      producer.send('a', { timestamp: early }),
      producer.send('b', { timestamp: early }),
      producer.send('c', { timestamp: late }),
      producer.send('d', { timestamp: late }),
      producer.send('e'),
      producer.send('f', { timestamp: new Date(Date.now() + 3_600_000) }),
    ]);

    expect(receipts.slice(0, 4).map(({ id }) => id)).toEqual([
      '0-1',
      '0-2',
      `${late.getTime()}-0`,
      `${late.getTime()}-1`,
    ]);
    const stored = (await streams.redis.xrange(stream, '-', '+')).map(([id, fields]) => [id, fields[1]]);
    expect(stored).toEqual(receipts.map(({ id }, index) => [id, 'abcdef'[index]]));
  });

  it('scenario 16: a timestamp before the last entry is refused, and the messages around it are not', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream);
    const outcomes = await Promise.allSettled([
      producer.send('first'),
      producer.send('from the past', { timestamp: new Date('2001-02-03T04:05:06.789Z') }),
      producer.send('last'),
    ]);

    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    const { reason } = outcomes[1] as PromiseRejectedResult;
    expect(reason).toMatchObject({ code: 'ERR_TIMESTAMP_REFUSED', streamKey: stream });
    expect((reason as Error).message).toContain('2001-02-03T04:05:06.789Z');
  });

  it('scenario 17: trimMaxLen() and trimMinTimestamp() return the number of removed entries', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream);
    const start = Date.now();
    for (let index = 0; index < 1_000; index += 1) producer.enqueue('x', { timestamp: new Date(start + index) });
    await producer.flush();

    const first = await producer.trimMaxLen(stream, 500);
    // Approximate trimming removes whole nodes of the stream, and never more than requested.
    expect(first).toBeGreaterThan(0);
    expect(first).toBeLessThanOrEqual(500);
    const second = await producer.trimMinTimestamp(stream, new Date(start + 900));
    expect(second).toBeGreaterThan(0);
    expect(await streams.redis.xlen(stream)).toBe(1_000 - first - second);
    expect(await streams.redis.xlen(stream)).toBeGreaterThanOrEqual(100);
    expect(await producer.trimMaxLen(uniqueName('missing'), 5)).toBe(0);
    expect(await producer.trimMinTimestamp(uniqueName('missing'), new Date())).toBe(0);
  });

  it('scenario 17: maxLen and minAge trim as messages are appended', async () => {
    const [byLength, byAge] = [uniqueName('length'), uniqueName('age')];
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(byLength, { maxLen: 100 }), 0, 1_999);
    expect(await streams.redis.xlen(byLength)).toBeLessThan(400);

    const aging = await streamer.createProducer(byAge, { minAge: 60_000 });
    const old = Date.now() - 3_600_000;
    for (let index = 0; index < 1_000; index += 1) aging.enqueue('old', { timestamp: new Date(old + index) });
    await aging.flush();
    await sendNumbers(aging, 0, 9);
    expect(await streams.redis.xlen(byAge)).toBeLessThan(400);
    const rest = await streams.redis.xrange(byAge, '-', '+');
    expect(rest.filter(([, fields]) => fields[1] !== 'old')).toHaveLength(10);
  });

  it('stores bytes unchanged, and headers next to the payload', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
    await producer.send(bytes, { headers: { traceparent: '00-abc', 'x y': 'ü', __proto__: 'x' } });
    await producer.send(Buffer.from(bytes).subarray(10, 20));
    await producer.send('', { headers: { ['__proto__']: 'harmless' } });
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });

    const [first, second, third] = await take(consumer, 3);
    expect(Buffer.compare(first?.payload as Buffer, bytes)).toBe(0);
    expect({ ...first?.headers }).toEqual({ traceparent: '00-abc', 'x y': 'ü' });
    expect(Buffer.compare(second?.payload as Buffer, bytes.subarray(10, 20))).toBe(0);
    expect(third?.payload.length).toBe(0);
    expect(Object.entries(third?.headers ?? {})).toEqual([['__proto__', 'harmless']]);
  });

  it('refuses messages beyond maxQueued, and accepts more once there is room', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream, { maxQueued: 3 });
    const sends = numbers(0, 3).map((text) => producer.send(text));

    await expect(sends[3]).rejects.toMatchObject({ code: 'ERR_QUEUE_FULL', retryable: true });
    await Promise.all(sends.slice(0, 3));
    await producer.send('more');

    expect(await streams.redis.xlen(stream)).toBe(4);
  });

  it('refuses messages beyond maxQueuedBytes', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream, { maxQueuedBytes: 10 });
    const first = producer.send('12345678');

    await expect(producer.send('123')).rejects.toMatchObject({ code: 'ERR_QUEUE_FULL' });
    await first;
    await producer.send('123');
  });

  it.each([
    ['maxQueued', { maxQueued: 100 }],
    ['maxQueuedBytes', { maxQueuedBytes: 1_000 }],
    ['one message at a time', { maxQueued: 1 }],
  ])('a loop that awaits ready() when enqueue() returns false loses nothing: %s', async (_, limits) => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream, limits);
    let waits = 0;
    for (const text of numbers(0, 999)) {
      if (producer.enqueue(text)) continue;
      waits += 1;
      await producer.ready();
    }
    await producer.flush();

    expect(waits).toBeGreaterThan(0);
    expect((await streams.redis.xrange(stream, '-', '+')).map(([, [, text]]) => text)).toEqual(numbers(0, 999));
  });

  it('ready() resolves at half of maxQueued, at once below it, and rejects with the reason of its signal', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream, { maxQueued: 4 });
    expect(['a', 'b', 'c', 'd'].map((text) => producer.enqueue(text))).toEqual([true, false, false, false]);
    const controller = new AbortController();
    const aborted = producer.ready({ signal: controller.signal });
    const ready = producer.ready();
    controller.abort(new Error('no time'));

    await expect(aborted).rejects.toThrow('no time');
    await expect(producer.ready({ signal: controller.signal })).rejects.toThrow('no time');
    await ready;
    expect(producer.queued).toBeLessThan(2);
    await producer.ready();
    await producer.end();
    await expect(producer.ready()).rejects.toMatchObject({ code: 'ERR_PRODUCER_ENDED' });
  });

  it('flush() counts what failed by code, and keeps a few errors of each', async () => {
    const [stream, other] = [uniqueName('stream'), uniqueName('text')];
    await streams.redis.set(other, 'x');
    const producer = await (await streams.connect()).createGenericProducer({ maxQueued: 30 });
    producer.on('error', () => undefined);
    for (let index = 0; index < 30; index += 1) producer.enqueueTo(other, 'bad');
    for (let index = 0; index < 5_000; index += 1) producer.enqueueTo(stream, 'one too many');
    const failure = await producer.flush().catch((error: AggregateError) => error);

    expect(failure).toBeInstanceOf(AggregateError);
    const { message, errors } = failure as AggregateError;
    expect(message).toBe('5030 enqueued messages were not accepted: 5000 × ERR_QUEUE_FULL, 30 × ERR_WRONG_TYPE');
    expect(errors.map(({ code }: RedisStreamsError) => code).sort()).toEqual(
      ['ERR_QUEUE_FULL', 'ERR_WRONG_TYPE'].flatMap((code) => Array<string>(10).fill(code)),
    );
    await expect(producer.flush()).resolves.toBeUndefined();
  });

  it('a generic producer needs the stream with each message', async () => {
    const producer = await (await streams.connect()).createGenericProducer();

    await expect(producer.send('x')).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_OPERATION' });
    expect(() => producer.enqueue('x')).toThrow(expect.objectContaining({ code: 'ERR_UNSUPPORTED_OPERATION' }));
  });

  it('stores streams under the keyPrefix of the streamer', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect({ keyPrefix: 'app:' });
    const consumer = await streamer.createConsumer(stream, { mode: 'resumable', group: 'g', mkStream: true });
    const receipt = await (await streamer.createProducer(stream)).send('hello');
    const [message] = await take(consumer, 1);

    expect(receipt.streamKey).toBe(stream);
    expect(message?.streamKey).toBe(stream);
    expect(await streams.redis.keys(`*${stream}`)).toEqual([`app:${stream}`]);
    expect(await (await streamer.createManager()).scan()).toEqual({ cursor: '0', streams: [stream] });
  });
});
