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
    expect(group?.consumers).toEqual([{ name: 'one', pending: 5, idle: expect.any(Number) }]);
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
      await expect(manager.removeConsumer(key, 'none', 'nobody')).rejects.toMatchObject(failure);
    }
  });
});
