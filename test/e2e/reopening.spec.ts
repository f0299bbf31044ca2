import { expect, it } from '@jest/globals';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';

import { ServerRedisStreams } from '../../lib/index.js';
import { moduleOf, onEvent, onRequest } from '../support/controllers.js';
import { freePort } from '../support/free-port.js';
import { GROUP, LogLines, QUIET, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

const listening = (server: ServerRedisStreams): Promise<unknown> =>
  new Promise((resolve) => void server.listen(resolve));

const serverOf = (options: { connection?: string; timeout?: number } = {}): ServerRedisStreams => {
  const server = new ServerRedisStreams({ connection: nest.url, group: GROUP, logger: new LogLines(), ...options });
  nest.closeLater({ close: () => server.close() });
  return server;
};

it('a server that was closed listens again with the same handlers, and reads what was sent in between', async () => {
  const pattern = uniqueName('again');
  const handled: unknown[] = [];
  const server = serverOf();
  server.addHandler(pattern, async (data) => void handled.push(data), true);
  for (const round of [1, 2, 3]) {
    await nest.emit(pattern, round);
    expect(await listening(server)).toBeUndefined();
    await until('the message is handled', () => handled.length === round);
    expect((await server.health()).isHealthy).toBe(true);
    await server.close();
  }

  expect(handled).toEqual([1, 2, 3]);
});

it('one strategy object serves two applications after each other, requests included', async () => {
  const pattern = uniqueName('shared');
  const strategy = serverOf();
  for (const round of [1, 2]) {
    const controllers = [onRequest(pattern, () => round)];
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(moduleOf({ controllers }), {
      strategy,
      ...QUIET,
    });
    await app.listen();
    const client = nest.client();
    expect(await firstValueFrom(client.send(pattern, 1))).toBeDefined();
    await app.close();
  }
});

it('a listen() that failed can be repeated', async () => {
  const server = serverOf({ connection: `redis://127.0.0.1:${await freePort()}`, timeout: 100 });

  for (let round = 0; round < 2; round += 1) {
    expect(await listening(server)).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT' });
  }
});

it('listen() does not report success when close() was called while it started', async () => {
  const pattern = uniqueName('closed');
  for (const wait of [0, 1, 5, 20]) {
    const server = serverOf();
    server.addHandler(pattern, async () => undefined, true);
    const outcome = listening(server);
    await new Promise((resolve) => setTimeout(resolve, wait));
    const wasStarted = server.unwrap().status === 'connected' && (await server.health()).loops.length > 0;
    await server.close();

    const failure = (await outcome) as { code?: string } | undefined;
    expect(wasStarted ? 'ERR_CLOSED' : failure?.code).toMatch(/^ERR_(?:CLOSED|CONSUMER_ENDED)$/);
    expect((await server.health()).loops).toEqual([]);
  }
});

it('a client that was closed connects again by connect(), and sends events and requests', async () => {
  const pattern = uniqueName('event');
  const requests = uniqueName('request');
  await nest.serve({ controllers: [onEvent(pattern, () => undefined), onRequest(requests, () => 'yes')] });
  const client = nest.client();
  for (const round of [1, 2]) {
    await client.connect();
    await firstValueFrom(client.emit(pattern, round));
    expect(await firstValueFrom(client.send(requests, round))).toBe('yes');
    await client.close();
    await expect(firstValueFrom(client.emit(pattern, 'closed'))).rejects.toMatchObject({ retryable: false });
  }

  const closing = client.close();
  await Promise.all([closing, client.connect(), client.connect()]);
  await firstValueFrom(client.emit(pattern, 3));
  expect(await nest.entries(pattern)).toHaveLength(3);
});
