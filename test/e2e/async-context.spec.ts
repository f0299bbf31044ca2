import { AsyncLocalStorage } from 'node:async_hooks';

import { describe, expect, it } from '@jest/globals';
import { Controller, Get, Headers, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MessageHandler } from '@nestjs/microservices';
import { Redis } from 'ioredis';
import { ClsModule, ClsService } from 'nestjs-cls';
import { catchError, finalize, firstValueFrom, lastValueFrom, map, NEVER, of, startWith, toArray } from 'rxjs';
import type { Observable } from 'rxjs';

import { RedisStreamer, ServerRedisStreams } from '../../lib/index.js';
import type {
  ClientRedisStreams,
  HandlerExtras,
  RedisStreamsContext,
  ServerRedisStreamsOptions,
} from '../../lib/index.js';
import { onRequest } from '../support/controllers.js';
import { GROUP, LogLines, QUIET, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();
const storage = new AsyncLocalStorage<string>();
const store = (): string => storage.getStore() ?? 'none';

const TENANTS = ['alice', 'bob', 'carol', 'dave'];

describe('operators and subscribers of send() run in the context that subscribed', () => {
  const everyTenant = (work: (tenant: string) => Promise<unknown>): Promise<unknown[]> =>
    Promise.all(TENANTS.map((tenant) => storage.run(tenant, () => work(tenant))));

  it.each([true, false])('when connect() was called before: %s', async (isConnected) => {
    const pattern = uniqueName('tenants');
    await nest.serve(onRequest(pattern, (data) => of(data, data)));
    const client = nest.client();
    if (isConnected) await client.connect();
    const ask = (): Promise<string[]> =>
      lastValueFrom(
        client.send<number>(pattern, 1).pipe(
          map(() => store()),
          toArray(),
        ),
      );

    expect(await everyTenant(ask)).toEqual(TENANTS.map((tenant) => [tenant, tenant]));
    // With an inbox that is open and a pattern that is known to be served, too.
    expect(await everyTenant(ask)).toEqual(TENANTS.map((tenant) => [tenant, tenant]));
  });

  it('when the handler fails, the request times out, or the client is closed', async () => {
    const pattern = uniqueName('failures');
    await nest.serve([
      onRequest(pattern, () => {
        throw new Error('refused');
      }),
      onRequest(`${pattern}.silent`, () => new Promise(() => undefined)),
    ], { shutdownTimeout: 10 }); // prettier-ignore
    const storeOfError = (client: ClientRedisStreams, to: string): Promise<string> =>
      firstValueFrom(client.send<string>(to, 1).pipe(catchError(() => of(store()))));

    const client = nest.client({ requestTimeout: 300 });
    expect(await everyTenant(() => storeOfError(client, pattern))).toEqual(TENANTS);
    expect(await everyTenant(() => storeOfError(client, `${pattern}.silent`))).toEqual(TENANTS);
    expect(await everyTenant(() => storeOfError(client, `${pattern}.unserved`))).toEqual(TENANTS);
    const closing = nest.client();
    await closing.connect();
    const waiting = everyTenant(() => storeOfError(closing, `${pattern}.silent`));
    await until('they wait', () => closing.openRequests === TENANTS.length);
    await closing.close();
    expect(await waiting).toEqual(TENANTS);
  });

  it.each(['synchronous', 'asynchronous'])('with a %s deserializer of the answer', async (kind) => {
    const pattern = uniqueName('decoded');
    await nest.serve(onRequest(pattern, (data) => data));
    const seen = (): unknown => ({ decodedFor: store() });
    const client = nest.client({
      deserializer: { deserialize: kind === 'synchronous' ? seen : async () => Promise.resolve().then(seen) },
    });

    const answers = await everyTenant(() =>
      firstValueFrom(client.send<object>(pattern, 1).pipe(map((answer) => ({ ...answer, seenBy: store() })))),
    );
    expect(answers).toEqual(TENANTS.map((tenant) => ({ decodedFor: tenant, seenBy: tenant })));
  });

  it('for emit() as for send()', async () => {
    const pattern = uniqueName('events');
    const client = nest.client();
    expect(await everyTenant(() => firstValueFrom(client.emit(pattern, 1).pipe(map(() => store()))))).toEqual(TENANTS);
  });
});

it('with nestjs-cls each HTTP request sees its own tenant in the operators of its answer', async () => {
  const pattern = uniqueName('cls');
  await nest.serve(onRequest(pattern, () => 'answer'));
  const client = nest.client();

  @Controller()
  class TenantController {
    readonly #cls: ClsService;
    constructor(cls: ClsService) {
      this.#cls = cls;
    }

    @Get()
    ask(@Headers('tenant') mine: string): Observable<unknown> {
      return client.send(pattern, {}).pipe(map(() => ({ mine, inOperator: this.#cls.get<string>('tenant') })));
    }
  }
  Reflect.defineMetadata('design:paramtypes', [ClsService], TenantController);

  @Module({
    imports: [
      ClsModule.forRoot({
        middleware: {
          mount: true,
          setup: (cls, request: { headers: Record<string, string> }) => cls.set('tenant', request.headers['tenant']),
        },
      }),
    ],
    controllers: [TenantController],
  })
  class TenantModule {}

  const app = await NestFactory.create(TenantModule, QUIET);
  nest.closeLater(app);
  await app.listen(0, '127.0.0.1');
  const ask = async (tenant: string): Promise<unknown> =>
    (await fetch(await app.getUrl(), { headers: { tenant } })).json();
  for (const tenant of TENANTS) expect(await ask(tenant)).toEqual({ mine: tenant, inOperator: tenant });
  expect(await Promise.all(TENANTS.map(ask))).toEqual(TENANTS.map((mine) => ({ mine, inOperator: mine })));
});

describe('what a handler enters by enterWith', () => {
  /** Without Nest's proxies, which await something before they call the handler. */
  async function serveBare(handlers: Array<[string, MessageHandler, isEvent: boolean, HandlerExtras]>): Promise<void> {
    const logger = new LogLines();
    const server = new ServerRedisStreams({ connection: nest.url, group: GROUP, blockTimeout: 1_000, logger });
    nest.closeLater(server);
    for (const [pattern, handler, isEvent, extras] of handlers) {
      server.addHandler(pattern, handler, isEvent, { ...extras });
    }
    await server.start();
  }

  const enter = (n: unknown): string => {
    const before = store();
    storage.enterWith(`message ${String(n)}`);
    return before;
  };

  it.each<[name: string, extras: HandlerExtras]>([
    ['plain', {}],
    ['limited to concurrency 1', { concurrency: 1 }],
    ['ordered', { ordered: true }],
    ['retried', { retry: { attempts: 2, delay: 10 } }],
    ['for batches', { batch: { size: 2 } }],
  ])('is not seen by other messages of a handler that is %s', async (_name, extras) => {
    const pattern = uniqueName('entered');
    const before: string[] = [];
    const after: string[] = [];
    const handle = async (n: unknown, context: RedisStreamsContext): Promise<void> => {
      before.push(enter(n));
      await Promise.resolve();
      if (extras.retry && context.getDeliveryCount() === 1) throw new Error('try again');
      after.push(store());
    };
    for (let n = 0; n < 40; n += 1) await nest.emit(pattern, n);
    await serveBare([[pattern, handle, true, extras]]);

    const count = extras.batch ? 20 : 40;
    await until('all are handled', () => after.length === count);
    await nest.emit(pattern, 40);
    await until('one more is handled', () => after.length === count + 1);
    expect(new Set(before)).toEqual(new Set(['none']));
    expect(new Set(after).size).toBe(count + 1);
  });

  it('is not seen by the next request', async () => {
    const pattern = uniqueName('entered');
    await serveBare([[pattern, async (n: unknown) => enter(n), false, {}]]);
    const client = nest.client();

    for (let n = 0; n < 5; n += 1) expect(await firstValueFrom(client.send<string>(pattern, n))).toBe('none');
  });
});

it('connections, reads and their reports do not run in the context of the request that opened them', async () => {
  const streamKey = uniqueName('opened');
  const seen: string[] = [];
  const clients: Redis[] = [];
  const note = (): void => void seen.push(store());
  const connection = (): Redis => {
    note();
    const client = new Redis(nest.url, { lazyConnect: true, protocol: 2 });
    client.on('ready', note);
    clients.push(client);
    return client;
  };
  const streamer = new RedisStreamer(connection, { blockTimeout: 100, logger: { error: note, warn: note, log: note } });
  nest.closeLater({ close: () => streamer.disconnect() });
  streamer.on('status', note);
  const consumer = await storage.run('first request', async () => {
    const producer = await streamer.createGenericProducer();
    await producer.sendTo(streamKey, '1');
    return streamer.createConsumer(streamKey, { mode: 'resumable', group: 'g', autoStreamReset: 'earliest' });
  });

  expect((await consumer.next()).text()).toBe('1');
  const epochs = clients.length;
  for (const client of clients) client.disconnect(false);
  await until('the connections are replaced', () => clients.length >= 2 * epochs && streamer.status === 'connected');
  expect(new Set(seen)).toEqual(new Set(['none']));
});

describe('what handlers enter by enterWith, and leave entered', () => {
  /** Handlers that enter a context in the same turn, as a middleware of nestjs-cls or a tracer does. */
  const entering = (n: unknown): void => storage.enterWith(`message ${String(n)}`);

  async function serve(
    handlers: Array<[string, MessageHandler, isEvent: boolean]>,
    options: Partial<ServerRedisStreamsOptions> = {},
  ): Promise<ServerRedisStreams> {
    const server = new ServerRedisStreams({ connection: nest.url, group: GROUP, blockTimeout: 1_000, ...options });
    nest.closeLater(server);
    for (const [pattern, handler, isEvent] of handlers) server.addHandler(pattern, handler, isEvent, {});
    await server.start();
    return server;
  }

  it('is not seen by reports about the acknowledgements of all messages', async () => {
    const pattern = uniqueName('acks');
    const seen: string[] = [];
    const note = (text: unknown): void => {
      if (/acknowledging/.test(String(text))) seen.push(store());
    };
    await nest.redis.acl('SETUSER', 'ackless', 'on', '>pw', '~*', '&*', '+@all', '-xack');
    const connection = nest.url.replace('redis://', 'redis://ackless:pw@');
    const logger = { error: note, warn: note, log: () => undefined };
    const server = await serve([[pattern, async (n: unknown) => entering(n), true]], { connection, logger });
    server.on('error', note);
    for (let n = 0; n < 3; n += 1) await nest.emit(pattern, n);
    await until('an acknowledgement has failed', () => seen.length > 0);
    await nest.redis.acl('SETUSER', 'ackless', '+@all');
    await nest.untilSettled(pattern);
    expect(new Set(seen)).toEqual(new Set(['none']));
  });

  it('is not seen where the Observable of another request ends', async () => {
    const pattern = uniqueName('answers');
    const ended: string[] = [];
    const handle = (n: unknown): Observable<unknown> => {
      entering(n);
      return NEVER.pipe(
        startWith(n),
        finalize(() => ended.push(`${String(n)} in ${store()}`)),
      );
    };
    await serve([[pattern, async (n: unknown) => handle(n), false]], { logger: new LogLines() });
    const client = nest.client();
    for (let n = 0; n < 3; n += 1) await firstValueFrom(client.send(pattern, n));
    await until('all have ended', () => ended.length === 3);
    expect(ended.sort()).toEqual([0, 1, 2].map((n) => `${n} in message ${n}`));
  });
});

it('a send that fails unheard is not reported in the context of another', async () => {
  const pattern = uniqueName('unheard');
  const seen: string[] = [];
  const client = nest.client({ logger: { error: () => void seen.push(store()), warn: () => null, log: () => null } });
  client.on('error', () => void seen.push(store()));
  await client.connect();
  await nest.redis.set(pattern, 'a string');
  for (const tenant of TENANTS) storage.run(tenant, () => void client.emit(pattern, tenant));
  await until('all have failed', () => seen.length >= 2 * TENANTS.length);
  expect(new Set(seen)).toEqual(new Set(['none']));
});

it('a serializer runs in the context that sends', async () => {
  const pattern = uniqueName('codecs');
  const seen: string[] = [];
  const serialize = async (tenant: string): Promise<string> => {
    seen.push(`${tenant}: ${store()}`);
    return tenant;
  };
  const client = nest.client({ serializer: { serialize } });
  await Promise.all(TENANTS.map((tenant) => storage.run(tenant, () => lastValueFrom(client.emit(pattern, tenant)))));
  expect(seen.sort()).toEqual(TENANTS.map((tenant) => `${tenant}: ${tenant}`));
});
