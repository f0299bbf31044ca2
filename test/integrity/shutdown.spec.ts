import { setTimeout as pause } from 'node:timers/promises';
import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams } from '../../lib/index.js';
import type { AcknowledgingConsumer, Receipt, RedisStreamsContext, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { onEvent } from '../support/controllers.js';
import { FaultBench, drain } from '../support/fault-bench.js';
import type { FaultProxies } from '../support/fault-proxies.js';
import { Fleet } from '../support/fleet.js';
import { startInstance } from '../support/instances.js';
import type { Instance } from '../support/instances.js';
import { Ledger } from '../support/ledger.js';
import { useLoad } from '../support/load.js';
import { LogLines } from '../support/nest.js';
import { useNestProcesses } from '../support/nest-process.js';
import { uniqueName } from '../support/redis.js';
import type { RedisServer } from '../support/redis-server.js';
import { useTally } from '../support/tally.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

const GROUP = 'g';
const COMMON = { mode: 'load-balanced', group: GROUP, mkStream: true, autoStreamReset: 'earliest' } as const;
/** The limit of close() in milliseconds: its limits for handlers and for the last commit, plus a margin. */
const BOUND = 20_000;

jest.setTimeout(45_000);
const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
const startService = useNestProcesses();
let redis: TestRedis;
let server: RedisServer;
let proxy: FaultProxies;
let admin: RedisClient;
let stream: string;
let producer: StreamProducer;
let ledger: Ledger;

beforeEach(async () => {
  redis = await bench.redis();
  admin = redis.client();
  stream = uniqueName('shutdown');
  server = await redis.masterOf(stream);
  proxy = await redis.proxies(stream);
  producer = await (await bench.streamer(redis.connection)).createProducer(stream, { delivery: 'exactly-once' });
  ledger = new Ledger();
});

const send = (n: number): Promise<void> => ledger.sent(String(n), producer.send(String(n)));

async function durationOf(work: Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work;
  return performance.now() - begin;
}

/** Reports the counts and asserts that nothing is lost; returns the messages that were handled twice. */
function settle(faults: number, of = ledger): ReadonlyMap<string, number> {
  const { lost, duplicates } = of.account();
  tally({ faults, sends: of.confirmed, handled: of.handled, duplicates: of.repeated, lost: lost.length });
  expect(lost).toEqual([]);
  expect(of.failures.size).toBe(0);
  return duplicates;
}

/** Handles and acknowledges all messages of a consumer. */
function work(consumer: AcknowledgingConsumer): void {
  void drain(consumer, (message) => {
    ledger.handledMessage(message);
    consumer.ack(message);
  });
}

/** Waits until nothing is pending: a message that was handled and not acknowledged is handled again only then. */
async function untilSettled(): Promise<void> {
  await ledger.settled();
  await until('nothing is pending', async () => Number((await admin.xpending(stream, GROUP))[0]) === 0);
}

it('a rolling deployment handles each message once, with one delivery, and leaves nothing pending', async () => {
  const options = { concurrency: 16, autoClaimInterval: 50, autoCommitInterval: 500 };
  const fleet = new Fleet(bench, startService, { redis, pattern: stream, options });
  const running = [await fleet.start('old-0'), await fleet.start('old-1')];
  const load = keepSending((n) => fleet.send(producer, { n, takes: 30 }), 400);
  for (let round = 0; round < 5; round += 1) {
    running.push(await fleet.start(`new-${round}`));
    const leaving = running.shift();
    await until('a handler of the instance runs', () => (leaving?.inFlight().length ?? 0) > 0);
    leaving?.kill('SIGTERM');
    expect(await leaving?.ended).toBe('SIGTERM');
    expect(leaving?.inFlight()).toEqual([]);
  }

  await load.stop();
  await fleet.settled();
  expect(settle(5, fleet.ledger)).toEqual(new Map());
  expect(fleet.starts.filter(({ deliveryCount }) => deliveryCount !== 1)).toEqual([]);
});

describe('close() without a server', () => {
  it.each(['down', 'frozen'] as const)(
    'ends within its limit, and nothing is lost when the server is back (%s)',
    async (how) => {
      const handledBy = new Map<string, string[]>([
        ['first', []],
        ['second', []],
      ]);
      const start = (consumer: string): Promise<Instance> => {
        const handle = async (n: number, context: RedisStreamsContext): Promise<void> => {
          await pause(20);
          handledBy.get(consumer)?.push(context.getMessageId());
          ledger.handledMessage({ id: context.getMessageId(), text: () => String(n) });
        };
        const claim = { autoClaimIdle: 1_000, autoClaimInterval: 50 };
        return startInstance(bench, onEvent(stream, handle), {
          connection: redis.connection,
          group: GROUP,
          consumer,
          ...claim,
        });
      };
      const { app } = await start('first');
      const load = keepSending(send, 300);
      await until('many messages are handled', () => ledger.handled > 200);
      if (how === 'down') await server.kill();
      else server.pause();
      expect(await durationOf(app.close())).toBeLessThan(BOUND);
      if (how === 'down') await server.restart();
      else server.resume();
      const rows = (await admin.xpending(stream, GROUP, '-', '+', 10_000)) as Array<[string]>;
      const pending = new Set(rows.map(([id]) => id));
      await start('second');
      await load.moreSent(300);

      await load.stop();
      await untilSettled();
      settle(1);
      const [first = [], second = []] = [...handledBy.values()];
      const twice = second.filter((id) => first.includes(id));
      expect(twice).toHaveLength(ledger.repeated);
      expect(twice.filter((id) => !pending.has(id))).toEqual([]);
    },
  );

  it('of a single consumer ends too, and its acks arrive if the server is back in time', async () => {
    const streamer = await bench.streamer(redis.connection);
    const options = {
      ...COMMON,
      autoCommit: 'rolling',
      autoCommitInterval: 60_000,
      autoClaimIdle: 1_000,
      autoClaimInterval: 50,
    } as const;
    const load = keepSending(send, 300);
    for (let round = 0; round < 3; round += 1) {
      const consumer = await streamer.createConsumer(stream, options);
      work(consumer);
      await load.moreSent(200);
      await server.kill();
      const ending = durationOf(consumer.end());
      await server.restart();
      expect(await ending).toBeLessThan(BOUND);
    }
    const last = await streamer.createConsumer(stream, options);
    work(last);

    await load.stop();
    await ledger.settled();
    await last.end();
    await untilSettled();
    expect(settle(3)).toEqual(new Map());
  });
});

it('a consumer that ends while connections break commits its acks, and the next consumer continues', async () => {
  const load = keepSending(send, 400);
  const claim = { autoClaimIdle: 1_000, autoClaimInterval: 50, autoCommitInterval: 200 };
  for (let round = 0; round < 10; round += 1) {
    const streamer = await bench.streamer(proxy.connection);
    const consumer = await streamer.createConsumer(stream, { ...COMMON, autoCommit: 'rolling', ...claim });
    work(consumer);
    if (round === 9) break;
    const before = ledger.handled;
    await until('the consumer handles messages', () => ledger.handled > before + 50);
    const ending = durationOf(streamer.disconnect());
    // At a different moment of the end each time.
    await pause(round * 2);
    proxy.cut(round % 2 === 0 ? 'rst' : 'fin');
    expect(await ending).toBeLessThan(BOUND);
  }

  await load.stop();
  await untilSettled();
  expect(settle(9)).toEqual(new Map());
});

describe('the end of a producer', () => {
  beforeEach(async () => {
    work(await (await bench.streamer(redis.connection)).createConsumer(stream, { ...COMMON, autoCommit: 'rolling' }));
  });

  const COUNT = 5_000;
  const begin = (from: number, append: (payload: string) => Promise<Receipt>): void => {
    for (let n = from; n < from + COUNT; n += 1) void ledger.sent(String(n), append(String(n)));
  };

  it('waits until every send has an outcome, during broken connections and an outage', async () => {
    for (let round = 0; round < 3; round += 1) {
      const streamer = await bench.streamer(proxy.connection);
      const ending = await streamer.createProducer(stream, { delivery: 'exactly-once', maxBatch: 50 });
      begin(round * COUNT, (payload) => ending.send(payload));
      const end = ending.end();
      for (let cut = 0; cut < 5; cut += 1) {
        await proxy.tearReply(cut * 10, 'writer');
      }
      if (round === 1) await server.restart();
      await end;
      expect(ledger.confirmed).toBe((round + 1) * COUNT);
    }

    await untilSettled();
    expect(settle(16)).toEqual(new Map());
  });

  it('confirms every emitted message, as the end of a client does', async () => {
    for (let round = 0; round < 3; round += 1) {
      const client = new ClientRedisStreams({
        connection: proxy.connection,
        delivery: 'exactly-once',
        logger: new LogLines(),
      });
      bench.endLater(() => client.close());
      await client.connect();
      begin(round * COUNT, (payload) => firstValueFrom(client.emit(stream, Number(payload))));
      const closing = client.close();
      await proxy.tearReply(round, 'writer');
      await closing;
      expect(ledger.confirmed).toBe((round + 1) * COUNT);
    }

    await untilSettled();
    expect(settle(3)).toEqual(new Map());
  });
});
