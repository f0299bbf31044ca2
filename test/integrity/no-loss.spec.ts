import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams } from '../../lib/index.js';
import type { RedisStreamer, RedisStreamsContext } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { cutInTurn } from '../support/cuts.js';
import { FaultBench } from '../support/fault-bench.js';
import { GROUP, GroupWork, duplicatePayloads, storedEntries } from '../support/group-work.js';
import { startInstance } from '../support/instances.js';
import { BATCHES_IN_FLIGHT, useLoad } from '../support/load.js';
import type { RedisServer } from '../support/redis-server.js';
import { SERVER_FAULTS } from '../support/server-faults.js';
import { useTally } from '../support/tally.js';
import { rounds } from '../support/test-redis.js';
import type { TestRedis, TestRedisOptions } from '../support/test-redis.js';
import { until } from '../support/until.js';

const LIMIT = 60_000;
const ROUNDS = rounds(3);
const KILLS = rounds(6);
const MAX_BATCH = 20;
const MOST_IN_FLIGHT = BATCHES_IN_FLIGHT * MAX_BATCH;

const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
let redis: TestRedis;
/** One on each master. */
let streams: string[];
let work: GroupWork;

beforeEach(() => {
  work = new GroupWork();
});
afterEach(() => {
  jest.restoreAllMocks();
});

async function begin(options?: TestRedisOptions): Promise<void> {
  redis = await bench.redis(options);
  streams = await redis.spread('s');
}

/** The server of one of the streams, in turn. */
const serverOf = (round: number): Promise<RedisServer> => redis.masterOf(streams[round % streams.length] as string);

/** Whether a message is in the stream of {@link serverOf}. */
const isOf = (round: number, payload: string): boolean =>
  Number(payload.split('-')[1]) % streams.length === round % streams.length;

/** Starts two consumers of one group, and continuous sends. */
async function start(perSecond: number, connection = redis.connection) {
  const streamers = [
    await bench.streamer(connection, { blockTimeout: 300 }),
    await bench.streamer(connection, { blockTimeout: 300 }),
  ];
  for (const streamer of streamers) await work.join(streamer, streams);
  const producer = await (streamers[0] as RedisStreamer).createGenericProducer({ maxBatch: MAX_BATCH });
  return { streamers, load: keepSending(work.senderTo(producer, streams), perSecond) };
}

/**
 * Asserts that nothing is lost or refused, no entry is handled twice, and no more messages are in the stream twice than
 * were in flight at the faults.
 */
async function expectSettled(faults: number): Promise<void> {
  const admin = redis.client();
  const outcome = await work.settled(admin, streams);
  tally(work.counts(faults, outcome));
  expect(outcome.lost).toEqual([]);
  expect(outcome.handledAgain).toEqual([]);
  expect(work.ledger.failures).toEqual(new Map());
  const again = duplicatePayloads(await storedEntries(admin, streams));
  expect(outcome.duplicates).toBe(again.length);
  expect(again.length).toBeLessThanOrEqual(faults * streams.length * MOST_IN_FLIGHT);
}

describe('no confirmed message is lost', () => {
  it(
    'when connections break in every possible way',
    async () => {
      await begin({ isDurable: false });
      const proxy = await redis.proxies(streams);
      const { load } = await start(800, proxy.connection);
      await work.moreHandled(100);
      const cuts = await cutInTurn(proxy, ROUNDS, () => work.moreHandled(100));
      await load.stop();

      await expectSettled(cuts);
      // In every other round one kind more.
      expect(cuts).toBe(11 * ROUNDS + Math.ceil(ROUNDS / 2));
    },
    LIMIT,
  );

  it(
    'when the server is killed and restarted repeatedly',
    async () => {
      await begin();
      const { load } = await start(800);
      for (let kill = 0; kill < KILLS; kill += 1) {
        await work.moreHandled(300);
        await (await serverOf(kill)).restart();
      }
      await work.moreHandled(300);
      await load.stop();

      await expectSettled(KILLS);
    },
    LIMIT,
  );

  it.each(SERVER_FAULTS)(
    'when the server %s, three times',
    async (_what, trouble) => {
      await begin({ isDurable: false });
      const { load } = await start(500);
      for (let round = 0; round < ROUNDS; round += 1) {
        await work.moreHandled(200);
        const server = await serverOf(round);
        await trouble({ server, admin: bench.admin(server.url), helper: bench.admin(server.url) });
      }
      await work.moreHandled(200);
      await load.stop();

      await expectSettled(ROUNDS);
    },
    LIMIT,
  );

  it(
    'when the server is out of memory (OOM), three times: sends fail with a clear error, consumers continue',
    async () => {
      await begin({ isDurable: false });
      const admin = redis.client();
      const limitMemory = (limit: string): Promise<unknown> =>
        Promise.all(redis.masters.map(({ url }) => bench.admin(url).config('SET', 'maxmemory', limit)));
      const { load } = await start(500);
      for (let round = 0; round < ROUNDS; round += 1) {
        await work.moreHandled(200);
        const refused = work.ledger.failures.size;
        await limitMemory('1');
        await until('sends are refused', () => work.ledger.failures.size > refused + 50);
        expect((await work.settled(admin, streams)).lost).toEqual([]);
        await limitMemory('0');
      }
      await work.moreHandled(200);
      await load.stop();

      const outcome = await work.settled(admin, streams);
      tally(work.counts(ROUNDS, outcome));
      expect(outcome).toEqual({ lost: [], duplicates: 0, handledAgain: [] });
      const { failures, confirmed } = work.ledger;
      expect(confirmed + failures.size).toBe(load.sent);
      for (const error of failures.values()) expect(error).toMatchObject({ code: 'ERR_SEND_FAILED', retryable: true });
      expect((await storedEntries(admin, streams)).filter(({ payload }) => failures.has(payload))).toEqual([]);
    },
    LIMIT,
  );

  it(
    'after the server has restarted without its data, repeatedly',
    async () => {
      await begin({ isDurable: false });
      const { streamers, load } = await start(800);
      const wiped = new Set<string>();
      for (let kill = 0; kill < KILLS; kill += 1) {
        await work.moreHandled(200);
        // More messages than the consumers prefetch, so that some are only in the server.
        work.holdHandlers();
        await load.moreSent(400);
        const server = await serverOf(kill);
        await server.kill();
        // Only then has the client read the last confirmation that this server process sent.
        await until(
          'the loss is detected',
          () => streamers[0]?.connections.ofRole('writer').some(({ state }) => state === 'connecting') ?? false,
        );
        for (const payload of work.ledger.account().lost) if (isOf(kill, payload)) wiped.add(payload);
        work.releaseHandlers();
        await server.restart();
      }
      // Waits for sends, not for handled messages: messages handled now may have been read before the server died.
      await load.moreSent(300);
      await load.stop();

      const admin = redis.client();
      const outcome = await work.settled(admin, streams, wiped);
      tally(work.counts(KILLS, outcome));
      expect(outcome.lost).toEqual([]);
      expect(outcome.handledAgain).toEqual([]);
      expect(work.ledger.failures).toEqual(new Map());
      expect(wiped.size).toBeGreaterThan(0);
      expect(work.ledger.handled + wiped.size).toBeGreaterThanOrEqual(load.sent);
      expect((await storedEntries(admin, streams)).length).toBeGreaterThanOrEqual(300);
    },
    LIMIT,
  );

  it.each([
    ['back', -3_600_000],
    ['forward', 3_600_000],
  ])(
    'when the clock of this machine jumps %s by an hour while connections break',
    async (_where, jump) => {
      await begin({ isDurable: false });
      const proxy = await redis.proxies(streams);
      const { load } = await start(500, proxy.connection);
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

      await expectSettled(6);
    },
    LIMIT,
  );
});

it(
  'no message that emit() has confirmed is lost for event handlers of two instances when connections break in every way',
  async () => {
    await begin({ isDurable: false });
    const proxy = await redis.proxies(streams);
    const settings = { connection: proxy.connection, blockTimeout: 300 };
    const handle = (streamKey: string) => async (payload: string, context: RedisStreamsContext) => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      work.handled({ streamKey, id: context.getMessageId(), text: () => payload });
    };
    const controllers = streams.map((stream) => onEvent(stream, handle(stream)));
    const options = { ...settings, group: GROUP, autoCommitInterval: 20, concurrency: 16 };
    for (let instance = 0; instance < 2; instance += 1) await startInstance(bench, controllers, options);
    const silent = { error: () => undefined, warn: () => undefined, log: () => undefined };
    const client = new ClientRedisStreams({ ...settings, maxBatch: MAX_BATCH, logger: silent });
    bench.endLater(() => client.close());
    await client.connect();
    const emit = (n: number): Promise<void> =>
      work.ledger.sent(`e-${n}`, firstValueFrom(client.emit(streams[n % streams.length] as string, `e-${n}`)));
    const load = keepSending(emit, 500);
    await work.moreHandled(100);
    const cuts = await cutInTurn(proxy, ROUNDS, () => work.moreHandled(100));
    await load.stop();

    await expectSettled(cuts);
  },
  LIMIT,
);
