import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import { withResolvers } from '../../lib/shared/deferred.js';
import type { DeadLetterEvent } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { drain } from '../support/fault-bench.js';
import { flood } from '../support/flood.js';
import { FloodBench, GROUP, ROLLING } from '../support/flood-bench.js';
import { startInstance } from '../support/instances.js';
import { Overtaking, maxStarted } from '../support/overtaking.js';
import { uniqueName } from '../support/redis.js';
import { IS_CLUSTER } from '../support/test-redis.js';
import { until } from '../support/until.js';

const LIMIT = 60_000;
/** The options that bound the messages of a service: its prefetch plus the messages in handlers. */
const AHEAD = { batchSize: 10, prefetch: 20, concurrency: 16 } as const;
const CAPACITY = AHEAD.prefetch + AHEAD.concurrency;

/**
 * On servers that can claim and read with one command, a scan for idle entries may return a page of new entries of a
 * single stream.
 */
const NO_CLAIMS = { autoClaimInterval: false } as const;

/**
 * In a cluster each stream has a read of its own, and the reads take turns with pages: a quiet message waits for its place behind a
 * full buffer and the pages that are under way.
 */
const inCluster = ({ prefetch, batchSize }: { prefetch: number; batchSize: number }): number =>
  prefetch + 2 * batchSize;
/**
 * Milliseconds that each message takes in a cluster. A stream for whose read there is no place looks every 100 ms, in which so few are
 * handed out that they show whether it has its turn.
 */
const SLOWLY = 5;
const LOOKS = (2 * 100) / SLOWLY;

const bench = new FloodBench();

describe('a message of a quiet stream', () => {
  it.each([
    // In the read that returns the quiet message, the flooded stream's share may come first.
    { streams: 2, prefetch: 200, share: 100 },
    { streams: 8, prefetch: 20, share: 2 },
    // Fewer places than streams: each stream has its turn with one message, and no other stream gets two.
    { streams: 16, prefetch: 4, share: 2 },
    { streams: 64, prefetch: 20, share: 2 },
  ])(
    'is overtaken by no more than a share of a flooded stream: $streams streams, prefetch $prefetch',
    async ({ streams, prefetch, share }) => {
      const [busy, ...quiet] = bench.streamsOfOneSlot(streams);
      const batchSize = Math.max(10, prefetch / 2);
      const options = { ...ROLLING, ...NO_CLAIMS, prefetch, batchSize };
      const consumer = await bench.streamer.createConsumer([busy, ...quiet], options);
      const isSlow = IS_CLUSTER && streams > prefetch / 2;
      const count = isSlow ? 3_000 : IS_CLUSTER ? 30_000 : 8_000;
      await flood(bench.producer, bench.ledger, busy, count);
      const overtaking = new Overtaking(bench.admin, bench.ledger, busy, GROUP);
      void drain(consumer, async (message) => {
        overtaking.handedOut(message.streamKey, message.text());
        bench.ledger.handledMessage(message);
        consumer.ack(message);
        if (isSlow) await pause(SLOWLY);
        else await (bench.ledger.handled % 5 === 0 ? pause(1) : turn());
      });
      const most = await overtaking.maxOvertaken(quiet, isSlow ? 10 : 25);
      const left = count - overtaking.floodHandedOut;
      await bench.expectHandledOnce();
      expect(left).toBeGreaterThan(0);
      expect(most).toBeLessThanOrEqual(IS_CLUSTER ? inCluster({ prefetch, batchSize }) + LOOKS : share);
    },
    LIMIT,
  );

  it(
    'is overtaken by no more than its fair share in a service whose handlers are all busy with a flooded stream',
    async () => {
      const [busy, ...quiet] = bench.streamsOfOneSlot(4);
      const overtaking = new Overtaking(bench.admin, bench.ledger, busy, GROUP);
      const controllers = [busy, ...quiet].map((pattern) =>
        onEvent(pattern, async (data: string, context) => {
          overtaking.handedOut(pattern, data);
          await pause(5);
          bench.ledger.handledMessage(context.getMessage());
        }),
      );
      const count = 6_000;
      await flood(bench.producer, bench.ledger, busy, count);
      await startInstance(bench.faults, controllers, { ...bench.service, ...AHEAD, ...NO_CLAIMS });
      const most = await overtaking.maxOvertaken(quiet, 50);
      const left = count - overtaking.floodHandedOut;
      await bench.expectHandledOnce();
      expect(left).toBeGreaterThan(0);
      expect(most).toBeLessThanOrEqual(IS_CLUSTER ? inCluster(AHEAD) : CAPACITY / 4);
    },
    LIMIT,
  );

  it.each([
    { what: 'retries that are always due', retry: { attempts: 1_000, delay: 1, factor: 1 } },
    { what: 'messages that become dead letters', retry: { attempts: 2, delay: 1 } },
  ])(
    'is not starved by $what',
    async ({ retry }) => {
      const [sick, healthy] = bench.streams(2);
      let [attempts, isCured] = [0, false];
      const before: number[] = [];
      const controllers = [
        onEvent(sick, async (_data, context) => {
          attempts += 1;
          // Handlers take different times, so that places become free one by one.
          await pause(isCured ? 0 : 20 + 100 * Math.random());
          if (!isCured) throw new Error('not today');
          bench.ledger.handledMessage(context.getMessage());
        }),
        onEvent(healthy, (_data, context) => {
          before.push(attempts);
          bench.ledger.handledMessage(context.getMessage());
        }),
      ];
      const onDeadLetter = ({ message }: DeadLetterEvent): void => bench.ledger.handledMessage(message);
      await flood(bench.producer, bench.ledger, sick, 400);
      await startInstance(bench.faults, controllers, { ...bench.service, ...AHEAD, retry, onDeadLetter });
      await until('many attempts have failed', () => attempts > 200, 30_000);
      const most = await maxStarted(bench, healthy, () => attempts, before);
      isCured = true;
      await bench.expectHandledOnce();

      // The messages that the service owned at the send, and as many again until the read that returns the quiet
      // message.
      expect(most).toBeLessThanOrEqual(2 * CAPACITY);
    },
    LIMIT,
  );

  it(
    'is not starved by the pending entries of a dead consumer',
    async () => {
      const count = 3_000;
      const [left, quiet] = bench.streams(2);
      await flood(bench.producer, bench.ledger, left, count);
      await bench.admin.xgroup('CREATE', left, GROUP, '0');
      await bench.admin.xreadgroup('GROUP', GROUP, 'dead', 'COUNT', count, 'STREAMS', left, '>');
      const options = { ...ROLLING, autoClaimIdle: 500, autoClaimInterval: 100 };
      const consumer = await bench.streamer.createConsumer([left, quiet], options);
      let claimed = 0;
      const before: number[] = [];
      void drain(consumer, async (message) => {
        if (message.streamKey === left) claimed += 1;
        else before.push(claimed);
        bench.ledger.handledMessage(message);
        consumer.ack(message);
        await pause(1);
      });
      await until('the consumer claims entries', () => claimed > 0);
      const most = await maxStarted(bench, quiet, () => claimed, before);
      const isOver = claimed === count;
      await bench.expectHandledOnce(1);
      expect(isOver).toBe(false);
      // Its default prefetch, and twice as many again until the read that returns the quiet message, which in a cluster waits in a
      // line with the claims.
      expect(most).toBeLessThanOrEqual((IS_CLUSTER ? 10 : 3) * 20);
    },
    LIMIT,
  );
});

describe('many streams', () => {
  it.each([
    { prefetch: 20, spread: 1 },
    { prefetch: 200, spread: 3 },
    // A read of many places asks a part of the busy streams for up to 32 entries.
    { prefetch: 1_000, spread: 32 },
  ])(
    'are read evenly: none is far ahead of another, with a prefetch of $prefetch for 64',
    async ({ prefetch, spread }) => {
      const streams = bench.streams(64);
      await Promise.all(streams.map((stream) => flood(bench.producer, bench.ledger, stream, 150)));
      const batchSize = Math.max(10, prefetch / 2);
      const options = { ...ROLLING, ...NO_CLAIMS, prefetch, batchSize };
      const consumer = await bench.streamer.createConsumer(streams, options);
      const handled = new Map(streams.map((stream) => [stream, 0]));
      let most = 0;
      void drain(consumer, (message) => {
        const { streamKey } = message;
        handled.set(streamKey, (handled.get(streamKey) as number) + 1);
        most = Math.max(most, (handled.get(streamKey) as number) - Math.min(...handled.values()));
        bench.ledger.handledMessage(message);
        consumer.ack(message);
      });
      await bench.expectHandledOnce();
      // In a cluster the reads begin as their connections are ready, and take turns with pages.
      expect(most).toBeLessThanOrEqual(IS_CLUSTER ? 3 * batchSize : spread);
    },
    LIMIT,
  );

  it(
    'without messages do not delay the one that has messages',
    async () => {
      const [busy, ...quiet] = bench.streams(64);
      const consumer = await bench.streamer.createConsumer([busy, ...quiet], { ...ROLLING, prefetch: 20 });
      void drain(consumer, (message) => {
        bench.ledger.handledMessage(message);
        consumer.ack(message);
      });
      // If each empty stream delayed the read of the other streams, this would take minutes.
      await flood(bench.producer, bench.ledger, busy, 2_000);
      await bench.expectHandledOnce();
    },
    LIMIT,
  );
});

describe('consumers', () => {
  it(
    'of one group each receive a share of a flooded stream, and one that stops taking messages owns no more than its prefetch',
    async () => {
      const stream = uniqueName('flood');
      const count = 8_000;
      const shares = [0, 0, 0, 0];
      const halt = withResolvers<void>();
      for (const index of shares.keys()) {
        const consumer = await bench.streamer.createConsumer(stream, ROLLING);
        void drain(consumer, async (message) => {
          shares[index] = (shares[index] as number) + 1;
          if (index === 0) await halt.promise;
          bench.ledger.handledMessage(message);
          consumer.ack(message);
          await pause(1);
        });
      }
      await flood(bench.producer, bench.ledger, stream, count);
      await until('all messages that can be handled are handled', () => bench.ledger.handled >= count - 21, 30_000);
      const [halted, ...others] = shares;
      halt.resolve();
      await bench.expectHandledOnce();
      expect(halted).toBe(1);
      expect(Math.min(...others)).toBeGreaterThan(count / 6);
    },
    LIMIT,
  );

  it(
    'of handlers with separate concurrency limits do not delay each other',
    async () => {
      const [stuck, busy] = bench.streams(2);
      const halt = withResolvers<void>();
      let begun = 0;
      const controllers = [
        onEvent(
          stuck,
          async (_data, context) => {
            begun += 1;
            await halt.promise;
            bench.ledger.handledMessage(context.getMessage());
          },
          { concurrency: 2 },
        ),
        onEvent(busy, (_data, context) => bench.ledger.handledMessage(context.getMessage()), { concurrency: 4 }),
      ];
      await startInstance(bench.faults, controllers, { ...bench.service, ...AHEAD });
      await flood(bench.producer, bench.ledger, stuck, 1_000);
      await flood(bench.producer, bench.ledger, busy, 4_000);
      await until('the other handler has handled all', () => bench.ledger.handled === 4_000, 30_000);
      expect(begun).toBe(2);
      halt.resolve();
      await bench.expectHandledOnce();
    },
    LIMIT,
  );
});
