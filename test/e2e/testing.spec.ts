import { describe, expect, it, jest } from '@jest/globals';
import { Injectable } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { RpcException } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { Observable, concat, firstValueFrom, last, of, take, tap, throwError, toArray } from 'rxjs';

import {
  ClientRedisStreams,
  RedisStreamer,
  RedisStreamsContext,
  RedisStreamsModule,
  RedisStreamsRecordBuilder,
  ServerRedisStreams,
} from '../../lib/index.js';
import type { HandlerExtras } from '../../lib/index.js';
import { RedisStreamsHealthIndicator } from '../../lib/terminus.js';
import { TestClientRedisStreams, TestServerRedisStreams } from '../../lib/testing.js';
import type { TestServerOptions } from '../../lib/testing.js';
import { moduleOf, onBatch, onEvent, onRequest } from '../support/controllers.js';
import { LogLines } from '../support/nest.js';

const HOUR = 3_600_000;

type Handle = (data: unknown, context: RedisStreamsContext) => unknown;

async function serve(controllers: ReturnType<typeof onEvent>[], options: TestServerOptions = {}) {
  const log = new LogLines();
  const server = new TestServerRedisStreams({ logger: log, ...options });
  const app = await NestFactory.createMicroservice(moduleOf({ controllers }), { strategy: server, logger: false });
  await app.listen();
  return { app, server, log, client: new TestClientRedisStreams(server) };
}

/** A server that notes what it handles, and a client to send to it. */
async function record(extras: HandlerExtras = {}, options?: TestServerOptions, handle: Handle = () => undefined) {
  const seen: unknown[] = [];
  const noting: Handle = (data, context) => {
    seen.push(data);
    return handle(data, context);
  };
  return { seen, ...(await serve([onEvent('orders', noting, extras)], options)) };
}

const build = (data: unknown): RedisStreamsRecordBuilder => new RedisStreamsRecordBuilder(data);

function emit(client: ClientRedisStreams, data: unknown, pattern = 'orders') {
  return firstValueFrom(client.emit(pattern, data));
}

describe('the time of the test server', () => {
  it('an event is handled when the time is advanced, a delayed one when it is due, in the order of the times', async () => {
    const { client, server, seen } = await record();
    await emit(client, build('in an hour').setDelay(HOUR).build());
    await emit(
      client,
      build('at a time')
        .setDeliverAt(new Date(Date.now() + 60_000))
        .build(),
    );
    await emit(client, 'now');
    expect(seen).toEqual([]);
    expect(await server.advanceTime(0)).toMatchObject([
      {
        settlement: 'ack',
        pattern: 'orders',
        stream: 'orders',
        deliveryCount: 1,
        id: expect.stringMatching(/^\d+-\d+$/),
      },
    ]);
    await server.advanceTime(60_000);
    expect(seen).toEqual(['now', 'at a time']);
    await server.advanceTime(HOUR - 60_001);
    expect(seen).toHaveLength(2);
    expect(await server.advanceTime(1)).toHaveLength(1);
    expect(seen).toEqual(['now', 'at a time', 'in an hour']);
  });

  it('messages that a handler sends are handled in the same call if they are due by then', async () => {
    const later = (data: unknown) =>
      build(`${String(data)}+`)
        .setDelay(1_000)
        .build();
    const { client, server, seen } = await record({}, {}, (data) => void client.emit('orders', later(data)));
    await emit(client, '');
    await server.advanceTime(2_500);
    expect(seen).toEqual(['', '+', '++']);
    expect(server.now.getTime() - Date.now()).toBeGreaterThan(2_400);
  });

  it('an event whose serializer is asynchronous is handled, although the test does not wait for its receipt', async () => {
    const serializer = { serialize: async (data: unknown) => Promise.resolve(`"${String(data)}"`) };
    const { client, server, seen } = await record({}, { serializer: serializer as never });
    client.emit('orders', 'later');
    await server.advanceTime(0);
    expect(seen).toEqual(['later']);
  });

  it('lists and cancels delayed messages by the manager of the client', async () => {
    const { client, server, seen } = await record();
    const receipt = await emit(client, build({ id: 7 }).setDelay(HOUR).setHeader('a', 'b').build());
    const manager = await client.unwrap().createManager();
    const [waiting, ...others] = await manager.delayed('orders');
    expect(others).toEqual([]);
    expect(waiting).toMatchObject({ id: receipt.id, deliverAt: receipt.deliverAt, headers: { a: 'b' } });
    expect(waiting?.payload.toString()).toBe('{"id":7}');
    expect(await manager.delayed('orders', { after: receipt.id })).toEqual([]);
    expect(await manager.cancelDelayed('other', receipt.id)).toBe(false);
    expect(await manager.cancelDelayed('orders', receipt.id)).toBe(true);
    expect(await manager.cancelDelayed('orders', receipt.id)).toBe(false);
    await server.advanceTime(HOUR);
    expect(seen).toEqual([]);
    await expect(manager.groups('orders')).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_OPERATION' });
  });

  it('an event with a deduplication id is handled once, until the time has passed', async () => {
    const { client, server, seen } = await record();
    const send = (data: unknown) => emit(client, build(data).setDeduplicationId('a', { within: 1_000 }).build());
    const first = await send(1);
    expect(await send(2)).toEqual(first);
    await server.advanceTime(999);
    await send(3);
    await server.advanceTime(1);
    await send(4);
    await server.advanceTime(0);
    expect(seen).toEqual([1, 4]);
    expect(client.sent).toHaveLength(4);
  });

  it('a deduplication id is free again when its delayed message is cancelled', async () => {
    const { client, server, seen } = await record();
    const send = (data: unknown) =>
      emit(client, build(data).setDelay(100).setDeduplicationId('a', { within: HOUR }).build());
    const receipt = await send(1);
    expect(await send(2)).toBe(receipt);
    await (await client.unwrap().createManager()).cancelDelayed('orders', receipt.id);
    await send(3);
    await server.advanceTime(100);
    expect(seen).toEqual([3]);
  });

  it.each(['instance', 'group'] as const)('a handler is given at most its rate (%s)', async (scope) => {
    const { client, server, seen } = await record({ rateLimit: { max: 2, per: 1_000, scope } });
    for (let number = 1; number <= 5; number += 1) await emit(client, number);
    const counts: number[] = [];
    for (const ms of [0, 999, 1, 999, 1]) {
      await server.advanceTime(ms);
      counts.push(seen.length);
    }
    expect(counts).toEqual([2, 2, 4, 4, 5]);
  });

  it('a batch has at most the rate of its handler, and what is due', async () => {
    const sizes: number[] = [];
    const extras = { batch: { size: 3 }, rateLimit: { max: 4, per: 1_000 } };
    const { client, server } = await serve([onBatch('orders', (numbers) => sizes.push(numbers.length), extras)]);
    await firstValueFrom(client.emitBatch('orders', [1, 2, 3, 4, 5, 6]));
    await server.advanceTime(0);
    await server.advanceTime(1_000);
    expect(sizes).toEqual([3, 1, 2]);
  });

  it('an event is not handled after it has expired', async () => {
    const { client, server, seen } = await record();
    const expired: number[] = [];
    server.on('expired', ({ total }) => expired.push(total));
    const offer = (data: unknown) => build(data).setExpiresAt(new Date(Date.now() + HOUR));
    await emit(client, offer(1).build());
    await emit(
      client,
      offer(2)
        .setDelay(2 * HOUR)
        .build(),
    );
    await server.advanceTime(HOUR / 2);
    await server.advanceTime(2 * HOUR);
    expect(await server.deliver('orders', offer(3).build())).toEqual({ settlement: 'ack' });
    expect([seen, expired]).toEqual([[1], [1, 2]]);
  });

  it('a failed event is retried after its delays, and is a dead letter in the end, which may have a handler', async () => {
    const letters: unknown[] = [];
    const reported: unknown[] = [];
    const fail = (): never => {
      throw new Error('closed');
    };
    const retry = { attempts: 3, delay: 1_000, jitter: 0 };
    const controllers = [
      onEvent('orders', fail, { retry }),
      onEvent('orders.dead', (data, context) => {
        const header = (name: string) => String(context.getHeader(`dead-letter-${name}`));
        letters.push([data, header('reason'), header('first-failure') <= header('last-failure')]);
      }),
    ];
    const onDeadLetter = ({ deadLetterStream }: { deadLetterStream: string }) => void reported.push(deadLetterStream);
    const { client, server } = await serve(controllers, { onDeadLetter });
    await emit(client, 1);
    const settlements = async (ms: number) =>
      (await server.advanceTime(ms)).map(({ pattern, settlement, deliveryCount }) => [
        pattern,
        settlement,
        deliveryCount,
      ]);
    expect(await settlements(0)).toEqual([['orders', 'retry', 1]]);
    expect(await settlements(999)).toEqual([]);
    expect(await settlements(1)).toEqual([['orders', 'retry', 2]]);
    expect(await settlements(2_000)).toEqual([
      ['orders', 'dead-letter', 3],
      ['orders.dead', 'ack', 1],
    ]);
    expect(letters).toEqual([[1, 'failed 3 times', true]]);
    expect(reported).toEqual(['orders.dead']);
    expect(await settlements(HOUR)).toEqual([]);
  });

  it('a handler that is retried without an end and a delay is refused after many deliveries', async () => {
    const handle: Handle = (_, context) => context.retry({ delay: 0 });
    const { client, server } = await record({ retry: { attempts: 1_000_000 } }, {}, handle);
    await emit(client, 1);
    await expect(server.advanceTime(0)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_OPERATION' });
  });

  it.each([-1, 0.5, NaN, undefined])('cannot be advanced by %s milliseconds', async (ms) => {
    const { server } = await record();
    await expect(server.advanceTime(ms as number)).rejects.toThrow('ms must be a whole number');
  });

  it('moves the fake timers of the test with it, so that Date and delays agree', async () => {
    jest.useFakeTimers();
    try {
      const advanceTimers = (ms: number) => jest.advanceTimersByTimeAsync(ms);
      const started = Date.now();
      const { client, server, seen } = await record({}, { advanceTimers });
      setTimeout(() => client.emit('orders', build('from a timer').setDelay(500).build()), 1_000);
      await emit(client, build('an hour').setDelay(HOUR).build());
      await server.advanceTime(1_000);
      await server.advanceTime(500);
      expect(seen).toEqual(['from a timer']);
      expect(Date.now() - started).toBe(1_500);
      expect(server.now.getTime()).toBe(Date.now());
      await emit(
        client,
        build('a minute')
          .setDeliverAt(new Date(Date.now() + 60_000))
          .build(),
      );
      await server.advanceTime(59_999);
      expect(seen).toHaveLength(1);
      await server.advanceTime(1);
      await server.advanceTime(HOUR);
      expect(seen).toEqual(['from a timer', 'a minute', 'an hour']);
    } finally {
      jest.useRealTimers();
    }
    expect(() => new TestServerRedisStreams({ advanceTimers: 5 as never })).toThrow('advanceTimers must be a function');
  });
});

describe('control of the test server', () => {
  it('nothing is handled while the server or the pattern is paused, except by deliver()', async () => {
    const { client, server, seen } = await record();
    await emit(client, 1);
    await server.pause();
    expect(await server.advanceTime(HOUR)).toEqual([]);
    await server.deliver('orders', 'by hand');
    await server.resume();
    expect(seen).toEqual(['by hand']);
    await server.advanceTime(0);
    await server.pause('orders');
    await emit(client, 2);
    await server.advanceTime(0);
    expect(seen).toEqual(['by hand', 1]);
    await server.resume('orders');
    await server.advanceTime(0);
    expect(seen).toEqual(['by hand', 1, 2]);
    await expect(server.pause('other')).rejects.toThrow('pattern must have a handler');
  });

  it('a stream that was added is read from its beginning by the handlers of the pattern, until it is removed', async () => {
    const seen: unknown[] = [];
    const handle: Handle = (data, context) => seen.push([data, context.getPattern(), context.getStream()]);
    const { client, server } = await serve([onEvent('orders', handle)], { streams: { orders: 'prod.orders' } });
    await emit(client, 1, 'tenant.orders');
    expect(await server.advanceTime(0)).toEqual([]);
    await expect(server.deliver('tenant.orders', 2)).rejects.toMatchObject({ code: 'ERR_NO_HANDLER' });
    await server.addStream('orders', 'tenant.orders');
    await server.advanceTime(0);
    await server.deliver('tenant.orders', 2);
    const { streamKey } = await emit(client, 3);
    await server.removeStream('orders', 'tenant.orders');
    await emit(client, 4, 'tenant.orders');
    await server.advanceTime(0);
    expect(streamKey).toBe('prod.orders');
    expect(seen).toEqual([
      [1, 'orders', 'tenant.orders'],
      [2, 'orders', 'tenant.orders'],
      [3, 'orders', 'prod.orders'],
    ]);
  });

  it.each([
    ['a pattern without a handler', 'other', 'x', 'pattern must have a handler'],
    ['a stream that is read already', 'orders', 'orders', 'must not be read already'],
    ['its own dead letters', 'orders', 'orders.dead', 'failures would feed on themselves'],
  ])('refuses as the real server does to add %s', async (_, pattern, stream, rule) => {
    const { server } = await record();
    await expect(server.addStream(pattern, stream)).rejects.toThrow(rule);
    await expect(server.removeStream(pattern, stream)).rejects.toThrow('must be a stream that was added');
  });

  it('refuses settings of handlers when it starts, as the real server does', async () => {
    const rateLimit = { max: 0, per: 1_000 };
    await expect(serve([onEvent('orders', () => undefined, { rateLimit })])).rejects.toThrow('rateLimit.max');
  });
});

describe('the test client', () => {
  it('refuses options in place of a server', () => {
    expect(() => new TestClientRedisStreams({ connection: 'redis://h' } as never)).toThrow(
      'server must be a TestServerRedisStreams',
    );
  });

  it.each([
    ['a pattern with a wildcard', 'orders.*', 1, "must have no '*'"],
    ['null', 'orders', null, ''],
    ['data that is not JSON', 'orders', 1n, 'must be serializable as JSON'],
    ['a promise', 'orders', Promise.resolve(1), 'must be serializable as JSON'],
    ['a map', 'orders', new Map([[1, 2]]), 'must be serializable as JSON'],
    ['a set in a record', 'orders', build(new Set([1])).build(), 'must be serializable as JSON'],
    ['a builder', 'orders', build(1), 'call build()'],
    ['an event with a timeout', 'orders', build(1).setTimeout(5).build(), 'is for requests only'],
    [
      'a delay with a timestamp',
      'orders',
      build(1).setDelay(5).setTimestamp(new Date()).build(),
      'cannot be combined with timestamp',
    ],
  ])('refuses as the real client does to emit %s', async (_, pattern, data, rule) => {
    const client = new TestClientRedisStreams();
    await expect(firstValueFrom(client.emit(pattern, data))).rejects.toThrow(rule);
    expect(client.sent).toEqual([]);
  });

  it('sends a request when it is subscribed to, with its headers, and refuses a delay for it', async () => {
    const headers: unknown[] = [];
    const handle: Handle = (data, context) => {
      headers.push(context.getHeader('tenant'));
      return [data];
    };
    const { client } = await serve([onRequest('price', handle)]);
    const answer = client.send('price', build('tea').setHeader('tenant', 'a').setTimeout(500).build());
    expect(client.sent).toEqual([]);
    expect(await firstValueFrom(answer.pipe(toArray()))).toEqual([['tea']]);
    expect(headers).toEqual(['a']);
    expect(client.sent).toMatchObject([{ kind: 'request', data: 'tea', timeout: 500 }]);
    const delayed = client.send('price', build('tea').setDelay(5).build());
    await expect(firstValueFrom(delayed)).rejects.toThrow('delay is for events only');
    await expect(firstValueFrom(client.send('unknown', 1))).rejects.toMatchObject({ code: 'ERR_NO_HANDLER' });
  });

  it('sends nothing after it was closed, until it is connected again', async () => {
    const { client } = await serve([onRequest('price', () => 1)]);
    await client.close();
    const closed = { code: 'ERR_CLOSED', message: 'The client is closed; connect() opens it again' };
    await expect(emit(client, 1)).rejects.toMatchObject(closed);
    await expect(firstValueFrom(client.send('price', 1))).rejects.toMatchObject(closed);
    expect(client.sent).toEqual([]);
    await client.connect();
    await emit(client, 1);
    expect(await firstValueFrom(client.send('price', 1))).toBe(1);
    expect(client.sent).toHaveLength(2);
  });

  it('says that it has no server, and the server that the application is not initialised', async () => {
    const { client } = await record();
    const noHandler = (message: string): object => ({
      code: 'ERR_NO_HANDLER',
      message: expect.stringContaining(message),
    });
    const alone = firstValueFrom(new TestClientRedisStreams().send('price', 1));
    await expect(alone).rejects.toMatchObject(noHandler("no server that could answer 'price'"));
    await expect(firstValueFrom(client.send('price', 1))).rejects.toMatchObject(noHandler("no handler for 'price'"));
    const server = new TestServerRedisStreams();
    await expect(server.deliver('orders', 1)).rejects.toMatchObject(noHandler('must be initialised'));
  });

  it('refuses a request whose data cannot be encoded, with a server and without', async () => {
    const { client } = await serve([onRequest('price', () => 1)]);
    for (const each of [client, new TestClientRedisStreams()]) {
      await expect(firstValueFrom(each.send('price', new Map()))).rejects.toThrow('must be serializable as JSON');
      expect(each.sent).toEqual([]);
    }
  });

  it('a reply is encoded and decoded before the client receives it', async () => {
    const answers: unknown[] = [
      new Date(0),
      { none: undefined, tea: 1 },
      '',
      null,
      [1n],
      new Map(),
      of(Promise.resolve(1)),
    ];
    const { client, server } = await serve(answers.map((answer, n) => onRequest(`answer-${n}`, () => answer)));
    const received = answers.map((_, n) =>
      firstValueFrom(client.send(`answer-${n}`, 0)).catch((error: unknown) => error),
    );
    const failed = (rule: string): unknown => ({ status: 'error', message: expect.stringContaining(rule) });
    expect(await Promise.all(received)).toStrictEqual([
      '1970-01-01T00:00:00.000Z',
      { tea: 1 },
      '',
      null,
      failed('BigInt'),
      failed('this Map'),
      failed('await it'),
    ]);
    expect(await server.request('answer-1', 0)).toStrictEqual([{ tea: 1 }]);
  });

  it('gives the values of an answer as they come, until it is unsubscribed from, and those before an error', async () => {
    let isUnsubscribed = false;
    const endless = new Observable<number>((subscriber) => {
      let n = 0;
      const timer = setInterval(() => subscriber.next(n++), 1);
      return () => {
        clearInterval(timer);
        isUnsubscribed = true;
      };
    });
    const failing = concat(
      of(1),
      throwError(() => new RpcException('later')),
    );
    const { client } = await serve([onRequest('endless', () => endless), onRequest('failing', () => failing)]);
    expect(await firstValueFrom(client.send('endless', 1).pipe(take(3), toArray()))).toEqual([0, 1, 2]);
    expect(isUnsubscribed).toBe(true);
    const seen: unknown[] = [];
    await firstValueFrom(
      client.send('failing', 1).pipe(
        tap((value) => seen.push(value)),
        last(),
      ),
    ).catch((error) => seen.push(error));
    expect(seen).toEqual([1, expect.objectContaining({ message: 'later' })]);
  });

  it('answers a request for a pattern with event handlers only as the real server does', async () => {
    const { client } = await serve([onEvent('event', () => 1)]);
    await expect(firstValueFrom(client.send('event', 1))).rejects.toEqual({
      status: 'error',
      message: 'There is no matching message handler defined in the remote service.',
    });
  });

  it.each<[string, object]>([
    ['deliveryCount', { deliveryCount: 0 }],
    ['deliveryCount', { deliveryCount: '3' }],
    ['id', { id: 'junk' }],
    ['headers', { headers: 'x' }],
    ['signal', { signal: {} }],
  ])('refuses a wrong %s of a delivery: %j', async (option, message) => {
    const { server } = await serve([onEvent('event', () => 1)]);
    await expect(server.deliver('event', 1, message)).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', option });
  });

  it('is healthy, so that a health endpoint of the application is up', async () => {
    const { client, server } = await serve([onEvent('event', () => 1)]);
    const streamer = client.unwrap<RedisStreamer>();
    const indicator = new RedisStreamsHealthIndicator({ server: server as never, client, streamer });
    for (const probe of ['readiness', 'liveness'] as const) {
      expect(await indicator.isHealthy('redis', { of: probe })).toMatchObject({ redis: { status: 'up' } });
    }
    await client.close();
    expect(await indicator.isHealthy('redis')).toMatchObject({ redis: { status: 'down' } });
  });

  it('cannot deliver a delayed record by hand', async () => {
    const { server } = await record();
    await expect(server.deliver('orders', build(1).setDelay(5).build())).rejects.toThrow('delay is for what a client');
  });
});

describe('wildcards of the test server', () => {
  it('a message is given to the pattern of its stream, else to the most specific wildcard, with both in its context', async () => {
    const seen: string[] = [];
    const note: Handle = (data, context) =>
      void seen.push(`${context.getPattern()} ${context.getStream()} ${String(data)}`);
    const patterns = ['orders.>', 'orders.*', 'orders.created'];
    const { client, server } = await serve(
      patterns.map((pattern) => onEvent(pattern, note)),
      { wildcards: true },
    );
    for (const stream of ['created', 'paid', 'eu.paid', 'paid.dead']) await emit(client, 1, `orders.${stream}`);
    await server.advanceTime(0);
    await server.deliver('orders.refused', 2);
    expect(seen).toEqual([
      'orders.created orders.created 1',
      'orders.* orders.paid 1',
      'orders.> orders.eu.paid 1',
      'orders.* orders.refused 2',
    ]);
    await expect(server.deliver('orders.*', 3)).rejects.toThrow(/a message goes to one stream/);
    await expect(server.deliver('orders.paid.dead', 3)).rejects.toMatchObject({ code: 'ERR_NO_HANDLER' });
  });

  it('are refused where the option is not set, with the word that turns them on', async () => {
    await expect(serve([onEvent('orders.*', () => undefined)])).rejects.toThrow(/wildcards: true/);
  });
});

it('test client and server replace the client, the server and the engine of the module, in a hybrid application too', async () => {
  const seen: unknown[] = [];

  @Injectable()
  class Orders {
    constructor(
      readonly client: ClientRedisStreams,
      readonly server: ServerRedisStreams,
      readonly streamer: RedisStreamer,
    ) {}
  }
  const server = new TestServerRedisStreams();
  const client = new TestClientRedisStreams(server);
  const module = await Test.createTestingModule({
    imports: [RedisStreamsModule.forRoot({ group: 'orders-service' })],
    controllers: [onEvent('orders', (data) => seen.push(data))],
    providers: [Orders],
  })
    .overrideProvider(ClientRedisStreams)
    .useValue(client)
    .overrideProvider(ServerRedisStreams)
    .useValue(server)
    .overrideProvider(RedisStreamer)
    .useValue(client.unwrap())
    .compile();
  const app = module.createNestApplication({ logger: false });
  app.connectMicroservice({ strategy: app.get(ServerRedisStreams) });
  await app.startAllMicroservices();
  const orders = app.get(Orders);
  await orders.server.pause('orders');
  await emit(orders.client, build(1).setDelay(HOUR).build());
  expect(await (await orders.streamer.createManager()).delayed('orders')).toHaveLength(1);
  await server.advanceTime(HOUR);
  expect(seen).toEqual([]);
  await orders.server.resume();
  await server.advanceTime(0);
  expect(seen).toEqual([1]);
  await app.close();
});
