import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import { NEEDED, SCRIPTS, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import { uniqueName } from '../../support/redis.js';
import type { RedisServer } from '../../support/redis-server.js';
import { numbers } from '../../support/streams.js';

const bench = new FaultBench();
const HOUR = 3_600_000;
let server: RedisServer;
let proxy: FaultProxy;
let stream: string;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  proxy = await bench.proxy(server);
  stream = uniqueName('app:dedup');
});

const once = (id: string, within = HOUR) => ({ deduplication: { id, within } });
const payloads = async (): Promise<Array<string | undefined>> =>
  (await bench.admin(server.url).xrange(stream, '-', '+')).map(([, fields]) => fields[1]);

describe('a send with a deduplication id', () => {
  it.each(['at-least-once', 'exactly-once'] as const)(
    'whose reply was lost is stored once, and gets its own receipt (%s)',
    async (delivery) => {
      const producer = await (await bench.streamer(proxy.url)).createProducer(stream, { delivery });
      await producer.send('first');
      const torn = proxy.tearReply(0, 'writer');
      // Shorter than the outage: the record must outlive it for the send itself.
      const receipt = await producer.send('second', once('a', 1));
      await torn;
      const entries = await bench.admin(server.url).xrange(stream, '-', '+');
      expect(entries.map(([, fields]) => fields[1])).toEqual(['first', 'second']);
      expect(receipt.id).toBe(entries[1]?.[0]);
    },
  );

  it('whose reply was lost is uncertain with at-most-once, and stored once when the caller sends it again', async () => {
    const producer = await (await bench.streamer(proxy.url)).createProducer(stream, { delivery: 'at-most-once' });
    await producer.send('first');
    const torn = proxy.tearReply(0, 'writer');
    await expect(producer.send('second', once('a'))).rejects.toMatchObject({ code: 'ERR_SEND_UNCERTAIN' });
    await torn;
    await producer.send('second', once('a'));
    expect(await payloads()).toEqual(['first', 'second']);
  });

  it.each(['at-least-once', 'exactly-once'] as const)(
    'is stored once and in order across 20 cuts, among messages without one where those are (%s)',
    async (delivery) => {
      const messages = numbers(0, 9_999);
      const producer = await (await bench.streamer(proxy.url)).createProducer(stream, { delivery });
      await producer.send('before');
      for (let cut = 0; cut < 20; cut += 1) {
        const torn = proxy.tearReply(cut * 7, 'writer');
        for (const message of messages.slice(cut * 500, (cut + 1) * 500)) {
          // Only exactly-once stores those without an id once as well.
          const isPlain = delivery === 'exactly-once' && Number(message) % 50 < 25;
          producer.enqueue(message, isPlain ? {} : once(message, 1));
        }
        await torn;
        await producer.flush();
      }
      expect(await payloads()).toEqual(['before', ...messages]);
    },
  );

  it('is refused by name where scripts are not permitted, and other messages are not', async () => {
    const admin = bench.admin(server.url);
    await setUser(admin, 'app', `${NEEDED} ~nrs:*`);
    const streamer = await bench.streamer(server.url.replace('redis://', 'redis://app:pw@'));
    const producer = await streamer.createProducer(stream);
    const sends = [producer.send('a'), producer.send('b', once('b')), producer.send('c')];
    const outcomes = await Promise.allSettled(sends);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    await expect(sends[1]).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_OPERATION',
      message: 'deduplication needs scripts (EVAL, EVALSHA), which are not permitted here',
    });
    // Permissions may be corrected while the process runs.
    await setUser(admin, 'app', `${NEEDED} ~nrs:* ${SCRIPTS} +get +set +pttl`);
    await producer.send('b', once('b'));
    await producer.send('b', once('b'));
    expect(await payloads()).toEqual(['a', 'c', 'b']);
  });

  it('stores nothing when the user may not write its record, or not the stream', async () => {
    const admin = bench.admin(server.url);
    await setUser(admin, 'app', `${NEEDED} ~nrs:* ${SCRIPTS} +get +pttl`);
    const streamer = await bench.streamer(server.url.replace('redis://', 'redis://app:pw@'));
    const producer = await streamer.createProducer(stream);
    await expect(producer.send('a', once('a'))).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
    expect(await admin.keys('*')).toEqual([]);
  });
});

describe('in a cluster', () => {
  let cluster: RedisCluster;
  afterAll(() => cluster?.stop());

  it('deduplication ids hold for each shard, on all nodes', async () => {
    cluster = await RedisCluster.start();
    const streamer = await bench.streamer(cluster.connection, { keyPrefix: 'app:' });
    const producer = await streamer.createProducer('orders', { sharder: new KeyHashSharder(6) });
    const sends = numbers(0, 199).flatMap((id) => [1, 2].map(() => producer.send(id, { key: id, ...once(id) })));
    const receipts = await Promise.all(sends);
    expect(new Set(receipts.map(({ shardId, id }) => `${shardId}/${id}`)).size).toBe(200);
    const lengths = await Promise.all(
      numbers(0, 5).map(async (shard) => {
        const key = `app:orders:${shard}`;
        return (await cluster.masterOf(key)).admin.xlen(key);
      }),
    );
    expect(lengths.reduce((sum, length) => sum + length)).toBe(200);
  });
});
