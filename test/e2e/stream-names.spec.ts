import { describe, expect, it } from '@jest/globals';
import { NestFactory } from '@nestjs/core';
import { firstValueFrom, lastValueFrom } from 'rxjs';

import { ClientRedisStreams, RedisStreamsModule, ServerRedisStreams, getRedisStreamsToken } from '../../lib/index.js';
import { TestServerRedisStreams } from '../../lib/testing.js';
import { moduleOf, onEvent, onRequest } from '../support/controllers.js';
import { GROUP, LogLines, QUIET, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

describe('the option streams', () => {
  it('gives patterns the names of their streams, for events, batches, requests and dead letters', async () => {
    const stream = uniqueName('prod.orders.v2');
    const streams = { orders: stream, price: `${stream}.price` };
    const seen: unknown[] = [];
    const { log } = await nest.serve(
      [
        onEvent('orders', (data, context) => {
          seen.push([data, context.getPattern(), context.getStream()]);
          if (data === 'bad') context.deadLetter('bad');
        }),
        onRequest('price', () => 5),
        onEvent(`${stream}.plain`, (data, context) => seen.push([data, context.getPattern(), context.getStream()])),
      ],
      { streams },
    );
    const client = nest.client({ streams });
    expect(await firstValueFrom(client.emit('orders', 1))).toMatchObject({ streamKey: stream });
    await firstValueFrom(client.emitBatch('orders', [2, 'bad']));
    await firstValueFrom(client.emit(`${stream}.plain`, 3));
    expect(await lastValueFrom(client.send('price', 'tea'))).toBe(5);

    await until('all are handled', () => seen.length === 4);
    expect(new Set(seen)).toEqual(
      new Set([
        [1, 'orders', stream],
        [2, 'orders', stream],
        ['bad', 'orders', stream],
        [3, `${stream}.plain`, `${stream}.plain`],
      ]),
    );
    await until('the dead letter is stored', async () => (await nest.redis.xlen(`${stream}.dead`)) === 1);
    expect(await nest.redis.exists('orders', 'orders.dead', 'price')).toBe(0);
    expect(log.messages[0]).toContain(`'${stream}' for 'orders' (1 event handler, `);
  });

  it('is an option of the module, with a keyPrefix in front of the names', async () => {
    const stream = uniqueName('v2');
    const seen: unknown[] = [];
    const options = { connection: nest.url, group: GROUP, blockTimeout: 1_000, logger: new LogLines() };
    const root = moduleOf({
      imports: [RedisStreamsModule.forRoot({ ...options, keyPrefix: 'app:', streams: { orders: stream } })],
      controllers: [onEvent('orders', (data) => seen.push(data))],
    });
    const app = await NestFactory.create(root, QUIET);
    nest.closeLater(app);
    app.connectMicroservice({ strategy: app.get(getRedisStreamsToken(undefined, ServerRedisStreams)) });
    await app.startAllMicroservices();
    await firstValueFrom(app.get(ClientRedisStreams).emit('orders', 1));
    await until('it is handled', () => seen.length === 1);
    expect(await nest.redis.xlen(`app:${stream}`)).toBe(1);
  });

  it('is an option of the server for tests', async () => {
    const names: string[] = [];
    const server = new TestServerRedisStreams({ streams: { orders: 'prod.orders.v2' } });
    const controllers = [onEvent('orders', (_, context) => names.push(context.getPattern(), context.getStream()))];
    const app = await NestFactory.createMicroservice(moduleOf({ controllers }), { strategy: server, ...QUIET });
    nest.closeLater(app);
    await app.listen();
    await server.deliver('orders', 1);
    expect(names).toEqual(['orders', 'prod.orders.v2']);
  });

  it.each([
    ['streams must be an object', ['orders']],
    ['streams must be an object', 'orders'],
    ["streams['orders'] must be", { orders: '' }],
    ["streams['orders'] must be", { orders: 5 }],
  ])('is refused by name: %s', (rule, streams) => {
    expect(() => nest.client({ streams: streams as never })).toThrow(rule);
    expect(() => new ServerRedisStreams({ group: 'g', streams: streams as never })).toThrow(rule);
  });

  it.each([
    ['another pattern', { orders: 'bills' }, /streams\['orders'\] must not be the stream 'bills' of 'bills' as well/],
    [
      'another name',
      { orders: 'v2', bills: 'v2' },
      /streams\['bills'\] must not be the stream 'v2' of 'orders' as well/,
    ],
  ])('is refused when a pattern gets the stream of %s, before any I/O', async (_, streams, rule) => {
    const controllers = [onEvent('orders', () => undefined), onEvent('bills', () => undefined)];
    await expect(nest.serve(controllers, { streams })).rejects.toThrow(rule);
  });

  it('does not let a handler read its own dead letters under another name', async () => {
    const controllers = [onEvent('orders', () => undefined), onEvent('failed', () => undefined)];
    const options = { streams: { failed: 'orders.failed' }, deadLetter: { stream: 'orders.failed' } };
    await expect(nest.serve(controllers, options)).rejects.toThrow(/deadLetter\.stream for 'orders' must not be/);
  });
});
