import { expect, it } from '@jest/globals';
import type { Redis } from 'ioredis';

import { DEAD_LETTER_HEADERS, RedisStreamsError, StreamManager } from '../../../lib/index.js';
import { useStreams } from '../../support/streams.js';

const streams = useStreams();

const GROUP = 'workers';

/** What each method does to a key when it only looks. */
const LOOKS: Readonly<Record<string, (manager: StreamManager, key: string) => Promise<unknown>>> = {
  scan: async (manager) => [await manager.scan(), await manager.scan('0', { skipUnreachable: true })],
  range: (manager, key) => manager.range(key, '-', '+'),
  delayed: (manager, key) => manager.delayed(key),
  info: async (manager, key) => [await manager.info(key), await manager.info(key, { skipUnreachable: true })],
  groups: (manager, key) => manager.groups(key),
  hasGroups: (manager, key) => manager.hasGroups(key),
  consumers: (manager, key) => manager.consumers(key, GROUP),
  owners: (manager, key) => manager.owners(key, GROUP),
  layouts: (manager, key) => manager.layouts(key),
  pending: (manager, key) => manager.pending(key, GROUP),
  deadLetters: (manager, key) => manager.deadLetters(key, { deadLetterStream: key, reason: 'broken' }),
  redrive: (manager, key) => manager.redrive(key, { dryRun: true }),
  trimAcknowledged: (manager, key) => manager.trimAcknowledged(key, { dryRun: true, deadGroups: 'ignore' }),
};

const CHANGES = [
  'cancelDelayed',
  'setGroupPosition',
  'removeDeadLetter',
  'pauseGroup',
  'resumeGroup',
  'removeConsumer',
  'setShards',
] as const;

/** Keys of every kind, and streams in every state, as a manager may find them. Returns their names. */
async function fill(redis: Redis): Promise<string[]> {
  const read = (key: string, consumer: string, count: number): Promise<unknown> =>
    redis.xreadgroup('GROUP', GROUP, consumer, 'COUNT', count, 'STREAMS', key, '>');
  for (const key of ['orders', 'sharded:0', 'sharded:1', 'expiring', 'emptied', 'no groups']) {
    for (let n = 1; n <= 6; n += 1) await redis.xadd(key, `${n}-0`, 'msg', `message ${n}`, 'h:n', n);
    if (key === 'no groups') continue;
    await redis.xgroup('CREATE', key, GROUP, '0');
    await read(key, 'one', 3);
    await read(key, 'two', 1);
    await redis.xack(key, GROUP, '1-0', '2-0');
  }
  await redis.pexpire('expiring', 3_600_000);
  // Entries that are pending and deleted, an empty stream, and one that never had an entry.
  await redis.xdel('orders', '3-0');
  await redis.xtrim('emptied', 'MAXLEN', 0);
  await redis.xgroup('CREATE', 'new', GROUP, '$', 'MKSTREAM');
  const names = DEAD_LETTER_HEADERS;
  for (const [id, group] of [
    ['2-0', GROUP],
    ['4-0', GROUP],
    ['5-0', 'no such group'],
  ] as const) {
    const origin = { [names.key]: 'orders', [names.id]: id, [names.group]: group, [names.consumer]: 'one' };
    const headers = Object.entries({ ...origin, [names.reason]: 'it is broken' });
    await redis.xadd(`${group}.dead`, '*', 'msg', 'x', ...headers.flatMap(([name, value]) => [`h:${name}`, value]));
  }
  await redis.set('string', 'x');
  await redis.set('expiring string', 'x', 'PX', 3_600_000);
  await redis.hset('hash', 'x', 'y');
  await redis.rpush('list', 'x', 'y');
  await redis.sadd('set', 'x');
  await redis.zadd('sorted set', 1, 'x');
  // Where the delayed messages of `odd` should be there is something else.
  await redis.set('nrs:{odd}:delayed:odd', 'x');
  const streamer = await streams.connect();
  const producer = await streamer.createProducer('orders');
  const deduplication = { id: 'once', within: 3_600_000 };
  for (const delay of [3_600_000, 7_200_000]) await producer.send('later', { delay, deduplication });
  await (await streamer.createManager()).pauseGroup('orders', GROUP);
  await streamer.disconnect();
  return [...(await redis.keys('*')), 'sharded', 'odd', 'missing', '{', '}{', ' '];
}

interface State {
  /** The type and everything that is stored, groups, consumers and pending entries with it. */
  readonly stored: Record<string, string>;
  /** Milliseconds; -1 without an expiry. */
  readonly expiries: Record<string, number>;
}

async function stateOf(redis: Redis): Promise<State> {
  const keys = (await redis.keys('*')).sort();
  const dumps = await Promise.all(keys.map(async (key) => [key, (await redis.dumpBuffer(key)).toString('hex')]));
  const expiries = await Promise.all(keys.map(async (key) => [key, await redis.pttl(key)]));
  return { stored: Object.fromEntries(dumps), expiries: Object.fromEntries(expiries) };
}

it('every call of the manager that only looks leaves every key as it is, whatever key it is given', async () => {
  const keys = await fill(streams.redis);
  const manager = await (await streams.connect()).createManager();
  const before = await stateOf(streams.redis);
  expect(Object.keys(before.stored).length).toBeGreaterThan(15);

  const answered = new Set<string>();
  for (const [name, look] of Object.entries(LOOKS)) {
    for (const key of keys) {
      const isAnswered = await look(manager, key).then(
        () => true,
        (error: unknown) => {
          expect(error).toBeInstanceOf(RedisStreamsError);
          return false;
        },
      );
      if (isAnswered) answered.add(name);
    }
    const { stored, expiries } = await stateOf(streams.redis);
    expect({ name, stored }).toEqual({ name, stored: before.stored });
    for (const [key, expiry] of Object.entries(before.expiries)) {
      const hasExpiry = expiry > 0;
      expect({ name, key, hasExpiry: (expiries[key] as number) > 0 }).toEqual({ name, key, hasExpiry });
      expect(expiries[key]).toBeLessThanOrEqual(expiry);
    }
  }
  expect([...answered]).toEqual(Object.keys(LOOKS));
});

it('every method of the manager is known to look or to change', () => {
  const methods = Object.getOwnPropertyNames(StreamManager.prototype).filter((name) => name !== 'constructor');
  expect(methods.sort()).toEqual([...Object.keys(LOOKS), ...CHANGES].sort());
});
