import type { CanActivate } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { ADAPTERS, ConsoleApp } from '../support/console-app.js';
import { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';

describe('the live view', () => {
  let server: RedisServer;
  let redis: Redis;
  beforeEach(async () => {
    server = await RedisServer.start();
    redis = new Redis({ port: server.port });
    await redis.xadd('orders', '1-0', 'msg', 'x');
  });
  afterEach(async () => {
    redis.disconnect();
    await server.stop();
  });

  it('of a Redis that was silent for seconds has figures again as soon as it answers, at the pace before', async () => {
    // As users have it: a look of the length of the silence would be followed by a pause of a minute.
    await using console = await ConsoleApp.start({ guards: [], connection: server.url }, { rest: 20 });
    await using list = await console.watch({ page: 'streams' });
    await using page = await console.watch({ page: 'stream', stream: 'orders' });
    for (const viewer of [list, page]) await until('there is an update', () => viewer.updates.length > 0);
    server.pause();
    for (const viewer of [list, page]) {
      await until('the viewer knows', () => viewer.failures.length > 0, 20_000);
      expect(viewer.failures[0]?.message).toBe('Redis does not answer; the figures follow when it does');
    }
    server.resume();
    for (const viewer of [list, page]) {
      const seen = viewer.updates.length;
      await until('there are several updates', () => viewer.updates.length > seen + 2, 20_000);
    }
  });

  it('that is loaded again shows at once what was measured, with its time, and costs Redis nothing more', async () => {
    const commands = async (): Promise<number> => {
      const stats = await redis.info('commandstats');
      const calls = [...stats.matchAll(/^cmdstat_(?!info)[^:]+:calls=(\d+)/gm)].map(([, count]) => Number(count));
      return calls.reduce((sum, count) => sum + count, 0);
    };
    await using console = await ConsoleApp.start({ guards: [], connection: server.url, interval: 60_000 });
    const view = { page: 'streams' } as const;
    const first = await console.watch(view);
    const { at } = await first.until('the stream is there', ({ rows }) => rows.length === 1);
    await first[Symbol.asyncDispose]();
    const before = await commands();
    for (let n = 0; n < 5; n += 1) {
      await using again = await console.watch(view);
      expect(await again.until('the stream is there', () => true)).toMatchObject({ at, rows: [{ stream: 'orders' }] });
    }
    expect(await commands()).toBe(before);
  });
});

it.each(ADAPTERS)(
  'a live view too many is refused with the reason, which a plain request tells too, on %s',
  async (adapter) => {
    await using server = await RedisServer.start();
    const guard: CanActivate = {
      canActivate: (context) => {
        Object.assign(context.switchToHttp().getRequest<object>(), { user: 'ada' });
        return true;
      },
    };
    await using console = await ConsoleApp.start({ guards: [guard], connection: server.url }, { adapter });
    const view = { page: 'health' } as const;
    await Promise.all(Array.from({ length: 50 }, () => console.watch(view)));
    const query = `view=${JSON.stringify(view)}`;
    const body = { message: 'A user has 50 live pages at the same time, and no more; close some of them', code: null };
    for (const path of ['live', 'session']) {
      expect(await console.get(`api/${path}?${query}`)).toMatchObject({ status: 429, body });
    }
    expect((await console.get('api/session')).status).toBe(200);
  },
);
