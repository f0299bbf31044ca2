import { describe, expect, it } from '@jest/globals';
import { Controller, Injectable, UsePipes } from '@nestjs/common';
import type { PipeTransform } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, Ctx, Payload, Transport } from '@nestjs/microservices';
import { firstValueFrom, lastValueFrom } from 'rxjs';
import { z } from 'zod';

import {
  ClientRedisStreams,
  RedisStreamsContext,
  RedisStreamsRecordBuilder,
  ServerRedisStreams,
  StreamEventPattern,
  StreamMessagePattern,
  streamCatalog,
} from '../../lib/index.js';
import type { RedisStreamsError } from '../../lib/index.js';
import { TestClientRedisStreams, TestServerRedisStreams } from '../../lib/testing.js';
import { moduleOf } from '../support/controllers.js';
import { freePort } from '../support/free-port.js';
import { GROUP, LogLines, QUIET, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

describe('@StreamEventPattern and @StreamMessagePattern', () => {
  it('bind methods with a typed context to streams, also those of a factory, with settings of their own', async () => {
    const pattern = uniqueName('decorated');
    const seen: unknown[] = [];

    @Controller()
    class Orders {
      @StreamEventPattern(pattern)
      single(@Payload() order: { item: string }, @Ctx() context: RedisStreamsContext): void {
        seen.push([order.item, context.getPattern(), context.getHeader('tenant')]);
      }

      @StreamEventPattern(async () => Promise.resolve(`${pattern}.batch`), { batch: { size: 2, timeout: 5_000 } })
      batch(@Payload() orders: unknown[], @Ctx() contexts: RedisStreamsContext[]): void {
        seen.push([orders, contexts.length]);
      }

      @StreamMessagePattern(`${pattern}.sum`)
      sum(terms: number[], context: RedisStreamsContext): number {
        return terms.reduce((a, b) => a + b) * context.getDeliveryCount();
      }
    }
    await nest.serve(Orders);
    await nest.emit(pattern, new RedisStreamsRecordBuilder({ item: 'tea' }).setHeader('tenant', 'a').build());
    await until('it is handled', () => seen.length === 1);
    await Promise.all([nest.emit(`${pattern}.batch`, 1), nest.emit(`${pattern}.batch`, 2)]);
    await until('the batch is handled', () => seen.length === 2);
    expect(seen).toEqual([
      ['tea', pattern, 'a'],
      [[1, 2], 2],
    ]);
    expect(await lastValueFrom(nest.client().send(`${pattern}.sum`, [1, 2, 3]))).toBe(6);
  });

  it('leave the handlers of a hybrid application alone that belong to its other transports', async () => {
    const pattern = uniqueName('hybrid');
    const port = await freePort();

    @Controller()
    class Hybrid {
      @StreamMessagePattern(pattern)
      byStream(): string {
        return 'stream';
      }
    }
    const app = await NestFactory.create(moduleOf({ controllers: [Hybrid] }), QUIET);
    nest.closeLater(app);
    const options = { connection: nest.url, group: GROUP, logger: new LogLines(), blockTimeout: 1_000 };
    app.connectMicroservice({ strategy: new ServerRedisStreams(options) });
    app.connectMicroservice({ transport: Transport.TCP, options: { port } });
    await app.startAllMicroservices();

    expect(await lastValueFrom(nest.client().send(pattern, {}))).toBe('stream');
    const tcp = ClientProxyFactory.create({ transport: Transport.TCP, options: { port } });
    nest.closeLater({ close: async () => tcp.close() });
    await expect(lastValueFrom(tcp.send(pattern, {}))).rejects.toMatch(/no matching message handler/);
  });

  it('give the data and the context to parameters without decorators, and change none that has one', async () => {
    const pattern = uniqueName('parameters');
    const seen: unknown[] = [];

    @Controller()
    class Orders {
      @StreamEventPattern(pattern)
      both(data: number, context: RedisStreamsContext): void {
        seen.push([data, context.getPattern()]);
      }

      @StreamEventPattern(`${pattern}.other`)
      otherOrder(@Ctx() context: RedisStreamsContext, ...rest: unknown[]): void {
        seen.push([context.getPattern(), rest]);
      }
    }
    await nest.serve(Orders);
    await nest.emit(pattern, 1);
    await until('it is handled', () => seen.length === 1);
    await nest.emit(`${pattern}.other`, 2);
    await until('it is handled', () => seen.length === 2);
    expect(seen).toEqual([
      [1, pattern],
      [`${pattern}.other`, []],
    ]);
  });

  it('with a misspelt setting the server refuses to start, with the right name', async () => {
    @Controller()
    class Misspelt {
      // @ts-expect-error as in a program that is not type-checked
      @StreamEventPattern('orders', { concurency: 4 })
      handle(): void {}
    }
    await expect(nest.serve(Misspelt)).rejects.toThrow(/@EventPattern\('orders'\)\.concurency .*'concurrency'/);
  });
});

interface Order {
  readonly item: string;
  readonly count: number;
}

const ORDER = z.object({ item: z.string().min(1), count: z.number().int() });
const asynchronous = ORDER.refine(async ({ count }) => Promise.resolve(count > 0), 'must be positive');

interface Handled {
  readonly name: string;
  readonly seen: unknown[];
  readonly log: LogLines;
  readonly catalog: ReturnType<typeof streamCatalog<Record<string, Order>>>;
}

/** A server with a catalog of one event, whose handler notes what it is given. */
async function serveOrders(schema?: z.ZodType<Order>, batch?: { size: number; timeout: number }): Promise<Handled> {
  const name = uniqueName('catalog');
  const seen: unknown[] = [];
  const catalog = streamCatalog<Record<string, Order>>(schema ? { schemas: { [name]: schema } } : {});

  @Controller()
  class Single {
    @catalog.on(name)
    handle(order: Order, context: RedisStreamsContext): void {
      seen.push([order, context.getDeliveryCount()]);
    }
  }
  @Controller()
  class Batched {
    @catalog.on(name, { batch: batch ?? { size: 1 } })
    handle(orders: Order[], contexts: RedisStreamsContext[]): void {
      seen.push([orders, contexts.length]);
    }
  }
  const { log } = await nest.serve(batch ? Batched : Single);
  return { name, seen, log, catalog };
}

const TEA = { item: 'tea', count: 1 };

describe('streamCatalog()', () => {
  it('binds handlers, and sends events, batches and records through a client', async () => {
    const { name, seen, catalog } = await serveOrders();
    const typed = catalog.client(nest.client());
    expect(await firstValueFrom(typed.emit(name, TEA))).toMatchObject({ streamKey: name });
    await firstValueFrom(typed.emitBatch(name, [TEA, new RedisStreamsRecordBuilder<Order>(TEA).setKey('k').build()]));
    await until('all are handled', () => seen.length === 3);
    expect(seen).toEqual([1, 2, 3].map(() => [TEA, 1]));
    const [, , third] = await nest.entries(name);
    expect(third?.fields).toMatchObject({ 'h:key': 'k' });
  });

  it.each<[name: string, schema: z.ZodType<Order>, invalid: Order, issue: string]>([
    ['synchronous', ORDER, { item: '', count: 1.5 }, 'item: '],
    ['asynchronous', asynchronous, { item: 'tea', count: 0 }, 'must be positive'],
  ])(
    'with a schema sends nothing that is invalid, and gives the reason (%s)',
    async (_kind, schema, invalid, issue) => {
      const { name, seen, catalog } = await serveOrders(schema);
      const log = new LogLines();
      const client = nest.client({ logger: log });
      const typed = catalog.client(client);
      const failure: unknown = await firstValueFrom(typed.emit(name, invalid)).catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: 'ERR_PAYLOAD_INVALID', name: 'PayloadInvalidError', pattern: name });
      expect(String(failure)).toContain(issue);

      const batch: unknown = await firstValueFrom(typed.emitBatch(name, [TEA, invalid])).catch(
        (error: unknown) => error,
      );
      expect((batch as { errors: RedisStreamsError[] }).errors.map(({ code }) => code)).toEqual([
        'ERR_PAYLOAD_INVALID',
      ]);
      // Without a subscriber: reported, not lost in silence.
      typed.emit(name, invalid);
      await until('it is logged', () => log.errors.length === 1);
      await until('the valid one is handled', () => seen.length === 1);
      expect(await nest.redis.xlen(name)).toBe(1);
    },
  );

  it('does not connect for an event that its schema refuses', async () => {
    const catalog = streamCatalog({ schemas: { orders: ORDER } });
    const client = nest.client({ connection: `redis://127.0.0.1:${await freePort()}`, connectTimeout: 60_000 });
    const failing = firstValueFrom(catalog.client(client).emit('orders', { item: '', count: 1 }));
    await expect(failing).rejects.toMatchObject({ code: 'ERR_PAYLOAD_INVALID' });
  });

  it.each([
    ['alone', undefined],
    ['in a batch with valid ones', { size: 3, timeout: 200 }],
  ])('makes a received event that is invalid a dead letter at once, with the issues (%s)', async (_kind, batch) => {
    const { name, seen, log } = await serveOrders(ORDER, batch);
    const add = (payload: unknown): Promise<unknown> => addRaw(nest.redis, name, 'msg', JSON.stringify(payload));
    await add(TEA);
    await add({ item: 'tea', count: 'many' });
    await add(TEA);

    await until('it is a dead letter', async () => (await nest.redis.xlen(`${name}.dead`)) === 1);
    await until('the others are handled', () => (batch ? seen.length === 1 : seen.length === 2));
    expect(seen).toEqual(batch ? [[[TEA, TEA], 2]] : [[TEA, 1], [TEA, 1]]); // prettier-ignore
    const [dead] = await nest.entries(`${name}.dead`);
    expect(Object.values(dead?.fields ?? {}).join('\n')).toMatch(/count: .*expected number/);
    expect(log.errors.join('\n')).toMatch(/count: .*expected number/);
    expect(log.errors.join('\n')).not.toContain('    at ');
    await nest.untilSettled(name);
  });

  it('gives handlers what the schema returns, once, before their pipes', async () => {
    const name = uniqueName('catalog');
    const doubled = z.object({ count: z.number().transform((count) => count * 2) });
    const catalog = streamCatalog<Record<string, { count: number }>>({ schemas: { [name]: doubled } });
    const seen: unknown[] = [];

    @Injectable()
    class Pipe implements PipeTransform {
      transform(value: unknown): unknown {
        if (!(value instanceof RedisStreamsContext)) seen.push(value);
        return value;
      }
    }
    @Controller()
    class Counts {
      @catalog.on(name)
      @UsePipes(Pipe)
      handle(@Payload() count: { count: number }, context: RedisStreamsContext): void {
        if (context.getPattern() === name) seen.push(count);
      }
    }
    await nest.serve(Counts);
    await firstValueFrom(catalog.client(nest.client()).emit(name, { count: 3 }));
    await until('it is handled', () => seen.length === 2);
    expect(seen).toEqual([{ count: 6 }, { count: 6 }]);
  });

  it('with a schema that fails has the event retried, and sends none', async () => {
    const name = uniqueName('catalog');
    let isBroken = true;
    let checks = 0;
    const broken = z.custom<Order>(() => {
      checks += 1;
      if (isBroken) throw new Error('the schema is broken');
      return true;
    });
    const catalog = streamCatalog<Record<string, Order>>({ schemas: { [name]: broken } });
    const seen: unknown[] = [];

    @Controller()
    class Orders {
      @catalog.on(name, { retry: { delay: 50 } })
      handle(order: Order, context: RedisStreamsContext): void {
        seen.push([order, context.getDeliveryCount()]);
      }
    }
    await nest.serve(Orders);
    await expect(firstValueFrom(catalog.client(nest.client()).emit(name, TEA))).rejects.toMatchObject({
      code: 'ERR_CALLBACK',
    });
    const { log } = await nest.serve(Orders);
    await addRaw(nest.redis, name, 'msg', JSON.stringify(TEA));
    await until('it was tried', () => checks >= 2);
    isBroken = false;
    await until('it is handled', () => seen.length === 1);
    expect(seen).toEqual([[TEA, expect.any(Number)]]);
    expect(log.warnings.join('\n')).not.toContain('.dead');
  });

  it('refuses two schemas for the handlers of one stream, and a value that is not a schema', async () => {
    const one = streamCatalog({ schemas: { orders: ORDER } });
    const other = streamCatalog({ schemas: { orders: asynchronous } });

    @Controller()
    class Orders {
      @one.on('orders')
      first(): void {}

      @other.on('orders')
      second(): void {}
    }
    await expect(nest.serve(Orders)).rejects.toThrow(/@EventPattern\('orders'\) must have one schema/);
    expect(() => streamCatalog({ schemas: { orders: {} as never } })).toThrow(
      /schemas\['orders'\] must follow Standard/,
    );
    expect(() => streamCatalog({ schema: {} } as never)).toThrow(/streamCatalog\(\)\.schema .*'schemas'/);
  });

  it('works with the server and the client for tests', async () => {
    const catalog = streamCatalog({ schemas: { orders: ORDER, later: asynchronous } });
    const seen: unknown[] = [];

    @Controller()
    class Orders {
      @catalog.on('orders')
      handle(order: Order): void {
        seen.push(order);
      }
    }
    const server = new TestServerRedisStreams();
    const app = await NestFactory.createMicroservice(moduleOf({ controllers: [Orders] }), {
      strategy: server,
      ...QUIET,
    });
    nest.closeLater(app);
    await app.listen();
    expect(await server.deliver('orders', TEA)).toMatchObject({ settlement: 'ack' });
    const { settlement, reason } = await server.deliver('orders', { item: 1 });
    expect([settlement, reason]).toEqual(['dead-letter', expect.stringMatching(/item: /)]);
    expect(seen).toEqual([TEA]);

    const client = new TestClientRedisStreams();
    const typed = catalog.client(client);
    await firstValueFrom(typed.emit('orders', TEA));
    await firstValueFrom(typed.emitBatch('later', [TEA, TEA]));
    for (const event of ['orders', 'later'] as const) {
      await expect(firstValueFrom(typed.emit(event, { item: '', count: 0 }))).rejects.toMatchObject({
        code: 'ERR_PAYLOAD_INVALID',
      });
    }
    expect(client.sent.map(({ pattern, data }) => [pattern, data])).toEqual([
      ['orders', TEA],
      ['later', TEA],
      ['later', TEA],
    ]);
    expect(client).toBeInstanceOf(ClientRedisStreams);
  });
});
