import { describe, expect, it } from '@jest/globals';
import { uniqueName } from '../../support/redis.js';
import { consumersOf, numbers, sendNumbers, take, takeTexts, texts, useStreams } from '../../support/streams.js';

const streams = useStreams();

describe('manager', () => {
  it('scenario 18: scan() lists stream keys only, in pages by cursor', async () => {
    const { redis } = streams;
    const keys = numbers(0, 1_299).map((number) => `scanned-${number}`);
    await Promise.all(keys.map((key) => redis.xadd(key, '*', 'msg', 'x')));
    await redis.set('a string', 'x');
    await redis.hset('a hash', 'x', 'y');
    const manager = await (await streams.connect()).createManager();

    const found: string[] = [];
    let pages = 0;
    let cursor = '0';
    do {
      const page = await manager.scan(cursor);
      found.push(...page.streams);
      cursor = page.cursor;
      pages += 1;
    } while (cursor !== '0');

    expect(pages).toBeGreaterThan(1);
    expect([...new Set(found)].sort()).toEqual(keys.sort());
  });

  it('scenario 18: range() takes inclusive and exclusive times, ids, both ends and a count', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const at = (millisecond: number): Date => new Date(1_000_000 + millisecond);
    // 0 and 1 have the first millisecond, 2 and 3 the next one, and so on.
    for (const number of numbers(0, 9)) producer.enqueue(number, { timestamp: at(Math.floor(Number(number) / 2)) });
    await producer.flush();
    const manager = await streamer.createManager();
    const range = async (...args: Parameters<typeof manager.range> extends [string, ...infer R] ? R : never) =>
      texts(await manager.range(stream, ...args));

    expect(await range('-', '+')).toEqual(numbers(0, 9));
    expect(await range('-', '+', { count: 3 })).toEqual(numbers(0, 2));
    expect(await range(at(1), at(3))).toEqual(numbers(2, 7));
    expect(await range({ after: at(1) }, { before: at(3) })).toEqual(numbers(4, 5));
    expect(await range({ after: at(3) }, '+')).toEqual(numbers(8, 9));
    expect(await range('-', { before: at(1) })).toEqual(numbers(0, 1));
    expect(await range('-', { before: new Date(0) })).toEqual([]);
    expect(await range('1000001-1', '1000002-0')).toEqual(numbers(3, 4));
    expect(await range('-', '+', { newest: true, count: 2 })).toEqual(numbers(8, 9).reverse());
    expect(await range(at(1), { before: at(3) }, { newest: true })).toEqual(numbers(2, 5).reverse());
    await expect(manager.range(stream, '-', '+', { newest: 1 as never })).rejects.toMatchObject({ option: 'newest' });
    expect(await manager.range(uniqueName('missing'), '-', '+')).toEqual([]);
  });

  it('groups() returns position, pending entries and consumers of each group', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const manager = await streamer.createManager();
    expect(await manager.groups(stream)).toEqual([]);
    await sendNumbers(await streamer.createProducer(stream), 0, 4);
    const options = { mode: 'load-balanced', group: 'workers', consumer: 'one', autoStreamReset: 'earliest' } as const;
    const consumer = await streamer.createConsumer(stream, { ...options, autoCommit: 'disabled' });
    const messages = await take(consumer, 5);

    const [group, ...others] = await manager.groups(stream);
    expect(others).toEqual([]);
    expect(group).toMatchObject({ name: 'workers', pending: 5, lastDeliveredId: messages[4]?.id });
    // Redis 7.2 and later tell it.
    const inactive = group?.consumers[0]?.inactive;
    expect(['number', 'undefined']).toContain(typeof inactive);
    expect(group?.consumers).toEqual([{ name: 'one', pending: 5, idle: expect.any(Number), inactive }]);
    expect(await manager.consumers(stream, 'workers')).toMatchObject([{ name: 'one', pending: 5 }]);
    expect([0, undefined]).toContain(group?.lag);

    const page = await manager.pending(stream, 'workers', { count: 2 });
    expect(page.map(({ id, consumer: owner, deliveryCount }) => [id, owner, deliveryCount])).toEqual([
      [messages[0]?.id, 'one', 1],
      [messages[1]?.id, 'one', 1],
    ]);
    const rest = await manager.pending(stream, 'workers', { after: page[1]?.id as string, consumer: 'one' });
    expect(rest.map(({ id }) => id)).toEqual(messages.slice(2).map(({ id }) => id));
    expect(await manager.pending(stream, 'workers', { minIdle: 3_600_000 })).toEqual([]);
    expect(await manager.pending(stream, 'workers', { consumer: 'nobody' })).toEqual([]);
  });

  it('info() returns length, memory, ids of the entries, and groups with their consumers and pauses', async () => {
    const stream = uniqueName('stream');
    const { redis } = streams;
    const manager = await (await streams.connect()).createManager();
    for (const id of ['1-0', '2-5', '7-1', '9-0']) await redis.xadd(stream, id, 'msg', 'x');
    await redis.xgroup('CREATE', stream, 'workers', '0');
    await redis.xgroup('CREATE', stream, 'others', '$');
    await redis.xreadgroup('GROUP', 'workers', 'one', 'COUNT', 3, 'STREAMS', stream, '>');
    await redis.xdel(stream, '9-0');
    await manager.pauseGroup(stream, 'others');

    const info = await manager.info(stream);
    // The last id is that of an entry, not the last that was ever given.
    expect(info).toMatchObject({ streamKey: stream, length: 3, firstId: '1-0', lastId: '7-1' });
    expect(info.memory).toBeGreaterThan(0);
    // Redis counts them from 7.0 on.
    expect([4, undefined]).toContain(info.entriesAdded);
    const groups = [
      { name: 'others', pending: 0, lastDeliveredId: '9-0', consumers: [], isPaused: true },
      { name: 'workers', pending: 3, lastDeliveredId: '7-1', consumers: [{ name: 'one' }], isPaused: false },
    ].map((group) => ({ ...group, lag: 0, lagSeconds: 0 }));
    expect(info.groups).toMatchObject(groups);
    expect(await manager.groups(stream)).toMatchObject(groups);
    const { streamKey, ...rest } = info;
    expect(info.shards).toMatchObject([{ key: streamKey, shardId: 0, length: rest.length, lastId: rest.lastId }]);

    await redis.xdel(stream, '1-0', '2-5', '7-1');
    const empty = await manager.info(stream);
    expect(empty).toMatchObject({ length: 0, firstId: undefined, lastId: undefined, groups });
    expect(empty.shards).toHaveLength(1);
  });

  it('info() of a stream that does not exist has no shards, and consumers() refuses it', async () => {
    const missing = uniqueName('missing');
    const manager = await (await streams.connect()).createManager();

    const nothing = {
      length: 0,
      memory: 0,
      firstId: undefined,
      lastId: undefined,
      entriesAdded: 0,
      groups: [],
      shards: [],
    };
    expect(await manager.info(missing)).toEqual({ streamKey: missing, ...nothing });
    expect(await manager.info(missing, { skipUnreachable: true })).toEqual({
      streamKey: missing,
      ...nothing,
      unreachable: [],
    });
    const wrong = manager.info(missing, { skipUnreachable: 1 as never });
    await expect(wrong).rejects.toMatchObject({ option: 'skipUnreachable' });
    const failure = { code: 'ERR_GROUP_MISSING', streamKey: missing, group: 'none' };
    await expect(manager.consumers(missing, 'none')).rejects.toMatchObject(failure);
    expect(await streams.redis.exists(missing)).toBe(0);
  });

  it('info(), groups() and consumers() of a stream with shards sum up its shards, and name each', async () => {
    const stream = uniqueName('sharded');
    const { redis } = streams;
    const manager = await (await streams.connect()).createManager();
    // 9 is found, because the gap is small; the others are no shards.
    const lengths = { 0: 3, 1: 2, 9: 1 };
    for (const [shard, length] of Object.entries(lengths)) {
      const key = `${stream}:${shard}`;
      for (let n = 1; n <= length; n += 1) await redis.xadd(key, `${n}-${shard}`, 'msg', 'x');
      await redis.xgroup('CREATE', key, 'workers', '0');
      await redis.xreadgroup('GROUP', 'workers', `only-${shard}`, 'COUNT', 1, 'STREAMS', key, '>');
    }
    await redis.xreadgroup('GROUP', 'workers', 'both', 'COUNT', 9, 'STREAMS', `${stream}:0`, `${stream}:1`, '>', '>');
    await redis.xgroup('CREATE', `${stream}:1`, 'rare', '0');
    for (const other of ['dead', '01', '1x', '-1']) await redis.xadd(`${stream}:${other}`, '*', 'msg', 'x');
    await redis.set(`${stream}:2`, 'no stream');
    await manager.pauseGroup(stream, 'workers');

    const info = await manager.info(stream);
    expect(info).toMatchObject({ streamKey: stream, length: 6, firstId: '1-0', lastId: '3-0' });
    expect(info.shards).toMatchObject(
      Object.entries(lengths).map(([shard, length]) => {
        return { key: `${stream}:${shard}`, shardId: Number(shard), length, firstId: `1-${shard}` };
      }),
    );
    expect(info.memory).toBe(info.shards.reduce((sum, { memory }) => sum + (memory ?? Number.NaN), 0));
    const consumers = [
      { name: 'both', pending: 3 },
      { name: 'only-0', pending: 1 },
      { name: 'only-1', pending: 1 },
      { name: 'only-9', pending: 1 },
    ];
    const byName = <T extends { name: string }>(items: readonly T[] = []): T[] =>
      [...items].sort((one, other) => (one.name < other.name ? -1 : 1));
    const [rare, workers] = byName(info.groups);
    expect(rare).toMatchObject({ name: 'rare', pending: 0, lastDeliveredId: '0-0', consumers: [], isPaused: false });
    expect([2, undefined]).toContain(rare?.lag);
    // Its oldest entry is of 1970.
    expect(rare?.lagSeconds).toBeGreaterThan(1_000_000_000);
    expect(workers).toMatchObject({ name: 'workers', pending: 6, lastDeliveredId: '1-9', isPaused: true });
    expect(workers).toMatchObject({ lag: 0, lagSeconds: 0 });
    expect(byName(workers?.consumers)).toMatchObject(consumers);
    const [, again] = byName(await manager.groups(stream));
    expect(again).toMatchObject({ name: 'workers', pending: 6, lastDeliveredId: '1-9', isPaused: true });
    expect(byName(await manager.consumers(stream, 'workers'))).toMatchObject(consumers);

    // By its own name a shard is a stream; it is paused with the stream whose shard it is.
    const shard = await manager.info(`${stream}:1`);
    expect(shard).toMatchObject({ length: 2, firstId: '1-1', lastId: '2-1', shards: [{ shardId: 0 }] });
    expect(shard.groups.map(({ name, isPaused }) => `${name} ${isPaused}`).sort()).toEqual([
      'rare false',
      'workers true',
    ]);
  });

  it('setGroupPosition() moves a whole group to an id, a time, the beginning or the end', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    for (const number of numbers(0, 9)) producer.enqueue(number, { timestamp: new Date(1_000_000 + Number(number)) });
    await producer.flush();
    const manager = await streamer.createManager();
    // Without claiming, the entries that an earlier consumer had prefetched stay pending.
    const reading = { autoStreamReset: 'earliest', batchSize: 1, prefetch: 1, autoClaimInterval: false } as const;
    const options = { mode: 'load-balanced', group: 'workers', autoCommit: 'rolling', ...reading } as const;
    const nextOf = async (): Promise<string | undefined> => {
      const consumer = await streamer.createConsumer(stream, options);
      const [message] = await take(consumer, 1);
      if (message) consumer.ack(message);
      await consumer.end();
      return message?.text();
    };

    expect(await nextOf()).toBe('0');
    await manager.setGroupPosition(stream, 'workers', { id: '1000004-0' });
    expect(await nextOf()).toBe('5');
    await manager.setGroupPosition(stream, 'workers', new Date(1_000_006));
    expect(await nextOf()).toBe('7');
    await manager.setGroupPosition(stream, 'workers', 'end');
    await producer.send('10');
    expect(await nextOf()).toBe('10');
    await manager.setGroupPosition(stream, 'workers', 'beginning');
    expect(await nextOf()).toBe('0');
  });

  it('removeConsumer() refuses while entries are pending for the consumer', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(stream), 0, 2);
    const options = { mode: 'load-balanced', group: 'workers', consumer: 'gone', autoStreamReset: 'earliest' } as const;
    const consumer = await streamer.createConsumer(stream, { ...options, autoCommit: 'disabled' });
    expect(await takeTexts(consumer, 3)).toEqual(numbers(0, 2));
    await consumer.end();
    const manager = await streamer.createManager();

    const removal = manager.removeConsumer(stream, 'workers', 'gone');
    await expect(removal).rejects.toMatchObject({ code: 'ERR_CONSUMER_PENDING', pending: 3 });
    expect(await consumersOf(streams.redis, stream, 'workers')).toEqual(['gone']);

    const ids = (await manager.pending(stream, 'workers')).map(({ id }) => id);
    await streams.redis.xack(stream, 'workers', ...ids);
    await manager.removeConsumer(stream, 'workers', 'gone');
    expect(await consumersOf(streams.redis, stream, 'workers')).toEqual([]);
  });

  it('an error names a group that does not exist', async () => {
    const [stream, missing] = [uniqueName('stream'), uniqueName('missing')];
    const streamer = await streams.connect();
    await (await streamer.createProducer(stream)).send('x');
    const manager = await streamer.createManager();

    for (const key of [stream, missing]) {
      const failure = { code: 'ERR_GROUP_MISSING', streamKey: key, group: 'none' };
      await expect(manager.setGroupPosition(key, 'none', 'end')).rejects.toMatchObject(failure);
      await expect(manager.pending(key, 'none')).rejects.toMatchObject(failure);
      await expect(manager.consumers(key, 'none')).rejects.toMatchObject(failure);
      await expect(manager.removeConsumer(key, 'none', 'nobody')).rejects.toMatchObject(failure);
    }
  });
});
