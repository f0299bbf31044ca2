import { expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import type { RedisStreamer, RedisStreamsContext, StreamMessage } from '../../lib/index.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

/** All keys that contain a text, sorted. */
const keysWith = async (text: string): Promise<string[]> => (await nest.redis.keys(`*${text}*`)).sort();

async function streamer(): Promise<RedisStreamer> {
  return nest.client().unwrap<RedisStreamer>();
}

it.each([
  ['', ''],
  ['app:', ''],
  ['', '{shop}'],
])(
  'a stream with dead letters, requests, an inbox and exactly-once has no key that looks like a shard (prefix %j, tag %j)',
  async (keyPrefix, tag) => {
    const pattern = `${tag}${uniqueName('named')}`;
    const client = nest.client({ keyPrefix, delivery: 'exactly-once' });
    const inbox = client.unwrap<RedisStreamer>().createInbox(GROUP);
    const handle = async (data: string, context: RedisStreamsContext): Promise<void> => {
      await inbox.once(context.getMessage(), async () => undefined);
      if (data === 'poison') throw new Error('broken');
    };
    await nest.serve([onEvent(pattern, handle), onRequest(`${pattern}-sum`, () => 3)], { keyPrefix, retry: false });
    for (const data of ['healthy', 'poison']) await firstValueFrom(client.emit(pattern, data));
    expect(await firstValueFrom(client.send(`${pattern}-sum`, [1, 2]))).toBe(3);
    const key = keyPrefix + pattern;
    await until('the poison is a dead letter', async () => (await nest.redis.exists(`${key}.dead`)) === 1);

    const names = (await keysWith(pattern)).filter((name) => !name.includes('-sum'));
    const slotTag = tag === '' ? key : 'shop';
    const side = names.filter((name) => name.startsWith(`${keyPrefix}nrs:{${slotTag}}:`));
    expect(side.filter((name) => name.includes(`:producer:${key}:`))).toHaveLength(1);
    // The poison has no record: its work has run, and its handling has failed behind it.
    expect(side.filter((name) => name.includes(`:handled:${key}:${GROUP}:`))).toHaveLength(2);
    expect(names.filter((name) => !side.includes(name))).toEqual([key, `${key}.dead`]);
    expect(names.filter((name) => name.startsWith(`${key}:`))).toEqual([]);
  },
);

it('the keys beside a sharded stream name its shards, and only shards look like shards', async () => {
  const stream = uniqueName('sharded');
  const producer = await (
    await streamer()
  ).createProducer(stream, {
    delivery: 'exactly-once',
    sharder: { shards: 2, shardOf: (_stream, key) => Number(key) },
  });
  for (const key of ['0', '1']) await producer.send('x', { key });
  const consumer = await (
    await streamer()
  ).createConsumer(stream, {
    mode: 'load-balanced',
    group: 'g',
    autoStreamReset: 'earliest',
  });
  const inbox = (await streamer()).createInbox('g');
  const messages: StreamMessage[] = [];
  for (let taken = 0; taken < 2; taken += 1) messages.push(await consumer.next());
  for (const message of messages) await inbox.once(message, async () => undefined);
  await consumer.end();

  const names = await keysWith(stream);
  expect(names.filter((name) => name.startsWith(`${stream}:`))).toEqual([`${stream}:0`, `${stream}:1`]);
  for (const { shardId, id } of messages) {
    const key = `${stream}:${shardId}`;
    expect(names).toContain(`nrs:{${key}}:handled:${key}:g:${id}`);
    expect(names.filter((name) => name.startsWith(`nrs:{${key}}:producer:${key}:`))).toHaveLength(1);
  }
});

it('an inbox takes an entry of a stream and the entry of its shard 0 with the same id for two messages', async () => {
  const stream = uniqueName('plain-and-sharded');
  await nest.redis.xadd(stream, '5-1', 'msg', 'plain');
  await nest.redis.xadd(`${stream}:0`, '5-1', 'msg', 'shard');
  const consumer = await (
    await streamer()
  ).createConsumer(stream, {
    mode: 'load-balanced',
    group: 'g',
    autoStreamReset: 'earliest',
  });
  const inbox = (await streamer()).createInbox('g');
  const handled: string[] = [];
  for (let taken = 0; taken < 2; taken += 1) {
    const message = await consumer.next();
    await inbox.once(message, async () => void handled.push(message.text()));
  }
  await consumer.end();
  expect(handled.sort()).toEqual(['plain', 'shard']);
});

it('a stream whose braces are no hash tag is refused by name for what needs a key beside it, and usable without', async () => {
  const stream = `${uniqueName('odd')}}{`;
  const engine = await streamer();
  const refusal = { code: 'ERR_INVALID_OPTION', option: 'streamKey', value: stream };
  await expect(engine.createProducer(stream, { delivery: 'exactly-once' })).rejects.toMatchObject(refusal);
  const generic = await engine.createGenericProducer({ delivery: 'exactly-once' });
  await expect(generic.sendTo(stream, 'x')).rejects.toMatchObject(refusal);
  expect(() => generic.enqueueTo(stream, 'x')).toThrow(expect.objectContaining(refusal));
  const client = nest.client({ delivery: 'exactly-once' });
  await expect(firstValueFrom(client.emit(stream, 'x'))).rejects.toMatchObject(refusal);
  expect(await nest.redis.exists(stream)).toBe(0);

  await addRaw(nest.redis, stream, 'msg', 'x');
  const [message] = (await (await engine.createManager()).range(stream, '-', '+')) as [StreamMessage];
  const done: string[] = [];
  const once = engine.createInbox('g').once(message, async () => void done.push('work'));
  await expect(once).rejects.toMatchObject(refusal);
  expect(done).toEqual([]);

  const handled: unknown[] = [];
  await nest.serve(onEvent(stream, (data) => void handled.push(data)));
  await nest.emit(stream, 'plain');
  await until('the plain message is handled', () => handled.includes('plain'));
});
