import { EventEmitter, once } from 'node:events';
import { get } from 'node:http';
import type { Server } from 'node:http';
import { promisify } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import type { DeadLetterPage } from '../../packages/console/src/api.js';
import { Turns } from '../../packages/console/src/turns.js';
import { ADAPTERS, ConsoleApp } from '../support/console-app.js';
import { deadLetterFields } from '../support/dead-letter-fields.js';
import { RedisServer } from '../support/redis-server.js';
import { useStreams } from '../support/streams.js';
import { until } from '../support/until.js';

const anyone = { user: null };

/** How many pages of entries Redis has returned. */
async function readsOf(redis: Redis): Promise<number> {
  const stats = await redis.info('commandstats');
  return Number(/^cmdstat_xrange:calls=(\d+)/m.exec(stats)?.[1] ?? 0);
}

describe('searches', () => {
  it('take turns, four at a time, also when one fails; too many are refused', async () => {
    const turns = new Turns();
    const gate = new EventEmitter();
    let running = 0;
    let most = 0;
    const work = async (): Promise<void> => {
      running += 1;
      most = Math.max(most, running);
      await once(gate, 'go');
      running -= 1;
      if (running === 0) throw new Error('failed');
    };
    const all = Array.from({ length: 104 }, () => turns.take(anyone, work));
    const settled = Promise.allSettled(all);
    await expect(turns.take(anyone, work)).rejects.toThrow('Too many searches at a time');
    let isDone = false;
    void settled.then(() => (isDone = true));
    while (!isDone) {
      gate.emit('go');
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(most).toBe(4);
    await expect(turns.take(anyone, async () => 'again')).resolves.toBe('again');
  });

  it('of one user take two turns at a time, however many there are, and too many are refused', async () => {
    const turns = new Turns();
    const gate = new EventEmitter();
    const running: string[] = [];
    const search = (user: string): Promise<void> =>
      turns.take({ user }, async () => {
        running.push(user);
        await once(gate, user);
      });
    const all = [...Array.from({ length: 22 }, () => search('ada')), search('bob')];
    expect(running).toEqual(['ada', 'ada', 'bob']);
    await expect(search('ada')).rejects.toMatchObject({ status: 429 });
    const done = Promise.all(all);
    let isDone = false;
    void done.then(() => (isDone = true));
    gate.emit('bob');
    while (!isDone) {
      gate.emit('ada');
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(running).toHaveLength(23);
  });

  it('of a client who has gone leave the line, and get no turn', async () => {
    const turns = new Turns();
    const gate = new EventEmitter();
    const running = Array.from({ length: 4 }, () => turns.take(anyone, () => once(gate, 'go')));
    const gone = new AbortController();
    let isStarted = false;
    const waiting = turns.take({ user: null, signal: gone.signal }, async () => (isStarted = true));
    const next = turns.take(anyone, async () => 'next');
    gone.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    await expect(turns.take({ user: null, signal: gone.signal }, async () => 'late')).rejects.toThrow('gone');
    gate.emit('go');
    await Promise.all(running);
    expect([await next, isStarted]).toEqual(['next', false]);
  });
});

describe('searches of dead letters', () => {
  const streams = useStreams();
  /** Of a stream, with the ids 1-0, 2-0, … */
  const add = async (
    key: string,
    count: number,
    stream: (n: number) => string,
    redis = streams.redis,
  ): Promise<void> => {
    const pipeline = redis.pipeline();
    for (let n = 1; n <= count; n += 1) {
      const origin = { stream: stream(n), key: stream(n), id: '1-0', group: 'workers', consumer: 'c' };
      pipeline.xadd(key, `${n}-0`, ...deadLetterFields('x', { ...origin, reason: `${n}.` }));
    }
    await pipeline.exec();
  };

  it('look at 5,000 at a time, and continue where they ended', async () => {
    await add('orders.dead', 10_050, () => 'orders');
    await using console = await ConsoleApp.start({ guards: [], connection: streams.url });
    const page = (query: string) => console.json<DeadLetterPage>(`api/dead-letters?stream=orders&${query}`);
    expect(await page('reason=none')).toEqual({ deadLetters: [], next: '5000-0', searched: 5_000 });
    expect(await page('reason=none&after=5000-0')).toEqual({ deadLetters: [], next: '10000-0', searched: 5_000 });
    expect(await page('reason=none&after=10000-0')).toEqual({ deadLetters: [], next: null, searched: 50 });
    const found = await page('reason=4999.&until=1970-01-01T00:00:06Z');
    expect(found.deadLetters.map(({ id, reason }) => [id, reason])).toEqual([['4999-0', '4999.']]);
    const all = await page('group=workers&since=9950-0');
    expect([all.deadLetters.length, all.deadLetters[0]?.id, all.next, all.searched]).toEqual([
      50,
      '9950-0',
      '9999-0',
      50,
    ]);
    expect((await page('group=others')).searched).toBe(5_000);
  });

  it('in a stream that several streams share look at those of the others too; a single one is read alone', async () => {
    // Other test files use the common server, and their commands count, too.
    await using server = await RedisServer.start();
    const redis = new Redis({ port: server.port });
    await add('failed', 5_100, (n) => (n > 5_050 ? 'orders' : 'payments'), redis);
    await using console = await ConsoleApp.start({ guards: [], connection: server.url });
    const place = 'stream=orders&deadLetterStream=failed';
    const first = await console.json<DeadLetterPage>(`api/dead-letters?${place}`);
    expect(first).toEqual({ deadLetters: [], next: '5000-0', searched: 5_000 });
    const next = await console.json<DeadLetterPage>(`api/dead-letters?${place}&after=${first.next}`);
    expect([next.deadLetters[0]?.id, next.deadLetters.length, next.next]).toEqual(['5051-0', 50, null]);
    const before = await readsOf(redis);
    expect((await console.get(`api/dead-letter?${place}&id=7-0`)).status).toBe(404);
    expect((await readsOf(redis)) - before).toBe(1);
    expect((await console.get(`api/dead-letter?${place}&id=5060-0`)).status).toBe(200);
    redis.disconnect();
  });
});

it.each(ADAPTERS)('a search whose client closes the request ends, on %s', async (adapter) => {
  await using server = await RedisServer.start();
  const redis = new Redis({ port: server.port });
  const pipeline = redis.pipeline();
  for (const key of ['orders', 'orders.dead'])
    for (let n = 1; n <= 200; n += 1) pipeline.xadd(key, `${n}-0`, 'msg', `${n}`);
  await pipeline.exec();
  await using console = await ConsoleApp.start({ guards: [], connection: server.url }, { adapter });
  await console.json('api/dead-letter?stream=orders&id=1-0');
  const http = console.app.getHttpServer() as Server;
  const connections = promisify(http.getConnections.bind(http));
  const before = await readsOf(redis);
  server.pause();
  for (const path of ['messages?stream=orders&key=none', 'dead-letters?stream=orders&reason=none']) {
    // fetch() would connect again as soon as it is aborted.
    const request = get(console.urlOf(`api/${path}`), { agent: false });
    request.on('error', () => undefined);
    await until('it has begun', async () => (await connections()) > 0);
    request.destroy();
    await until('the application knows', async () => (await connections()) === 0);
  }
  server.resume();
  await console.json('api/dead-letter?stream=orders&id=1-0');
  // Two of the last request, and the first page of the dead letters, which was under way.
  expect((await readsOf(redis)) - before).toBeLessThanOrEqual(3);
  redis.disconnect();
});
