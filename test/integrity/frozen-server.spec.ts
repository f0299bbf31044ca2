import { beforeEach, describe, expect, it } from '@jest/globals';
import { setTimeout as pause } from 'node:timers/promises';

import { UncertainSendError } from '../../lib/index.js';
import type { RedisStreamer, RedisStreamsConnection, StreamerOptions } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { FaultBench } from '../support/fault-bench.js';
import type { FaultProxies } from '../support/fault-proxies.js';
import { GROUP, GroupWork, MAX_IN_FLIGHT, duplicatePayloads, storedEntries } from '../support/group-work.js';
import { BATCHES_IN_FLIGHT, useLoad } from '../support/load.js';
import type { RedisServer } from '../support/redis-server.js';
import { describeServer, requireServerBinary } from '../support/server-binary.js';
import { pendingOf } from '../support/streams.js';
import { useTally } from '../support/tally.js';
import { rounds } from '../support/test-redis.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

const LIMIT = 60_000;
const CONSUMERS = ['c0', 'c1'];
/** With these options a reader drops its connection after 2.3 seconds, a writer after ten. */
const QUICK = { blockTimeout: 300, timeout: 20_000 } as const;
const ROUNDS = rounds(3);
const MAX_BATCH = 20;
const MOST_IN_FLIGHT = BATCHES_IN_FLIGHT * MAX_BATCH;

const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
let redis: TestRedis;
let server: RedisServer;
let admin: RedisClient;
/** One on each master; the first one is on the server that is suspended. */
let streams: string[];
let work: GroupWork;

beforeEach(async () => {
  const { path } = await requireServerBinary();
  // Redis 6 does not have the option and does not need it.
  const debug = / 6\./.test(describeServer(path)) ? [] : ['--enable-debug-command', 'yes'];
  redis = await bench.redis({ isDurable: false, args: debug });
  streams = await redis.spread('s');
  server = await redis.masterOf(streams[0] as string);
  admin = redis.client();
  work = new GroupWork();
});

async function join(connection: RedisStreamsConnection, options: StreamerOptions): Promise<RedisStreamer> {
  const streamer = await bench.streamer(connection, options);
  for (const consumer of CONSUMERS) await work.join(streamer, streams, { consumer });
  return streamer;
}

/** Starts two consumers, and continuous sends from a separate streamer. */
async function start(connection: RedisStreamsConnection = redis.connection, options: StreamerOptions = QUICK) {
  const consuming = await join(connection, options);
  const sending = await bench.streamer(connection, options);
  const producer = await sending.createGenericProducer({ maxBatch: MAX_BATCH });
  return { streamers: [consuming, sending], load: keepSending(work.senderTo(producer, streams), 500) };
}

/**
 * Asserts that nothing is lost or handled twice, and that no more messages are in the stream twice than were in flight
 * when a writer dropped its connection.
 */
async function expectSettled(faults: number, maxDuplicates: number): Promise<void> {
  const outcome = await work.settled(admin, streams);
  tally(work.counts(faults, outcome));
  expect(outcome.lost).toEqual([]);
  expect(outcome.handledAgain).toEqual([]);
  const again = duplicatePayloads(await storedEntries(admin, streams));
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
    ['many times for a moment (SIGSTOP)', rounds(10), () => freeze(300)],
    ['several times for a second (DEBUG SLEEP)', rounds(4), () => bench.admin(server.url).call('DEBUG', 'SLEEP', '1')],
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

      await expectSettled(times, 0);
      expect(work.ledger.failures).toEqual(new Map());
      for (const { connections } of streamers) expect(connections.reconnects).toBe(0);
    },
    LIMIT,
  );

  it.each([
    ['readers', rounds(3), 2_800],
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

      await expectSettled(times, times * MOST_IN_FLIGHT);
      expect(work.ledger.failures).toEqual(new Map());
      expect(streamers[0]?.connections.reconnects).toBeGreaterThanOrEqual(times);
    },
    LIMIT,
  );

  it(
    'for longer than sends are repeated loses no confirmed message, and no refused message is in the stream',
    async () => {
      const { load } = await start(redis.connection, { blockTimeout: 300, timeout: 1_000 });
      for (let round = 0; round < ROUNDS; round += 1) {
        await work.moreHandled(100);
        await freeze(3_000);
      }
      await work.moreHandled(100);
      await load.stop();

      await expectSettled(ROUNDS, ROUNDS * MOST_IN_FLIGHT);
      const { failures, confirmed, uncertain } = work.ledger;
      expect(confirmed + failures.size).toBe(load.sent);
      const refused = [...failures].filter(([, error]) => !(error instanceof UncertainSendError));
      const stored = new Set((await storedEntries(admin, streams)).map(({ payload }) => payload));
      expect(refused.length).toBeGreaterThan(0);
      expect(refused.filter(([payload]) => stored.has(payload))).toEqual([]);
      expect(uncertain).toBeLessThanOrEqual(ROUNDS * MOST_IN_FLIGHT);
    },
    LIMIT,
  );
});

describe('a connection that drops all bytes and stays open', () => {
  it.each([
    ['readers', 'reader', ROUNDS],
    ['writers', 'writer', 1],
  ] as const)(
    'for %s only loses nothing',
    async (_, role, times) => {
      const proxy = await redis.proxies(streams);
      const { load } = await start(proxy.connection);
      for (let round = 0; round < times; round += 1) {
        await work.moreHandled(200);
        const { accepted } = proxy;
        proxy.stall(role);
        await until('the client has reconnected', () => proxy.accepted > accepted, 15_000);
      }
      await work.moreHandled(200);
      await load.stop();

      await expectSettled(times, times * MOST_IN_FLIGHT);
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
      (proxy: FaultProxies) => proxy.stall(),
      (proxy: FaultProxies) => {
        proxy.unstall();
        // The server has not received the end of the connections.
        proxy.cut();
      },
    ],
  ])(
    'because %s ends before the fault is over; only unacknowledged entries are handled again',
    async (_why, stop, recover) => {
      const proxy = await redis.proxies(streams);
      const options = { blockTimeout: 300, timeout: 1_000 };
      const consuming = await bench.streamer(proxy.connection, options);
      const consumers = await Promise.all(CONSUMERS.map((consumer) => work.join(consuming, streams, { consumer })));
      const sending = await bench.streamer(proxy.connection, options);
      const load = keepSending(work.senderTo(await sending.createGenericProducer(), streams), 1_000);
      await work.moreHandled(500);
      stop(proxy);
      await load.moreSent(50);
      await Promise.all([load.stop(), ...consumers.map((consumer) => consumer.end())]);
      await Promise.all([consuming.disconnect(), sending.disconnect()]);
      recover(proxy);
      await until('the server has closed the connections', async () => (await redis.connections()) === 0);
      const rows = await Promise.all(
        streams.map(async (stream) => (await pendingOf(admin, stream, GROUP)).map(({ id }) => `${stream} ${id}`)),
      );
      const unacknowledged = new Set(rows.flat());
      await join(redis.connection, QUICK);

      const outcome = await work.settled(admin, streams);
      tally(work.counts(1, outcome));
      expect(outcome.lost).toEqual([]);
      const isExplained = (entry: string): boolean => unacknowledged.has(entry.split(' ').slice(0, 2).join(' '));
      expect(outcome.handledAgain.filter((entry) => !isExplained(entry))).toEqual([]);
      expect(outcome.handledAgain.length).toBeLessThanOrEqual(CONSUMERS.length * MAX_IN_FLIGHT);
    },
    LIMIT,
  );
});
