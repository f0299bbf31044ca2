import { beforeEach, describe, expect, it } from '@jest/globals';
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';

import { UncertainSendError } from '../../lib/index.js';
import type { RedisStreamer, StreamerOptions } from '../../lib/index.js';
import { FaultBench } from '../support/fault-bench.js';
import type { FaultProxy } from '../support/fault-proxy.js';
import { GROUP, GroupWork, MAX_IN_FLIGHT, duplicatePayloads, storedEntries } from '../support/group-work.js';
import { useLoad } from '../support/load.js';
import type { RedisServer } from '../support/redis-server.js';
import { describeServer, requireServerBinary } from '../support/server-binary.js';
import { useTally } from '../support/tally.js';
import { until } from '../support/until.js';

const LIMIT = 60_000;
const CONSUMERS = ['c0', 'c1'];
/** With these options a reader drops its connection after 2.3 seconds, a writer after ten. */
const QUICK = { blockTimeout: 300, timeout: 20_000 } as const;
const MAX_BATCH = 20;
const MOST_IN_FLIGHT = 5 * MAX_BATCH;

const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
let server: RedisServer;
let admin: Redis;
let work: GroupWork;

beforeEach(async () => {
  const { path } = await requireServerBinary();
  // Redis 6 does not have the option and does not need it.
  const debug = / 6\./.test(describeServer(path)) ? [] : ['--enable-debug-command', 'yes'];
  server = await bench.server({ args: ['--appendonly', 'no', ...debug] });
  admin = bench.admin(server.url);
  work = new GroupWork();
});

async function join(url: string, options: StreamerOptions): Promise<RedisStreamer> {
  const streamer = await bench.streamer(url, options);
  for (const consumer of CONSUMERS) await work.join(streamer, 's', { consumer });
  return streamer;
}

/** Starts two consumers, and continuous sends from a separate streamer. */
async function start(url = server.url, options: StreamerOptions = QUICK) {
  const consuming = await join(url, options);
  const sending = await bench.streamer(url, options);
  const producer = await sending.createProducer('s', { maxBatch: MAX_BATCH });
  return { streamers: [consuming, sending], load: keepSending(work.sender(producer), 500) };
}

/**
 * Asserts that nothing is lost or handled twice, and that no more messages are in the stream twice than were in flight
 * when a writer dropped its connection.
 */
async function settle(faults: number, maxDuplicates: number): Promise<void> {
  const outcome = await work.settled(admin, 's');
  tally(work.counts(faults, outcome));
  expect(outcome.lost).toEqual([]);
  expect(outcome.handledAgain).toEqual([]);
  const again = duplicatePayloads(await storedEntries(admin, 's'));
  expect(outcome.duplicates).toBe(again.length);
  expect(again.length).toBeLessThanOrEqual(maxDuplicates);
}

/** Suspends the server for the given milliseconds. */
async function freeze(time: number): Promise<void> {
  server.pause();
  await pause(time);
  server.resume();
}

describe('a server that is suspended while messages flow', () => {
  it.each([
    ['ten times for a moment (SIGSTOP)', 10, () => freeze(300)],
    ['four times for a second (DEBUG SLEEP)', 4, () => admin.call('DEBUG', 'SLEEP', '1')],
  ])(
    '%s has no effect: nothing is lost, repeated or refused',
    async (_what, times, stop) => {
      const { streamers, load } = await start();
      for (let round = 0; round < times; round += 1) {
        await work.moreHandled(100);
        await stop();
      }
      await work.moreHandled(100);
      await load.stop();

      await settle(times, 0);
      expect(work.ledger.failures).toEqual(new Map());
      for (const { connections } of streamers) expect(connections.reconnects).toBe(0);
    },
    LIMIT,
  );

  it.each([
    ['readers, three times', 3, 2_800],
    ['all connections', 1, 12_500],
  ])(
    'for longer than the reply timeout of %s loses nothing, and every send is eventually confirmed',
    async (_who, times, long) => {
      const { streamers, load } = await start();
      for (let round = 0; round < times; round += 1) {
        await work.moreHandled(100);
        await freeze(long);
        await until('all streamers are connected', () => streamers.every(({ status }) => status === 'connected'));
      }
      await work.moreHandled(100);
      await load.stop();

      await settle(times, times * MOST_IN_FLIGHT);
      expect(work.ledger.failures).toEqual(new Map());
      expect(streamers[0]?.connections.reconnects).toBeGreaterThanOrEqual(times);
    },
    LIMIT,
  );

  it(
    'for longer than sends are repeated loses no confirmed message, and no refused message is in the stream',
    async () => {
      const { load } = await start(server.url, { blockTimeout: 300, timeout: 1_000 });
      for (let round = 0; round < 3; round += 1) {
        await work.moreHandled(100);
        await freeze(3_000);
      }
      await work.moreHandled(100);
      await load.stop();

      await settle(3, 3 * MOST_IN_FLIGHT);
      const { failures, confirmed, uncertain } = work.ledger;
      expect(confirmed + failures.size).toBe(load.sent);
      const refused = [...failures].filter(([, error]) => !(error instanceof UncertainSendError));
      const stored = new Set((await storedEntries(admin, 's')).map(({ payload }) => payload));
      expect(refused.length).toBeGreaterThan(0);
      expect(refused.filter(([payload]) => stored.has(payload))).toEqual([]);
      expect(uncertain).toBeLessThanOrEqual(3 * MOST_IN_FLIGHT);
    },
    LIMIT,
  );
});

describe('a connection that drops all bytes and stays open', () => {
  it.each([
    ['readers', 'reader', 3],
    ['writers', 'writer', 1],
  ] as const)(
    'for %s only loses nothing',
    async (_, role, times) => {
      const proxy = await bench.proxy(server);
      const { load } = await start(proxy.url);
      for (let round = 0; round < times; round += 1) {
        await work.moreHandled(200);
        const { accepted } = proxy;
        proxy.stall(role);
        await until('the client has reconnected', () => proxy.accepted > accepted, 15_000);
      }
      await work.moreHandled(200);
      await load.stop();

      await settle(times, times * MOST_IN_FLIGHT);
      expect(work.ledger.failures).toEqual(new Map());
    },
    LIMIT,
  );
});

describe('a streamer that disconnects while the server does not answer', () => {
  it.each([
    ['the server is suspended', () => server.pause(), () => server.resume()],
    [
      'connections drop all bytes',
      (proxy: FaultProxy) => proxy.stall(),
      (proxy: FaultProxy) => {
        proxy.unstall();
        // The server has not received the end of the connections.
        proxy.cut();
      },
    ],
  ])(
    'because %s ends before the fault is over; only unacknowledged entries are handled again',
    async (_why, stop, recover) => {
      const proxy = await bench.proxy(server);
      const options = { blockTimeout: 300, timeout: 1_000 };
      const consuming = await bench.streamer(proxy.url, options);
      const consumers = await Promise.all(CONSUMERS.map((consumer) => work.join(consuming, 's', { consumer })));
      const sending = await bench.streamer(proxy.url, options);
      const load = keepSending(work.sender(await sending.createProducer('s')), 1_000);
      await work.moreHandled(500);
      stop(proxy);
      await load.moreSent(50);
      await Promise.all([load.stop(), ...consumers.map((consumer) => consumer.end())]);
      await Promise.all([consuming.disconnect(), sending.disconnect()]);
      recover(proxy);
      await until(
        'the server has closed the connections',
        async () => !String(await admin.client('LIST')).includes('nestjs-redis'),
      );
      const rows = (await admin.xpending('s', GROUP, '-', '+', 10_000)) as Array<[id: string]>;
      const unacknowledged = new Set(rows.map(([id]) => id));
      await join(server.url, QUICK);

      const outcome = await work.settled(admin, 's');
      tally(work.counts(1, outcome));
      expect(outcome.lost).toEqual([]);
      const isExplained = (entry: string): boolean => unacknowledged.has(entry.split(' ')[1] as string);
      expect(outcome.handledAgain.filter((entry) => !isExplained(entry))).toEqual([]);
      expect(outcome.handledAgain.length).toBeLessThanOrEqual(CONSUMERS.length * MAX_IN_FLIGHT);
    },
    LIMIT,
  );
});
