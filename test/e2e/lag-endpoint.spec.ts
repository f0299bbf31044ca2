import { setImmediate } from 'node:timers/promises';

import { describe, expect, it } from '@jest/globals';
import { Injectable, VersioningType } from '@nestjs/common';
import type { CanActivate, ExecutionContext, INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams, RedisStreamsModule, ServerRedisStreams } from '../../lib/index.js';
import type { LagEndpointOptions, RedisStreamsModuleOptions } from '../../lib/index.js';
import { lagController } from '../../lib/nest/lag/lag-endpoint.js';
import { moduleOf, onEvent } from '../support/controllers.js';
import { freePort } from '../support/free-port.js';
import { LogLines, QUIET, useNest } from '../support/nest.js';
import { until } from '../support/until.js';

const nest = useNest();
const OPEN: LagEndpointOptions = { guards: [], timeout: 10_000 };

const options = (extra: RedisStreamsModuleOptions = {}): RedisStreamsModuleOptions => ({
  connection: nest.url,
  logger: new LogLines(),
  blockTimeout: 500,
  autoCommitInterval: 10,
  ...extra,
});

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

type Ask = (path: string, headers?: Record<string, string>) => Promise<Answer>;

async function serve(
  imports: NonNullable<Parameters<typeof moduleOf>[0]['imports']>,
  parts: Parameters<typeof moduleOf>[0] & { configure?: (app: INestApplication) => void } = {},
): Promise<{ app: INestApplication; ask: Ask }> {
  const { configure, ...metadata } = parts;
  const app = await NestFactory.create(moduleOf({ imports, ...metadata }), QUIET);
  nest.closeLater(app);
  configure?.(app);
  await app.listen(0, '127.0.0.1');
  const url = await app.getUrl();
  const ask: Ask = async (path, headers = {}) => {
    const response = await fetch(url + path, { headers: { connection: 'close', ...headers } });
    const isJson = response.headers.get('content-type')?.includes('json');
    const text = await response.text();
    return { status: response.status, body: (isJson ? JSON.parse(text) : {}) as Answer['body'] };
  };
  return { app, ask };
}

describe('GET lag', () => {
  it('does not exist unless the module has the option lagEndpoint', async () => {
    const { ask } = await serve([RedisStreamsModule.forRoot(options({ group: 'g' }))]);
    expect((await ask('/lag?stream=orders')).status).toBe(404);
  });

  it('lets an autoscaler start the first instance with one message, before the group exists, and stop it when all is handled', async () => {
    const { app, ask } = await serve([RedisStreamsModule.forRoot({ ...options({ group: 'g' }), lagEndpoint: OPEN })], {
      controllers: [onEvent('orders', () => undefined)],
    });
    const idle = {
      backlog: 0,
      lag: 0,
      isLagExact: true,
      lagSeconds: 0,
      pending: 0,
      entries: 0,
      group: 'g',
      streams: [],
    };
    expect(await ask('/lag?stream=orders')).toEqual({ status: 200, body: idle });
    await firstValueFrom(app.get(ClientRedisStreams).emit('orders', 1));
    // JSON has no undefined: the age is left out.
    const waiting = { ...idle, backlog: 1, lag: 1, lagSeconds: undefined, entries: 1, streams: ['orders'] };
    expect(await ask('/lag?stream=orders')).toEqual({ status: 200, body: waiting });

    app.connectMicroservice({ strategy: app.get(ServerRedisStreams) });
    await app.startAllMicroservices();
    await until('all is handled', async () => (await ask('/lag?stream=orders')).body['backlog'] === 0);
    expect((await ask('/lag?stream=orders')).body).toEqual({ ...idle, entries: 1, streams: ['orders'] });
  });

  it('counts what waits and what is pending, and marks a lag that the server does not know, which is never 0', async () => {
    const { ask } = await serve([RedisStreamsModule.forRoot({ ...options(), lagEndpoint: OPEN })]);
    const body = async (): Promise<unknown> => (await ask('/lag?stream=s&group=g')).body;
    for (let n = 1; n <= 4; n += 1) await nest.redis.xadd('s', `${n}-0`, 'msg', 'x');
    await nest.redis.xgroup('CREATE', 's', 'g', '0');
    await nest.redis.xreadgroup('GROUP', 'g', 'c', 'COUNT', 1, 'STREAMS', 's', '>');
    const known = /lag/.test(JSON.stringify(await nest.redis.xinfo('GROUPS', 's')));
    const exact = { backlog: 4, lag: 3, isLagExact: true };
    const unknown = { backlog: 2, lag: 1, isLagExact: false };
    expect(await body()).toMatchObject({ ...(known ? exact : unknown), pending: 1, entries: 4 });
    await nest.redis.xdel('s', '3-0');
    expect(await body()).toMatchObject({ ...unknown, pending: 1, entries: 3, lagSeconds: expect.any(Number) });
    await nest.redis.xdel('s', '2-0', '4-0');
    expect(await body()).toMatchObject({ backlog: 1, lag: 0, isLagExact: true, lagSeconds: 0, pending: 1 });
  });

  it('adds up the shards of a stream, and not other streams whose names end in a number', async () => {
    const { ask } = await serve([RedisStreamsModule.forRoot({ ...options({ group: 'g' }), lagEndpoint: OPEN })]);
    for (const key of ['sharded:0', 'sharded:1', 'user', 'user:1']) {
      await nest.redis.xadd(key, '*', 'msg', 'x');
      if (key !== 'sharded:1' && key !== 'user:1') await nest.redis.xgroup('CREATE', key, 'g', '$');
    }
    await nest.redis.xadd('sharded:0', '*', 'msg', 'x');
    // Where the server does not count, two are known to wait all the same: one in each shard.
    expect((await ask('/lag?stream=sharded')).body).toMatchObject({ lag: 2, entries: 3, streams: ['sharded'] });
    expect((await ask('/lag?stream=user')).body).toMatchObject({ lag: 0, entries: 1 });
  });

  it.each([12, [9, 100]])(
    'counts shards that are given as %j, also where discovery would not find them',
    async (shards) => {
      const module = { ...options({ group: 'g', shards }), lagEndpoint: OPEN };
      const { ask } = await serve([RedisStreamsModule.forRoot(module)]);
      for (const key of ['sparse:9', 'sparse:100', 'plain']) await nest.redis.xadd(key, '*', 'msg', 'x');
      const lag = Array.isArray(shards) ? 2 : 1;
      for (const query of ['stream=sparse', 'pattern=sparse']) {
        expect((await ask(`/lag?${query}`)).body).toMatchObject({ lag, backlog: lag, streams: ['sparse'] });
      }
      // Of another service, without shards.
      expect((await ask('/lag?stream=plain')).body).toMatchObject({ lag: 1, streams: ['plain'] });
      await nest.redis.xgroup('CREATE', 'sparse:9', 'g', '$');
      expect((await ask('/lag?stream=sparse')).body).toMatchObject({ lag: lag - 1 });
    },
  );

  it('takes the pattern of a handler: that of another stream, or a wildcard, without the streams of this package', async () => {
    const module = RedisStreamsModule.forRoot({
      ...options({ group: 'g', streams: { orders: 'prod.orders' }, wildcards: true, keyPrefix: 'app:' }),
      lagEndpoint: OPEN,
    });
    const { ask } = await serve([module]);
    const keys = ['prod.orders', 'mails.a', 'mails.b', 'mails.b:0', 'mails.a.dead', 'mails', 'reply:mails.c'];
    for (const key of [...keys.map((name) => `app:${name}`), 'mails.x']) await nest.redis.xadd(key, '*', 'msg', 'x');
    expect((await ask('/lag?pattern=orders')).body).toMatchObject({ lag: 1, streams: ['prod.orders'] });
    expect((await ask('/lag?pattern=mails.*')).body).toMatchObject({
      lag: 3,
      streams: ['mails.a', 'mails.b', 'mails.b:0'],
    });
    expect((await ask('/lag?pattern=other.>')).body).toMatchObject({ backlog: 0, streams: [] });
    for (const pattern of ['constructor', '__proto__']) {
      expect(await ask(`/lag?pattern=${pattern}`)).toMatchObject({ status: 200, body: { backlog: 0, streams: [] } });
    }
  });

  it('takes the wildcard that the option streams gives a pattern, and leaves out the stream of dead letters', async () => {
    const module = RedisStreamsModule.forRoot({
      ...options({ group: 'g', streams: { 'mails.*': 'prod.mails.*' }, wildcards: true }),
      deadLetter: { stream: 'prod.mails.failed' },
      lagEndpoint: OPEN,
    });
    const { ask } = await serve([module]);
    for (const key of ['mails.a', 'prod.mails.a', 'prod.mails.failed']) await nest.redis.xadd(key, '*', 'msg', 'x');
    expect((await ask('/lag?pattern=mails.*')).body).toMatchObject({ backlog: 1, streams: ['prod.mails.a'] });
    const ofObject = encodeURIComponent('{"cmd":"*"}');
    expect((await ask(`/lag?pattern=${ofObject}`)).body).toMatchObject({ backlog: 0, streams: [] });
  });

  it('looks no further for the streams of a wildcard once it has answered that it took too long', async () => {
    let pages = 0;
    const scan = async (): Promise<object> => {
      await setImmediate();
      pages += 1;
      return { cursor: '1', streams: [] };
    };
    const streamer = { createManager: () => Promise.resolve({ scan }) };
    const controller = new (lagController(undefined, { guards: [], timeout: 5 }))({ wildcards: true }, streamer) as {
      lag(query: unknown): Promise<unknown>;
    };
    await expect(controller.lag({ group: 'g', pattern: 'orders.*' })).rejects.toMatchObject({ status: 503 });
    const asked = pages;
    for (let turn = 0; turn < 10; turn += 1) await setImmediate();
    expect(pages - asked).toBeLessThanOrEqual(1);
  });

  it('has guards of its own, which may inject providers, below the global prefix, and without a version', async () => {
    @Injectable()
    class Keys {
      readonly key = 'secret';
    }
    @Injectable()
    class KeyGuard implements CanActivate {
      constructor(readonly keys: Keys) {}
      canActivate(context: ExecutionContext): boolean {
        const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
        return headers['x-api-key'] === this.keys.key;
      }
    }
    const keys = moduleOf({ providers: [Keys], exports: [Keys] });
    const { ask } = await serve(
      [
        RedisStreamsModule.forRootAsync({
          useFactory: () => options({ group: 'g' }),
          lagEndpoint: { guards: [KeyGuard], imports: [keys], path: 'scaling/backlog' },
        }),
        RedisStreamsModule.forRoot({ ...options({ group: 'auditors' }), name: 'audit', lagEndpoint: OPEN }),
      ],
      {
        configure(app) {
          app.setGlobalPrefix('api');
          app.enableVersioning({ type: VersioningType.URI, defaultVersion: '1' });
        },
      },
    );
    expect((await ask('/api/scaling/backlog?stream=s')).status).toBe(403);
    const allowed = await ask('/api/scaling/backlog?stream=s', { 'x-api-key': 'secret' });
    expect(allowed).toMatchObject({ status: 200, body: { group: 'g' } });
    expect(await ask('/api/lag/audit?stream=s')).toMatchObject({ status: 200, body: { group: 'auditors' } });
    expect((await ask('/lag/audit?stream=s')).status).toBe(404);
  });

  it.each([
    ['?group=g', "Either 'stream', a key, or 'pattern'"],
    ['?group=g&stream=a&pattern=a', "Either 'stream', a key, or 'pattern'"],
    ['?group=g&stream=a&stream=b', "Either 'stream', a key, or 'pattern'"],
    ['?stream=a', "'group' must be given once"],
    ['?stream=a&group=', "'group' must be given once"],
    ['?group=g&pattern=a.*', "must have no '*' or '>'"],
  ])('answers 400 with the reason to %s', async (query, reason) => {
    const { ask } = await serve([RedisStreamsModule.forRoot({ ...options(), lagEndpoint: OPEN })]);
    const { status, body } = await ask(`/lag${query}`);
    expect({ status, message: String(body['message']) }).toEqual({
      status: 400,
      message: expect.stringContaining(reason),
    });
  });

  it('answers 503 while Redis is away, and for a key that is no stream: a number would be taken for the truth', async () => {
    const connection = { host: '127.0.0.1', port: await freePort() };
    const { ask } = await serve([
      RedisStreamsModule.forRoot({ ...options({ connection, group: 'g' }), lagEndpoint: { guards: [], timeout: 30 } }),
      RedisStreamsModule.forRoot({ ...options({ group: 'g' }), name: 'up', lagEndpoint: OPEN }),
    ]);
    expect(await ask('/lag?stream=s')).toEqual({
      status: 503,
      body: { statusCode: 503, message: 'Redis did not answer within 30 ms' },
    });
    await nest.redis.set('text', 'x');
    expect(await ask('/lag/up?stream=text')).toMatchObject({ status: 503, body: { error: 'ERR_WRONG_TYPE' } });
  });

  it.each<[string, unknown]>([
    ['lagEndpoint.guards', {}],
    ['lagEndpoint.guards', { guards: true }],
    ['lagEndpoint.pth', { guards: [], pth: 'x' }],
    ['lagEndpoint.path', { guards: [], path: 5 }],
    ['lagEndpoint.timeout', { guards: [], timeout: 0 }],
    ['lagEndpoint', true],
  ])('refuses a wrong option by its name: %s, %j', (option, lagEndpoint) => {
    expect(() => RedisStreamsModule.forRoot({ lagEndpoint: lagEndpoint as never })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION', option }),
    );
  });
});
