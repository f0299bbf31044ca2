import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import { withResolvers } from '../../lib/shared/deferred.js';
import type { RedisStreamsContext } from '../../lib/index.js';
import { onBatch, onEvent } from '../support/controllers.js';
import { drain } from '../support/fault-bench.js';
import { flood, deliveredCount, sendNumbered } from '../support/flood.js';
import { FloodBench, GROUP, ROLLING } from '../support/flood-bench.js';
import { useSampler } from '../support/sampler.js';
import { startInstance } from '../support/instances.js';
import { Ledger } from '../support/ledger.js';
import { useLoad } from '../support/load.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const LIMIT = 60_000;

const keepSending = useLoad();
const startSampler = useSampler();
const bench = new FloodBench();

interface Sizes {
  readonly batchSize: number;
  readonly prefetch: number;
}

/**
 * Takes messages in bursts while a producer sends: at each stop the consumer must have read up to its prefetch and not
 * more. Returns the highest number of messages that were read and not handed out.
 */
async function stopAndGo(streams: readonly string[], sizes: Sizes, atStop?: () => Promise<void>): Promise<number> {
  const { producer, ledger, admin } = bench;
  const consumer = await bench.streamer.createConsumer(streams, { ...ROLLING, ...sizes });
  let taken = 0;
  const takeUntil = async (goal: number): Promise<void> => {
    while (taken < goal) {
      const message = await consumer.next();
      taken += 1;
      ledger.handledMessage(message);
      consumer.ack(message);
      if (taken % 50 === 0) await pause(1);
    }
  };
  // Reads the delivered count first, so that messages taken during the request can only make the difference smaller.
  const ahead = async (): Promise<number> => (await deliveredCount(admin, GROUP, streams)) - taken;
  const sampler = startSampler(ahead);
  const load = keepSending((n) => {
    const stream = streams[n % streams.length] as string;
    return sendNumbered(producer, [ledger], stream, 1 + Math.floor(n / streams.length));
  }, 4_000);
  // The consumer reads again once this many places are free.
  const lowWater = Math.min(sizes.batchSize, Math.ceil(sizes.prefetch / 2));
  for (const goal of [1, 30, 400, 1_500, 3_000]) {
    await takeUntil(goal);
    await until('the buffer has no room for a read', async () => (await ahead()) > sizes.prefetch - lowWater);
    await atStop?.();
    await load.moreSent(400);
    expect(await ahead()).toBeGreaterThan(sizes.prefetch - lowWater);
  }
  await sampler.stop();
  await load.stop();
  await takeUntil(ledger.confirmed);
  expect(sampler.samples).toBeGreaterThan(100);
  return sampler.most;
}

describe('a consumer whose messages are taken slowly', () => {
  it.each([
    [1, 1],
    [10, 20],
    [100, 30],
    [500, 1_000],
  ])(
    'that reads %i at a time never buffers more than %i, and continues when they are taken',
    async (batchSize, prefetch) => {
      const most = await stopAndGo([uniqueName('flood')], { batchSize, prefetch });
      await bench.expectHandledOnce();
      expect(most).toBeLessThanOrEqual(prefetch);
    },
    LIMIT,
  );

  it.each([
    [8, 20],
    [16, 4],
    [5, 100],
  ])(
    'of %i streams buffers no more than %i messages in total',
    async (count, prefetch) => {
      const most = await stopAndGo(bench.streams(count), { batchSize: 10, prefetch });
      await bench.expectHandledOnce();
      expect(most).toBeLessThanOrEqual(prefetch);
    },
    LIMIT,
  );

  it(
    'buffers no more than its prefetch when its connections are cut with a full buffer',
    async () => {
      const streams = bench.streams(2);
      const proxy = await bench.redis.proxies(streams);
      const streamer = (bench.streamer = await bench.faults.streamer(proxy.connection));
      let faults = 0;
      const most = await stopAndGo(streams, { batchSize: 20, prefetch: 50 }, async () => {
        faults += 1;
        proxy.cut('rst');
        await until('the loss is detected', () => streamer.status !== 'connected');
        await until('the streamer is connected again', () => streamer.status === 'connected');
      });
      await bench.expectHandledOnce(faults);
      expect(most).toBeLessThanOrEqual(50);
    },
    LIMIT,
  );
});

describe('a service under a flood', () => {
  it.each([
    { title: 'one handler', concurrency: 1, prefetch: 1, size: 1 },
    { title: 'four handlers', concurrency: 4, prefetch: 6, size: 1 },
    { title: 'sixteen handlers', concurrency: 16, prefetch: 20, size: 1 },
    { title: 'two handlers of ten each', concurrency: 2, prefetch: 20, size: 10 },
    // By default it prefetches the number of messages that its handlers complete in 50 ms.
    { title: 'defaults', concurrency: 16, prefetch: undefined, size: 1 },
  ])(
    'owns no more messages than prefetch and handlers allow: $title',
    async ({ concurrency, prefetch, size }) => {
      const { producer, ledger, admin } = bench;
      const pattern = uniqueName('flood');
      const inHandlers = concurrency * size;
      const [least, capacity] = [(prefetch ?? 20) + inHandlers, (prefetch ?? 1_000) + inHandlers];
      let [running, most, finished] = [0, 0, 0];
      let gate = withResolvers<void>();
      const handle = async (contexts: readonly RedisStreamsContext[]): Promise<void> => {
        running += 1;
        most = Math.max(most, running);
        await gate.promise;
        await pause(1);
        for (const context of contexts) ledger.handledMessage(context.getMessage());
        finished += contexts.length;
        running -= 1;
      };
      const controller =
        size === 1
          ? onEvent(pattern, (_data, context) => handle([context]), { concurrency })
          : onBatch(pattern, (_data, contexts) => handle(contexts), { concurrency, batch: { size } });
      await startInstance(bench.faults, controller, { ...bench.service, prefetch, autoCommitInterval: 1 });
      const sampler = startSampler(async () => (await deliveredCount(admin, GROUP, [pattern])) - finished);
      const load = keepSending((n) => sendNumbered(producer, [ledger], pattern, n + 1), 2_000);
      for (let stop = 1; stop <= 5; stop += 1) {
        await until('all handlers are busy', () => running === concurrency);
        await load.moreSent(200);
        // No handler returns and nothing more is acknowledged, so the pending entries are those that the service owns.
        await until('the last acknowledgements are sent', async () => (await bench.pendingIn([pattern])) <= capacity);
        expect(await bench.pendingIn([pattern])).toBeGreaterThan(least - Math.min(10, Math.ceil(least / 2)));
        const goal = finished + 100;
        gate.resolve();
        await until('more messages are handled', () => finished >= goal);
        if (stop < 5) gate = withResolvers<void>();
      }
      await load.stop();
      await sampler.stop();
      await bench.expectHandledOnce();

      expect(most).toBe(concurrency);
      expect(sampler.most).toBeLessThanOrEqual(capacity);
    },
    LIMIT,
  );

  it(
    'keeps the messages of its long handlers, and acknowledges the others continuously',
    async () => {
      const { producer, ledger, admin } = bench;
      const [long, busy] = bench.streams(2);
      const held = withResolvers<void>();
      const deliveries: number[] = [];
      let finished = 0;
      const controllers = [
        onEvent(long, async (_data, context) => {
          deliveries.push(context.getDeliveryCount());
          await held.promise;
          ledger.handledMessage(context.getMessage());
        }),
        onEvent(busy, (_data, context) => {
          finished += 1;
          ledger.handledMessage(context.getMessage());
        }),
      ];
      const options = { ...bench.service, autoClaimIdle: 1_500, autoClaimInterval: 100 };
      await startInstance(bench.faults, controllers, options);
      await flood(producer, ledger, long, 4);
      await until('the long handlers run', () => deliveries.length === 4);
      // This consumer would claim an entry whose lease is not renewed.
      await startInstance(bench.faults, controllers, options);

      const count = 40_000;
      const begin = Date.now();
      const sampler = startSampler(async () => {
        const pending = await bench.pendingIn([busy]);
        return pending - Math.max(0, (await deliveredCount(admin, GROUP, [busy])) - finished);
      });
      await flood(producer, ledger, busy, count);
      const isOver = (): boolean => finished === count && Date.now() - begin > 4_000;
      await until('all messages are handled, and an unrenewed lease would have expired', isOver, 40_000);
      await sampler.stop();
      held.resolve();
      await bench.expectHandledOnce();

      expect(deliveries).toEqual([1, 1, 1, 1]);
      expect(sampler.most).toBeLessThan(count / 4);
      await until('nothing is pending', async () => (await bench.pendingIn([long, busy])) === 0);
    },
    LIMIT,
  );
});

describe('two groups of one stream', () => {
  it(
    'are independent: one that stops taking messages owns its prefetch, and the other receives everything',
    async () => {
      const { streamer, producer, ledger, admin } = bench;
      const count = 20_000;
      const stream = uniqueName('flood');
      const ledgerOfSlow = new Ledger();
      const sizes = { batchSize: 50, prefetch: 100 };
      const slow = await streamer.createConsumer(stream, { ...ROLLING, ...sizes, group: 'slow' });
      const fast = await streamer.createConsumer(stream, { ...ROLLING, ...sizes, group: 'fast' });
      const work = (consumer: typeof slow, book: Ledger): void =>
        void drain(consumer, (message) => {
          book.handledMessage(message);
          consumer.ack(message);
        });
      work(fast, ledger);
      const sampler = startSampler(() => deliveredCount(admin, 'slow', [stream]));
      const numbers = Array.from({ length: count }, (_, index) => index + 1);
      await Promise.all(numbers.map((n) => sendNumbered(producer, [ledger, ledgerOfSlow], stream, n)));
      await until('the fast group has handled everything', () => ledger.handled === count, 30_000);
      await sampler.stop();
      expect(sampler.most).toBeLessThanOrEqual(sizes.prefetch);
      // It reads when there is room for a batch: where a read returned a single entry, the last places stay free.
      expect(sampler.most).toBeGreaterThan(sizes.prefetch - sizes.batchSize);

      work(slow, ledgerOfSlow);
      await bench.expectHandledOnce(0, [ledger, ledgerOfSlow]);
      expect(ledgerOfSlow.handled).toBe(count);
    },
    LIMIT,
  );
});
