import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import type { BasicConsumer } from '../../../lib/engine/consuming/consumer-types.js';
import type { RedisStreamer } from '../../../lib/index.js';
import { FaultBench, drain, sendMany } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { Ledger } from '../../support/ledger.js';
import { RedisCluster, type ClusterNode } from '../../support/redis-cluster.js';
import { numbers, pendingOf } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let cluster: RedisCluster;
let master: (index: number) => ClusterNode;

beforeAll(async () => {
  cluster = await RedisCluster.start();
  master = (index) => cluster.masters[index] as ClusterNode;
});
afterAll(() => cluster.stop());

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const consumerOf = async (streamer: RedisStreamer, key: string, mode: string): Promise<BasicConsumer> => {
  const group = mode === 'real-time' ? {} : { group: mode, mkStream: true };
  return streamer.createConsumer(key, { mode, ...group } as { mode: 'real-time' });
};

const MODES = ['real-time', 'resumable', 'load-balanced'] as const;

describe('a stream that moves to another node', () => {
  it.each(['at-least-once', 'at-most-once', 'exactly-once'] as const)(
    'repeatedly under load is followed by all consumers, and has each message once and in order (%s)',
    async (delivery) => {
      const count = 6_000;
      const [key] = (await cluster.keys(`moving-${delivery}`, 1)) as [string];
      const streamer = await bench.streamer(cluster.connection);
      const ledgers = MODES.map(() => new Ledger());
      for (const [index, mode] of MODES.entries()) {
        const consumer = await consumerOf(streamer, key, mode);
        void drain(consumer, (message) => ledgers[index]?.handledMessage(message));
      }
      const [ledger] = ledgers as [Ledger];
      const producer = await streamer.createProducer(key, { delivery, maxBatch: 20 });
      const load = sendMany(producer, ledger, count, { perTurn: 5 });
      for (const target of [1, 2, 0, 1]) {
        const goal = Math.min(count, ledger.handled + 400);
        await until(`${goal} messages are handled`, () => ledger.handled >= goal);
        await cluster.move(key, master(target), () => {
          const more = Math.min(count, ledger.confirmed + 20);
          return until('messages are confirmed while it moves', () => ledger.confirmed >= more);
        });
      }
      const handledDuringMoves = ledger.handled;
      await load;

      expect(ledger.failures).toEqual(new Map());
      const payloads = numbers(0, count - 1).map((number) => `m-${number}`);
      await until('all messages are handled', () => ledgers.every(({ handled }) => handled === count));
      const entries = await master(1).admin.xrange(key, '-', '+');
      expect(entries.map(([, [, payload]]) => payload)).toEqual(payloads);
      for (const { order } of ledgers) expect(order).toEqual(payloads);
      // Otherwise no message was sent while the stream moved.
      expect(handledDuringMoves).toBeLessThan(count);
    },
  );

  it.each(MODES)('while no message is sent is followed by the blocked read (%s)', async (mode) => {
    const [key] = (await cluster.keys(`blocked-${mode}`, 1)) as [string];
    const streamer = await bench.streamer(cluster.connection);
    const ledger = new Ledger();
    void drain(await consumerOf(streamer, key, mode), (message) => ledger.handledMessage(message));
    const nodes = [0, 1, 2, 0, 1];
    for (const [step, target] of nodes.slice(1).entries()) {
      const { admin } = master(nodes[step] as number);
      await until('the read is blocked', async () => /^blocked_clients:[1-9]/m.test(await admin.info('clients')));
      if (step % 2 === 1) await cluster.moveAtomically(key, master(target));
      else await cluster.move(key, master(target));
      await master(target).admin.xadd(key, '*', 'msg', `at ${target}`);
      await until('the message is handled', () => ledger.order.length > step);
    }
    expect(ledger.order).toEqual(['at 1', 'at 2', 'at 0', 'at 1']);
    expect(bench.log.filter((line) => line.includes('vanished'))).toEqual([]);
  });

  it('keeps its pending entries, with owners and delivery counts', async () => {
    const [key] = (await cluster.keys('pending', 1)) as [string];
    const streamer = await bench.streamer(cluster.connection);
    const options = { mode: 'load-balanced', group: 'g', mkStream: true, autoCommit: 'disabled' } as const;
    const consumers = await Promise.all(
      ['one', 'two'].map((consumer) =>
        streamer.createConsumer(key, { ...options, consumer, batchSize: 5, prefetch: 5 }),
      ),
    );
    const producer = await streamer.createProducer(key);
    await Promise.all(numbers(0, 19).map((payload) => producer.send(payload)));
    const messages = await Promise.all(consumers.flatMap((consumer) => [1, 2, 3].map(() => consumer.next())));
    await until('all buffers are full', async () => (await pendingOf(master(0).admin, key, 'g')).length >= 16);
    await master(0).admin.xclaim(key, 'g', 'three', 0, messages[0]?.id as string, 'RETRYCOUNT', 7, 'JUSTID');
    const rows = async (index: number): Promise<unknown[]> =>
      (await pendingOf(master(index).admin, key, 'g')).map(({ id, consumer, deliveryCount }) => [
        id,
        consumer,
        deliveryCount,
      ]);
    const before = await rows(0);
    expect(new Set(before.map((row) => (row as string[])[1]))).toEqual(new Set(['one', 'two', 'three']));
    await cluster.move(key, master(1), () => pause(1_500));

    expect(await rows(1)).toEqual(before);
    const [, second] = messages;
    consumers[0]?.ack(second as (typeof messages)[number]);
    await consumers[0]?.commit();
    expect(await rows(1)).toEqual(before.filter((row) => (row as string[])[0] !== second?.id));
  });
});

describe('a connection that ends while a stream is moving over it', () => {
  it('has its batch repeated in a transaction, as anywhere else', async () => {
    const [key] = (await cluster.keys('asking', 1)) as [string];
    const proxies = await Promise.all(cluster.masters.map(({ server }) => bench.proxy(server)));
    const streamer = await bench.streamer(cluster.connectionThrough(proxies));
    const producer = await streamer.createProducer(key);
    await producer.send('before');
    const transactions = async (): Promise<number> =>
      Number(/^cmdstat_exec:calls=(\d+)/m.exec(await master(1).admin.info('commandstats'))?.[1] ?? 0);
    const earlier = await transactions();
    await cluster.move(key, master(1), async () => {
      // The first send learns to which node the stream is moving.
      await producer.send('first');
      const torn = (proxies[1] as FaultProxy).tearReply(0, 'writer');
      const sends = numbers(0, 9).map((payload) => producer.send(payload));
      await torn;
      await Promise.all(sends);
      expect(await transactions()).toBe(earlier + 1);
    });

    // The replies were lost, so the messages may be there twice; the second time they stand together.
    const payloads = (await master(1).admin.xrange(key, '-', '+')).map(([, [, payload]]) => payload);
    expect(payloads.slice(0, 2)).toEqual(['before', 'first']);
    expect(payloads.slice(-10)).toEqual(numbers(0, 9));
  });
});

describe('an unreachable node to which a stream moves', () => {
  it('ends no consumer or producer: they continue when the node is reachable', async () => {
    const [key] = (await cluster.keys('unreachable', 1)) as [string];
    const proxies = await Promise.all(cluster.masters.map(({ server }) => bench.proxy(server)));
    const streamer = await bench.streamer(cluster.connectionThrough(proxies));
    const ledger = new Ledger();
    const consumer = await consumerOf(streamer, key, 'load-balanced');
    void drain(consumer, (message) => ledger.handledMessage(message));
    const producer = await streamer.createProducer(key);
    await sendMany(producer, ledger, 20, { prefix: 'before' });
    await until('all messages sent before are handled', () => ledger.handled === 20);
    const target = proxies[2] as FaultProxy;
    target.refuse();
    target.cut();
    let load: Promise<void> | undefined;
    await cluster.move(key, master(2), async () => {
      load = sendMany(producer, ledger, 20, { prefix: 'during' });
      await pause(1_000);
      await target.accept();
    });
    await load;

    const { lost } = await ledger.settled();
    expect({ lost, confirmed: ledger.confirmed }).toEqual({ lost: [], confirmed: 40 });
  });
});
