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
/** With these a reader gives up after 2.3 seconds, a writer after ten. */
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
  // Redis 6 does not know the option, and needs it not.
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

/** Two consumers, and sends all the time from a streamer of their own. */
async function start(url = server.url, options: StreamerOptions = QUICK) {
  const consuming = await join(url, options);
  const sending = await bench.streamer(url, options);
  const producer = await sending.createProducer('s', { maxBatch: MAX_BATCH });
  return { streamers: [consuming, sending], load: keepSending(work.sender(producer), 500) };
}

/** Nothing is lost, nothing handled twice, and what stands in the stream twice was in flight when somebody gave up. */
async function settle(faults: number, mostAppendedAgain: number): Promise<void> {
  const outcome = await work.settled(admin, 's');
  tally(work.counts(faults, outcome));
  expect(outcome.lost).toEqual([]);
  expect(outcome.handledAgain).toEqual([]);
  const again = duplicatePayloads(await storedEntries(admin, 's'));
  expect(outcome.duplicates).toBe(again.length);
  expect(again.length).toBeLessThanOrEqual(mostAppendedAgain);
}

/** The server stands still for so long. */
async function freeze(time: number): Promise<void> {
  server.pause();
  await pause(time);
  server.resume();
}

describe('a server that stands still while messages flow', () => {
  it.each([
    ['ten times for a moment (SIGSTOP)', 10, () => freeze(300)],
    ['four times for a second (DEBUG SLEEP)', 4, () => admin.call('DEBUG', 'SLEEP', '1')],
  ])(
    '%s goes unnoticed: nothing is lost, repeated or refused',
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
    ['readers wait, three times', 3, 2_800],
    ['anybody waits', 1, 12_500],
  ])(
    'for longer than %s loses nothing, and every send is confirmed in the end',
    async (_who, times, long) => {
      const { streamers, load } = await start();
      for (let round = 0; round < times; round += 1) {
        await work.moreHandled(100);
        await freeze(long);
        await until('all is well', () => streamers.every(({ status }) => status === 'connected'));
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
    'for longer than sends are repeated loses nothing that was confirmed, and what was refused is not there',
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

describe('a connection that swallows everything and stays open', () => {
  it.each([
    ['readers', 'reader', 3],
    ['writers', 'writer', 1],
  ] as const)(
    'for %s alone costs nothing',
    async (_whose, role, times) => {
      const proxy = await bench.proxy(server);
      const { load } = await start(proxy.url);
      for (let round = 0; round < times; round += 1) {
        await work.moreHandled(200);
        const { accepted } = proxy;
        proxy.stall(role);
        await until('it is given up on', () => proxy.accepted > accepted, 15_000);
      }
      await work.moreHandled(200);
      await load.stop();

      await settle(times, times * MOST_IN_FLIGHT);
      expect(work.ledger.failures).toEqual(new Map());
    },
    LIMIT,
  );
});

describe('whoever leaves while nothing is answered', () => {
  it.each([
    ['the server stands still', () => server.pause(), () => server.resume()],
    [
      'connections swallow everything',
      (proxy: FaultProxy) => proxy.stall(),
      (proxy: FaultProxy) => {
        proxy.unstall();
        // The server has not heard that anybody left.
        proxy.cut();
      },
    ],
  ])(
    'because %s is gone before it is over; only what could not be acknowledged is handled again',
    async (_why, stop, goOn) => {
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
      goOn(proxy);
      await until('the server has noticed', async () => !String(await admin.client('LIST')).includes('nestjs-redis'));
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
