import { beforeEach, describe, expect, it } from '@jest/globals';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { firstValueFrom } from 'rxjs';

import {
  ClientRedisStreams,
  InjectRedisStreams,
  RedisStreamer,
  RedisStreamsModule,
  ServerRedisStreams,
  getRedisStreamsToken,
} from '../../lib/index.js';
import type { RedisStreamsModuleOptions } from '../../lib/index.js';
import { RedisStreamsHealthIndicator } from '../../lib/terminus.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { moduleOf, onEvent } from '../support/controllers.js';
import { FaultBench } from '../support/fault-bench.js';
import { freePort } from '../support/free-port.js';
import { healthApp } from '../support/health-app.js';
import type { HealthAnswer } from '../support/health-app.js';
import { LogLines, QUIET } from '../support/nest.js';
import type { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';

const bench = new FaultBench();
/** For an answer of Redis that must not come too late on a busy machine. */
const PATIENT = { timeout: 10_000 } as const;
let server: RedisServer;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
});

const options = (extra: RedisStreamsModuleOptions = {}): RedisStreamsModuleOptions => ({
  connection: server.url,
  logger: new LogLines(),
  blockTimeout: 500,
  ...extra,
});

const redisOf = ({ body }: HealthAnswer): Record<string, unknown> => body.details['redis'] ?? {};

describe('with Terminus', () => {
  it('a server is ready while it listens and Redis is there, and live all the time: before, in an outage, and after', async () => {
    const { app, ready, live } = await healthApp(bench, {
      imports: [RedisStreamsModule.forRoot(options({ group: 'g' }))],
      controllers: [onEvent('orders', () => undefined)],
    });
    const before = await ready();
    expect(before.status).toBe(503);
    expect(redisOf(before)).toEqual({
      status: 'down',
      message: 'server does not listen',
      server: { status: 'disconnected', isListening: false },
    });
    expect((await live()).status).toBe(200);

    app.connectMicroservice({ strategy: app.get(ServerRedisStreams) }, { inheritAppConfig: true });
    await app.startAllMicroservices();
    let answer = await ready();
    await until('it is ready, and its numbers are known', async () => {
      answer = await ready();
      const { lag, pending } = serverOf(answer);
      return answer.status === 200 && lag !== undefined && pending !== undefined;
    });
    expect(answer.body).toMatchObject({ status: 'ok', error: {} });
    expect(redisOf(answer)).toEqual({
      status: 'up',
      server: { status: 'connected', isListening: true, lag: 0, lagSeconds: 0, pending: 0 },
    });

    await server.kill();
    await until('the outage is noticed', async () => serverOf(await ready())['status'] === 'reconnecting');
    const away = await ready();
    expect(away.status).toBe(503);
    expect(redisOf(away)).toMatchObject({
      status: 'down',
      message: expect.stringContaining('server has lost its connection to Redis'),
      server: { status: 'reconnecting', isListening: true },
    });
    expect(await live()).toMatchObject({ status: 200, body: { details: { redis: { status: 'up' } } } });

    await server.restart();
    await until('it is ready again', async () => (await ready()).status === 200);
    expect((await live()).status).toBe(200);
  });

  it('an application that only sends becomes ready without a message, also when Redis comes later', async () => {
    const port = await freePort();
    const late = { connection: { host: '127.0.0.1', port }, logger: new LogLines() };
    const { app, ready, live } = await healthApp(
      bench,
      { imports: [RedisStreamsModule.forRoot(late)] },
      { timeout: 50 },
    );
    const away = await ready();
    expect(away.status).toBe(503);
    expect(redisOf(away)).toEqual({
      status: 'down',
      message: 'client is not connected to Redis',
      client: { status: 'disconnected' },
    });
    expect((await live()).status).toBe(200);

    await bench.server({ port, args: ['--appendonly', 'no'] });
    await until('it is ready', async () => (await ready()).status === 200);
    expect(redisOf(await ready())).toEqual({ status: 'up', client: { status: 'connected' } });
    await app.get(ClientRedisStreams).close();
    for (const answer of [await ready(), await live()]) {
      expect(redisOf(answer)).toMatchObject({ status: 'down', message: 'client is closed' });
    }
  });

  it('limits decide about readiness and not about liveness; the message tells which, of which stream', async () => {
    const limits = { ...PATIENT, maxLag: 1, maxLagSeconds: 60, maxPending: 2 };
    const { app, ready, live } = await healthApp(
      bench,
      {
        imports: [RedisStreamsModule.forRoot(options({ group: 'g', shutdownTimeout: 10 }))],
        controllers: [onEvent('orders', () => new Promise(() => undefined), { concurrency: 3 })],
      },
      limits,
    );
    app.connectMicroservice({ strategy: app.get(ServerRedisStreams) });
    await app.startAllMicroservices();
    const client = app.get(ClientRedisStreams);
    for (let n = 0; n < 2; n += 1) await firstValueFrom(client.emit('orders', n));
    await until('two are pending', async () => serverOf(await ready())['pending'] === 2);
    expect((await ready()).status).toBe(200);
    await firstValueFrom(client.emit('orders', 2));
    await until('three are pending', async () => (await ready()).status === 503);
    expect(redisOf(await ready())).toMatchObject({
      message: "server has 3 pending entries in 'orders' for the group 'g', more than 2",
      server: { pending: 3 },
      client: { status: 'connected' },
    });

    await app.get(ServerRedisStreams).pause();
    const admin = bench.admin(server.url);
    const [seconds] = await admin.time();
    // Ids cannot be older than the last one, so the age is made by a new group at the beginning.
    await admin.del('orders');
    await admin.xadd('orders', `${Number(seconds) * 1_000 - 90_000}-0`, 'msg', '1');
    await admin.xadd('orders', '*', 'msg', '2');
    await admin.xgroup('CREATE', 'orders', 'g', '0');
    const { message } = redisOf(await ready()) as { message: string };
    expect(message).toMatch(/server has a lag of [\d.]+ s in 'orders' for the group 'g', more than 60$/);
    // Before Redis 7.0 the server does not count, and what is not known passes.
    const countsLag = /lag/.test(JSON.stringify(await admin.xinfo('GROUPS', 'orders')));
    expect(/server has a lag of 2 entries in 'orders' for the group 'g', more than 1; /.test(message)).toBe(countsLag);
    expect((await live()).status).toBe(200);
  });

  it('is not live, and not ready, while all handlers have been busy for too long', async () => {
    const gate = withResolvers<void>();
    const { app, ready, live } = await healthApp(
      bench,
      {
        imports: [RedisStreamsModule.forRoot(options({ group: 'g', autoCommitInterval: 10 }))],
        controllers: [onEvent('orders', () => gate.promise, { concurrency: 1 })],
      },
      { ...PATIENT, maxOldestHandler: 20 },
    );
    app.connectMicroservice({ strategy: app.get(ServerRedisStreams) });
    await app.startAllMicroservices();
    expect((await live()).status).toBe(200);
    await firstValueFrom(app.get(ClientRedisStreams).emit('orders', 1));
    await until('it is not live', async () => (await live()).status === 503);
    for (const answer of [await live(), await ready()]) {
      expect(redisOf(answer)['message']).toMatch(/^server has had no free handler for \d+ ms: 'orders'$/);
    }
    gate.resolve();
    await until('it is live', async () => (await live()).status === 200);
  });
});

const serverOf = (answer: HealthAnswer): Record<string, unknown> => redisOf(answer)['server'] as never;

describe('RedisStreamsHealthIndicator', () => {
  it('of a named connection is injected by its name, and has the name in its key', async () => {
    class Checks {
      constructor(
        readonly main: RedisStreamsHealthIndicator,
        readonly audit: RedisStreamsHealthIndicator,
      ) {}
    }
    Reflect.defineMetadata('design:paramtypes', [RedisStreamsHealthIndicator, Object], Checks);
    InjectRedisStreams('audit', RedisStreamsHealthIndicator)(Checks, undefined, 1);
    const away = { connection: { host: '127.0.0.1', port: await freePort() }, logger: new LogLines() };
    const module = moduleOf({
      imports: [
        RedisStreamsModule.forRoot(options()),
        RedisStreamsModule.forRootAsync({ name: 'audit', useFactory: () => away }),
      ],
      providers: [Checks],
    });
    const app = await NestFactory.createApplicationContext(module, QUIET);
    bench.endLater(() => app.close());
    const { main, audit } = app.get(Checks);

    expect(await main.isHealthy(undefined, PATIENT)).toMatchObject({ 'redis-streams': { status: 'up' } });
    expect(await audit.isHealthy(undefined, { timeout: 20 })).toMatchObject({
      'redis-streams:audit': { status: 'down' },
    });
    expect(app.get(getRedisStreamsToken('audit', RedisStreamsHealthIndicator))).toBe(audit);
  });

  it('opens no connection of a client or streamer beside a server, and looks at those that were used', async () => {
    const app = await NestFactory.createApplicationContext(
      moduleOf({ imports: [RedisStreamsModule.forRoot(options({ group: 'g' }))] }),
      QUIET,
    );
    bench.endLater(() => app.close());
    const indicator = app.get(RedisStreamsHealthIndicator);
    expect(Object.keys((await indicator.isHealthy())['redis-streams'] ?? {})).toEqual(['server', 'status', 'message']);
    expect(app.get(RedisStreamer).status).toBe('disconnected');

    await app.get(RedisStreamer).connect();
    await app.get(ClientRedisStreams).connect();
    expect((await indicator.isHealthy('x')).x).toMatchObject({
      client: { status: 'connected' },
      streamer: { status: 'connected' },
    });
  });

  it('is created by hand for a server and clients outside of the module', async () => {
    @Module({ controllers: [onEvent('orders', () => undefined)] })
    class AppModule {}
    const strategy = new ServerRedisStreams({ ...options(), group: 'g' });
    const gateway = new ClientRedisStreams(options());
    bench.endLater(() => gateway.close());
    const indicator = new RedisStreamsHealthIndicator({ orders: strategy, gateway });
    expect((await indicator.isHealthy('parts', PATIENT)).parts).toMatchObject({
      status: 'down',
      message: 'orders does not listen',
      gateway: { status: 'connected' },
    });
    const app = await NestFactory.createMicroservice(AppModule, { strategy, ...QUIET });
    bench.endLater(() => app.close());
    await app.listen();
    await until('it is ready', async () => (await indicator.isHealthy('parts')).parts.status === 'up');
    await strategy.close();
    for (const question of ['readiness', 'liveness'] as const) {
      expect((await indicator.isHealthy('parts', { of: question })).parts).toMatchObject({
        message: 'orders is closed',
      });
    }
  });
});

describe('ClientRedisStreams.health()', () => {
  it('connects a client that was never used, and has the shape of the health of a streamer', async () => {
    const client = new ClientRedisStreams(options());
    bench.endLater(() => client.close());
    const health = await client.health(PATIENT);
    expect(health).toEqual({ isHealthy: true, status: 'connected', isClosed: false, reconnects: 0, loops: [] });
    expect(Object.keys(health)).toEqual(Object.keys(await client.unwrap<RedisStreamer>().health()));
    await expect(client.health({ timeout: 0 })).rejects.toMatchObject({ option: 'timeout' });
  });

  it('does not open a client again that was closed', async () => {
    const client = new ClientRedisStreams(options());
    await client.close();
    expect(await client.health()).toMatchObject({ isHealthy: false, status: 'disconnected', isClosed: true });
  });
});
