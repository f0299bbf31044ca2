import { beforeEach, describe, expect, it } from '@jest/globals';

import { WrongTypeError } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { FaultBench } from '../support/fault-bench.js';
import { GROUP, GroupWork, MAX_IN_FLIGHT } from '../support/group-work.js';
import type { Outcome } from '../support/group-work.js';
import { useLoad } from '../support/load.js';
import type { Load } from '../support/load.js';
import { snapshotAndRun } from '../support/snapshot-and-run.js';
import { useTally } from '../support/tally.js';
import { rounds } from '../support/test-redis.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

const LIMIT = 60_000;
const ROUNDS = rounds(20);
const CONSUMERS = ['c0', 'c1'];
const ALL_WELL: Outcome = { lost: [], duplicates: 0, handledAgain: [] };

const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
let redis: TestRedis;
let admin: RedisClient;
let work: GroupWork;

beforeEach(async () => {
  redis = await bench.redis({ isDurable: false });
  admin = redis.client();
  work = new GroupWork();
});

async function start(consumers = CONSUMERS, connection = redis.connection): Promise<Load> {
  for (const consumer of consumers)
    await work.join(await bench.streamer(connection, { blockTimeout: 500 }), 's', { consumer });
  const producer = await (await bench.streamer(redis.connection)).createProducer('s', { maxBatch: 20 });
  return keepSending(work.sender(producer), 1_000);
}

/**
 * Causes a fault repeatedly under load; in every other round the stream has more messages than the consumers prefetch.
 */
async function repeat(load: Load, act: (round: number) => Promise<unknown>): Promise<void> {
  for (let round = 0; round < ROUNDS; round += 1) {
    await work.moreHandled(100);
    if (round % 2 === 0) {
      work.holdHandlers();
      await load.moreSent(300);
    }
    await act(round);
    work.releaseHandlers();
  }
  await work.moreHandled(100);
  await load.stop();
}

/** Asserts that exactly the given messages are missing. */
async function settle(gone: ReadonlySet<string>): Promise<Outcome> {
  const outcome = await work.settled(admin, 's', gone);
  tally(work.counts(ROUNDS, outcome));
  expect(outcome.lost).toEqual([]);
  expect(new Set(work.ledger.account().lost)).toEqual(gone);
  expect(work.ledger.failures).toEqual(new Map());
  return outcome;
}

const add = (set: Set<string>, payloads: readonly string[]): void => payloads.forEach((payload) => set.add(payload));

describe('a stream that repeatedly vanishes under load loses only messages that were not delivered to the group', () => {
  it.each([
    ['deleted', () => ['del', 's']],
    ['flushed with all other keys', () => ['flushall']],
    ['renamed', (round: number) => ['rename', 's', `{s}elsewhere-${round}`]],
    ['trimmed to nothing', () => ['xtrim', 's', 'MAXLEN', '0']],
  ])(
    'when it is %s',
    async (_how, command) => {
      const load = await start();
      const gone = new Set<string>();
      await repeat(load, async (round) => add(gone, (await snapshotAndRun(admin, 's', ...command(round))).unread));

      expect(await settle(gone)).toEqual(ALL_WELL);
      expect(gone.size).toBeGreaterThan(0);
    },
    LIMIT,
  );

  it(
    'when it expires: at most messages that arrived between the command and its effect and were not delivered to the group',
    async () => {
      const load = await start();
      const mayBeGone = new Set<string>();
      await repeat(load, async () => {
        const from = work.ledger.confirmed;
        add(mayBeGone, (await snapshotAndRun(admin, 's', 'pexpire', 's', '5')).unread);
        await until('the stream has expired', async () => (await admin.pttl('s')) < 0);
        for (let n = from; n < load.sent; n += 1) mayBeGone.add(`m-${n}`);
      });

      const outcome = await work.settled(admin, 's', mayBeGone);
      tally(work.counts(ROUNDS, outcome));
      expect(outcome).toEqual(ALL_WELL);
      expect(work.ledger.account().lost.length).toBeGreaterThan(0);
      expect(work.ledger.failures).toEqual(new Map());
    },
    LIMIT,
  );
});

describe('a group that is destroyed repeatedly under load', () => {
  it(
    'loses no message of its only consumer, and none is handled twice',
    async () => {
      const load = await start(['c0']);
      await repeat(load, () => admin.xgroup('DESTROY', 's', GROUP));

      expect(await settle(new Set())).toEqual(ALL_WELL);
    },
    LIMIT,
  );

  it(
    'loses no message of two consumers; at most messages that one received while the other did not read are handled twice',
    async () => {
      const load = await start();
      await repeat(load, () => admin.xgroup('DESTROY', 's', GROUP));

      const { handledAgain } = await settle(new Set());
      expect(handledAgain.length).toBeLessThanOrEqual(ROUNDS * CONSUMERS.length * MAX_IN_FLIGHT);
    },
    LIMIT,
  );

  it(
    'loses no message when only its consumers are deleted, and none is handled twice',
    async () => {
      const load = await start();
      await repeat(load, (round) => admin.xgroup('DELCONSUMER', 's', GROUP, CONSUMERS[round % 2] as string));

      expect(await settle(new Set())).toEqual(ALL_WELL);
    },
    LIMIT,
  );
});

it(
  'only entries that are trimmed after delivery to a dead reader, or before any delivery, are missing, and they block nothing',
  async () => {
    const proxy = await redis.proxies('s');
    const load = await start(CONSUMERS, proxy.connection);
    const mayBeGone = new Set<string>();
    await repeat(load, async (round) => {
      if (round % 2 === 1) proxy.abandon('reader');
      else proxy.cut('rst', 'reader');
      await load.moreSent(20);
      const { unread, pending } = await snapshotAndRun(admin, 's', 'xtrim', 's', 'MAXLEN', '0');
      add(mayBeGone, [...unread, ...pending]);
    });

    const outcome = await work.settled(admin, 's', mayBeGone);
    tally(work.counts(2 * ROUNDS, outcome));
    expect(outcome).toEqual(ALL_WELL);
    expect(work.ledger.account().lost.length).toBeGreaterThan(0);
  },
  LIMIT,
);

it(
  'streams that are overwritten by another type lose only undelivered messages; other streams lose nothing',
  async () => {
    const keys = ['s', 't', 'u', 'v', 'w'];
    const failed: string[] = [];
    const onFailure = (error: unknown): void => void failed.push((error as WrongTypeError).streamKey);
    for (const consumer of CONSUMERS) {
      await work.join(await bench.streamer(redis.connection, { blockTimeout: 500 }), keys, { consumer }, onFailure);
    }
    const producer = await (await bench.streamer(redis.connection)).createGenericProducer({ maxBatch: 20 });
    const load = keepSending((n) => {
      const key = keys[n % keys.length] as string;
      return work.ledger.sent(`${key}-${n}`, producer.sendTo(key, `${key}-${n}`));
    }, 1_000);
    const gone = new Set<string>();
    const victims = ['t', 'u', 'v'];
    for (const key of victims) {
      await work.moreHandled(300);
      add(gone, (await snapshotAndRun(admin, key, 'set', key, 'a string')).unread);
      await until(
        'both consumers have reported it',
        () => failed.filter((streamKey) => streamKey === key).length === 2,
      );
      await work.moreHandled(300);
    }
    await load.stop();

    const outcome = await work.settled(admin, ['s', 'w'], gone);
    tally(work.counts(victims.length, outcome));
    expect(outcome).toEqual(ALL_WELL);
    expect(new Set(work.ledger.account().lost)).toEqual(gone);
    expect(failed).toHaveLength(2 * victims.length);
    const { failures } = work.ledger;
    for (const error of failures.values()) expect(error).toBeInstanceOf(WrongTypeError);
    expect(new Set([...failures.keys()].map(([key]) => key))).toEqual(new Set(victims));
    expect(work.ledger.confirmed + failures.size).toBe(load.sent);
  },
  LIMIT,
);
