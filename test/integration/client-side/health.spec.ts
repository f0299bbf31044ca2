import { beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';

import type { LoopHealth } from '../../../lib/engine/health.js';
import type { RedisStreamer } from '../../../lib/engine/streamer.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { uniqueName } from '../../support/redis.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const BLOCK = 200;
const bench = new FaultBench();
let server: RedisServer;
let proxy: FaultProxy;
let admin: Redis;
let streamer: RedisStreamer;
let stream: string;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  proxy = await bench.proxy(server);
  admin = bench.admin(server.url);
  streamer = await bench.streamer(proxy.url, { blockTimeout: BLOCK });
  stream = uniqueName('health');
});

async function onlyLoop(): Promise<LoopHealth> {
  const { loops } = await streamer.health();
  expect(loops).toHaveLength(1);
  return loops[0] as LoopHealth;
}

const options = { mode: 'load-balanced', group: 'g', consumer: 'c', autoCommit: 'rolling', mkStream: true } as const;

describe('health()', () => {
  it('reports the state of each read loop and the position of its group', async () => {
    const consumer = await streamer.createConsumer(stream, { ...options, batchSize: 2, prefetch: 4 });
    await until('the loop has read', async () => (await onlyLoop()).lastReadAge !== undefined);
    expect(await onlyLoop()).toMatchObject({ state: 'reading', isHealthy: true, buffered: 0, inFlight: 0, pending: 0 });

    for (let index = 0; index < 10; index += 1) await admin.xadd(stream, '*', 'msg', String(index));
    await consumer.next();
    let loop = await onlyLoop();
    await until('the loop has read up to its prefetch', async () => {
      loop = await onlyLoop();
      return loop.state === 'full' && loop.buffered + loop.inFlight === loop.pending;
    });

    expect(loop).toMatchObject({ mode: 'load-balanced', group: 'g', consumer: 'c', isHealthy: true, inFlight: 1 });
    expect(loop.oldestPendingIdle).toBeGreaterThanOrEqual(0);
    const hasLag = /lag/.test(JSON.stringify(await admin.xinfo('GROUPS', stream)));
    expect(loop.lag).toBe(hasLag ? 10 - (loop.pending ?? 0) : undefined);
    expect(loop.streams).toMatchObject([{ streamKey: stream, shardId: 0, pending: loop.pending, failure: undefined }]);
  });

  it('leaves out consumers that have ended', async () => {
    const consumer = await streamer.createConsumer(stream, options);
    await consumer.end();
    expect(await streamer.health()).toMatchObject({ isHealthy: true, status: 'connected', loops: [] });
    await streamer.disconnect();
    expect(await streamer.health()).toMatchObject({ isHealthy: false, status: 'disconnected' });
  });

  it('reports a loop as unhealthy when the server answers PING but no reads', async () => {
    await streamer.createConsumer(stream, options);
    await until('the loop has read', async () => (await onlyLoop()).lastReadAge !== undefined);
    // The handshake works on every new connection, and no command after it.
    const stalling = setInterval(() => proxy.stall('reader'), 20);
    await until('the loop is unhealthy', async () => !(await onlyLoop()).isHealthy, 20_000).finally(() =>
      clearInterval(stalling),
    );
    expect(await admin.ping()).toBe('PONG');
    const { isHealthy, loops } = await streamer.health();
    expect(isHealthy).toBe(false);
    expect(loops[0]?.lastReadAge).toBeGreaterThan(2 * BLOCK + 5_000);
  }, 30_000);

  it('answers in time when the server does not, without the values that only the server knows', async () => {
    await streamer.createConsumer(stream, options);
    server.pause();
    const health = await streamer.health({ timeout: 100 });
    expect(health.loops[0]).toMatchObject({ group: 'g', lag: undefined, pending: undefined });
    server.resume();
    await expect(streamer.health({ timeout: 0 })).rejects.toThrow('timeout');
  });

  it('counts reconnects, and has the failure of a stream that is no longer read', async () => {
    const consumer = await streamer.createConsumer([stream, `${stream}:other`], options);
    const failures: unknown[] = [];
    void drain(consumer, () => undefined).catch((error: unknown) => failures.push(error));
    await until('the loop has read', async () => (await onlyLoop()).lastReadAge !== undefined);
    proxy.cut('rst', 'reader');
    await until('the reader is back', async () => (await onlyLoop()).reconnects === 1);
    await admin.set(stream, 'no stream');

    await until('one stream has failed', async () => (await streamer.health()).isHealthy === false);
    const loop = await onlyLoop();
    expect(loop.streams.map(({ failure }) => failure?.code)).toEqual(['ERR_WRONG_TYPE', undefined]);
  });

  it('is healthy again after a loop hung on a promise that never settles: the watchdog restarts the loop', async () => {
    let isSwallowing = false;
    // The way through ioredis, where a client can be made to lose a promise.
    process.env['NESTJS_REDIS_STREAMS_WIRE'] = 'ioredis';
    const connection = (): Redis => {
      const client = new Redis(server.url, { protocol: 2 });
      const send = client.sendCommand.bind(client);
      client.sendCommand = (command, ...rest) =>
        isSwallowing && command.name === 'xreadgroup' ? new Promise(() => undefined) : send(command, ...rest);
      return client;
    };
    const hanging = await bench.streamer(connection, { blockTimeout: 100 });
    const consumer = await hanging.createConsumer(stream, options);
    delete process.env['NESTJS_REDIS_STREAMS_WIRE'];
    const errors: string[] = [];
    consumer.on('error', ({ code }) => {
      errors.push(code);
      isSwallowing = false;
    });
    isSwallowing = true;
    await until('the watchdog has reported it', () => errors.length > 0, 20_000);
    await admin.xadd(stream, '*', 'msg', 'after');

    expect((await consumer.next()).text()).toBe('after');
    expect(errors).toEqual(['ERR_READ_LOOP_STALLED']);
    // A scan for idle entries may have delivered the message before the first read succeeded.
    await until('a read has succeeded', async () => (await hanging.health()).isHealthy);
    expect((await hanging.health()).loops).toMatchObject([{ restarts: 1 }]);
  });
});
