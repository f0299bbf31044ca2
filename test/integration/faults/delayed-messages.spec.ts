import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import type { Receipt, RedisStreamsError } from '../../../lib/index.js';
import { DELAYED, NEEDED, SCRIPTS, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import { uniqueName } from '../../support/redis.js';
import type { RedisServer } from '../../support/redis-server.js';
import { numbers, take } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const HOUR = 3_600_000;
let server: RedisServer;
let stream: string;

beforeEach(async () => {
  server = await bench.server();
  stream = uniqueName('app:delayed');
});

const payloads = async (): Promise<Array<string | undefined>> =>
  (await bench.admin(server.url).xrange(stream, '-', '+')).map(([, fields]) => fields[1]);
const userUrl = (): string => server.url.replace('redis://', 'redis://app:pw@');

describe('scheduling', () => {
  it.each(['at-least-once', 'exactly-once'] as const)(
    'is done once when its reply was lost, also when the message was moved in between (%s)',
    async (delivery) => {
      const proxy = await bench.proxy(server);
      const producer = await (await bench.streamer(proxy.url)).createProducer(stream, { delivery });
      const other = await (await bench.streamer(server.url)).createProducer(stream);
      await producer.send('before');
      const receipts: Receipt[] = [];
      for (let cut = 0; cut < 10; cut += 1) {
        const torn = proxy.tearReply(cut * 11, 'writer');
        // The other one has the stream moved at once, while the first waits for its connection.
        const sends = numbers(cut * 20, cut * 20 + 19).map((text) => producer.send(text, { delay: cut % 2 }));
        await torn;
        await other.send('other', { delay: 0 });
        receipts.push(...(await Promise.all(sends)));
      }
      await until('all are moved', async () => (await payloads()).length === 211);
      const texts = (await payloads()).filter((text) => text !== 'other' && text !== 'before');
      expect(texts.sort((a, b) => Number(a) - Number(b))).toEqual(numbers(0, 199));
      expect(new Set(receipts.map(({ id }) => id)).size).toBe(200);
      expect(receipts.every(({ deliverAt }) => Math.abs(Number(deliverAt) - Date.now()) < 60_000)).toBe(true);
    },
  );

  it('that was cancelled before its lost reply is repeated stays cancelled', async () => {
    const proxy = await bench.proxy(server);
    const producer = await (await bench.streamer(proxy.url)).createProducer(stream);
    await producer.send('before');
    const streamer = await bench.streamer(server.url);
    const manager = await streamer.createManager();
    const torn = proxy.tearReply(0, 'writer');
    const sending = producer.send('cancelled', { delay: HOUR });
    await torn;
    // It is cancelled before or after the repetition; both must leave nothing.
    await until('it waits', async () => (await manager.delayed(stream)).length === 1);
    const [message] = await manager.delayed(stream);
    expect(await manager.cancelDelayed(stream, message?.id as string)).toBe(true);
    expect((await sending).id).toBe(message?.id);
    expect(await manager.delayed(stream)).toEqual([]);
  });
});

describe('a server that is killed and restarted', () => {
  it('loses no delayed message when every write is persistent, and moves each once', async () => {
    const streamer = await bench.streamer(server.url);
    const producer = await streamer.createProducer(stream);
    const receipts = await Promise.all(
      numbers(0, 999).map((text) => producer.send(text, { delay: 300 + (Number(text) % 10) * 100 })),
    );
    await server.restart();
    await until('some are moved', async () => (await payloads()).length > 0);
    await server.restart();
    await until('all are moved', async () => (await payloads()).length === 1_000, 20_000);
    expect((await payloads()).sort((a, b) => Number(a) - Number(b))).toEqual(numbers(0, 999));
    const entries = await bench.admin(server.url).xrange(stream, '-', '+');
    const early = entries.filter(
      ([id, fields]) => Number(id.split('-')[0]) < Number(receipts[Number(fields[1])]?.deliverAt),
    );
    expect(early).toEqual([]);
  });
});

describe('where permissions are limited', () => {
  it('a delayed message is refused by name without scripts, and other messages are not', async () => {
    await setUser(bench.admin(server.url), 'app', `${NEEDED} ~nrs:* ${DELAYED}`);
    const producer = await (await bench.streamer(userUrl())).createProducer(stream);
    const sends = [producer.send('a'), producer.send('b', { delay: 1 }), producer.send('c')];
    await Promise.allSettled(sends);
    await expect(sends[1]).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_OPERATION',
      message: 'a delayed message needs scripts (EVAL, EVALSHA), which are not permitted here',
    });
    expect(await payloads()).toEqual(['a', 'c']);
    expect(await bench.admin(server.url).keys('nrs:*')).toEqual([]);
  });

  it('the permissions that SECURITY.md names suffice to schedule, move, list and cancel', async () => {
    await setUser(bench.admin(server.url), 'app', `${NEEDED} ~nrs:* ${SCRIPTS} ${DELAYED}`);
    const streamer = await bench.streamer(userUrl());
    const [producer, manager] = [await streamer.createProducer(stream), await streamer.createManager()];
    const deduplication = { id: 'a', within: HOUR };
    const receipt = await producer.send('cancelled', { delay: HOUR, deduplication });
    expect(await manager.delayed(stream)).toHaveLength(1);
    expect(await manager.delayed(stream, { after: receipt.id })).toEqual([]);
    expect(await manager.cancelDelayed(stream, receipt.id)).toBe(true);
    await producer.send('moved', { delay: 5, deduplication });
    await until('it is moved', async () => (await payloads()).length === 1);
  });

  it('a consumer that may run scripts and not the commands of this one names the refusal, and runs other scripts', async () => {
    await setUser(bench.admin(server.url), 'app', `${NEEDED} ~nrs:* ${SCRIPTS}`);
    const streamer = await bench.streamer(userUrl());
    const consumer = await streamer.createConsumer(stream, { mode: 'load-balanced', group: 'g', mkStream: true });
    const errors: RedisStreamsError[] = [];
    consumer.on('error', (error) => errors.push(error));
    const producer = await (await bench.streamer(server.url)).createProducer(stream);
    await producer.send('later', { delay: 2_500 });
    expect((await take(consumer, 1)).map((message) => message.text())).toEqual(['later']);
    expect(errors.map(({ code }) => code)).toEqual(['ERR_PERMISSION']);
    await expect((await streamer.createManager()).trimAcknowledged(stream)).resolves.toMatchObject({ trimmed: 0 });
    await consumer.end();
  });

  it('a consumer that may not run scripts reads, reports once that it cannot move, and leaves it to others', async () => {
    await setUser(bench.admin(server.url), 'app', `${NEEDED} ~nrs:*`);
    const options = { mode: 'load-balanced', group: 'g', mkStream: true } as const;
    const consumer = await (await bench.streamer(userUrl())).createConsumer(stream, options);
    const errors: RedisStreamsError[] = [];
    consumer.on('error', (error) => errors.push(error));
    const producer = await (await bench.streamer(server.url)).createProducer(stream);
    await producer.send('later', { delay: 2_500 });
    expect((await take(consumer, 1)).map((message) => message.text())).toEqual(['later']);
    expect(errors.map(({ code }) => code)).toEqual(['ERR_UNSUPPORTED_OPERATION']);
    await consumer.end();
  });
});

describe('in a cluster', () => {
  let cluster: RedisCluster;
  afterAll(() => cluster?.stop());

  it('delayed messages of all shards are moved on their nodes, by a consumer when the producer is gone', async () => {
    cluster = await RedisCluster.start();
    const sending = await bench.streamer(cluster.connection, { keyPrefix: 'app:' });
    const producer = await sending.createProducer('orders', { sharder: new KeyHashSharder(6) });
    const receipts = await Promise.all(
      numbers(0, 299).map((key) =>
        producer.send(key, { key, delay: Number(key) * 5, deduplication: { id: key, within: HOUR } }),
      ),
    );
    expect(new Set(receipts.map(({ shardId }) => shardId)).size).toBe(6);
    await sending.disconnect();
    const streamer = await bench.streamer(cluster.connection, { keyPrefix: 'app:' });
    const consumer = await streamer.createConsumer(
      numbers(0, 5).map((shard) => `orders:${shard}`),
      { mode: 'load-balanced', group: 'g', mkStream: true, autoStreamReset: 'earliest' },
    );
    const messages = await take(consumer, 300);
    expect(messages.map((message) => message.text()).sort((a, b) => Number(a) - Number(b))).toEqual(numbers(0, 299));
    await consumer.end();
  });
});
