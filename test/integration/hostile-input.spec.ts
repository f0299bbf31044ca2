import { describe, expect, it } from '@jest/globals';

import { RedisStreamer } from '../../lib/index.js';
import type { AcknowledgingConsumer, ConsumerOptions, StreamMessage } from '../../lib/index.js';
import { uniqueName } from '../support/redis.js';
import { pendingOf, take, takeTexts, texts, useStreams } from '../support/streams.js';
import { until } from '../support/until.js';

const streams = useStreams();

const MAX = '18446744073709551615';
const FIRST_ID = '0-1';
const LAST_ID = `${MAX}-${MAX}`;
const GROUP = { mode: 'load-balanced', group: 'g', autoStreamReset: 'earliest', autoCommitInterval: 5 } as const;
const NOT_UTF8 = Buffer.from([0xff, 0xfe, 0x00, 0xc3, 0x28]);
const NAMES_OF_EVERY_OBJECT = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf', 'toJSON', 'then'];

/** Opens a consumer of the group; the test acknowledges each message itself. */
async function open(stream: string): Promise<AcknowledgingConsumer> {
  const streamer = await streams.connect();
  return streamer.createConsumer(stream, { ...GROUP, autoCommit: 'rolling', mkStream: true });
}

async function untilAcknowledged(stream: string): Promise<void> {
  await until('nothing is pending', async () => (await pendingOf(streams.redis, stream, 'g')).length === 0);
}

/** Appends with an explicit id, as only a foreign writer does. */
const addAt = (stream: string, id: string, payload = id): Promise<string | null> =>
  streams.redis.xadd(stream, id, 'msg', payload);

describe('headers', () => {
  it('may have the names of inherited object properties, and remain plain headers', async () => {
    const stream = uniqueName('names');
    const consumer = await open(stream);
    const producer = await (await streams.connect()).createProducer(stream);
    const headers = Object.fromEntries(NAMES_OF_EVERY_OBJECT.map((name) => [name, `value of ${name}`]));
    await producer.send('x', { headers });

    const [message] = (await take(consumer, 1)) as [StreamMessage];
    expect(Object.entries(message.headers)).toEqual(Object.entries(headers));
    expect(Object.getPrototypeOf(message.headers)).toBe(Object.prototype);
    expect(Object.entries(JSON.parse(JSON.stringify(message)).headers)).toEqual(Object.entries(headers));
    expect(Object.keys(Object.prototype)).toEqual([]);
    consumer.ack(message);
    await untilAcknowledged(stream);
  });

  it('may be empty or any text', async () => {
    const stream = uniqueName('text');
    const consumer = await open(stream);
    const producer = await (await streams.connect()).createProducer(stream);
    const headers = {
      '': 'no name',
      empty: '',
      'h:': 'the prefix again',
      'line\r\nbreak': '*1\r\n$4\r\nPING\r\n',
      'nul\0': '\0',
      'grüße 👩‍👩‍👧 שלום': '\u{10ffff}\ufeff',
    };
    await producer.send('', { headers });

    const [message] = (await take(consumer, 1)) as [StreamMessage];
    expect(message.headers).toEqual(headers);
    expect([message.text(), message.payload.length]).toEqual(['', 0]);
  });
});

describe('large messages', () => {
  it.each(['at-least-once', 'at-most-once', 'exactly-once'] as const)(
    'of 10 MB arrive unchanged (%s)',
    async (delivery) => {
      const stream = uniqueName('large');
      const consumer = await open(stream);
      const producer = await (await streams.connect()).createProducer(stream, { delivery });
      const payload = Buffer.alloc(10 * 1024 * 1024, NOT_UTF8);
      await Promise.all([producer.send(payload), producer.send('small')]);

      const [large, small] = (await take(consumer, 2)) as [StreamMessage, StreamMessage];
      expect(large.payload.equals(payload)).toBe(true);
      expect(small.text()).toBe('small');
      consumer.ack(large);
      consumer.ack(small);
      await untilAcknowledged(stream);
    },
  );

  it('above the limit of the server are refused before they are sent, and the connection stays open', async () => {
    const producer = await (await streams.connect()).createProducer(uniqueName('too-large'));
    const tooLarge = new Uint8Array(512 * 1024 * 1024);

    await expect(producer.send(tooLarge)).rejects.toMatchObject({ code: 'ERR_PAYLOAD_TOO_LARGE', retryable: false });
    await producer.send('small');
  });

  it('with 1,000 headers keep all of them when other messages are in the same batch', async () => {
    const stream = uniqueName('headers');
    const consumer = await open(stream);
    const headers = Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`name-${index}`, `${index}`]));
    for (const delivery of ['at-least-once', 'exactly-once'] as const) {
      const producer = await (await streams.connect()).createProducer(stream, { delivery });
      await Promise.all([producer.send('1'), producer.send('2', { headers }), producer.send('3')]);

      const messages = await take(consumer, 3);
      expect(texts(messages)).toEqual(['1', '2', '3']);
      expect((messages[1] as StreamMessage).headers).toEqual(headers);
    }
  });

  it('with more headers than a script can pass on are sent without the script, in order', async () => {
    const stream = uniqueName('many');
    const consumer = await open(stream);
    const producer = await (await streams.connect()).createProducer(stream);
    const headers = Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`name-${index}`, `${index}`]));
    const receipts = await Promise.all([producer.send('1'), producer.send('2', { headers }), producer.send('3')]);

    const messages = await take(consumer, 3);
    expect(messages.map(({ id }) => id)).toEqual(receipts.map(({ id }) => id));
    expect(Object.keys((messages[1] as StreamMessage).headers)).toHaveLength(5_000);
  });

  it('with more headers than a script can pass on are refused without the rest of their batch when delivery needs a script', async () => {
    const stream = uniqueName('refused');
    const producer = await (await streams.connect()).createProducer(stream, { delivery: 'exactly-once' });
    const headers = Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`name-${index}`, `${index}`]));
    const outcomes = await Promise.allSettled([
      producer.send('1'),
      producer.send('2', { headers }),
      producer.send('3'),
    ]);

    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(outcomes[1]).toMatchObject({ reason: { code: 'ERR_INVALID_OPTION', option: 'headers' } });
    expect(await streams.redis.xlen(stream)).toBe(2);
  });

  it('with many headers are sent when their batch has more arguments than one command may have', async () => {
    const stream = uniqueName('parts');
    const producer = await (await streams.connect()).createProducer(stream);
    const headers = Object.fromEntries(Array.from({ length: 1_200 }, (_, index) => [`n${index}`, '']));
    for (let index = 0; index < 450; index += 1) producer.enqueue(String(index), { headers });
    await producer.flush();

    expect(await streams.redis.xlen(stream)).toBe(450);
  });

  it('with 1,000 fields of a foreign writer keep all of them', async () => {
    const stream = uniqueName('fields');
    const fields = Array.from({ length: 1_000 }, (_, index) => [`field-${index}`, `value-${index}`] as const);
    await streams.redis.xadd(stream, '*', ...fields.flat());
    const consumer = await open(stream);

    const [message] = (await take(consumer, 1)) as [StreamMessage];
    expect([...message.fields].map(([name, value]) => [name, value.toString()])).toEqual(fields);
    expect([message.hasPayload, message.headers]).toEqual([false, {}]);
    consumer.ack(message);
    await untilAcknowledged(stream);
  });
});

describe('entries of a foreign writer', () => {
  it('that are not UTF-8 are delivered byte for byte, and can be printed', async () => {
    const stream = uniqueName('bytes');
    await streams.redis.xadd(stream, '*', NOT_UTF8, 'a', 'msg', NOT_UTF8, Buffer.from([0x68, 0x3a, 0xff]), NOT_UTF8);
    const consumer = await open(stream);

    const [message] = (await take(consumer, 1)) as [StreamMessage];
    expect(message.payload.equals(NOT_UTF8)).toBe(true);
    expect([...message.fields.keys()]).toEqual([NOT_UTF8.toString(), 'msg', 'h:\ufffd']);
    expect(message.headers).toEqual({ '\ufffd': NOT_UTF8.toString() });
    expect(() => message.json()).toThrow(expect.objectContaining({ code: 'ERR_PAYLOAD_DECODE' }));
    expect(JSON.parse(JSON.stringify(message))).toMatchObject({ id: message.id, payload: NOT_UTF8.toString() });
    consumer.ack(message);
    await untilAcknowledged(stream);
  });

  it('that have a field twice are delivered with the first payload and the last header', async () => {
    const stream = uniqueName('twice');
    await streams.redis.xadd(stream, '*', 'msg', 'first', 'h:a', '1', 'msg', 'second', 'h:a', '2');
    const [message] = (await take(await open(stream), 1)) as [StreamMessage];

    expect([message.text(), message.headers]).toEqual(['first', { a: '2' }]);
  });

  it('with JSON of 100,000 levels end neither the process nor the stream', async () => {
    const stream = uniqueName('deep');
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    await streams.redis.xadd(stream, '*', 'msg', deep);
    await streams.redis.xadd(stream, '*', 'msg', '['.repeat(100_000));
    await streams.redis.xadd(stream, '*', 'msg', '{"ok":true}');
    const consumer = await open(stream);

    const [whole, half, flat] = (await take(consumer, 3)) as [StreamMessage, StreamMessage, StreamMessage];
    expect(Array.isArray(whole.json())).toBe(true);
    expect(() => half.json()).toThrow(expect.objectContaining({ code: 'ERR_PAYLOAD_DECODE' }));
    expect(flat.json()).toEqual({ ok: true });
    expect(JSON.parse(JSON.stringify(whole)).payload).toBe(deep);
  });
});

describe('ids at both ends of their range', () => {
  const IDS = [FIRST_ID, '1-65536', `281474976710656-0`, `${MAX}-0`, LAST_ID];
  const modes: ConsumerOptions[] = [
    { mode: 'real-time', autoStreamReset: 'earliest' },
    { mode: 'resumable', group: 'g', autoStreamReset: 'earliest', autoCommitInterval: 5 },
    { ...GROUP },
    { ...GROUP, autoCommit: 'immediate' },
    { ...GROUP, autoCommit: 'delayed', autoCommitDelay: 5 },
  ];
  it.each(modes)('are delivered and acknowledged (%j)', async (options) => {
    const stream = uniqueName('ids');
    for (const id of IDS) await addAt(stream, id);
    const consumer = await (await streams.connect()).createConsumer(stream, options);

    const messages = await take(consumer, IDS.length);
    expect(messages.map(({ id }) => id)).toEqual(IDS);
    await consumer.end();
    if (options.mode !== 'real-time') await untilAcknowledged(stream);
  });

  it('have no 64-bit sequence when they need more bits, and can still be printed', async () => {
    const stream = uniqueName('sequence');
    for (const id of IDS) await addAt(stream, id);
    const messages = await take(await open(stream), IDS.length);

    expect((messages[0] as StreamMessage).sequence).toBe(1n);
    for (const message of messages.slice(1)) {
      expect(() => message.sequence).toThrow(expect.objectContaining({ code: 'ERR_SEQUENCE_OVERFLOW' }));
    }
    const printed = JSON.parse(JSON.stringify(messages)) as Array<{ id: string; timestamp: string | null }>;
    expect(printed.map(({ id }) => id)).toEqual(IDS);
    // The range of a Date ends long before that of the milliseconds of an id.
    expect(printed.map(({ timestamp }) => timestamp)).toEqual([
      '1970-01-01T00:00:00.000Z',
      '1970-01-01T00:00:00.001Z',
      '+010889-08-02T05:31:50.656Z',
      null,
      null,
    ]);
  });

  it('are claimed from a dead consumer', async () => {
    const stream = uniqueName('claimed');
    for (const id of IDS) await addAt(stream, id);
    await streams.redis.xgroup('CREATE', stream, 'g', '0');
    await streams.redis.xreadgroup('GROUP', 'g', 'gone', 'COUNT', 10, 'STREAMS', stream, '>');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, {
      ...GROUP,
      autoCommit: 'rolling',
      autoClaimIdle: 100,
      autoClaimInterval: 50,
    });

    const messages = await take(consumer, IDS.length);
    expect(messages.map(({ id, deliveryCount }) => `${id} ${deliveryCount}`)).toEqual(IDS.map((id) => `${id} 2`));
    for (const message of messages) consumer.ack(message);
    await untilAcknowledged(stream);
  });

  it('are found in ranges and in pages of pending entries', async () => {
    const stream = uniqueName('ranges');
    for (const id of IDS) await addAt(stream, id);
    await streams.redis.xgroup('CREATE', stream, 'g', '0');
    await streams.redis.xreadgroup('GROUP', 'g', 'c', 'COUNT', 10, 'STREAMS', stream, '>');
    const manager = await (await streams.connect()).createManager();

    expect(texts(await manager.range(stream, FIRST_ID, LAST_ID))).toEqual(IDS);
    expect(texts(await manager.range(stream, LAST_ID, LAST_ID))).toEqual([LAST_ID]);
    const last = await manager.pending(stream, 'g', { after: `${MAX}-0` });
    expect(last.map(({ id }) => id)).toEqual([LAST_ID]);
    expect(await manager.pending(stream, 'g', { after: LAST_ID })).toEqual([]);
  });

  it('leave no id after the last one: a send fails at once with a clear error', async () => {
    const stream = uniqueName('full');
    await addAt(stream, LAST_ID);
    const streamer = await streams.connect();
    for (const delivery of ['at-least-once', 'exactly-once'] as const) {
      const producer = await streamer.createProducer(stream, { delivery });
      await expect(producer.send('x')).rejects.toMatchObject({
        code: 'ERR_SEND_FAILED',
        retryable: false,
        streamKey: stream,
      });
      await expect(producer.send('x', { timestamp: new Date() })).rejects.toMatchObject({ retryable: false });
    }
    expect(streamer.status).toBe('connected');
  });

  it('are valid positions for seek and rewind', async () => {
    const stream = uniqueName('moved');
    for (const id of IDS) await addAt(stream, id);
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { ...GROUP, mode: 'resumable', autoCommit: 'disabled' });

    await consumer.rewind({ id: `${MAX}-0` });
    expect(await takeTexts(consumer, 1)).toEqual([LAST_ID]);
    await consumer.rewind({ id: LAST_ID });
    await consumer.rewind('beginning');
    expect(await takeTexts(consumer, 2)).toEqual(IDS.slice(0, 2));
  });
});

it('groups and consumers whose names are no UTF-8 do not keep the manager from listing the others', async () => {
  const stream = uniqueName('names');
  const { redis } = streams;
  const [group, consumer] = [Buffer.from([0xff, 0xfe, 0]), Buffer.from([0xc0])];
  await addAt(stream, '1-0');
  await redis.call('XGROUP', 'CREATE', stream, group, '0');
  await redis.call('XREADGROUP', 'GROUP', group, consumer, 'STREAMS', stream, '>');
  for (const name of ['__proto__', '']) await redis.xgroup('CREATE', stream, name, '0');
  await redis.call('XREADGROUP', 'GROUP', '__proto__', consumer, 'STREAMS', stream, '>');
  const manager = await (await streams.connect()).createManager();

  const { groups } = await manager.info(stream);
  expect(new Set(groups.map(({ name }) => name))).toEqual(new Set([group.toString(), '__proto__', '']));
  expect(groups.find(({ name }) => name === group.toString())).toMatchObject({ pending: 1, consumers: [] });
  expect(await manager.consumers(stream, '__proto__')).toMatchObject([{ name: consumer.toString(), pending: 1 }]);
});

describe('stream keys', () => {
  const KEYS = [...NAMES_OF_EVERY_OBJECT, 'a*', 'a[b-z]?', '\\*', '*', ' ', 'line\r\nbreak', 'grüße:👩‍👩‍👧', '{tag}{', '0'];

  it('may be any text, each naming a separate stream', async () => {
    const streamer = await streams.connect({ keyPrefix: '__proto__:' });
    const producer = await streamer.createGenericProducer();
    const consumer = await streamer.createConsumer(KEYS, { ...GROUP, mkStream: true, shardDiscoveryInterval: 100 });
    await Promise.all(KEYS.map((key) => producer.sendTo(key, key)));

    const messages = await take(consumer, KEYS.length);
    expect(messages.map(({ streamKey }) => streamKey).sort()).toEqual([...KEYS].sort());
    for (const message of messages) expect(message.text()).toBe(message.streamKey);
    await consumer.end();
    for (const key of KEYS) await untilAcknowledged(`__proto__:${key}`);
  });

  it.each(['app[12]:', 'a*:', '?:', '\\', '[^a]:', 'grüße:'])(
    'under the prefix %j with glob characters are listed, and no other keys',
    async (keyPrefix) => {
      const manager = await (await streams.connect({ keyPrefix })).createManager();
      for (const key of KEYS) await addAt(keyPrefix + key, '*');
      for (const key of ['app1:s', 'abc:s', 'x:s', 'b:s', 's', 'gruesse:s']) await addAt(key, '*');
      await streams.redis.set(`${keyPrefix}string`, 'no stream');

      const found: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await manager.scan(cursor);
        found.push(...page.streams);
        cursor = page.cursor;
      } while (cursor !== '0');
      expect([...new Set(found)].sort()).toEqual([...KEYS].sort());
    },
  );
});

describe('a database that is refused', () => {
  it('fails connect() and is never replaced by database 0', async () => {
    const key = uniqueName('database');
    const url = new URL(streams.url);
    url.pathname = '/9999';
    const failing = RedisStreamer.connect(url.href, { timeout: 500 });
    await expect(failing).rejects.toMatchObject({ message: expect.stringMatching(/DB index is out of range/) });

    await streams.redis.call('ACL', 'SETUSER', key, 'on', '>pw', '~*', '+@all', '-select');
    try {
      Object.assign(url, { username: key, password: 'pw', pathname: '/1' });
      await expect(RedisStreamer.connect(url.href)).rejects.toMatchObject({ code: 'ERR_PERMISSION', retryable: false });
    } finally {
      await streams.redis.call('ACL', 'DELUSER', key);
    }
  });
});
