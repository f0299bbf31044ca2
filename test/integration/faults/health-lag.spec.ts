import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { Redis } from 'ioredis';

import type { RedisStreamer, StreamHealth } from '../../../lib/index.js';
import { NEEDED, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const bench = new FaultBench();
/** For an answer of Redis that must not come too late on a busy machine. */
const PATIENT = { timeout: 10_000 } as const;
let server: RedisServer;
let admin: Redis;
/** By the clock of the server, before anything is appended. */
let start: number;
/** Whether this server counts what it has not delivered to a group. */
let countsLag: boolean;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
  start = Number((await admin.time())[0]) * 1_000;
  countsLag = /^redis_version:[0-6]\./m.exec(await admin.info('server')) === null;
});

afterEach(() => {
  jest.restoreAllMocks();
});

/** Consumers whose loops read nothing, so that a test decides where their group stands. */
async function paused(streamer: RedisStreamer, keys: readonly string[], group = 'g'): Promise<void> {
  const consumer = await streamer.createConsumer(keys, { mode: 'load-balanced', group, mkStream: true });
  await consumer.pause();
}

/** Entries of these ages in minutes, by the clock of the server. */
async function append(stream: string, ...ages: readonly number[]): Promise<void> {
  for (const age of ages) await admin.xadd(stream, `${start - age * MINUTE}-0`, 'msg', 'x');
}

const idOf = (age: number): string => `${start - age * MINUTE}-0`;

async function only(streamer: RedisStreamer): Promise<StreamHealth> {
  const { loops } = await streamer.health(PATIENT);
  expect(loops).toHaveLength(1);
  expect(loops[0]?.streams).toHaveLength(1);
  return loops[0]?.streams[0] as StreamHealth;
}

/** The age may be older by the time since the start of the test. */
const minutes = (age: number): unknown => ({
  asymmetricMatch: (seconds: unknown) => typeof seconds === 'number' && seconds >= age * 60 && seconds < (age + 1) * 60,
  toString: () => `about ${age} minutes in seconds`,
});

describe('entries, lag and lagSeconds of health()', () => {
  it('are right for a group wherever it stands: new, behind, at the end, trimmed, deleted, gone', async () => {
    // The group stands at 0, unless `read` moves it. Where the server does not count, a lag of 0 is known all the same.
    interface Case {
      readonly ages: readonly number[];
      readonly read?: number;
      readonly cut?: (key: string) => Promise<unknown>;
      readonly entries: number;
      readonly lag?: number;
      readonly age: number;
    }
    const cases: Record<string, Case> = {
      'without entries': { ages: [], entries: 0, lag: 0, age: 0 },
      'a new group': { ages: [7, 3], entries: 2, lag: 2, age: 7 },
      behind: { ages: [9, 5, 2], read: 1, entries: 3, lag: 2, age: 5 },
      'at the end': { ages: [9, 5], read: 2, entries: 2, lag: 0, age: 0 },
      trimmed: { ages: [9, 5, 2], cut: (key) => admin.xtrim(key, 'MAXLEN', 1), entries: 1, lag: 1, age: 2 },
      'trimmed to nothing': { ages: [9, 5], cut: (key) => admin.xtrim(key, 'MAXLEN', 0), entries: 0, lag: 0, age: 0 },
      'entries deleted': { ages: [9, 5, 2], read: 1, cut: (key) => admin.xdel(key, idOf(5)), entries: 2, age: 2 },
      'all that wait deleted': {
        ages: [9, 5, 2],
        read: 1,
        cut: (key) => admin.xdel(key, idOf(5), idOf(2)),
        entries: 1,
        lag: 0,
        age: 0,
      },
      'ids of the future': { ages: [-9], entries: 1, lag: 1, age: 0 },
    };
    const streamer = await bench.streamer(server.url);
    const keys = Object.keys(cases);
    await paused(streamer, [...keys, 'a group that is gone']);
    for (const [key, { ages, read, cut }] of Object.entries(cases)) {
      await append(key, ...ages);
      if (read !== undefined) await admin.xreadgroup('GROUP', 'g', 'other', 'COUNT', read, 'STREAMS', key, '>');
      await cut?.(key);
    }
    await append('a group that is gone', 4);
    await admin.xgroup('DESTROY', 'a group that is gone', 'g');

    const { loops } = await streamer.health(PATIENT);
    const found = Object.fromEntries((loops[0]?.streams ?? []).map((stream) => [stream.streamKey, stream]));
    for (const [key, { entries, lag, age }] of Object.entries(cases)) {
      expect({ key, ...found[key] }).toMatchObject({
        key,
        entries,
        lag: lag === 0 || countsLag ? lag : undefined,
        lagSeconds: age === 0 ? 0 : minutes(age),
      });
    }
    expect(found['a group that is gone']).toMatchObject({ entries: 1, lag: undefined, lagSeconds: undefined });
    // One stream is unknown.
    expect(loops[0]).toMatchObject({ entries: 13, lag: undefined, lagSeconds: undefined });
  });

  it('are added up over the streams of a loop; of the ages the largest counts', async () => {
    const streamer = await bench.streamer(server.url);
    await paused(streamer, ['a', 'b', 'c']);
    await append('a', 3, 1);
    await append('b', 8);
    expect((await streamer.health(PATIENT)).loops[0]).toMatchObject({
      entries: 3,
      lag: countsLag ? 3 : undefined,
      lagSeconds: minutes(8),
    });
  });

  it.each([
    ['ahead', HOUR],
    ['behind', -HOUR],
  ])('lagSeconds is by the clock of Redis where that of this machine is an hour %s', async (_, shift) => {
    const now = Date.now.bind(Date);
    jest.spyOn(Date, 'now').mockImplementation(() => now() + shift);
    const streamer = await bench.streamer(server.url);
    await paused(streamer, ['s']);
    await append('s', 5);
    expect((await only(streamer)).lagSeconds).toEqual(minutes(5));
  });

  it('lagSeconds grows while the group stands still', async () => {
    const streamer = await bench.streamer(server.url);
    await paused(streamer, ['s']);
    await append('s', 5);
    const before = (await only(streamer)).lagSeconds as number;
    await until('it is older', async () => ((await only(streamer)).lagSeconds as number) > before);
  });

  it('a consumer without a group has entries only', async () => {
    const streamer = await bench.streamer(server.url);
    await streamer.createConsumer('s', { mode: 'real-time' });
    await append('s', 5, 4);
    expect((await streamer.health(PATIENT)).loops).toMatchObject([
      { entries: 2, lag: undefined, lagSeconds: undefined },
    ]);
  });

  it('a command that the user may not run leaves the numbers that need others', async () => {
    await setUser(admin, 'app', `${NEEDED.replace('~app:*', '~*')}`);
    const streamer = await bench.streamer(server.url.replace('redis://', 'redis://app:pw@'));
    await paused(streamer, ['s']);
    await append('s', 5, 4);
    await admin.call('ACL', 'SETUSER', 'app', '-xlen', '-xrange', '-xpending');
    const lag = countsLag ? 2 : undefined;
    const unknown = { entries: undefined, lagSeconds: undefined, oldestPendingIdle: undefined };
    expect(await only(streamer)).toMatchObject({ ...unknown, lag, pending: 0 });
  });
});
