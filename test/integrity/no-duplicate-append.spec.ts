import { beforeEach, describe, expect, it } from '@jest/globals';

import { UncertainSendError } from '../../lib/index.js';
import type { Delivery, RedisStreamsConnection, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { FaultBench } from '../support/fault-bench.js';
import type { FaultProxies } from '../support/fault-proxies.js';
import { GroupWork, duplicatePayloads, storedEntries } from '../support/group-work.js';
import type { StoredEntry } from '../support/group-work.js';
import { BATCHES_IN_FLIGHT, useLoad } from '../support/load.js';
import type { Load } from '../support/load.js';
import { useTally } from '../support/tally.js';
import { rounds } from '../support/test-redis.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

const LIMIT = 60_000;
const CUTS = rounds(20);
const KILLS = rounds(8);
const MAX_BATCH = 100;
const MOST_IN_FLIGHT = BATCHES_IN_FLIGHT * MAX_BATCH;

const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
let redis: TestRedis;
/** One on each master. */
let streams: string[];
let admin: RedisClient;
let work: GroupWork;
/** The id in the receipt of each send, by payload. */
let receipts: Map<string, string>;

beforeEach(() => {
  receipts = new Map();
  work = new GroupWork();
});

/** Starts a server, and a consumer of everything in the stream whose own connections have no faults. */
async function begin(isDurable = false): Promise<void> {
  redis = await bench.redis({ isDurable });
  streams = await redis.spread('s');
  admin = redis.client();
  await work.join(await bench.streamer(redis.connection), streams, { batchSize: 500, prefetch: 2_000 });
}

async function producerOf(connection: RedisStreamsConnection, delivery: Delivery): Promise<StreamProducer> {
  return (await bench.streamer(connection)).createGenericProducer({ delivery, maxBatch: MAX_BATCH });
}

/**
 * Breaks the writer's connection while it is in use, each time at a different place of the replies and in a different
 * way.
 */
async function cutWriter(proxy: FaultProxies, load: Load, each = 500): Promise<void> {
  for (let cut = 0; cut < CUTS; cut += 1) {
    await load.moreSent(each);
    if (cut % 4 === 3) proxy.cut(cut % 8 === 3 ? 'rst' : 'fin', 'writer');
    else await proxy.tearReply(cut * 7, 'writer', cut % 3);
  }
}

/** The payloads of one sender in the order of its streams, and in each stream in the order of the sends. */
const numbered = (prefix: string, count: number): string[] => {
  const all = Array.from({ length: count }, (_, index) => index);
  return streams.flatMap((_, stream) => all.filter((n) => n % streams.length === stream).map((n) => `${prefix}-${n}`));
};

/**
 * Asserts that every message is in the stream once, in the order of the sends, with the id of its receipt, and was
 * handled.
 */
async function expectEachOnce(faults: number, sent: Readonly<Record<string, number>>): Promise<void> {
  const outcome = await work.settled(admin, streams);
  tally(work.counts(faults, outcome));
  expect(outcome).toEqual({ lost: [], duplicates: 0, handledAgain: [] });
  expect(work.ledger.failures).toEqual(new Map());
  const entries = await storedEntries(admin, streams);
  for (const [prefix, count] of Object.entries(sent)) {
    const own = entries.filter(({ payload }) => payload.startsWith(`${prefix}-`));
    expect(own.map(({ payload }) => payload)).toEqual(numbered(prefix, count));
  }
  expect(entries.filter(({ id, payload }) => receipts.get(payload) !== id)).toEqual([]);
}

const sender =
  (producer: StreamProducer, prefix: string) =>
  (n: number): Promise<void> => {
    const payload = `${prefix}-${n}`;
    const sending = producer.sendTo(streams[n % streams.length] as string, payload);
    void sending.then(
      ({ id }) => receipts.set(payload, id),
      () => undefined,
    );
    return work.ledger.sent(payload, sending);
  };

describe('delivery exactly-once', () => {
  it(
    'appends each message once and in order, however the connection breaks while they are sent',
    async () => {
      await begin();
      const proxy = await redis.proxies(streams);
      const load = keepSending(sender(await producerOf(proxy.connection, 'exactly-once'), 'm'), 4_000);
      await cutWriter(proxy, load);
      await until('many messages are sent', () => load.sent >= CUTS * 1_000);
      await load.stop();

      await expectEachOnce(CUTS, { m: load.sent });
    },
    LIMIT,
  );

  it(
    'appends each message once and in order when the server is killed and restarted while they are sent',
    async () => {
      await begin(true);
      const load = keepSending(sender(await producerOf(redis.connection, 'exactly-once'), 'm'), 3_000);
      for (let kill = 0; kill < KILLS; kill += 1) {
        await load.moreSent(1_000);
        await (await redis.masterOf(streams[kill % streams.length] as string)).restart();
      }
      await load.moreSent(1_000);
      await load.stop();

      await expectEachOnce(KILLS, { m: load.sent });
    },
    LIMIT,
  );

  it(
    'appends each message once, and those of each producer in order, when two producers send to one stream',
    async () => {
      await begin();
      const loads: Load[] = [];
      const proxies = [await redis.proxies(streams), await redis.proxies(streams)];
      for (const [index, proxy] of proxies.entries()) {
        loads.push(keepSending(sender(await producerOf(proxy.connection, 'exactly-once'), `p${index}`), 1_500));
      }
      await Promise.all(proxies.map((proxy, index) => cutWriter(proxy, loads[index] as Load, 250)));
      await Promise.all(loads.map((load) => load.stop()));

      await expectEachOnce(2 * CUTS, { p0: loads[0]?.sent as number, p1: loads[1]?.sent as number });
    },
    LIMIT,
  );
});

it(
  'delivery at-most-once never appends a message twice, and reports each one as confirmed or uncertain',
  async () => {
    await begin();
    const proxy = await redis.proxies(streams);
    const load = keepSending(sender(await producerOf(proxy.connection, 'at-most-once'), 'm'), 2_000);
    await cutWriter(proxy, load);
    await load.stop();

    const outcome = await work.settled(admin, streams);
    tally(work.counts(CUTS, outcome));
    expect(outcome).toEqual({ lost: [], duplicates: 0, handledAgain: [] });
    const entries = await storedEntries(admin, streams);
    expect(duplicatePayloads(entries)).toEqual([]);
    const { failures, confirmed } = work.ledger;
    expect([...failures.values()].filter((error) => !(error instanceof UncertainSendError))).toEqual([]);
    expect(confirmed + failures.size).toBe(load.sent);
    expect(failures.size).toBeLessThanOrEqual(CUTS * MOST_IN_FLIGHT);
    // Some of the uncertain messages are in the stream: repeating all of them would have duplicated these.
    expect(entries.filter(({ payload }) => failures.has(payload)).length).toBeGreaterThan(0);
  },
  LIMIT,
);

/** Splits the entries of a stream where the connections of its producer ended. */
function splitByConnection(entries: readonly StoredEntry[], ends: readonly string[]): StoredEntry[][] {
  const rest = [...entries];
  const parts = ends.map((end) => rest.splice(0, rest.findIndex(({ id }) => id === end) + 1));
  return [...parts, rest];
}

it(
  'delivery at-least-once repeats a message only after a broken connection, once for each break, and none is missing',
  async () => {
    await begin();
    // What a single connection may repeat: in a cluster each node has its own.
    streams = streams.slice(0, 1);
    const stream = streams[0] as string;
    const proxy = await redis.proxies(stream);
    const home = bench.admin((await redis.masterOf(stream)).url);
    const writers = async (): Promise<number> => String(await home.client('LIST')).split(':writer').length - 1;
    const othersWriters = await writers();
    const load = keepSending(sender(await producerOf(proxy.connection, 'at-least-once'), 'm'), 2_000);
    const ends: string[] = [];
    for (let cut = 0; cut < CUTS; cut += 1) {
      await load.moreSent(250);
      // The next connection is refused until the test knows the last entry of this one.
      proxy.refuse();
      await proxy.tearReply(cut * 7, 'writer');
      await until('the server has closed the connection', async () => (await writers()) === othersWriters);
      const last = await admin.xrevrange(stream, '+', '-', 'COUNT', 1);
      ends.push(last[0]?.[0] as string);
      await proxy.accept();
    }
    await load.stop();

    const outcome = await work.settled(admin, streams);
    const entries = await storedEntries(admin, streams);
    const again = duplicatePayloads(entries);
    tally(work.counts(CUTS, outcome));
    expect(outcome).toEqual({ lost: [], duplicates: again.length, handledAgain: [] });
    expect(work.ledger.failures).toEqual(new Map());
    const parts = splitByConnection(entries, ends);
    expect(parts).toHaveLength(CUTS + 1);
    expect(parts.flatMap((part) => duplicatePayloads(part))).toEqual([]);
    expect(again.length).toBeGreaterThan(0);
    expect(again.length).toBeLessThanOrEqual(CUTS * MOST_IN_FLIGHT);
    // The receipt of a repeated message has the id of its last append.
    const lastIds = new Map(entries.map(({ id, payload }) => [payload, id]));
    expect([...receipts].filter(([payload, id]) => lastIds.get(payload) !== id)).toEqual([]);
    expect([...lastIds.keys()].sort()).toEqual(numbered('m', load.sent).sort());
  },
  LIMIT,
);
