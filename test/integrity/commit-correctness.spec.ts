import { setTimeout as pause } from 'node:timers/promises';
import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import type { AcknowledgingConsumer, StreamMessage, StreamProducer } from '../../lib/index.js';
import { AckAudit, GROUP } from '../support/ack-audit.js';
import { FaultBench, drain } from '../support/fault-bench.js';
import type { FaultProxies } from '../support/fault-proxies.js';
import type { LinkRole } from '../support/fault-proxy.js';
import { useLoad } from '../support/load.js';
import { uniqueName } from '../support/redis.js';
import type { RedisServer } from '../support/redis-server.js';
import { useTally } from '../support/tally.js';
import { rounds } from '../support/test-redis.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

const COMMON = { group: GROUP, mkStream: true, autoStreamReset: 'earliest' } as const;
const DISABLED = { ...COMMON, mode: 'load-balanced', autoCommit: 'disabled' } as const;
const ROLLING = { ...COMMON, mode: 'load-balanced', autoCommit: 'rolling', autoCommitInterval: 10 } as const;

const ROUNDS = rounds(15);
jest.setTimeout(45_000);
const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
let redis: TestRedis;
let server: RedisServer;
let proxy: FaultProxies;
let stream: string;
let producer: StreamProducer;
let audit: AckAudit;

beforeEach(async () => {
  redis = await bench.redis();
  stream = uniqueName('commit');
  server = await redis.masterOf(stream);
  proxy = await redis.proxies(stream);
  // With exactly-once a duplicate append cannot look like a message that was handled twice.
  producer = await (await bench.streamer(redis.connection)).createProducer(stream, { delivery: 'exactly-once' });
  audit = new AckAudit(redis.client(), stream);
});

const resolves = (work: Promise<void>): Promise<boolean> =>
  work.then(
    () => true,
    () => false,
  );
const send = (n: number): Promise<void> => audit.send(producer, n);

const ROLES: ReadonlyArray<LinkRole | undefined> = [undefined, 'control', 'reader'];

describe('rolling commits', () => {
  it.each([
    ['resumable', 1],
    ['load-balanced', 3],
  ] as const)('send exactly the acks of the consumer, however often connections break (%s)', async (mode, count) => {
    for (let index = 0; index < count; index += 1) {
      const streamer = await bench.streamer(proxy.connection);
      audit.work(
        await streamer.createConsumer(stream, { ...COMMON, mode, autoCommit: 'rolling', autoCommitInterval: 10 }),
      );
    }
    const load = keepSending(send, 500);
    for (let round = 0; round < ROUNDS; round += 1) {
      await load.moreSent(100);
      if (round % 5 === 4) proxy.refuse();
      proxy.cut(round % 2 === 0 ? 'rst' : 'fin', round % 5 === 4 ? undefined : ROLES[round % 3]);
      await load.moreSent(50);
      await proxy.accept();
    }

    tally({ faults: ROUNDS, ...(await audit.expectSettled(load)) });
    expect(audit.ledger.repeated).toBe(0);
  });

  it('reach the server when replies are torn', async () => {
    const streamer = await bench.streamer(proxy.connection);
    audit.work(await streamer.createConsumer(stream, ROLLING));
    const load = keepSending(send, 500);
    for (let round = 0; round < rounds(20); round += 1) {
      await load.moreSent(50);
      await proxy.tearReply(round % 4, 'control');
    }

    tally({ faults: rounds(20), ...(await audit.expectSettled(load)) });
    expect(audit.ledger.repeated).toBe(0);
  });

  it('reach a server that was killed between ack() and the commit', async () => {
    const streamer = await bench.streamer(redis.connection);
    // Acks are sent only when a command is full, or at the end.
    const consumer = await streamer.createConsumer(stream, { ...ROLLING, autoCommitInterval: 60_000 });
    audit.work(consumer);
    const load = keepSending(send, 500);
    for (let round = 0; round < rounds(3); round += 1) {
      await load.moreSent(200);
      await server.restart();
    }
    await load.stop();
    await audit.untilHandled();
    const before = await audit.pendingIds();
    await consumer.end();

    tally({ faults: rounds(3), ...(await audit.expectSettled(load)) });
    expect(before.length).toBeGreaterThan(audit.kept.size + 100);
    expect(audit.ledger.repeated).toBe(0);
  });
});

it('delayed commits all reach the server when connections break', async () => {
  const options = {
    ...COMMON,
    mode: 'load-balanced',
    autoCommit: 'delayed',
    autoCommitDelay: 100,
    autoCommitInterval: 10,
  } as const;
  for (let index = 0; index < 2; index += 1) {
    const consumer = await (await bench.streamer(proxy.connection)).createConsumer(stream, options);
    void drain(consumer, (message) => audit.ledger.handledMessage(message));
  }
  const load = keepSending(send, 500);
  for (let round = 0; round < rounds(12); round += 1) {
    await load.moreSent(100);
    proxy.cut('rst', ROLES[round % 3]);
  }

  tally({ faults: rounds(12), ...(await audit.expectSettled(load)) });
  expect(audit.ledger.repeated).toBe(0);
});

describe('commit()', () => {
  /** Handles messages concurrently and in no order, and checks after each commit() that the server has the acks. */
  async function workers(consumer: AcknowledgingConsumer, missed: string[]): Promise<void> {
    const commitEach = async (message: StreamMessage): Promise<void> => {
      await pause(Math.random() * 20);
      if (!audit.handle(message)) return;
      consumer.ack(message);
      await consumer.commit();
      missed.push(...(await audit.pendingOf([message.id])));
    };
    await Promise.all(Array.from({ length: 16 }, () => drain(consumer, commitEach)));
  }

  it('resolves only when the server has each acknowledgement, while connections break and commits overlap', async () => {
    const missed: string[] = [];
    for (let index = 0; index < 2; index += 1) {
      const streamer = await bench.streamer(proxy.connection);
      void workers(await streamer.createConsumer(stream, DISABLED), missed);
    }
    const load = keepSending(send, 400);
    for (let round = 0; round < ROUNDS; round += 1) {
      await load.moreSent(80);
      if (round % 3 === 0) void proxy.tearReply(round % 4, 'control');
      else proxy.cut('rst', ROLES[round % 3]);
    }

    tally({ faults: ROUNDS, ...(await audit.expectSettled(load)) });
    expect(missed).toEqual([]);
    expect(audit.ledger.repeated).toBe(0);
  });

  it('waits for the end of an outage, and the server has the acknowledgements when it resolves', async () => {
    const missed: string[] = [];
    const streamer = await bench.streamer(redis.connection);
    void workers(await streamer.createConsumer(stream, DISABLED), missed);
    const load = keepSending(send, 400);
    for (let round = 0; round < rounds(3); round += 1) {
      await load.moreSent(200);
      await server.kill();
      await load.moreSent(200);
      await server.restart();
    }

    tally({ faults: rounds(3), ...(await audit.expectSettled(load)) });
    expect(missed).toEqual([]);
    expect(audit.ledger.repeated).toBe(0);
  });

  it('fails after the timeout, keeps the acknowledgements, and the next commit sends them', async () => {
    const streamer = await bench.streamer(proxy.connection, { timeout: 700 });
    const consumer = await streamer.createConsumer(stream, DISABLED);
    const load = keepSending(send, 300);
    const refusals: unknown[] = [];
    for (let round = 0; round < 4; round += 1) {
      const acked: string[] = [];
      for (let taken = 0; taken < 100; taken += 1) {
        const message = await consumer.next();
        if (!audit.handle(message)) continue;
        consumer.ack(message);
        acked.push(message.id);
      }
      // One commit is refused, and one is never answered.
      proxy.refuse();
      if (round % 2 === 0) proxy.cut();
      else proxy.stall();
      refusals.push(await consumer.commit().catch((error: unknown) => error));
      expect(await audit.pendingOf(acked)).toEqual(acked);
      proxy.unstall();
      proxy.cut();
      await proxy.accept();
      await until('a commit succeeds', () => resolves(consumer.commit()));
      expect(await audit.pendingOf(acked)).toEqual([]);
    }
    audit.work(consumer);
    await load.stop();
    await audit.untilHandled();
    await consumer.commit();

    tally({ faults: 4, ...(await audit.expectSettled(load)) });
    expect(refusals.map((error) => (error as { code: string }).code)).toEqual(Array(4).fill('ERR_CONNECTION'));
    expect(audit.ledger.repeated).toBe(0);
  });

  it('accepts acknowledgements in any order: none implies earlier ones', async () => {
    const streamer = await bench.streamer(proxy.connection);
    const consumer = await streamer.createConsumer(stream, { ...DISABLED, batchSize: 100 });
    const load = keepSending(send, 500);
    const open = new Map<string, StreamMessage>();
    for (let round = 0; round < 8; round += 1) {
      for (let taken = 0; taken < 150; taken += 1) {
        const message = await consumer.next();
        audit.ledger.handledMessage(message);
        open.set(message.id, message);
      }
      // From the newest to the oldest, two of three, a few of them more than once.
      const acked = [...open.values()].reverse().filter((_, index) => index % 3 !== 0);
      for (const [index, message] of acked.entries()) {
        consumer.ack(message);
        if (index % 10 === 0) consumer.ackWith(message.streamKey, message.shardId, message.id);
        open.delete(message.id);
      }
      proxy.cut('rst', ROLES[round % 3]);
      await consumer.commit();
      expect(await audit.pendingOf(acked.map(({ id }) => id))).toEqual([]);
      expect(await audit.pendingOf([...open.keys()])).toEqual([...open.keys()]);
    }
    void drain(consumer, (message) => {
      audit.ledger.handledMessage(message);
      open.set(message.id, message);
    });
    for (const id of open.keys()) audit.kept.add(id);
    await load.stop();
    await audit.untilHandled();
    for (const id of open.keys()) audit.kept.add(id);

    tally({ faults: 8, ...(await audit.expectSettled(load)) });
    expect(audit.ledger.repeated).toBe(0);
  });
});
