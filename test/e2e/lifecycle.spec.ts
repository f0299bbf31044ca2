import { expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import { ServerRedisStreams } from '../../lib/index.js';
import type { RedisStreamer } from '../../lib/index.js';
import { ownConnectionLines } from '../support/connections.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { freePort } from '../support/free-port.js';
import { Ledger } from '../support/ledger.js';
import { GROUP, LogLines, useNest } from '../support/nest.js';
import { useNestProcesses } from '../support/nest-process.js';
import { uniqueName } from '../support/redis.js';
import { RedisServer } from '../support/redis-server.js';
import { consumersOf, pendingOf } from '../support/streams.js';
import { until } from '../support/until.js';

// Before useNest(): it ends its processes before the check for remaining connections.
const startService = useNestProcesses();
const nest = useNest();

it('close() waits for running handlers and commits their acknowledgements', async () => {
  const pattern = uniqueName('running');
  const gate = withResolvers<void>();
  let isClosed = false;
  let running = 0;
  const { app } = await nest.serve(
    onEvent(pattern, () => ((running += 1), gate.promise)),
    { autoCommitInterval: 60_000 },
  );
  for (let n = 0; n < 3; n += 1) await nest.emit(pattern, n);
  await until('all are running', () => running === 3);
  const closing = app.close().then(() => (isClosed = true));
  await until('reading has stopped', async () => (await ownConnectionLines(nest.redis, 'reader')).length === 0);
  expect(isClosed).toBe(false);
  gate.resolve();
  await closing;

  expect(await nest.pending(pattern)).toBe(0);
  expect(await consumersOf(nest.redis, pattern, GROUP)).toEqual([]);
});

it('close() stops waiting for a handler after shutdownTimeout, reports it, and leaves its message pending', async () => {
  const pattern = uniqueName('stuck');
  const gate = withResolvers<void>();
  let running = 0;
  const { app, log } = await nest.serve(
    onEvent(pattern, () => ((running += 1), gate.promise)),
    { shutdownTimeout: 200 },
  );
  const { id } = await nest.emit(pattern, 1);
  await until('it is running', () => running === 1);
  const start = Date.now();
  await app.close();
  gate.resolve();

  expect(Date.now() - start).toBeGreaterThanOrEqual(199);
  expect(log.errors.join('\n')).toMatch(/1 handlers were still running after 200 ms/);
  expect((await pendingOf(nest.redis, pattern, GROUP)).map((row) => row.id)).toEqual([id]);
});

it('close() does not wait for a blocked read, and releases messages that no handler was given to the group', async () => {
  const pattern = uniqueName('blocked');
  const gate = withResolvers<void>();
  let running = 0;
  const { app } = await nest.serve(
    onEvent(pattern, () => ((running += 1), gate.promise)),
    { concurrency: 1, blockTimeout: 60_000 },
  );
  for (let n = 0; n < 5; n += 1) await nest.emit(pattern, n);
  await until('all were read', async () => (await nest.pending(pattern)) === 5 && running === 1);
  const start = Date.now();
  const closing = app.close();
  gate.resolve();
  await closing;

  expect(Date.now() - start).toBeLessThan(2_000);
  const pending = await pendingOf(nest.redis, pattern, GROUP);
  expect(pending.map(({ deliveryCount }) => deliveryCount)).toEqual([0, 0, 0, 0]);
  expect(pending.every(({ idle }) => idle >= 60_000)).toBe(true);
});

it('close() is idempotent, at the same time and later', async () => {
  const pattern = uniqueName('twice');
  const { app, server } = await nest.serve(onEvent(pattern, () => undefined));
  const client = nest.client();
  await firstValueFrom(client.emit(pattern, 1));

  const atOnce = Promise.all([server.close(), server.close(), client.close(), client.close()]);
  await expect(atOnce).resolves.toBeDefined();
  await expect(Promise.all([server.close(), client.close(), app.close()])).resolves.toBeDefined();
});

it('SIGTERM with shutdown hooks loses no message and leaves none pending', async () => {
  const pattern = uniqueName('sigterm');
  const options = { connection: nest.url, group: GROUP, concurrency: 4, autoCommitInterval: 60_000 };
  const service = await startService({ pattern, options });
  for (let n = 0; n < 4; n += 1) await nest.emit(pattern, { n, takes: 300 });
  await until('all are running', () => service.events.filter(({ started }) => started !== undefined).length === 4);
  service.kill('SIGTERM');

  // Nest sends the signal again after its hooks.
  expect(await service.ended).toBe('SIGTERM');
  expect(service.events.flatMap(({ done }) => done ?? []).sort((a, b) => a - b)).toEqual([0, 1, 2, 3]);
  expect(await nest.pending(pattern)).toBe(0);
  expect(await consumersOf(nest.redis, pattern, GROUP)).toEqual([]);
});

it('listen() fails after the timeout, with address and cause, when Redis is down', async () => {
  const port = await freePort();
  const connection = `redis://user:secret@127.0.0.1:${port}`;
  const listening = nest.serve(
    onEvent('x', () => undefined),
    { connection, timeout: 400 },
  );

  const failure = (await listening.catch((error: unknown) => error)) as Error & { code: string };
  expect(failure.code).toBe('ERR_CONNECT_TIMEOUT');
  expect(failure.message).toMatch(new RegExp(`127\\.0\\.0\\.1:${port} within 400 ms.*ECONNREFUSED`));
  expect(failure.message).not.toMatch(/secret/);
});

it('close() of a server that still waits for Redis resolves at once', async () => {
  const strategy = new ServerRedisStreams({
    connection: `redis://127.0.0.1:${await freePort()}`,
    group: GROUP,
    logger: new LogLines(),
  });
  const failed = withResolvers<unknown>();
  void strategy.listen(failed.resolve);
  const start = Date.now();
  await strategy.close();

  expect(await failed.promise).toMatchObject({ code: 'ERR_CLOSED' });
  expect(Date.now() - start).toBeLessThan(2_000);
});

it('close() of a client does not wait for the timeout when Redis stalls while the reply stream is opened', async () => {
  const pattern = uniqueName('gone');
  await nest.serve(onEvent(pattern, () => undefined));
  const proxy = await FaultProxy.start(Number(new URL(nest.url).port));
  nest.closeLater({ close: async () => proxy.stop() });
  const client = nest.client({ connection: proxy.url + new URL(nest.url).pathname, timeout: 30_000 });
  await client.connect();
  proxy.stall();
  const failure = firstValueFrom(client.send(pattern, 1)).catch((error: unknown) => error);
  await until('the request waits', () => client.openRequests === 1);
  const start = Date.now();
  await client.close();

  expect(await failure).toMatchObject({ code: 'ERR_CLOSED' });
  expect(Date.now() - start).toBeLessThan(5_000);
});

it('close() of a client that has received replies does not wait for a Redis that is gone', async () => {
  const pattern = uniqueName('answered');
  await nest.serve(onRequest(pattern, () => 'yes'));
  const proxy = await FaultProxy.start(Number(new URL(nest.url).port));
  nest.closeLater({ close: async () => proxy.stop() });
  const client = nest.client({ connection: proxy.url + new URL(nest.url).pathname, timeout: 30_000 });
  expect(await firstValueFrom(client.send(pattern, 1))).toBe('yes');
  proxy.stop();
  await until(
    'the loss is detected',
    () => client.unwrap<RedisStreamer>().connections.ofRole('writer')[0]?.state === 'connecting',
  );
  const start = Date.now();
  await client.close();

  expect(Date.now() - start).toBeLessThan(8_000);
});

it('no confirmed event is lost when Redis is killed and restarted while events flow', async () => {
  const redis = await RedisServer.start();
  nest.closeLater({ close: () => redis.stop() });
  const pattern = uniqueName('killed');
  const ledger = new Ledger();
  const { server } = await nest.serve(
    onEvent(pattern, (payload: string, context) => {
      ledger.handledMessage({ id: context.getMessageId(), text: () => payload });
    }),
    { connection: redis.url },
  );
  server.on('error', () => undefined);
  const client = nest.client({ connection: redis.url });
  const sends: Array<Promise<void>> = [];
  const emitting = setInterval(() => {
    const payload = `event-${sends.length}`;
    sends.push(ledger.sent(payload, firstValueFrom(client.emit(pattern, payload))));
  }, 1);
  try {
    for (const target of [100, 200]) {
      await until('events are flowing', () => ledger.handled > target);
      await redis.restart();
    }
    await until('events are flowing again', () => ledger.handled > 400, 20_000);
  } finally {
    clearInterval(emitting);
  }
  await Promise.all(sends);

  expect(await ledger.settled()).toMatchObject({ lost: [] });
  expect(ledger.confirmed).toBe(sends.length);
});
