import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { ServerRedisStreams } from '../../lib/index.js';
import { refusedCommands, setUser } from '../support/acl.js';
import { ADAPTERS, ConsoleApp } from '../support/console-app.js';
import { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';

describe('the live view', () => {
  let server: RedisServer;
  let redis: Redis;
  beforeEach(async () => {
    server = await RedisServer.start();
    redis = new Redis({ port: server.port });
    redis.on('error', () => undefined);
  });
  afterEach(async () => {
    redis.disconnect();
    await server.stop();
  });

  const start = (options = {}): Promise<ConsoleApp> =>
    ConsoleApp.start({ guards: [], connection: server.url, ...options });
  /** Commands that Redis has run, except those of the test. */
  const commands = async (): Promise<number> => {
    const stats = await redis.info('commandstats');
    const calls = [...stats.matchAll(/^cmdstat_(?!info)[^:]+:calls=(\d+)/gm)].map(([, count]) => Number(count));
    return calls.reduce((sum, count) => sum + count, 0);
  };

  it('costs Redis the same for 100 viewers as for one, and nothing without viewers', async () => {
    for (const stream of ['a', 'b', 'c']) await redis.xadd(stream, '*', 'msg', 'x');
    await using console = await start();
    /** Commands of two looks. */
    const cost = async (viewer: { updates: readonly unknown[] }): Promise<number> => {
      const untilNext = async (): Promise<number> => {
        const seen = viewer.updates.length;
        await until('the next update is there', () => viewer.updates.length > seen);
        return commands();
      };
      const before = await untilNext();
      await untilNext();
      return (await untilNext()) - before;
    };
    const viewer = await console.watch({ page: 'streams' });
    const ofOne = await cost(viewer);
    const others = await Promise.all(
      Array.from({ length: 99 }, (_, n) => console.watch({ page: 'streams', search: n % 2 === 0 ? 'a' : '' })),
    );
    for (const other of others)
      await other.until('all have their own part', ({ matching }) => [1, 3].includes(matching));
    expect(ofOne).toBeGreaterThan(0);
    // One look more or less in that time.
    expect(await cost(viewer)).toBeLessThanOrEqual(1.6 * ofOne);
    for (const each of [viewer, ...others]) await each[Symbol.asyncDispose]();

    // Some time, in which a view that needs no Redis is looked at twice.
    await using health = await console.watch({ page: 'health' });
    await until('the health was looked at', () => health.updates.length > 1);
    const before = await commands();
    const seen = health.updates.length;
    await until('the health was looked at again', () => health.updates.length > seen);
    expect(await commands()).toBe(before);
  });

  it('says that Redis is down, and has figures again when it is back', async () => {
    await redis.xadd('orders', '1-0', 'msg', 'x');
    await redis.xgroup('CREATE', 'orders', 'workers', '0');
    await using console = await start();
    const views = [
      { page: 'streams' },
      { page: 'stream', stream: 'orders' },
      { page: 'group', stream: 'orders', group: 'workers' },
    ] as const;
    const viewers = await Promise.all(views.map((view) => console.watch(view)));
    for (const viewer of viewers) await until('there is an update', () => viewer.updates.length > 0);
    await server.kill();
    for (const viewer of viewers) {
      await until('the viewer knows', () => viewer.failures.length > 0);
      expect(viewer.failures[0]).toEqual({
        // Of the look that was under way, or of the connection.
        message: expect.stringMatching(/^The connection to Redis .*lost/),
        code: 'ERR_CONNECTION',
      });
    }
    await server.restart();
    for (const viewer of viewers) {
      const seen = viewer.updates.length;
      await until('there are updates again', () => viewer.updates.length > seen, 30_000);
      await viewer[Symbol.asyncDispose]();
    }
  });

  it('says why it shows nothing while Redis was never reached', async () => {
    await server.kill();
    await using console = await start();
    await using viewer = await console.watch({ page: 'streams' });
    await until('the viewer knows', () => viewer.failures.length > 0, 20_000);
    expect(viewer.failures[0]?.message).toMatch(/^The connection to Redis is lost|^No connection to Redis/);
    await server.restart();
    await until('there are updates', () => viewer.updates.length > 0, 30_000);
  });

  it('shows the streams that the user of the connection may read, without what is not permitted', async () => {
    for (const stream of ['orders', 'secrets']) await redis.xadd(stream, '*', 'msg', 'x');
    await setUser(redis, 'viewer', '~orders* -@all +scan +type +xinfo +info +ping +time +hello +client');
    const connection = server.url.replace('redis://', 'redis://viewer:pw@');
    await using console = await start({ connection });
    await using viewer = await console.watch({ page: 'streams' });
    const { rows, total } = await viewer.until('the streams are there', () => true);
    expect([total, rows.map(({ stream, memory }) => [stream, memory])]).toEqual([1, [['orders', null]]]);
    await setUser(redis, 'blind', '~* -@all +type +xinfo +info +ping +time +hello +client');
    const blind = server.url.replace('redis://', 'redis://blind:pw@');
    await using second = await start({ connection: blind });
    await using failing = await second.watch({ page: 'streams' });
    await until('the viewer knows', () => failing.failures.length > 0);
    expect(failing.failures[0]).toMatchObject({ code: 'ERR_PERMISSION', message: expect.stringMatching(/scan/i) });
    // With names the keyspace is not searched.
    await using third = await start({ connection: blind, streams: ['orders', 'none'] });
    await using named = await third.watch({ page: 'streams' });
    expect((await named.until('the streams are there', () => true)).rows.map(({ stream }) => stream)).toEqual([
      'orders',
    ]);
  });

  it('needs no other permissions than those that the document names', async () => {
    const document = readFileSync(new URL('../../docs/console.md', import.meta.url), 'utf8');
    const [, rules = ''] = /^ACL SETUSER console on >password (.*?)^```/ms.exec(document) ?? [];
    const [, more = ''] = /Delayed messages need\s+`([^`]+)`/.exec(document) ?? [];
    const [, owners = ''] = /owners of shards\s+`([^`]+)`/.exec(document) ?? [];
    expect([rules, more, owners].map((text) => text.length > 0)).toEqual([true, true, true]);
    await setUser(redis, 'console', [rules.replace('~app:*', '~*'), more, owners].join(' ').replace(/\s+/g, ' '));
    for (const key of ['orders', 'orders.dead']) await redis.xadd(key, '1-0', 'msg', 'x');
    await redis.xgroup('CREATE', 'orders', 'workers', '0');
    await redis.xreadgroup('GROUP', 'workers', 'c', 'COUNT', 1, 'STREAMS', 'orders', '>');
    await redis.call('ACL', 'LOG', 'RESET');
    await using console = await start({ connection: server.url.replace('redis://', 'redis://console:pw@') });
    const views = [
      { page: 'streams' },
      { page: 'stream', stream: 'orders' },
      { page: 'group', stream: 'orders', group: 'workers' },
      { page: 'health' },
    ] as const;
    for (const view of views) {
      await using viewer = await console.watch(view);
      await until('there is an update', () => viewer.updates.length > 0);
      expect(viewer.failures).toEqual([]);
    }
    for (const page of ['messages', 'messages?newest=1', 'dead-letters', 'delayed']) {
      await console.json(`api/${page}${page.includes('?') ? '&' : '?'}stream=orders`);
    }
    await console.json('api/message?stream=orders&id=1-0');
    await console.json('api/dead-letter?stream=orders&id=1-0');
    expect(await refusedCommands(redis)).toEqual([]);
  });

  it('follows a stream that is deleted, and another type at its key, to the stream that is there next', async () => {
    await redis.xadd('orders', '1-0', 'msg', 'x');
    await redis.xgroup('CREATE', 'orders', 'workers', '0');
    await using console = await start();
    await using stream = await console.watch({ page: 'stream', stream: 'orders' });
    await using group = await console.watch({ page: 'group', stream: 'orders', group: 'workers' });
    await using list = await console.watch({ page: 'streams' });
    await stream.until('the stream is there', ({ row, shards }) => row !== null && shards.length === 1);
    await group.until('the group is there', (update) => update.group !== null);
    await list.until('the row is there', ({ rows }) => rows.length === 1);
    await redis.del('orders');
    await stream.until('the stream is gone', ({ row }) => row === null);
    await group.until('the group is gone', (update) => update.group === null);
    await list.until('the row is gone', ({ rows }) => rows.length === 0);
    await redis.set('orders', 'text');
    await until('the type is told', () => stream.failures.length > 0);
    expect(stream.failures[0]).toEqual({
      message: "The key 'orders' holds another type than a stream",
      code: 'ERR_WRONG_TYPE',
    });
    await redis.del('orders');
    await redis.xadd('orders', '5-0', 'msg', 'x');
    await stream.until('the new stream is there', ({ firstId }) => firstId === '5-0');
  });

  it('has of a group its lag over time, consumers, pending entries and positions', async () => {
    for (const n of [1, 2, 3]) await redis.xadd('orders', `${n}-0`, 'msg', 'x');
    await redis.xgroup('CREATE', 'orders', 'workers', '0');
    await redis.xreadgroup('GROUP', 'workers', 'c1', 'COUNT', 2, 'STREAMS', 'orders', '>');
    await using console = await start();
    await using list = await console.watch({ page: 'streams' });
    await until('the list was seen twice', () => list.updates.length > 1);
    await using viewer = await console.watch({ page: 'group', stream: 'orders', group: 'workers' });
    const update = await viewer.until('the group is there', () => true);
    expect(update).toMatchObject({
      group: { name: 'workers', pending: 2, consumers: 1, isPaused: false },
      positions: [{ shard: 0, lastDeliveredId: '2-0' }],
      consumers: [{ name: 'c1', pending: 2 }],
      owners: [],
      pending: ['1-0', '2-0'].map((id) => ({ shard: 0, id, consumer: 'c1', deliveries: 1 })),
    });
    // What the list has seen is there already.
    expect(update.history.length).toBeGreaterThanOrEqual(3);
    const [{ lagSeconds } = { lagSeconds: 0 }] = update.history;
    expect(lagSeconds).toBeGreaterThan(1e6);
  });

  it('counts the entries of a second', async () => {
    await redis.xadd('orders', '1-0', 'msg', 'x');
    await using console = await start();
    await using viewer = await console.watch({ page: 'streams' });
    const first = await viewer.until('the stream is there', () => true);
    expect(first.rows[0]?.rate).toBeNull();
    for (let n = 0; n < 50; n += 1) await redis.xadd('orders', 'MAXLEN', 5, '*', 'msg', 'x');
    await viewer.until('the rate is there', ({ rows: [row] }) => {
      // Before Redis 7.0 the server does not count what was trimmed.
      return row?.length === 5 && (row.rate === null || row.rate > 0);
    });
  });
});

describe.each(ADAPTERS)('an application on %s', (adapter) => {
  it('that closes ends the event streams first, and is not held up by them', async () => {
    await using server = await RedisServer.start();
    const console = await ConsoleApp.start({ guards: [], connection: server.url }, { adapter });
    const viewers = await Promise.all(
      (['streams', 'health', 'streams'] as const).map((page) => console.watch({ page })),
    );
    for (const viewer of viewers) await until('there is an update', () => viewer.updates.length > 0);
    await console.app.close();
    for (const viewer of viewers) {
      await until('the event stream has ended', () => viewer.hasEnded);
      expect(viewer.types.at(-1)).toBe('gone');
    }
  });

  it('ends the event stream of a viewer whom the guards would not admit any more', async () => {
    await using server = await RedisServer.start();
    let isAdmitted = true;
    await using console = await ConsoleApp.start(
      { guards: [{ canActivate: () => isAdmitted }], connection: server.url },
      { adapter, visit: 1_000 },
    );
    await using viewer = await console.watch({ page: 'streams' });
    await until('the viewer is asked to come again', () => viewer.types.includes('renew'), 20_000);
    await using next = await console.watch({ page: 'streams' });
    isAdmitted = false;
    await until('both streams have ended', () => viewer.hasEnded && next.hasEnded, 20_000);
    expect([viewer.types.at(-1), next.types.at(-1)]).toEqual(['gone', 'gone']);
    expect((await console.get('api/live?view={"page":"streams"}')).status).toBe(403);
  });

  it('shows the read loops of its server, also of one that is no provider', async () => {
    await using server = await RedisServer.start();
    const handler = new ServerRedisStreams({ connection: server.url, group: 'workers', blockTimeout: 500 });
    handler.addHandler('orders', async () => undefined, true);
    await using console = await ConsoleApp.start(
      { guards: [], connection: server.url, health: { server: handler } },
      { adapter },
    );
    await handler.listen(() => undefined);
    await using viewer = await console.watch({ page: 'health' });
    const { parts } = await viewer.until('the loop is there', ({ parts: [part] }) => part?.loops.length === 1);
    expect(parts).toMatchObject([
      {
        name: 'server',
        isHealthy: true,
        status: 'connected',
        loops: [{ streams: ['orders'], group: 'workers', mode: 'load-balanced', problem: null }],
      },
    ]);
    await handler.close();
    await viewer.until('the server is closed', ({ isHealthy }) => !isHealthy);
  });
});
