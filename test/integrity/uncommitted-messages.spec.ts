import { beforeEach, expect, it, jest } from '@jest/globals';

import type { StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { AckAudit, GROUP } from '../support/ack-audit.js';
import { startConsumerProcess } from '../support/consumer-process.js';
import { FaultBench } from '../support/fault-bench.js';
import { Fleet } from '../support/fleet.js';
import { useLoad } from '../support/load.js';
import { useNestProcesses } from '../support/nest-process.js';
import { uniqueName } from '../support/redis.js';
import { useTally } from '../support/tally.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

const COMMON = { group: GROUP, mkStream: true, autoStreamReset: 'earliest' } as const;

jest.setTimeout(45_000);
const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
const startService = useNestProcesses();
let redis: TestRedis;
let admin: RedisClient;
let stream: string;
let producer: StreamProducer;
let audit: AckAudit;

beforeEach(async () => {
  redis = await bench.lastingRedis();
  admin = redis.client();
  stream = uniqueName('commit');
  // With exactly-once a duplicate append cannot look like a message that was handled twice.
  producer = await (await bench.streamer(redis.connection)).createProducer(stream, { delivery: 'exactly-once' });
  audit = new AckAudit(admin, stream);
});

const send = (n: number): Promise<void> => audit.send(producer, n);

it('uncommitted messages are delivered again in order after every crash, and committed messages never are', async () => {
  const options = { ...COMMON, mode: 'resumable', autoCommit: 'disabled' } as const;
  const load = keepSending(send, 300);
  const committed = new Set<string>();
  let left = new Map<string, number>();
  for (let round = 0; round < 6; round += 1) {
    const input = {
      connection: redis.connection,
      streamKey: stream,
      options,
      read: 150,
      ack: 100,
      commit: true,
      ackLate: 20,
    };
    const child = await startConsumerProcess(input);
    await child.kill();
    const next = Array.from({ length: 1_000 }, (_, n) => String(n)).filter((payload) => !committed.has(payload));
    expect(child.read).toEqual(next.slice(0, 150));
    const counts = child.read.map((payload) => (left.get(payload) ?? 0) + 1);
    expect(child.counts).toEqual(counts);
    for (const payload of child.read) audit.ledger.handledMessage({ id: '', text: () => payload });
    for (const payload of child.read.slice(0, 100)) committed.add(payload);
    left = await leftBehind();
    expect([...left.keys()].filter((payload) => committed.has(payload))).toEqual([]);
    expect(child.read.slice(100).filter((payload) => !left.has(payload))).toEqual([]);
  }
  const consumer = await (
    await bench.streamer(redis.connection)
  ).createConsumer(stream, { ...options, autoCommit: 'rolling' });
  audit.work(consumer);

  // Fifty messages of each of the six processes are read again, by the next process or by the last consumer.
  tally({ faults: 6, ...(await audit.expectSettled(load)) });
  expect(audit.ledger.repeated).toBe(6 * 50);
});

/** The delivery counts of the pending entries, by payload. */
async function leftBehind(): Promise<Map<string, number>> {
  await admin.ping();
  const rows = (await admin.xpending(stream, GROUP, '-', '+', 10_000)) as Array<[string, string, number, number]>;
  const entries = await admin.xrange(stream, '-', '+');
  const payloads = new Map(entries.map(([id, fields]) => [id, fields[1] as string]));
  return new Map(rows.map(([id, , , count]) => [payloads.get(id) as string, count]));
}

it('a delayed commit that was not due when its process died is not sent: all its messages are delivered again', async () => {
  const options = {
    autoCommit: 'delayed',
    autoClaimIdle: 1_000,
    autoClaimInterval: 50,
    autoCommitInterval: 10,
  } as const;
  const fleet = new Fleet(bench, startService, { redis, pattern: stream, options });
  const load = keepSending((n) => fleet.send(producer, { n }), 400);
  const victim = await fleet.start('victim', { autoCommitDelay: 60_000 });
  await until('many messages are handled', () => victim.done().length > 400);
  victim.kill('SIGKILL');
  await fleet.recordDeath(victim);
  await fleet.start('successor', { autoCommitDelay: 50 });
  await load.stop();

  const { lost, duplicates } = await fleet.settled();
  const { confirmed: sends, handled, repeated } = fleet.ledger;
  tally({ faults: 1, sends, handled, duplicates: repeated, lost: lost.length });
  expect(lost).toEqual([]);
  expect(new Set([...duplicates.keys()].map(Number))).toEqual(new Set(victim.done()));
  expect(fleet.miscounted).toEqual([]);
});
