import type { Redis } from 'ioredis';
import { beforeEach, expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import type { StreamProducer } from '../../../lib/index.js';
import { NEEDED, SCRIPTS, documentedFor, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { RedisServer } from '../../support/redis-server.js';
import { ShardRecorder } from '../../support/shard-recorder.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const LIMIT = 30_000;
const STREAM = 'orders';
const LAYOUT = `nrs:{${STREAM}}:layout:${STREAM}`;
let server: RedisServer;
let admin: Redis;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
});

async function sendNumbers(producer: StreamProducer, first: number, last: number): Promise<void> {
  for (let number = first; number <= last; number += 1) await producer.send(`k:${number}`, { key: 'k' });
}

const texts = (recorder: ShardRecorder): string[] => recorder.handled.map(({ text }) => text);
const numbered = (count: number): string[] => Array.from({ length: count }, (_, number) => `k:${number}`);

/** A change to three shards that has come to its last step when its process died. */
async function changeUntilClosed(): Promise<void> {
  const [now] = await admin.time();
  await admin.hset(LAYOUT, 'layouts', '0:2', 'pending', `2:3:${now}000`);
  for (const id of [2, 3, 4]) await admin.xgroup('CREATE', `${STREAM}:${id}`, 'x', '0', 'MKSTREAM');
  for (const id of [0, 1]) await admin.call('XSETID', `${STREAM}:${id}`, '18446744073709551615-18446744073709551615');
}

it('a server whose memory is full when the old shards are closed: sends and the change are refused, and pass when it has memory again', async () => {
  const streamer = await bench.streamer(server.url);
  const producer = await streamer.createProducer(STREAM, { sharder: new KeyHashSharder(2) });
  const recorder = new ShardRecorder();
  const member = await recorder.join(streamer, STREAM, { shards: 2 });
  await sendNumbers(producer, 0, 9);
  const manager = await streamer.createManager();
  await changeUntilClosed();
  await admin.config('SET', 'maxmemory', '1');
  await expect(producer.send('refused', { key: 'k' })).rejects.toMatchObject({ code: 'ERR_SEND_FAILED' });
  const refusal = { message: expect.stringContaining('OOM'), retryable: true };
  await expect(manager.setShards(STREAM, 3)).rejects.toMatchObject(refusal);
  await admin.config('SET', 'maxmemory', '0');
  await sendNumbers(producer, 10, 19);
  await manager.setShards(STREAM, 3);
  await sendNumbers(producer, 20, 29);
  await until('all are handled', () => recorder.handled.length === 30, LIMIT);
  expect(texts(recorder)).toEqual(numbered(30));
  const isMoved = (): boolean => member.owned.size === 3 && !member.owned.has(0) && !member.owned.has(1);
  await until('it owns the new ones', isMoved, LIMIT);
  await member.consumer.end();
});

it('a user who may not use the key of the layout: setShards() and an owned consumer are refused, a producer is at its timeout', async () => {
  const timeout = 1_700;
  const [owning = ''] = documentedFor("`shardOwnership: 'owned'`");
  const [taking = '', calling = ''] = documentedFor('`StreamManager.setShards()`');
  const kinds = ['lease', 'generation', 'wanted', 'members', 'shares', 'delayed'].map((kind) => `~nrs:*:${kind}:*`);
  const keys = [`~${STREAM}`, `~${STREAM}:*`, ...kinds].join(' ');
  await setUser(admin, 'narrow', `${NEEDED.replace('~app:*', keys)} ${SCRIPTS} ${owning} ${taking} ${calling}`);
  const narrow = await bench.streamer(server.url.replace('redis://', 'redis://narrow:pw@'), { timeout });
  const producer = await narrow.createProducer(STREAM, { sharder: new KeyHashSharder(2) });
  await sendNumbers(producer, 0, 3);
  const refused = { code: 'ERR_PERMISSION' };
  await expect((await narrow.createManager()).setShards(STREAM, 3)).rejects.toMatchObject(refused);
  await expect(new ShardRecorder().join(narrow, STREAM, { shards: 2 })).rejects.toMatchObject(refused);
  await (await (await bench.streamer(server.url)).createManager()).setShards(STREAM, 3);
  const sentAt = performance.now();
  await expect(producer.send('k:4', { key: 'k' })).rejects.toMatchObject({
    ...refused,
    message: expect.stringContaining(`reading the number of shards of '${STREAM}'`),
  });
  expect(performance.now() - sentAt).toBeLessThan(timeout + 800);
});

it('a producer that was idle over two changes, and whose connection Redis has ended', async () => {
  const streamer = await bench.streamer(server.url);
  const idle = await streamer.createProducer(STREAM, { sharder: new KeyHashSharder(2) });
  await sendNumbers(idle, 0, 4);
  const manager = await (await bench.streamer(server.url)).createManager();
  await manager.setShards(STREAM, 5);
  await manager.setShards(STREAM, 3);
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  const receipts = await Promise.all(
    Array.from({ length: 20 }, (_, index) => idle.send(`k:${5 + index}`, { key: 'k' })),
  );
  for (const { shardId } of receipts) expect(shardId).toBeGreaterThanOrEqual(7);
  const recorder = new ShardRecorder();
  const member = await recorder.join(streamer, STREAM, { shards: 2 });
  await until('all are handled', () => recorder.handled.length === 25, LIMIT);
  expect(texts(recorder)).toEqual(numbered(25));
  await member.consumer.end();
});

it('exactly-once: a batch that was stored before the change, and whose reply was lost, is stored once', async () => {
  const proxy = await bench.proxy(server);
  const streamer = await bench.streamer(server.url);
  const producer = await (
    await bench.streamer(proxy.url)
  ).createProducer(STREAM, { sharder: new KeyHashSharder(2), delivery: 'exactly-once' });
  await sendNumbers(producer, 0, 4);
  // Nothing is asked for before the change.
  proxy.refuse();
  const lost = proxy.loseReplyTo('k:5', 'writer');
  const sends = Array.from({ length: 10 }, (_, index) => producer.send(`k:${5 + index}`, { key: 'k' }));
  await lost;
  const stored = async (): Promise<number> => (await admin.xlen(`${STREAM}:0`)) + (await admin.xlen(`${STREAM}:1`));
  await until('it is stored', async () => (await stored()) > 5);
  await (await streamer.createManager()).setShards(STREAM, 3);
  const before = await stored();
  await proxy.accept();
  const receipts = await Promise.all(sends);
  expect(receipts.filter(({ shardId }) => shardId < 2)).toHaveLength(before - 5);
  await sendNumbers(producer, 15, 19);
  const recorder = new ShardRecorder();
  const member = await recorder.join(streamer, STREAM, { shards: 2 });
  await until('all are handled', () => recorder.handled.length >= 20, LIMIT);
  expect(texts(recorder)).toEqual(numbered(20));
  await member.consumer.end();
});

it('two changes at once, one of which stands still in its midst: the other ends it, and it spoils nothing when it comes back', async () => {
  const proxy = await bench.proxy(server);
  const slow = await bench.streamer(proxy.url);
  const streamer = await bench.streamer(server.url);
  const producer = await streamer.createProducer(STREAM, { sharder: new KeyHashSharder(2) });
  const recorder = new ShardRecorder();
  const member = await recorder.join(streamer, STREAM, { shards: 2 });
  await sendNumbers(producer, 0, 4);
  proxy.delay(30);
  const changing = (await slow.createManager()).setShards(STREAM, 4);
  await until('it has begun', async () => (await admin.hget(LAYOUT, 'pending')) !== null);
  proxy.hold();
  await (await streamer.createManager()).setShards(STREAM, 3);
  await sendNumbers(producer, 5, 9);
  proxy.deliver();
  await changing;
  expect(await admin.hgetall(LAYOUT)).toMatchObject({ layouts: '0:2,2:4,6:3', pending: '' });
  await sendNumbers(producer, 10, 14);
  await until('all are handled', () => recorder.handled.length === 15, LIMIT);
  expect(texts(recorder)).toEqual(numbered(15));
  await member.consumer.end();
});
