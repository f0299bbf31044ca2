import { describe, expect, it } from '@jest/globals';
import type { StreamMessage } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { addRaw, pendingOf, take, useStreams } from '../../support/streams.js';

const streams = useStreams();

describe('messages of other writers', () => {
  it('scenario 19: an entry without the payload field is delivered with all its fields, and can be acked', async () => {
    const [stream, group] = [uniqueName('orders'), uniqueName('group')];
    const streamer = await streams.connect();
    const options = { mode: 'load-balanced', group, autoCommit: 'disabled', mkStream: true } as const;
    const consumer = await streamer.createConsumer(stream, options);
    const id = await addRaw(streams.redis, stream, 'id', '7', 'total', '5');

    const [message] = (await take(consumer, 1)) as [StreamMessage];
    expect(message.id).toBe(id);
    expect(message.payload.length).toBe(0);
    expect(message.text()).toBe('');
    expect([...message.fields].map(([name, value]) => [name, value.toString()])).toEqual([
      ['id', '7'],
      ['total', '5'],
    ]);
    expect(Object.keys(message.headers)).toEqual([]);
    expect(() => message.json()).toThrow(expect.objectContaining({ code: 'ERR_PAYLOAD_DECODE' }));

    consumer.ack(message);
    await consumer.commit();
    expect(await pendingOf(streams.redis, stream, group)).toEqual([]);
  });

  it('scenario 19: malformed entries do not block the entries around them', async () => {
    const stream = uniqueName('orders');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time' });
    const { redis } = streams;
    await addRaw(redis, stream, 'msg', 'first');
    await addRaw(redis, stream, '', '');
    await redis.xadd(stream, '*', Buffer.from([0xff, 0x00]), Buffer.from([0xfe, 0x0a]), 'msg', Buffer.from([0x80]));
    await addRaw(redis, stream, 'msg', 'one', 'msg', 'two', 'h:', 'nameless', 'h:a', 'b');
    await addRaw(redis, stream, 'msg', 'last');

    const messages = await take(consumer, 5);
    expect(messages[0]?.text()).toBe('first');
    expect([...(messages[1]?.fields.keys() ?? [])]).toEqual(['']);
    expect([...(messages[2]?.payload ?? [])]).toEqual([0x80]);
    expect({ ...messages[3]?.headers }).toEqual({ '': 'nameless', a: 'b' });
    expect(messages[4]?.text()).toBe('last');
  });

  it('scenario 19: an id past 48 bits of time or 16 bits of counter is delivered; only its sequence is refused', async () => {
    const stream = uniqueName('orders');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time' });
    await streams.redis.xadd(stream, '5-65535', 'msg', 'fits');
    await streams.redis.xadd(stream, '5-65536', 'msg', 'does not');
    await streams.redis.xadd(stream, `${2n ** 48n}-0`, 'msg', 'neither');
    // A time beyond the range of a Date.
    await streams.redis.xadd(stream, `${2n ** 63n}-0`, 'msg', 'nor this');

    const [fits, ...rest] = (await take(consumer, 4)) as [StreamMessage, ...StreamMessage[]];
    expect(fits.sequence).toBe((5n << 16n) | 65_535n);
    for (const message of rest) {
      expect(() => message.sequence).toThrow(
        expect.objectContaining({ code: 'ERR_SEQUENCE_OVERFLOW', id: message.id }),
      );
      expect(JSON.parse(JSON.stringify(message))).toMatchObject({ id: message.id, payload: message.text() });
    }
  });

  it('scenario 20: an entry has only the payload in the payload field, and each header in its own field', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    await producer.send('{"pattern":"x","data":1}');
    await producer.send(Buffer.from([0, 1, 255]), { headers: { traceparent: '00-abc' } });

    const entries = (await streams.redis.xrangeBuffer(stream, '-', '+')) as Array<[Buffer, Buffer[]]>;
    expect(entries.map(([, fields]) => fields)).toEqual([
      [Buffer.from('msg'), Buffer.from('{"pattern":"x","data":1}')],
      [Buffer.from('msg'), Buffer.from([0, 1, 255]), Buffer.from('h:traceparent'), Buffer.from('00-abc')],
    ]);
  });

  it('scenario 20: an entry of sea-streamer, XADD with `msg` alone, is delivered unchanged', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, {
      mode: 'resumable',
      group: uniqueName('group'),
      mkStream: true,
    });
    await addRaw(streams.redis, stream, 'msg', '{"id":7}');

    const [message] = (await take(consumer, 1)) as [StreamMessage];
    expect(message.json()).toEqual({ id: 7 });
    expect([...message.fields.keys()]).toEqual(['msg']);
  });

  it('scenario 20: the payload field can have another name', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect({ messageField: 'body' });
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time' });
    await (await streamer.createProducer(stream)).send('ours');
    await addRaw(streams.redis, stream, 'msg', 'not this', 'body', 'theirs');

    expect((await take(consumer, 2)).map((message) => message.text())).toEqual(['ours', 'theirs']);
    expect((await streams.redis.xrange(stream, '-', '+'))[0]?.[1]).toEqual(['body', 'ours']);
  });
});
