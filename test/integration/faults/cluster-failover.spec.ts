import { beforeEach, describe, expect, it } from '@jest/globals';

import type { StreamMessage } from '../../../lib/index.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import { Ledger } from '../../support/ledger.js';
import { useLoad } from '../../support/load.js';
import { RedisCluster, type ClusterNode } from '../../support/redis-cluster.js';
import { numbers, pendingOf, take } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const startLoad = useLoad();
let cluster: RedisCluster;
let key: string;
let elsewhere: string;
let master: ClusterNode;

beforeEach(async () => {
  cluster = await RedisCluster.start({ replicas: true, nodeTimeout: 800 });
  bench.endLater(() => cluster.stop());
  [key, elsewhere] = (await cluster.keys('orders', 2)) as [string, string];
  master = await cluster.masterOf(key);
});

const rowsOf = async ({ admin }: ClusterNode, group: string): Promise<unknown[]> =>
  (await pendingOf(admin, key, group)).map(({ id, consumer, deliveryCount }) => [id, consumer, deliveryCount]);

/**
 * Replication follows the reply, so the last writes that a master confirmed may be lost with it. Writes before this
 * call are not.
 */
const untilReplicated = async (): Promise<void> => {
  // WAIT covers only the writes of its own connection.
  await master.admin.set(`{${key}}:marker`, 'x');
  expect(await master.admin.wait(1, 5_000)).toBe(1);
};

describe('a master of a cluster', () => {
  it.each([
    ['is killed', 'at-least-once', () => master.server.kill()],
    ['is suspended', 'exactly-once', () => Promise.resolve(master.server.pause())],
  ] as const)(
    'that %s under load is replaced: replicated messages are handled in order, and nothing stays pending (%s)',
    async (what, delivery, fail) => {
      const streamer = await bench.streamer(cluster.connection);
      const statuses: string[] = [];
      streamer.on('status', (status) => statuses.push(status));
      const ledger = new Ledger();
      const consumer = await streamer.createConsumer([key, elsewhere], {
        mode: 'load-balanced',
        group: 'g',
        mkStream: true,
        autoCommit: 'rolling',
        autoCommitInterval: 5,
      });
      void drain(consumer, (message) => {
        ledger.handledMessage(message);
        consumer.ack(message);
      });
      const producer = await streamer.createGenericProducer({ delivery, maxBatch: 50 });
      const send = (name: string, streamKey: string) => async (n: number) => {
        const payload = `${name}-${n}`;
        const receipt = producer.sendTo(streamKey, payload);
        await ledger.sent(payload, receipt);
        if (!ledger.failures.has(payload)) confirmed.push(payload);
      };
      const confirmed: string[] = [];
      const load = startLoad(send('m', key), 400);
      const otherLoad = startLoad(send('other', elsewhere), 100);
      await until('messages flow', () => ledger.handled >= 400);
      const safe = new Set(confirmed);
      await untilReplicated();
      await fail();
      const successor = await cluster.successorOf(key, master);
      const goal = ledger.handled + 500;
      await until('messages flow again', () => ledger.handled >= goal, 15_000);
      await Promise.all([load.stop(), otherLoad.stop()]);
      const { lost } = await ledger.settled();

      expect(lost.filter((payload) => safe.has(payload) || payload.startsWith('other'))).toEqual([]);
      expect(ledger.failures).toEqual(new Map());
      const entries = await successor.admin.xrange(key, '-', '+');
      const stored = entries.map(([, [, payload]]) => Number(payload?.slice(2)));
      const firsts = [...new Set(stored)];
      expect(delivery === 'exactly-once' ? stored : firsts).toEqual(firsts);
      expect(firsts).toEqual([...firsts].sort((a, b) => a - b));
      await until('nothing is pending', async () => (await successor.admin.xpending(key, 'g'))[0] === 0);
      expect(statuses.slice(0, 2)).toEqual(['reconnecting', 'connected']);
      await until('the streamer is connected', () => streamer.status === 'connected');
      if (what === 'is suspended') master.server.resume();
    },
    45_000,
  );

  it('that is killed leaves pending entries on its replica, with owners and delivery counts', async () => {
    const streamer = await bench.streamer(cluster.connection);
    const options = { mode: 'load-balanced', group: 'g', mkStream: true, autoCommit: 'disabled' } as const;
    const consumer = await streamer.createConsumer(key, { ...options, consumer: 'me' });
    const producer = await streamer.createProducer(key);
    await Promise.all(numbers(0, 9).map((payload) => producer.send(payload)));
    const [taken, acked] = (await take(consumer, 10)) as [StreamMessage, StreamMessage];
    await master.admin.xclaim(key, 'g', 'another', 0, taken.id, 'RETRYCOUNT', 7, 'JUSTID');
    const before = await rowsOf(master, 'g');
    await untilReplicated();
    await master.server.kill();
    const successor = await cluster.successorOf(key, master);

    expect(before).toHaveLength(10);
    expect(await rowsOf(successor, 'g')).toEqual(before);
    consumer.ack(acked);
    await consumer.commit();
    expect(await rowsOf(successor, 'g')).toEqual(before.filter((row) => (row as string[])[0] !== acked.id));
    await producer.send('next');
    expect((await consumer.next()).text()).toBe('next');
  }, 30_000);

  it('that is killed with messages that its replica does not have yet repeats none of the others to a real-time consumer', async () => {
    const streamer = await bench.streamer(cluster.connection);
    const consumer = await streamer.createConsumer(key, { mode: 'real-time', autoStreamReset: 'earliest' });
    const ledger = new Ledger();
    void drain(consumer, (message) => ledger.handledMessage(message));
    const producer = await streamer.createProducer(key);
    for (const payload of numbers(0, 99)) await producer.send(payload);
    await untilReplicated();
    const replica = cluster.replicas[0] as ClusterNode;
    replica.server.pause();
    await master.admin.call('CLIENT', 'KILL', 'TYPE', 'replica');
    for (const payload of numbers(100, 109)) await producer.send(payload);
    await until('all are handled', () => ledger.handled === 110);
    await master.server.kill();
    replica.server.resume();
    const successor = await cluster.successorOf(key, master);
    expect(await successor.admin.xlen(key)).toBe(100);
    // The consumer has looked at the shorter stream when it has read from the new master and found nothing new.
    const reads = async (): Promise<number> =>
      Number(/^cmdstat_xread:calls=(\d+)/m.exec(await successor.admin.info('commandstats'))?.[1] ?? 0);
    await until('the new master is read from', async () => (await reads()) >= 3, 15_000);
    await producer.send('next');
    await until('the next message is handled', () => ledger.order.includes('next'));

    expect(ledger.order).toEqual([...numbers(0, 109), 'next']);
  }, 45_000);

  it('that was killed does not delay the end of a streamer', async () => {
    const streamer = await bench.streamer(cluster.connection);
    const consumer = await streamer.createConsumer([key, elsewhere], {
      mode: 'load-balanced',
      group: 'g',
      mkStream: true,
    });
    const waiting = consumer.next().catch((error: { code: string }) => error.code);
    const producer = await streamer.createProducer(key);
    await master.server.kill();
    const send = producer.send('x').then(
      () => 'stored',
      (error: { code: string }) => error.code,
    );
    const begin = Date.now();
    await streamer.disconnect();

    expect(Date.now() - begin).toBeLessThan(20_000);
    expect(['x', 'ERR_CONSUMER_ENDED']).toContain(
      await waiting.then((got) => (typeof got === 'string' ? got : got.text())),
    );
    expect(await send).toBe('stored');
  }, 30_000);
});
