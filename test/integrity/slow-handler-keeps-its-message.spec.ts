import { setTimeout as pause } from 'node:timers/promises';
import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { Redis } from 'ioredis';

import type { RedisStreamsContext, ServerRedisStreamsOptions, StreamProducer } from '../../lib/index.js';
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
import { until } from '../support/until.js';

const GROUP = 'g';

jest.setTimeout(45_000);
const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
const startService = useNestProcesses();
let server: RedisServer;
let admin: Redis;
let pattern: string;
let producer: StreamProducer;
let ledger: Ledger;
let owners: OwnershipMonitor;

beforeEach(async () => {
  server = await bench.server();
  admin = bench.admin(server.url);
  pattern = uniqueName('slow');
  producer = await (await bench.streamer(server.url)).createProducer(pattern, { delivery: 'exactly-once' });
  ledger = new Ledger();
  owners = new OwnershipMonitor(bench, server.url, pattern, GROUP);
});

const send = (n: number): Promise<void> => ledger.sent(String(n), producer.send(String(n)));

/** Three instances of the service, which look for idle entries all the time. */
async function serve(
  handle: (n: number, context: RedisStreamsContext) => unknown,
  options: Partial<ServerRedisStreamsOptions>,
  url = server.url,
): Promise<void> {
  const common = { connection: url, group: GROUP, autoClaimInterval: 20, autoCommitInterval: 20 };
  for (let index = 0; index < 3; index += 1) {
    await startInstance(bench, onEvent(pattern, handle), { ...common, ...options });
  }
}

/** A handler that takes so long; a message counts as handled when it has ended. */
const slow = (takes: number) => async (n: number, context: RedisStreamsContext) => {
  await pause(takes);
  ledger.handledMessage({ id: context.getMessageId(), text: () => String(n) });
};

/** Everything was handled, once, and no entry was ever in other hands than those that had it first. */
async function settle(load: Load, faults: number, seen?: number): Promise<void> {
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
  // The watch has looked often enough to see each that was pending for long.
  expect(owners.seen).toBeGreaterThanOrEqual(seen ?? sends);
}

describe('a handler that takes several times the claim idle', () => {
  it('keeps its message, however many others look for idle ones', async () => {
    await serve(slow(1_800), { autoClaimIdle: 500, concurrency: 80 });
    const load = keepSending(send, 110);
    await load.moreSent(600);

    await settle(load, 0);
  });

  it('keeps it through broken connections', async () => {
    const proxy = await bench.proxy(server);
    await serve(slow(4_000), { autoClaimIdle: 1_500, concurrency: 150 }, proxy.url);
    const load = keepSending(send, 100);
    for (const role of [undefined, 'control', 'reader', 'control', undefined] as const) {
      await load.moreSent(100);
      proxy.cut('rst', role);
    }
    await load.moreSent(100);

    await settle(load, 5);
  });

  it('keeps it while the server stands still for a shorter time than that', async () => {
    await serve(slow(4_000), { autoClaimIdle: 1_500, concurrency: 150 });
    const load = keepSending(send, 100);
    for (let round = 0; round < 4; round += 1) {
      await load.moreSent(100);
      server.pause();
      await pause(600);
      server.resume();
    }
    await load.moreSent(100);

    await settle(load, 4);
  });
});

it('a message that is to be acknowledged by hand is kept until it is, however long ago its handler returned', async () => {
  const open: RedisStreamsContext[] = [];
  await serve(
    (n: number, context) => {
      ledger.handledMessage({ id: context.getMessageId(), text: () => String(n) });
      if (n % 10 === 0) open.push(context);
      else context.ack();
    },
    { ack: 'manual', autoClaimIdle: 500 },
  );
  const load = keepSending(send, 200);
  await load.moreSent(200);
  const first = open.slice(0, 10);
  // Ten times the claim idle.
  await load.moreSent(1_000);
  for (const context of first) context.ack();
  await load.stop();
  await until('only what is open is pending', async () => {
    return Number((await admin.xpending(pattern, GROUP))[0]) === open.length - first.length;
  });
  for (const context of open) context.ack();

  await settle(load, 0, open.length);
});

it('messages of a process whose event loop stood still are taken over, and handled twice rather than lost', async () => {
  const options = {
    autoClaimIdle: 500,
    autoClaimInterval: 50,
    autoCommitInterval: 10,
    concurrency: 8,
    prefetch: 20,
    batchSize: 10,
    retry: { attempts: 20 },
  };
  const fleet = new Fleet(bench, startService, { url: server.url, pattern, options });
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
  // Buffered, in handlers, or done with an ack that had not gone out when the process stood still.
  expect(repeated).toBeLessThanOrEqual(blocks * (20 + 8 + 10 + 8));
  const takenOver = new Set(fleet.starts.flatMap(({ n, deliveryCount }) => (deliveryCount > 1 ? String(n) : [])));
  expect([...duplicates.keys()].filter((payload) => !takenOver.has(payload))).toEqual([]);
});
