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

/** Starts a consumer that acknowledges, and a load of 400 messages a second. */
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

/**
 * Replication follows the reply, so the last writes that a master confirmed may be lost with it. Writes before this
 * call are not.
 */
const untilReplicated = async ({ admin }: RedisNode): Promise<void> => {
  // WAIT covers only the writes of its own connection.
  await admin.set('marker', 'x');
  expect(await admin.wait(2, 5_000)).toBe(2);
};

const hasConnection = async ({ admin }: RedisNode, role: string): Promise<boolean> =>
  String(await admin.client('LIST')).includes(` name=nestjs-redis-streams:${role}`);

interface Outcome {
  /** Payloads that were confirmed and are not in the stream of the new master. */
  readonly missing: readonly string[];
  /** Payloads that were confirmed and never handled. */
  readonly lost: readonly string[];
}

const finish = async ({ ledger, load, confirmed }: Traffic, successor: RedisNode): Promise<Outcome> => {
  const goal = ledger.handled + 500;
  await until('messages flow again', () => ledger.handled >= goal, 15_000);
  await load.stop();
  // A short limit, because messages may be lost here.
  const { lost } = await ledger.settled(3_000);
  expect(ledger.failures).toEqual(new Map());
  const entries = await successor.admin.xrange('s', '-', '+');
  const stored = new Set(entries.map(([, [, payload]]) => payload));
  const missing = confirmed.filter((payload) => !stored.has(payload));
  return { missing, lost };
};

describe('a master that sentinels monitor', () => {
  it('is killed under load: the client finds the new master, and replicated messages are handled', async () => {
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
    // The connection to the new master may be lost once more, when the sentinels announce the failover.
    await until('all connections are back', () => traffic.streamer.status === 'connected');
  }, 45_000);

  it.each([
    ['the sentinels announce it', {}],
    ['the old master replies READONLY', { failoverDetector: false }],
  ])(
    'is replaced by a forced failover under load: the client leaves it when %s',
    async (_, options: RedisOptions) => {
      const [redis, master] = await start();
      const traffic = await startTraffic({ ...redis.connection, ...options });
      const { confirmed, statuses } = traffic;
      const safe = new Set(confirmed);
      await untilReplicated(master);
      await redis.failOver();
      const successor = await redis.successorOf(master);
      if (options.failoverDetector === false) {
        // Sentinels do the same, but only after eight seconds in which the old master still accepts writes.
        await master.admin.call('REPLICAOF', successor.server.host, successor.server.port);
      }
      const isLeft = async (): Promise<boolean> =>
        !(await hasConnection(master, '')) && (await hasConnection(successor, 'writer'));
      await until('the client has left the old master', isLeft, 15_000);
      const left = confirmed.length;
      const { missing, lost } = await finish(traffic, successor);

      // For about a second the new master is already promoted, and the sentinels do not announce it yet. Writes that
      // the old master confirms in that time are lost when it becomes a replica of the new one: at most these may be
      // missing, and nothing before or after.
      const confirmedByOld = new Set(confirmed.slice(safe.size, left));
      expect(missing.filter((payload) => !confirmedByOld.has(payload))).toEqual([]);
      expect(lost.filter((payload) => !confirmedByOld.has(payload))).toEqual([]);
      await until('nothing is pending', async () => (await successor.admin.xpending('s', 'g'))[0] === 0);
      expect(statuses).toContain('reconnecting');
    },
    45_000,
  );
});
