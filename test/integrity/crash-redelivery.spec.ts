import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import type { ServerRedisStreamsOptions, StreamProducer } from '../../lib/index.js';
import { FaultBench } from '../support/fault-bench.js';
import { Fleet } from '../support/fleet.js';
import { useLoad } from '../support/load.js';
import { useNestProcesses } from '../support/nest-process.js';
import { uniqueName } from '../support/redis.js';
import { useTally } from '../support/tally.js';
import { rounds } from '../support/test-redis.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

/**
 * The claim idle is much longer than a busy machine delays a process, so that only entries of dead processes are
 * claimed.
 */
const CLAIM = { autoClaimIdle: 1_500, autoClaimInterval: 100, autoCommitInterval: 10 } as const;
const VICTIMS = rounds(6);
const LIVES = rounds(5);
/**
 * Milliseconds of a handler; longer than the commit interval, so an ack that did not wait for its handler would arrive
 * before a kill.
 */
const TAKES = 40;

jest.setTimeout(75_000);
const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
const startService = useNestProcesses();
let redis: TestRedis;
let pattern: string;
let producer: StreamProducer;

beforeEach(async () => {
  redis = await bench.lastingRedis();
  pattern = uniqueName('crash');
  producer = await (await bench.streamer(redis.connection)).createProducer(pattern);
});

const fleetOf = (options: Partial<ServerRedisStreamsOptions>): Fleet =>
  new Fleet(bench, startService, { redis, pattern, options: { retry: { attempts: 20 }, ...options } });

/** Asserts that nothing is lost and that only messages which a dead process owned were handled twice. */
async function expectSettled(fleet: Fleet, faults: number): Promise<void> {
  // What five processes held is handled one message at a time.
  const { lost } = await fleet.settled(40_000);
  const { confirmed, handled } = fleet.ledger;
  tally({ faults, sends: confirmed, handled, duplicates: fleet.ledger.repeated, lost: lost.length });
  expect(lost).toEqual([]);
  expect(fleet.unexplained()).toEqual([]);
  expect(fleet.miscounted).toEqual([]);
}

const counts = (fleet: Fleet, n: number): number[] =>
  fleet.starts.flatMap((start) => (start.n === n ? start.deliveryCount : []));

describe('processes that are killed while handlers run', () => {
  it('lose nothing while another process of the group lives', async () => {
    const fleet = fleetOf({ ...CLAIM, concurrency: 16 });
    await fleet.start('survivor');
    const load = keepSending((n) => fleet.send(producer, { n, takes: TAKES }), 400);
    const inFlight: number[] = [];
    for (let round = 0; round < VICTIMS; round += 1) {
      const victim = await fleet.start(`victim-${round}`);
      await until('the victim works', () => victim.done().length > 20);
      inFlight.push((await fleet.kill(victim)).length);
    }
    await load.stop();

    await expectSettled(fleet, VICTIMS);
    expect(Math.min(...inFlight)).toBeGreaterThan(0);
  });

  it('lose nothing when none is left, and others start later', async () => {
    const fleet = fleetOf({ ...CLAIM, concurrency: 16 });
    const first = await Promise.all(['a', 'b', 'c'].map((name) => fleet.start(name)));
    const load = keepSending((n) => fleet.send(producer, { n, takes: TAKES }), 400);
    await until('all processes work', () => first.every((service) => service.done().length > 50));
    const inFlight = (await Promise.all(first.map((service) => fleet.kill(service)))).flat();
    await load.moreSent(200);
    await Promise.all(['d', 'e'].map((name) => fleet.start(name)));
    await load.moreSent(400);
    await load.stop();

    await expectSettled(fleet, 3);
    expect(inFlight.length).toBeGreaterThan(2);
    expect(new Set(fleet.starts.flatMap(({ id, deliveryCount }) => (deliveryCount === 2 ? id : [])))).toEqual(
      new Set(inFlight),
    );
  });

  it.each(['resumable', 'load-balanced'] as const)(
    'lose nothing when they restart under the same name (%s)',
    async (mode) => {
      const fleet = fleetOf({ mode, concurrency: 16, autoCommitInterval: 10 });
      const load = keepSending((n) => fleet.send(producer, { n, takes: n === 0 ? 3_000 : TAKES }), 400);
      for (let round = 0; round < LIVES; round += 1) {
        const service = await fleet.start('same');
        await until('the process works', () => service.done().length > 50);
        await fleet.kill(service);
      }
      await fleet.start('same');
      await load.stop();

      await expectSettled(fleet, LIVES);
      // The handler of message 0 takes longer than any of the processes lived.
      expect(counts(fleet, 0)).toEqual(Array.from({ length: LIVES + 1 }, (_, life) => life + 1));
      expect(fleet.ledger.order.filter((payload) => payload === '0')).toHaveLength(1);
    },
  );
});

it('messages that were handled and not yet acknowledged are handled once more, as second delivery, and no others are', async () => {
  const fleet = fleetOf({ ...CLAIM, autoCommitInterval: 60_000, concurrency: 16 });
  const load = keepSending((n) => fleet.send(producer, { n, takes: 5 }), 400);
  const victim = await fleet.start('victim');
  await until('many messages are handled', () => victim.done().length > 400);
  const pending = await fleet.kill(victim);
  await fleet.start('successor', { autoCommitInterval: 100 });
  await load.stop();

  await expectSettled(fleet, 1);
  const twice = [...fleet.ledger.account().duplicates.keys()].map(Number);
  expect(new Set(twice)).toEqual(new Set(victim.done()));
  const redelivered = fleet.starts.filter(
    ({ service, deliveryCount }) => service === 'successor' && deliveryCount === 2,
  );
  expect(new Set(redelivered.map(({ id }) => id))).toEqual(new Set(pending));
});

describe('a process that was suspended for longer than the claim idle', () => {
  // On a busy machine a process that is not suspended may stand still for a second, too.
  const ZOMBIE = { autoClaimIdle: 2_500, autoClaimInterval: 50, autoCommitInterval: 100, concurrency: 32 } as const;

  it.each([false, true])(
    'claims nothing back from the other, and its late acks lose nothing (the other dies: %s)',
    async (dies) => {
      const fleet = fleetOf(ZOMBIE);
      const zombie = await fleet.start('zombie');
      const other = await fleet.start('other');
      const load = keepSending((n) => fleet.send(producer, { n, takes: 300 }), 100);
      await until('both processes work', () => [zombie, other].every((service) => service.done().length > 50));
      await until('many of its messages are in flight', () => zombie.inFlight().length > 8);
      zombie.kill('SIGSTOP');
      const startsBefore = fleet.starts.length;
      const claimed = new Set<string>();
      await until('all its entries are claimed', async () => {
        const held = await fleet.pendingIds('zombie');
        for (const id of held) claimed.add(id);
        return claimed.size > 0 && held.length === 0;
      });
      const taken = (await fleet.pendingIds('other')).filter((id) => claimed.has(id));
      const before = zombie.done().length;
      zombie.kill('SIGCONT');

      const claimedBack = new Set<string>();
      if (dies) await fleet.kill(other);
      else
        await until('the other process has acknowledged them', async () => {
          for (const id of await fleet.pendingIds('zombie')) if (claimed.has(id)) claimedBack.add(id);
          const held = await fleet.pendingIds('other');
          return !held.some((id) => claimed.has(id));
        });
      await load.moreSent(200);
      await load.stop();

      const { lost, duplicates } = await fleet.settled();
      const { confirmed: sends, handled } = fleet.ledger;
      tally({ faults: dies ? 2 : 1, sends, handled, duplicates: fleet.ledger.repeated, lost: lost.length });
      expect(lost).toEqual([]);
      expect(taken.length).toBeGreaterThan(0);
      const idOf = new Map(fleet.starts.map(({ n, id }) => [String(n), id]));
      const twice = [...duplicates.keys()].map((n) => idOf.get(n) as string);
      expect(twice.filter((id) => !claimed.has(id) && !fleet.crashes.has(id))).toEqual([]);
      const starts = fleet.starts.slice(startsBefore).filter(({ service }) => service === 'other');
      expect(starts.filter(({ id, deliveryCount }) => deliveryCount !== (claimed.has(id) ? 2 : 1))).toEqual([]);
      expect([...claimedBack]).toEqual([]);
      expect(zombie.done().length).toBeGreaterThan(before + 50);
    },
  );
});
