import { randomBytes } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';

import { RedisStreamer } from '../../lib/index.js';
import type { Payload } from '../../lib/index.js';
import { RespChannel } from '../../lib/redis/wire/resp-channel.js';
import { redisUrl, uniqueName } from '../support/redis.js';
import { take, useStreams } from '../support/streams.js';

const streams = useStreams();

describe('replies that this package decodes itself', () => {
  it.each([
    ['a URL', redisUrl],
    ['options', () => ({ host: new URL(redisUrl()).hostname, port: Number(new URL(redisUrl()).port) })],
    ['a function', () => () => new Redis(redisUrl(), { lazyConnect: true })],
  ])('are decoded on writers and readers created from %s', async (_, connectionFor) => {
    const stream = uniqueName('stream');
    await using streamer = await RedisStreamer.connect(connectionFor());
    const reader = streamer.connections.acquireReader('');
    await reader.ready();
    const roles = ['writer', 'control', 'reader'] as const;
    const channels = roles.flatMap((role) => streamer.connections.ofRole(role)).map(({ channel }) => channel);
    expect(channels.map((channel) => channel instanceof RespChannel)).toEqual([true, true, true]);

    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    await (await streamer.createProducer(stream)).send('hello');
    expect((await consumer.next()).text()).toBe('hello');
  });

  it('contain every byte unchanged, whatever its value and the length of the payload', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const payloads: Payload[] = [
      '',
      'ü\r\n$3\r\n€ 𝄞',
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      randomBytes(65_536),
      '$'.repeat(1_024),
      '*'.repeat(1_025),
      randomBytes(5_000_000),
      'last',
    ];
    const headers = { ключ: 'значение', empty: '' };
    const receipts = await Promise.all(
      payloads.map((payload, index) => producer.send(payload, index % 2 === 0 ? {} : { headers })),
    );

    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    const messages = await take(consumer, payloads.length);
    expect(messages.map(({ id }) => id)).toEqual(receipts.map(({ id }) => id));
    messages.forEach((message, index) => {
      expect(message.payload.equals(Buffer.from(payloads[index] as Uint8Array))).toBe(true);
      expect(message.headers).toEqual(index % 2 === 0 ? {} : headers);
    });
  });

  it('keep an error separate from the ids around it', async () => {
    const stream = uniqueName('stream');
    const producer = await (await streams.connect()).createProducer(stream);
    const sends = [undefined, new Date(1_000), undefined].map((timestamp) =>
      producer.send('x', timestamp ? { timestamp } : {}),
    );
    const outcomes = await Promise.allSettled(sends);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect((outcomes[1] as PromiseRejectedResult).reason).toMatchObject({ code: 'ERR_TIMESTAMP_REFUSED' });
    expect(await streams.redis.xlen(stream)).toBe(2);
  });
});
