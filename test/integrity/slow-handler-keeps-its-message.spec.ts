import { setTimeout as pause } from 'node:timers/promises';
import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import type { RedisStreamsContext, ServerRedisStreamsOptions, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { onEvent } from '../support/controllers.js';
import { FaultBench } from '../support/fault-bench.js';
import { Fleet } from '../support/fleet.js';
import { startInstance } from '../support/instances.js';
import { Ledger } from '../support/ledger.js';
import { useLoad } from '../support/load.js';
import type { Load } from '../support/load.js';
import { useNestProcesses } from '../support/nest-process.js';
import { OwnershipMonitor } from '../support/ownership-monitor.js';
import { uniqueName } from '../support/redis.js';
import type { RedisServer } from '../support/redis-server.js';
import { useTally } from '../support/tally.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

const GROUP = 'g';

jest.setTimeout(45_000);
const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
const startService = useNestProcesses();
let redis: TestRedis;
let server: RedisServer;
let admin: RedisClient;
let pattern: string;
let producer: StreamProducer;
let ledger: Ledger;
let owners: OwnershipMonitor;

beforeEach(async () => {
  redis = await bench.lastingRedis();
  admin = redis.client();
  pattern = uniqueName('slow');
  server = await redis.masterOf(pattern);
  producer = await (await bench.streamer(redis.connection)).createProducer(pattern, { delivery: 'exactly-once' });
  ledger = new Ledger();
  owners = new OwnershipMonitor(bench, admin, pattern, GROUP);
});

const send = (n: number): Promise<void> => ledger.sent(String(n), producer.send(String(n)));

/** Starts three instances of the service that scan for idle entries continuously. */
async function serve(
  handle: (n: number, context: RedisStreamsContext) => unknown,
  options: Partial<ServerRedisStreamsOptions>,
  url = redis.connection,
): Promise<void> {
  const common = { connection: url, group: GROUP, autoClaimInterval: 20, autoCommitInterval: 20 };
  for (let index = 0; index < 3; index += 1) {
    await startInstance(bench, onEvent(pattern, handle), { ...common, ...options });
  }
}

/** A handler that takes the given milliseconds; a message counts as handled when its handler has returned. */
const slow = (takes: number) => async (n: number, context: RedisStreamsContext) => {
  await pause(takes);
  ledger.handledMessage({ id: context.getMessageId(), text: () => String(n) });
};

/** Asserts that every message was handled once, and that no entry ever changed its owner. */
async function expectSettled(load: Load, faults: number, seen?: number): Promise<void> {
  await load.stop();
  const { lost } = await ledger.settled();
  const pending = async (): Promise<number> => Number((await admin.xpending(pattern, GROUP))[0]);
  if (lost.length === 0) await until('nothing is pending', async () => (await pending()) === 0);
  const { confirmed: sends, handled, repeated, failures } = ledger;
  tally({ faults, sends, handled, duplicates: repeated, lost: lost.length });
  expect(lost).toEqual([]);
  expect(failures.size).toBe(0);
  expect(repeated).toBe(0);
  await owners.stop();
  expect(owners.moves).toEqual([]);
  expect(owners.redeliveries).toEqual([]);
  // The monitor polls often enough to have seen every entry that was pending for long.
  expect(owners.seen).toBeGreaterThanOrEqual(seen ?? sends);
}

describe('a handler that takes several times the claim idle', () => {
  it('keeps its message, however many other consumers scan for idle entries', async () => {
    await serve(slow(1_800), { autoClaimIdle: 500, concurrency: 80 });
    const load = keepSending(send, 110);
    await load.moreSent(600);

    await expectSettled(load, 0);
  });

  it('keeps its message when connections break', async () => {
    const proxy = await redis.proxies(pattern);
    await serve(slow(4_000), { autoClaimIdle: 1_500, concurrency: 150 }, proxy.connection);
    const load = keepSending(send, 100);
    for (const role of [undefined, 'control', 'reader', 'control', undefined] as const) {
      await load.moreSent(100);
      proxy.cut('rst', role);
    }
    await load.moreSent(100);

    await expectSettled(load, 5);
  });

  it('keeps its message while the server is suspended for less than the claim idle', async () => {
    await serve(slow(4_000), { autoClaimIdle: 1_500, concurrency: 150 });
    const load = keepSending(send, 100);
    for (let round = 0; round < 4; round += 1) {
      await load.moreSent(100);
      server.pause();
      await pause(600);
      server.resume();
    }
    await load.moreSent(100);

    await expectSettled(load, 4);
  });
});

it('a message with manual acknowledgement is kept until it is acknowledged, however long ago its handler returned', async () => {
  const open: RedisStreamsContext[] = [];
  await serve(
    (n: number, context) => {
      ledger.handledMessage({ id: context.getMessageId(), text: () => String(n) });
      if (n % 10 === 0) open.push(context);
      else context.ack();
    },
    { ack: 'manual', autoClaimIdle: 1_500 },
  );
  const load = keepSending(send, 200);
  await load.moreSent(200);
  const first = open.slice(0, 10);
  // Takes three times the claim idle, which a process on a busy machine may not stand still for.
  await load.moreSent(1_000);
  for (const context of first) context.ack();
  await load.stop();
  await until('only the unacknowledged messages are pending', async () => {
    return Number((await admin.xpending(pattern, GROUP))[0]) === open.length - first.length;
  });
  for (const context of open) context.ack();

  await expectSettled(load, 0, open.length);
});

it('messages of a process whose event loop was blocked are claimed, and handled twice rather than lost', async () => {
  const options = {
    autoClaimIdle: 500,
    autoClaimInterval: 50,
    autoCommitInterval: 10,
    concurrency: 8,
    prefetch: 20,
    batchSize: 10,
    retry: { attempts: 20 },
  };
  const fleet = new Fleet(bench, startService, { redis, pattern, options });
  for (const name of ['a', 'b', 'c']) await fleet.start(name);
  const isBlocking = (n: number): boolean => n % 200 === 100;
  const load = keepSending((n) => fleet.send(producer, isBlocking(n) ? { n, blocks: 1_200 } : { n, takes: 20 }), 200);
  await load.moreSent(1_000);
  await load.stop();

  const { lost, duplicates } = await fleet.settled();
  const { confirmed: sends, handled, repeated } = fleet.ledger;
  const blocks = fleet.starts.filter(({ n }) => isBlocking(n)).length;
  tally({ faults: blocks, sends, handled, duplicates: repeated, lost: lost.length });
  expect(lost).toEqual([]);
  expect(fleet.starts.filter(({ deliveryCount }) => deliveryCount > 1).length).toBeGreaterThan(0);
  // Messages that were buffered, in handlers, or handled with an unsent ack when the event loop was blocked.
  expect(repeated).toBeLessThanOrEqual(blocks * (20 + 8 + 10 + 8));
  const takenOver = new Set(fleet.starts.flatMap(({ n, deliveryCount }) => (deliveryCount > 1 ? String(n) : [])));
  expect([...duplicates.keys()].filter((payload) => !takenOver.has(payload))).toEqual([]);
});
