import { NestFactory } from '@nestjs/core';
import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';

import { RedisStreamsModule, ServerRedisStreams } from '../../lib/index.js';
import type { RedisStreamsModuleOptions, RedisStreamsModuleScope } from '../../lib/index.js';
import { moduleOf } from '../support/controllers.js';
import { LogLines, QUIET } from '../support/nest.js';

/** An application has this long to start its server, in milliseconds. */
const LIMIT = 10_000;

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

/** An application that has started, and has connected no microservice. */
async function start(options: RedisStreamsModuleOptions & RedisStreamsModuleScope) {
  const log = new LogLines();
  const imports = [RedisStreamsModule.forRoot({ ...options, logger: log })];
  const app = await NestFactory.create(moduleOf({ imports }), QUIET);
  return { log, app: await app.init() };
}

it('a server that the application never starts is a warning, which says what to call', async () => {
  const { app, log } = await start({ group: 'orders-service' });
  jest.advanceTimersByTime(LIMIT - 1);
  expect(log.warnings).toEqual([]);
  jest.advanceTimersByTime(3 * LIMIT);
  expect(log.warnings).toEqual([
    expect.stringMatching(
      /for 'orders-service' was not started within 10 s.*connectMicroservice.*startAllMicroservices.*'group' out$/,
    ),
  ]);
  await app.close();
});

it('the server of a named connection that is never started is named with its connection', async () => {
  const { app, log } = await start({ name: 'audit', mode: 'real-time' });
  jest.advanceTimersByTime(LIMIT);
  expect(log.warnings).toEqual([expect.stringMatching(/for 'audit' was not started.*'mode' out$/)]);
  await app.close();
});

it('there is no warning of a server whose start has failed, which is an error already', async () => {
  const { app, log } = await start({ group: 'orders-service' });
  const server = app.get(ServerRedisStreams);
  server.addHandler('orders', async () => undefined, true, { concurrency: 0 });
  const failed = jest.fn();
  await server.listen(failed);
  expect(failed).toHaveBeenCalledWith(expect.objectContaining({ code: 'ERR_INVALID_OPTION' }));
  jest.advanceTimersByTime(LIMIT);
  expect(log.warnings).toEqual([]);
  await app.close();
});

it.each<[string, RedisStreamsModuleOptions & RedisStreamsModuleScope]>([
  ['has no server', {}],
  ['needs the group for its lag endpoint', { group: 'orders-service', lagEndpoint: { guards: [] } }],
])('there is no warning in an application that %s', async (_name, options) => {
  const { app, log } = await start(options);
  jest.advanceTimersByTime(LIMIT);
  expect(log.warnings).toEqual([]);
  await app.close();
});

it.each([
  ['an application context, such as that of a script', NestFactory.createApplicationContext.bind(NestFactory)],
  ['a microservice', NestFactory.createMicroservice.bind(NestFactory)],
])('there is no warning in %s, which may have no server, or another one', async (_name, create) => {
  const log = new LogLines();
  const imports = [RedisStreamsModule.forRoot({ group: 'orders-service', logger: log })];
  const app = await create(moduleOf({ imports }), QUIET);
  await app.init();
  jest.advanceTimersByTime(LIMIT);
  expect(log.warnings).toEqual([]);
  await app.close();
});

it('there is no warning after the application was closed', async () => {
  const { app, log } = await start({ group: 'orders-service' });
  await app.close();
  expect(jest.getTimerCount()).toBe(0);
  jest.advanceTimersByTime(LIMIT);
  expect(log.warnings).toEqual([]);
});
