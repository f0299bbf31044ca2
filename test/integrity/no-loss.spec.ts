import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { Redis } from 'ioredis';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams } from '../../lib/index.js';
import type { RedisStreamer, RedisStreamsContext } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { cutInTurn } from '../support/cuts.js';
import { FaultBench } from '../support/fault-bench.js';
import { GROUP, GroupWork, duplicatePayloads, storedEntries } from '../support/group-work.js';
import { startInstance } from '../support/instances.js';
import { useLoad } from '../support/load.js';
import { SERVER_FAULTS } from '../support/server-faults.js';
import { useTally } from '../support/tally.js';
import { until } from '../support/until.js';

const LIMIT = 60_000;
const NOT_PERSISTENT = { args: ['--appendonly', 'no'] };
const MAX_BATCH = 20;
/** Four full batches, and one that was added before they were quite full. */
const MOST_IN_FLIGHT = 5 * MAX_BATCH;

const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
let work: GroupWork;

beforeEach(() => {
  work = new GroupWork();
});
afterEach(() => {
  jest.restoreAllMocks();
});

/** Starts two consumers of one group, and continuous sends. */
async function start(url: string, perSecond: number) {
  const streamers = [
    await bench.streamer(url, { blockTimeout: 300 }),
    await bench.streamer(url, { blockTimeout: 300 }),
  ];
  for (const streamer of streamers) await work.join(streamer, 's');
  const producer = await (streamers[0] as RedisStreamer).createProducer('s', { maxBatch: MAX_BATCH });
  return { streamers, load: keepSending(work.sender(producer), perSecond) };
}

/**
 * Asserts that nothing is lost or refused, no entry is handled twice, and no more messages are in the stream twice than
 * were in flight at the faults.
 */
async function settle(admin: Redis, faults: number): Promise<void> {
  const outcome = await work.settled(admin, 's');
  tally(work.counts(faults, outcome));
  expect(outcome.lost).toEqual([]);
  expect(outcome.handledAgain).toEqual([]);
  expect(work.ledger.failures).toEqual(new Map());
  const again = duplicatePayloads(await storedEntries(admin, 's'));
  expect(outcome.duplicates).toBe(again.length);
  expect(again.length).toBeLessThanOrEqual(faults * MOST_IN_FLIGHT);
}

describe('no confirmed message is lost', () => {
  it(
    'when connections break in every possible way',
    async () => {
      const server = await bench.server(NOT_PERSISTENT);
      const proxy = await bench.proxy(server);
      const { load } = await start(proxy.url, 800);
      await work.moreHandled(100);
      const cuts = await cutInTurn(proxy, 3, () => work.moreHandled(100));
      await load.stop();

      await settle(bench.admin(server.url), cuts);
      expect(cuts).toBe(35);
    },
    LIMIT,
  );

  it(
    'when the server is killed and restarted repeatedly',
    async () => {
      const server = await bench.server();
      const { load } = await start(server.url, 800);
      for (let kill = 0; kill < 6; kill += 1) {
        await work.moreHandled(300);
        await server.restart();
      }
      await work.moreHandled(300);
      await load.stop();

      await settle(bench.admin(server.url), 6);
    },
    LIMIT,
  );

  it.each(SERVER_FAULTS)(
    'when the server %s, three times',
    async (_what, trouble) => {
      const server = await bench.server(NOT_PERSISTENT);
      const [admin, helper] = [bench.admin(server.url), bench.admin(server.url)];
      const { load } = await start(server.url, 500);
      for (let round = 0; round < 3; round += 1) {
        await work.moreHandled(200);
        await trouble({ server, admin, helper });
      }
      await work.moreHandled(200);
      await load.stop();

      await settle(admin, 3);
    },
    LIMIT,
  );

  it(
    'when the server is out of memory (OOM), three times: sends fail with a clear error, consumers continue',
    async () => {
      const server = await bench.server(NOT_PERSISTENT);
      const admin = bench.admin(server.url);
      const { load } = await start(server.url, 500);
      for (let round = 0; round < 3; round += 1) {
        await work.moreHandled(200);
        const refused = work.ledger.failures.size;
        await admin.config('SET', 'maxmemory', '1');
        await until('sends are refused', () => work.ledger.failures.size > refused + 50);
        expect((await work.settled(admin, 's')).lost).toEqual([]);
        await admin.config('SET', 'maxmemory', '0');
      }
      await work.moreHandled(200);
      await load.stop();

      const outcome = await work.settled(admin, 's');
      tally(work.counts(3, outcome));
      expect(outcome).toEqual({ lost: [], duplicates: 0, handledAgain: [] });
      const { failures, confirmed } = work.ledger;
      expect(confirmed + failures.size).toBe(load.sent);
      for (const error of failures.values()) expect(error).toMatchObject({ code: 'ERR_SEND_FAILED', retryable: true });
      expect((await storedEntries(admin, 's')).filter(({ payload }) => failures.has(payload))).toEqual([]);
    },
    LIMIT,
  );

  it(
    'after the server has restarted without its data, repeatedly',
    async () => {
      const server = await bench.server(NOT_PERSISTENT);
      const { streamers, load } = await start(server.url, 800);
      const wiped = new Set<string>();
      for (let kill = 0; kill < 6; kill += 1) {
        await work.moreHandled(200);
        // More messages than the consumers prefetch, so that some are only in the server.
        work.holdHandlers();
        await load.moreSent(400);
        await server.kill();
        // Only then has the client read the last confirmation that this server process sent.
        await until(
          'the loss is detected',
          () => streamers[0]?.connections.ofRole('writer')[0]?.state === 'connecting',
        );
        for (const payload of work.ledger.account().lost) wiped.add(payload);
        work.releaseHandlers();
        await server.restart();
      }
      // Waits for sends, not for handled messages: messages handled now may have been read before the server died.
      await load.moreSent(300);
      await load.stop();

      const admin = bench.admin(server.url);
      const outcome = await work.settled(admin, 's', wiped);
      tally(work.counts(6, outcome));
      expect(outcome.lost).toEqual([]);
      expect(outcome.handledAgain).toEqual([]);
      expect(work.ledger.failures).toEqual(new Map());
      expect(wiped.size).toBeGreaterThan(0);
      expect(work.ledger.handled + wiped.size).toBeGreaterThanOrEqual(load.sent);
      expect((await storedEntries(admin, 's')).length).toBeGreaterThanOrEqual(300);
    },
    LIMIT,
  );

  it.each([
    ['back', -3_600_000],
    ['forward', 3_600_000],
  ])(
    'when the clock of this machine jumps %s by an hour while connections break',
    async (_where, jump) => {
      const server = await bench.server(NOT_PERSISTENT);
      const proxy = await bench.proxy(server);
      const { load } = await start(proxy.url, 500);
      await work.moreHandled(200);
      const now = Date.now.bind(Date);
      jest.spyOn(Date, 'now').mockImplementation(() => now() + jump);
      for (const role of ['reader', 'writer', 'control', undefined] as const) {
        await work.moreHandled(200);
        proxy.cut('rst', role);
      }
      await work.moreHandled(200);
      jest.restoreAllMocks();
      await work.moreHandled(200);
      await load.stop();

      await settle(bench.admin(server.url), 6);
    },
    LIMIT,
  );
});

it(
  'no message that emit() has confirmed is lost for event handlers of two instances when connections break in every way',
  async () => {
    const server = await bench.server(NOT_PERSISTENT);
    const proxy = await bench.proxy(server);
    const settings = { connection: proxy.url, blockTimeout: 300 };
    const handle = async (payload: string, context: RedisStreamsContext): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      work.handled({ streamKey: 's', id: context.getMessageId(), text: () => payload });
    };
    const options = { ...settings, group: GROUP, autoCommitInterval: 20, concurrency: 16 };
    for (let instance = 0; instance < 2; instance += 1) await startInstance(bench, onEvent('s', handle), options);
    const silent = { error: () => undefined, warn: () => undefined, log: () => undefined };
    const client = new ClientRedisStreams({ ...settings, maxBatch: MAX_BATCH, logger: silent });
    bench.endLater(() => client.close());
    await client.connect();
    const emit = (n: number): Promise<void> => work.ledger.sent(`e-${n}`, firstValueFrom(client.emit('s', `e-${n}`)));
    const load = keepSending(emit, 500);
    await work.moreHandled(100);
    const cuts = await cutInTurn(proxy, 3, () => work.moreHandled(100));
    await load.stop();

    await settle(bench.admin(server.url), cuts);
  },
  LIMIT,
);
