import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import type { Redis } from 'ioredis';

import type { RedisStreamsError } from '../../../lib/index.js';
import { NEEDED, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const bench = new FaultBench();
let server: RedisServer;
let admin: Redis;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
});

afterEach(() => {
  jest.restoreAllMocks();
});

/** Sets the clock of this process, not that of Redis. */
function setClock(shift: number): void {
  jest.restoreAllMocks();
  const now = Date.now.bind(Date);
  jest.spyOn(Date, 'now').mockImplementation(() => now() + shift);
}

/** Entries of that age, by a clock that is right. */
async function appendOld(stream: string, age: number): Promise<void> {
  const time = Date.now() - age;
  for (const [index, payload] of payloads.entries()) await admin.xadd(stream, `${time}-${index}`, 'msg', payload);
}

/** A script cannot trim by age before Redis 7.0. */
const trimsByAge = async (): Promise<boolean> => {
  return /^redis_version:[0-6]\./m.exec(await admin.info('server')) === null;
};

const payloads = Array.from({ length: 300 }, (_, index) => String(index));

describe('minAge is by the clock of Redis', () => {
  it.each(['at-least-once', 'at-most-once', 'exactly-once'] as const)(
    'so nothing that was just confirmed is deleted when the clock of the sender is ahead (%s)',
    async (delivery) => {
      setClock(HOUR);
      const streamer = await bench.streamer(server.url);
      const producer = await streamer.createProducer('s', { minAge: 60_000, delivery, maxBatch: 50 });
      const sendAll = async (): Promise<void> => {
        for (const payload of payloads) await producer.send(payload);
        for (const payload of payloads) producer.enqueue(payload);
        await producer.flush();
      };
      const refusal = await sendAll().then(
        () => undefined,
        ({ code }: RedisStreamsError) => code,
      );

      const isPossible = delivery !== 'exactly-once' || (await trimsByAge());
      const expected = isPossible ? [undefined, 2 * payloads.length] : ['ERR_UNSUPPORTED_OPERATION', 0];
      expect([refusal, await admin.xlen('s')]).toEqual(expected);
    },
  );

  it('so nothing that was just confirmed is deleted when the clock of the sender jumps, also over a new connection', async () => {
    const streamer = await bench.streamer(server.url);
    const producer = await streamer.createProducer('s', { minAge: 60_000, maxBatch: 50 });
    for (const [index, payload] of payloads.entries()) {
      if (index % 50 === 0) setClock(index % 100 === 0 ? HOUR : -HOUR);
      if (index % 75 === 0) await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      await producer.send(payload);
    }

    expect(await admin.xlen('s')).toBeGreaterThanOrEqual(payloads.length);
  });

  it('so old entries are deleted when the clock of the sender is behind', async () => {
    await appendOld('s', HOUR);
    setClock(-DAY);
    const streamer = await bench.streamer(server.url);
    const producer = await streamer.createProducer('s', { minAge: 60_000 });
    await producer.send('new');

    expect(await admin.xlen('s')).toBeLessThan(payloads.length);
  });

  it('which is asked again for a producer that has sent nothing for long', async () => {
    const streamer = await bench.streamer(server.url);
    const producer = await streamer.createProducer('s', { minAge: 100 });
    for (const payload of payloads) await producer.send(payload);
    const asked = async (): Promise<number> =>
      Number(/cmdstat_time:calls=(\d+)/.exec(await admin.info('commandstats'))?.[1]);
    const before = await asked();
    const monotonic = performance.now.bind(performance);
    jest.spyOn(performance, 'now').mockImplementation(() => monotonic() + 60_000);
    await producer.send('after a minute');

    expect(await asked()).toBe(before + 1);
    // The minute has passed in this process only.
    expect((await admin.xrevrange('s', '+', '-', 'COUNT', 1))[0]?.[1]).toEqual(['msg', 'after a minute']);
  });

  it('so nothing is deleted, with one warning, where the user may not run TIME', async () => {
    await setUser(admin, 'app', `${NEEDED} -time`);
    await appendOld('app:s', HOUR);
    const streamer = await bench.streamer(server.url.replace('redis://', 'redis://app:pw@'));
    const producer = await streamer.createProducer('app:s', { minAge: 60_000 });
    for (const payload of payloads) await producer.send(payload);

    expect(await admin.xlen('app:s')).toBe(2 * payloads.length);
    expect(bench.log.filter((line) => line.includes('minAge'))).toEqual([
      expect.stringMatching(/does not offer TIME for minAge: minAge deletes nothing/),
    ]);
  });

  it('of each node of a cluster', async () => {
    const cluster = await RedisCluster.start();
    bench.endLater(() => cluster.stop());
    setClock(HOUR);
    const streamer = await bench.streamer(cluster.connection);
    const producer = await streamer.createGenericProducer({ minAge: 60_000, maxBatch: 50 });
    const streams = ['a', 'b', 'c', 'd', 'e'];
    for (const payload of payloads) await Promise.all(streams.map((stream) => producer.sendTo(stream, payload)));

    for (const stream of streams) {
      expect(await (await cluster.masterOf(stream)).admin.xlen(stream)).toBe(payloads.length);
    }
  });
});

describe('keepFor of retention is by the clock of Redis', () => {
  it.each([
    ['ahead', HOUR],
    ['behind', -HOUR],
  ])('so exactly the younger entries are kept when the clock of this machine is %s', async (_, shift) => {
    await appendOld('s', HOUR / 2);
    for (const payload of payloads) await admin.xadd('s', '*', 'msg', payload);
    await admin.xgroup('CREATE', 's', 'g', '$');
    setClock(shift);
    const manager = await (await bench.streamer(server.url)).createManager();

    expect(await manager.trimAcknowledged('s', { keepFor: 60_000, dryRun: true })).toMatchObject({ trimmed: 300 });
    expect(await manager.trimAcknowledged('s', { keepFor: 60_000 })).toMatchObject({ trimmed: 300 });
    await until('the rest is there', async () => (await admin.xlen('s')) === 300);
  });
});
