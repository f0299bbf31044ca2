import { describe, expect, it } from '@jest/globals';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';

import { lastValueFrom } from 'rxjs';

import { ServerRedisStreams } from '../../lib/index.js';
import type { PatternFactory } from '../../lib/index.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { GROUP, LogLines, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

it('a pattern may be a function, also an asynchronous one, that reads configuration', async () => {
  const config = { orders: uniqueName('orders'), payments: uniqueName('payments') };
  const seen: unknown[] = [];

  @Controller()
  class ShopController {
    @EventPattern<PatternFactory>(() => config.orders)
    order(@Payload() order: unknown): void {
      seen.push(['order', order]);
    }

    @EventPattern<PatternFactory>(async () => Promise.resolve(config.payments))
    pay(@Payload() payment: unknown): void {
      seen.push(['payment', payment]);
    }
  }

  await nest.serve(ShopController);
  await nest.emit(config.orders, 1);
  await until('the order is handled', () => seen.length === 1);
  await nest.emit(config.payments, 2);
  await until('the payment is handled', () => seen.length === 2);
  expect(seen).toEqual([
    ['order', 1],
    ['payment', 2],
  ]);
  await nest.untilSettled(config.payments);
});

it('a pattern function that returns no pattern fails the start with an error that names it', async () => {
  @Controller()
  class ShopController {
    @EventPattern<PatternFactory>(() => undefined)
    order(): void {}
  }

  await expect(nest.serve(ShopController)).rejects.toMatchObject({
    code: 'ERR_INVALID_OPTION',
    message: expect.stringContaining('pattern must be a string, a number or an object'),
  });
});

describe.each<[name: string, pattern: unknown, rule: RegExp]>([
  ['undefined', undefined, /must be a string, a number or an object; got undefined/],
  ['null', null, /must be a string, a number or an object; got null/],
  ['an empty string', '', /must not be empty/],
  ['true', true, /must be a string, a number or an object; got true/],
  ['a bigint', 1n, /must be a string, a number or an object; got 1n/],
  ['NaN', NaN, /must be a string, a number or an object; got NaN/],
  ['a symbol', Symbol('orders'), /must be a string, a number or an object; got Symbol\(orders\)/],
  ['a RegExp', /orders\..*/, /no RegExp such as \/orders/],
  ['a Date', new Date(0), /must have a property/],
  ['an object without properties', {}, /must have a property/],
  ['an object with a constant that is undefined', { cmd: undefined }, /must have no undefined/],
  ['an object with a RegExp', { cmd: /orders/ }, /must have no .* RegExp in it/],
  ['an object with a symbol', { cmd: Symbol('orders') }, /must have no .* symbol/],
  ['an object with a RegExp further down', { cmd: { name: [/orders/] } }, /must have no .* RegExp/],
  ['an object with a symbol further down', { cmd: { name: Symbol('orders') } }, /must have no .* symbol/],
  ['an object with a Date', { cmd: new Date(0) }, /must have no .* Date/],
  ['an object with a Map', { cmd: new Map([['a', 1]]) }, /must have no .* Map/],
  ['an object of seven levels', { a: { b: { c: { d: { e: { f: { g: 1 } } } } } } }, /at most 20 keys and 5 levels/],
  ['a wildcard of one word', 'orders.*', /must have no '\*' or '>'.*; got "orders\.\*"/],
  ['a wildcard of several words', 'orders.>', /must have no '\*' or '>'/],
])('a pattern that cannot be a stream, as %s,', (_name, pattern, rule) => {
  const refusal = { code: 'ERR_INVALID_OPTION', message: expect.stringMatching(rule) };

  it('fails the start of a server before anything is connected', async () => {
    const connection = 'redis://127.0.0.1:1';
    const server = new ServerRedisStreams({ connection, group: GROUP, logger: new LogLines() });
    nest.closeLater(server);
    expect(() => server.addHandler(pattern, () => Promise.resolve(1), true)).toThrow(rule);
    // Nest itself throws a TypeError for a symbol.
    for (const bind of typeof pattern === 'symbol' ? [] : [onEvent, onRequest]) {
      await expect(
        nest.serve(
          bind(pattern as string, () => 1),
          { connection },
        ),
      ).rejects.toMatchObject(refusal);
    }
    @Controller()
    class FactoryController {
      @EventPattern<PatternFactory>(() => pattern)
      handle(): void {}
    }
    await expect(nest.serve(FactoryController, { connection })).rejects.toMatchObject(refusal);
  });

  it('fails what a client sends to it', async () => {
    const client = nest.client({ connection: 'redis://127.0.0.1:1' });
    // Nest refuses nil by itself.
    const [anything, refused]: unknown[] = [expect.anything(), expect.objectContaining(refusal)];
    const expected = pattern === undefined || pattern === null ? anything : refused;
    await expect(lastValueFrom(client.emit(pattern, 1))).rejects.toEqual(expected);
    await expect(lastValueFrom(client.send(pattern, 1))).rejects.toEqual(expected);
    await expect(lastValueFrom(client.emitBatch(pattern, [1]))).rejects.toMatchObject({ errors: [{ code: 'ERR_INVALID_OPTION' }] }); // prettier-ignore
  });
});
