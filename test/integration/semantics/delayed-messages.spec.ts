import { describe, expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import type { RedisStreamsError, SendOptions } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { uniqueName } from '../../support/redis.js';
import { numbers, take, texts, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

// First: its hooks run before those that look for open connections.
const bench = new FaultBench();
const streams = useStreams();
const HOUR = 3_600_000;

const stored = async (stream: string): Promise<Array<string | undefined>> =>
  (await streams.redis.xrange(stream, '-', '+')).map(([, fields]) => fields[1]);

/** Deleted without the package, so that the mover finds the token of a message and no content. */
const evict = (stream: string): Promise<number> => streams.redis.del(`nrs:{${stream}}:waiting:${stream}`);

describe('a delayed message', () => {
  it.each([
    ['delay', (): SendOptions => ({ delay: 150 })],
    ['deliverAt', (): SendOptions => ({ deliverAt: new Date(Date.now() + 150) })],
  ])('with %s is in the stream when it is due, not before, with the time at which it was appended', async (_, due) => {
    const stream = uniqueName('delayed');
    const producer = await (await streams.connect()).createProducer(stream);
    const receipt = await producer.send('later', { ...due(), headers: { kind: 'ü' } });

    expect(receipt.deliverAt).toBeInstanceOf(Date);
    expect(receipt).toMatchObject({ streamKey: stream, shardId: 0, sequence: 0n, timestamp: receipt.deliverAt });
    expect(await streams.redis.xlen(stream)).toBe(0);
    await until('it is appended', async () => (await streams.redis.xlen(stream)) === 1);
    const [[id, fields] = ['', []]] = await streams.redis.xrange(stream, '-', '+');
    expect(fields).toEqual(['msg', 'later', 'h:kind', 'ü']);
    expect(Number(id.split('-')[0])).toBeGreaterThanOrEqual(Number(receipt.deliverAt));
  });

  it('whose time is over is appended at once, and so is one with a delay of 0', async () => {
    const stream = uniqueName('delayed');
    const producer = await (await streams.connect()).createProducer(stream);
    const receipt = await producer.send('past', { deliverAt: new Date(0) });
    await producer.send('now', { delay: 0 });
    await until('both are appended', async () => (await streams.redis.xlen(stream)) === 2);
    expect(receipt.timestamp).toEqual(new Date(0));
    expect(await stored(stream)).toEqual(['past', 'now']);
  });

  it('is appended in the order of its time, and those of the same time in the order of their sends', async () => {
    const stream = uniqueName('delayed');
    const producer = await (await streams.connect()).createProducer(stream);
    const at = Date.now() + 300;
    const sends = numbers(0, 599).map((text, index) =>
      producer.send(text, { deliverAt: new Date(at + (index < 300 ? 5 : 0)) }),
    );
    await Promise.all([...sends, producer.send('undelayed')]);
    await until('all are appended', async () => (await streams.redis.xlen(stream)) === 601);
    expect(await stored(stream)).toEqual(['undelayed', ...numbers(300, 599), ...numbers(0, 299)]);
  });

  it('is stored byte for byte, in a stream with a key prefix and another field', async () => {
    const stream = uniqueName('delayed');
    const streamer = await streams.connect({ keyPrefix: 'app:', messageField: 'body' });
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    const headers = Object.fromEntries(numbers(0, 499).map((name) => [name, 'x']));
    await (await streamer.createProducer(stream)).send(bytes, { delay: 20, headers });
    await until('it is appended', async () => (await streams.redis.xlen(`app:${stream}`)) === 1);
    const [[, fields] = ['', []]] = await streams.redis.xrangeBuffer(`app:${stream}`, '-', '+');
    expect(fields.slice(0, 4)).toEqual([Buffer.from('body'), bytes, Buffer.from('h:0'), Buffer.from('x')]);
    expect(fields).toHaveLength(1_002);
  });

  it.each([
    ['real-time', {}],
    ['resumable', { group: 'g', mkStream: true }],
    ['load-balanced', { group: 'g', mkStream: true }],
  ] as const)('whose producer is gone reaches a %s consumer, which moves it', async (mode, options) => {
    const stream = uniqueName('delayed');
    const sending = await streams.connect();
    await (await sending.createProducer(stream)).send('later', { delay: 300 });
    await sending.disconnect();
    const consumer = await (
      await streams.connect()
    ).createConsumer(stream, { mode, ...options } as { mode: 'resumable' });
    expect(texts(await take(consumer, 1))).toEqual(['later']);
    await consumer.end();
  });

  it('that is scheduled while a consumer runs and its producer is gone at once is moved, too', async () => {
    const stream = uniqueName('delayed');
    const options = { mode: 'resumable', group: 'g', mkStream: true } as const;
    const consumer = await (await streams.connect()).createConsumer(stream, options);
    const sending = await streams.connect();
    await (await sending.createProducer(stream)).send('later', { delay: 200 });
    await sending.disconnect();
    expect(texts(await take(consumer, 1))).toEqual(['later']);
    await consumer.end();
  });

  it('that waits leaves the stream open for messages with an earlier time', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream);
    await producer.send('later', { delay: 3_600_000 });
    expect(await producer.send('history', { timestamp: new Date(1_000) })).toMatchObject({ streamKey: stream });
  });

  it('that is the first one of a shard, and whose producer is gone, is found by a consumer of the stream', async () => {
    const stream = uniqueName('delayed');
    const options = { mode: 'resumable', group: 'g', mkStream: true, shardDiscoveryInterval: 50 } as const;
    const consumer = await (await streams.connect()).createConsumer(stream, options);
    const sending = await streams.connect();
    const producer = await sending.createProducer(stream, { sharder: new KeyHashSharder(4) });
    const { shardId } = await producer.send('later', { key: 'k', delay: 200 });
    await sending.disconnect();
    const [message] = await take(consumer, 1);
    expect([message?.text(), message?.shardId, message?.deliveryCount]).toEqual(['later', shardId, 1]);
    await consumer.end();
  });

  it('is appended once, in order of time, by five movers at the same time', async () => {
    const stream = uniqueName('delayed');
    const options = { mode: 'load-balanced', group: 'g', mkStream: true } as const;
    const movers = await Promise.all([1, 2, 3, 4].map(() => streams.connect()));
    await Promise.all(movers.map((mover) => mover.createConsumer(stream, options)));
    const producer = await (await streams.connect()).createProducer(stream);
    const delays = numbers(0, 1_999).map((text) => (Number(text) * 37) % 600);
    await Promise.all(delays.map((delay) => producer.send('x', { delay })));
    await until('all are appended', async () => (await streams.redis.xlen(stream)) === 2_000);
    await until('none waits', async () => (await streams.redis.exists(`nrs:{${stream}}:delayed:${stream}`)) === 0);
    expect(await streams.redis.xlen(stream)).toBe(2_000);
  });

  it('is trimmed by the limit of its producer when it is appended', async () => {
    const stream = uniqueName('delayed');
    const producer = await (await streams.connect()).createProducer(stream, { maxLen: 100 });
    await Promise.all(numbers(0, 1_499).map((text) => producer.send(text, { delay: 100 })));
    await until(
      'all are appended',
      async () => (await streams.redis.exists(`nrs:{${stream}}:delayed:${stream}`)) === 0,
    );
    expect(await streams.redis.xlen(stream)).toBeLessThan(500);
    const aged = uniqueName('aged');
    await streams.redis.xadd(aged, '1-1', 'msg', 'old');
    const other = await (await streams.connect()).createProducer(aged, { minAge: HOUR });
    await Promise.all(numbers(0, 299).map((text) => other.send(text, { delay: 50 })));
    await until('all are appended', async () => (await streams.redis.xlen(aged)) >= 300);
    expect(await streams.redis.xlen(aged)).toBeLessThanOrEqual(301);
  });

  it('is one of 10,000 that cost a few commands a second while they wait, and two keys beside the stream', async () => {
    // Of its own: other tests use the shared one at the same time.
    const server = await bench.server({ args: ['--appendonly', 'no'] });
    const admin = bench.admin(server.url);
    const producer = await (await bench.streamer(server.url)).createProducer('s');
    await Promise.all(numbers(0, 9_999).map((text) => producer.send(text, { delay: HOUR })));
    const calls = async (): Promise<number> =>
      Number(/total_commands_processed:(\d+)/.exec(await admin.info('stats'))?.[1]);
    const before = await calls();
    const start = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    const made = (await calls()) - before;
    // A step a second has three commands in its script; this client has two.
    expect(made).toBeLessThan((20 * (performance.now() - start)) / 1_000);
    expect((await admin.keys('*')).sort()).toEqual(['nrs:{s}:delayed:s', 'nrs:{s}:waiting:s', 's']);
  });

  it.each([
    ['moved', 10],
    ['cancelled', HOUR],
  ])('that was %s is remembered by a key that expires with the last of its tokens', async (what, delay) => {
    const stream = uniqueName('delayed');
    const streamer = await streams.connect();
    const receipt = await (await streamer.createProducer(stream)).send('x', { delay });
    if (what === 'cancelled') await (await streamer.createManager()).cancelDelayed(stream, receipt.id);
    const key = `nrs:{${stream}}:moved:${stream}`;
    await until('it is remembered', async () => (await streams.redis.zcard(key)) === 1);
    const left = await streams.redis.pttl(key);
    expect(left).toBeGreaterThan(500_000);
    expect(left).toBeLessThanOrEqual(600_000);
  });

  it('of a stream whose key has another type waits, is reported once, and is moved when that is cured', async () => {
    const stream = uniqueName('delayed');
    await streams.redis.lpush(stream, 'x');
    const producer = await (await streams.connect()).createProducer(stream);
    const errors: RedisStreamsError[] = [];
    producer.on('error', (error) => errors.push(error));
    await producer.send('later', { delay: 10 });
    await until('it is reported', () => errors.length > 0);
    expect(errors).toEqual([expect.objectContaining({ code: 'ERR_WRONG_TYPE', streamKey: stream })]);
    await streams.redis.del(stream);
    await until('it is appended', async () => (await streams.redis.xlen(stream)) === 1);
    expect(errors).toHaveLength(1);
    expect(await stored(stream)).toEqual(['later']);
  });

  it('whose content was deleted by others is reported as lost, and holds up no other', async () => {
    const stream = uniqueName('delayed');
    const producer = await (await streams.connect()).createProducer(stream);
    const errors: RedisStreamsError[] = [];
    producer.on('error', (error) => errors.push(error));
    await producer.send('lost', { delay: 200 });
    await evict(stream);
    await producer.send('kept', { delay: 300 });
    await until('the other is appended', async () => (await streams.redis.xlen(stream)) === 1);
    expect(errors.map(({ message }) => message)).toEqual([
      expect.stringContaining('Redis no longer has the content of 1 delayed message'),
    ]);
  });

  it.each([
    ['a negative delay', { delay: -1 }, 'delay must be a whole number from 0 to 3153600000000; got -1'],
    ['a fraction', { delay: 0.5 }, 'delay must be a whole number'],
    ['text', { delay: '5' }, 'delay must be a whole number'],
    ['no Date', { deliverAt: 5 }, 'deliverAt must be a valid Date'],
    ['an invalid Date', { deliverAt: new Date(NaN) }, 'deliverAt must be a valid Date'],
    ['both', { delay: 1, deliverAt: new Date() }, 'deliverAt cannot be combined with delay'],
    ['a timestamp', { delay: 1, timestamp: new Date() }, 'delay cannot be combined with timestamp'],
    [
      'a timestamp with a time',
      { deliverAt: new Date(), timestamp: new Date() },
      'deliverAt cannot be combined with timestamp',
    ],
  ])('with %s is refused before any I/O, by name', async (_, options, message) => {
    const producer = await (await streams.connect()).createProducer(uniqueName('delayed'));
    await expect(producer.send('x', options as SendOptions)).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      message: expect.stringContaining(message),
    });
  });
});

describe('a delayed message with a deduplication id', () => {
  const once = (id: string) => ({ deduplication: { id, within: HOUR } });

  it('waits once, and every send with the id gets its receipt, also one without a delay and after it was moved', async () => {
    const stream = uniqueName('delayed');
    const producer = await (await streams.connect()).createProducer(stream);
    const first = await producer.send('one', { delay: 100, ...once('a') });
    const others = [
      await producer.send('two', { delay: 5_000, ...once('a') }),
      await producer.send('three', once('a')),
    ];
    await until('it is appended', async () => (await streams.redis.xlen(stream)) === 1);
    others.push(await producer.send('four', once('a')));
    for (const { id, deliverAt } of others)
      expect({ id, deliverAt }).toEqual({ id: first.id, deliverAt: first.deliverAt });
    expect(await stored(stream)).toEqual(['one']);
  });

  it('is not delayed when the first with its id was sent without a delay', async () => {
    const stream = uniqueName('delayed');
    const producer = await (await streams.connect()).createProducer(stream);
    const first = await producer.send('one', once('a'));
    const second = await producer.send('two', { delay: 100, ...once('a') });
    expect([second.id, second.deliverAt]).toEqual([first.id, undefined]);
    expect(await streams.redis.exists(`nrs:{${stream}}:delayed:${stream}`)).toBe(0);
  });

  it('can be scheduled again after it was cancelled', async () => {
    const stream = uniqueName('delayed');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const manager = await streamer.createManager();
    const first = await producer.send('one', { delay: HOUR, ...once('a') });
    expect(await manager.cancelDelayed(stream, first.id)).toBe(true);
    const second = await producer.send('two', { delay: 20, ...once('a') });
    expect(second.id).not.toBe(first.id);
    await until('it is appended', async () => (await streams.redis.xlen(stream)) === 1);
    expect(await stored(stream)).toEqual(['two']);
  });
});

describe('the manager', () => {
  it('lists what waits, page by page, and cancels it', async () => {
    const stream = uniqueName('delayed');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const manager = await streamer.createManager();
    expect(await manager.delayed(stream)).toEqual([]);
    const at = new Date(Date.now() + HOUR);
    const receipts = await Promise.all(
      numbers(0, 249).map((text) => producer.send(text, { deliverAt: at, headers: { number: text } })),
    );
    const pages = [await manager.delayed(stream)];
    for (let last = pages[0]?.at(-1); last; last = pages.at(-1)?.at(-1)) {
      pages.push(await manager.delayed(stream, { after: last.id }));
    }
    expect(pages.map(({ length }) => length)).toEqual([100, 100, 50, 0]);
    const all = pages.flat();
    expect(all.map(({ id }) => id)).toEqual(receipts.map(({ id }) => id));
    expect(all.map(({ payload }) => String(payload))).toEqual(numbers(0, 249));
    expect(all[7]).toMatchObject({ deliverAt: at, headers: { number: '7' } });

    expect(await manager.cancelDelayed(stream, receipts[7]?.id as string)).toBe(true);
    expect(await manager.cancelDelayed(stream, receipts[7]?.id as string)).toBe(false);
    expect(await manager.cancelDelayed(stream, '1-1')).toBe(false);
    expect(await manager.cancelDelayed(uniqueName('other'), receipts[8]?.id as string)).toBe(false);
    // A page continues after a message that is gone.
    const [next] = await manager.delayed(stream, { after: receipts[6]?.id as string, count: 1 });
    expect(next?.id).toBe(receipts[8]?.id);
    await expect(manager.delayed(stream, { after: '1-1' })).rejects.toThrow(
      'after must be the id of a delayed message',
    );
    await expect(manager.delayed(stream, { count: 0 })).rejects.toThrow('count must be a whole number');
    await expect(manager.cancelDelayed(stream, '')).rejects.toThrow('id must be a non-empty string');
  });

  it('lists what waits to the end when each page is cancelled before the next one is asked for', async () => {
    const stream = uniqueName('delayed');
    const streamer = await streams.connect();
    const producers = await Promise.all([1, 2].map(() => streamer.createProducer(stream)));
    const manager = await streamer.createManager();
    const deliverAt = new Date(Date.now() + HOUR);
    for (const producer of producers)
      await Promise.all(numbers(0, 29).map((text) => producer.send(text, { deliverAt })));
    await producers[0]?.send('later', { deliverAt: new Date(Number(deliverAt) + 1) });
    const cancelled: string[] = [];
    for (let after: string | undefined; cancelled.length < 61;) {
      const page = await manager.delayed(stream, { count: 7, ...(after === undefined ? {} : { after }) });
      expect(page).not.toEqual([]);
      for (const { id } of page) if (await manager.cancelDelayed(stream, id)) cancelled.push(id);
      after = page.at(-1)?.id;
    }
    expect(new Set(cancelled).size).toBe(61);
    expect(await manager.delayed(stream)).toEqual([]);
  });

  it('cancels a message of a shard by its receipt, and by the key of the shard', async () => {
    const stream = uniqueName('delayed');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(4) });
    const manager = await streamer.createManager();
    const receipts = await Promise.all(numbers(0, 19).map((key) => producer.send(key, { key, delay: HOUR })));
    const [first, second] = receipts;
    expect(await manager.cancelDelayed(stream, first?.id as string)).toBe(true);
    expect(await manager.cancelDelayed(`${stream}:${second?.shardId}`, second?.id as string)).toBe(true);
    const waiting = await Promise.all([0, 1, 2, 3].map((shard) => manager.delayed(`${stream}:${shard}`)));
    expect(waiting.flat()).toHaveLength(18);
    const [one] = waiting.flat();
    const shard = waiting.findIndex((page) => page.length > 0);
    expect(await manager.cancelDelayed(`${stream}:${shard}`, one?.id as string)).toBe(true);
  });

  it('does not deliver what was cancelled', async () => {
    const stream = uniqueName('delayed');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const manager = await streamer.createManager();
    const receipt = await producer.send('cancelled', { delay: 150 });
    await producer.send('kept', { delay: 200 });
    expect(await manager.cancelDelayed(stream, receipt.id)).toBe(true);
    await until('the other is appended', async () => (await streams.redis.xlen(stream)) > 0);
    expect(await stored(stream)).toEqual(['kept']);
  });
});
