import { describe, expect, it } from '@jest/globals';
import type { RedisOptions } from 'ioredis';

import type { RedisStreamer } from '../../../lib/index.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import { Ledger } from '../../support/ledger.js';
import { useLoad, type Load } from '../../support/load.js';
import { SentinelRedis, type RedisNode } from '../../support/redis-sentinel.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const startLoad = useLoad();

const start = async (): Promise<[redis: SentinelRedis, master: RedisNode]> => {
  const redis = await SentinelRedis.start();
  bench.endLater(() => redis.stop());
  return [redis, (await redis.master()) as RedisNode];
};

interface Traffic {
  readonly streamer: RedisStreamer;
  readonly ledger: Ledger;
  readonly load: Load;
  /** Payloads in the order in which Redis confirmed them. */
  readonly confirmed: readonly string[];
  readonly statuses: readonly string[];
}

/** A consumer that acknowledges, and 400 messages a second for it. */
const startTraffic = async (connection: RedisOptions): Promise<Traffic> => {
  const streamer = await bench.streamer(connection);
  const [confirmed, statuses]: [string[], string[]] = [[], []];
  streamer.on('status', (status) => statuses.push(status));
  const ledger = new Ledger();
  const times = { autoCommit: 'rolling', autoCommitInterval: 5 } as const;
  const consumer = await streamer.createConsumer('s', { mode: 'load-balanced', group: 'g', mkStream: true, ...times });
  void drain(consumer, (message) => {
    ledger.handledMessage(message);
    consumer.ack(message);
  });
  const producer = await streamer.createProducer('s', { maxBatch: 50 });
  const load = startLoad(async (n) => {
    const payload = `m-${n}`;
    await ledger.sent(payload, producer.send(payload));
    if (!ledger.failures.has(payload)) confirmed.push(payload);
  }, 400);
  await until('messages flow', () => ledger.handled >= 400);
  return { streamer, ledger, load, confirmed, statuses };
};

/** Replication follows the reply: what a master confirmed last may be gone with it. What came before this call is not. */
const untilReplicated = async ({ admin }: RedisNode): Promise<void> => {
  // WAIT looks at what its own connection has written.
  await admin.set('marker', 'x');
  expect(await admin.wait(2, 5_000)).toBe(2);
};

const hasOurs = async ({ admin }: RedisNode, role: string): Promise<boolean> =>
  String(await admin.client('LIST')).includes(` name=nestjs-redis-streams:${role}`);

interface Outcome {
  /** Confirmed, and not in the stream of the new master. */
  readonly missing: readonly string[];
  /** Of these, what nobody has handled either. */
  readonly lost: readonly string[];
}

const finish = async ({ ledger, load, confirmed }: Traffic, successor: RedisNode): Promise<Outcome> => {
  const goal = ledger.handled + 500;
  await until('messages flow again', () => ledger.handled >= goal, 15_000);
  await load.stop();
  // What is lost is not waited for any longer than that.
  const { lost } = await ledger.settled(3_000);
  expect(ledger.failures).toEqual(new Map());
  const entries = await successor.admin.xrange('s', '-', '+');
  const stored = new Set(entries.map(([, [, payload]]) => payload));
  const missing = confirmed.filter((payload) => !stored.has(payload));
  return { missing, lost };
};

describe('a master that sentinels watch', () => {
  it('is killed under load: the next one is found, and what was replicated is handled', async () => {
    const [redis, master] = await start();
    const traffic = await startTraffic(redis.connection);
    const safe = new Set(traffic.confirmed);
    await untilReplicated(master);
    await master.server.kill();
    const successor = await redis.successorOf(master);
    const { missing, lost } = await finish(traffic, successor);

    expect([...missing, ...lost].filter((payload) => safe.has(payload))).toEqual([]);
    await until('nothing is pending', async () => (await successor.admin.xpending('s', 'g'))[0] === 0);
    expect(traffic.statuses.slice(0, 2)).toEqual(['reconnecting', 'connected']);
    // The new master may be lost once more, when the sentinels tell of it.
    await until('all connections are back', () => traffic.streamer.status === 'connected');
  }, 45_000);

  it.each([
    ['the sentinels tell it', {}],
    ['the old master says READONLY', { failoverDetector: false }],
  ])(
    'is replaced on purpose under load: the client leaves it when %s',
    async (_, options: RedisOptions) => {
      const [redis, master] = await start();
      const traffic = await startTraffic({ ...redis.connection, ...options });
      const { confirmed, statuses } = traffic;
      const safe = new Set(confirmed);
      await untilReplicated(master);
      await redis.failOver();
      const successor = await redis.successorOf(master);
      if (options.failoverDetector === false) {
        // Sentinels do the same, but only after eight seconds in which the old master goes on as one.
        await master.admin.call('REPLICAOF', successor.server.host, successor.server.port);
      }
      const isLeft = async (): Promise<boolean> => !(await hasOurs(master, '')) && (await hasOurs(successor, 'writer'));
      await until('the client has left', isLeft, 15_000);
      const left = confirmed.length;
      const { missing, lost } = await finish(traffic, successor);

      // For about a second the new master is one already, and the sentinels do not say so yet. What the old one confirms
      // in that time is gone when it becomes a copy of the new one: at most that, and nothing before or after it.
      const confirmedByOld = new Set(confirmed.slice(safe.size, left));
      expect(missing.filter((payload) => !confirmedByOld.has(payload))).toEqual([]);
      expect(lost.filter((payload) => !confirmedByOld.has(payload))).toEqual([]);
      await until('nothing is pending', async () => (await successor.admin.xpending('s', 'g'))[0] === 0);
      expect(statuses).toContain('reconnecting');
    },
    45_000,
  );
});
