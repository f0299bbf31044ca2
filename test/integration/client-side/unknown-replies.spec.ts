import type { Redis } from 'ioredis';
import { beforeEach, describe, expect, it } from '@jest/globals';

import type { RedisStreamer } from '../../../lib/engine/streamer.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let proxy: FaultProxy;
let admin: Redis;
let streamer: RedisStreamer;

beforeEach(async () => {
  const server = await bench.server({ args: ['--appendonly', 'no'] });
  proxy = await bench.proxy(server);
  admin = bench.admin(server.url);
  streamer = await bench.streamer(proxy.url, { blockTimeout: 200 });
});

const GROUP = { group: 'g', mkStream: true } as const;

describe('a reply to a read that says nothing about the stream', () => {
  it.each([
    ['real-time', '-ERR upstream failure'],
    ['resumable', '-ERR upstream failure'],
    ['load-balanced', '-ERR upstream failure'],
    ['load-balanced', '-QUOTA commands per second exceeded'],
    ['load-balanced', '-backend is busy'],
    ['load-balanced', '-NOPERM this user has no permissions'],
    ['load-balanced', "-ERR unknown command 'XREADGROUP'"],
  ] as const)(
    'ends no consumer (%s, %s): it is reported once, seen in health(), and reading continues',
    async (mode, reply) => {
      const consumer = await streamer.createConsumer(['s', 't'], mode === 'real-time' ? { mode } : { mode, ...GROUP });
      const received: string[] = [];
      const reported: string[] = [];
      consumer.on('error', (error) => reported.push(error.code));
      void drain(consumer, (message) => received.push(message.text()));
      await until('it reads', async () => (await streamer.health()).loops[0]?.lastReadAge !== undefined);

      proxy.answer('reader', mode === 'real-time' ? 'XREAD' : 'XREADGROUP', reply);
      await until('several reads were refused', () => proxy.answers > 2);
      await admin.xadd('s', '*', 'msg', 'of s');
      await admin.xadd('t', '*', 'msg', 'of t');
      const { isHealthy, status, loops } = await streamer.health();
      const refusal = { message: expect.stringContaining(reply.slice(1)) };
      expect({ isHealthy, status }).toEqual({ isHealthy: false, status: 'connected' });
      expect(loops).toMatchObject([
        { isHealthy: false, refusal, streams: [{ failure: undefined }, { failure: undefined }] },
      ]);
      expect(reported).toHaveLength(1);

      proxy.relay();
      await until('all is received', () => received.length === 2, 15_000);
      expect(received.sort()).toEqual(['of s', 'of t']);
      expect(await streamer.health()).toMatchObject({ isHealthy: true, loops: [{ refusal: undefined }] });
    },
  );
});

describe('a reply to XACK that says nothing about the entries', () => {
  // The proxy answers in place of everything that is written together with an XACK: nothing else may be.
  const OPTIONS = {
    mode: 'load-balanced',
    ...GROUP,
    autoCommit: 'rolling',
    autoCommitInterval: 10,
    autoClaimInterval: false,
  } as const;

  it.each(['-ERR upstream failure', '-QUOTA commands per second exceeded', '-NOPERM this user has no permissions'])(
    'is reported once, seen in health(), and repeated until the entries are acknowledged (%s)',
    async (reply) => {
      const consumer = await streamer.createConsumer('s', OPTIONS);
      const reported: string[] = [];
      consumer.on('error', (error) => reported.push(error.message));
      proxy.answer('control', 'XACK', reply);
      for (let n = 0; n < 10; n += 1) {
        await admin.xadd('s', '*', 'msg', String(n));
        consumer.ack(await consumer.next());
      }
      await until('several attempts were refused', () => proxy.answers > 2);
      const health = await streamer.health();
      const refusal = { message: expect.stringContaining(reply.slice(1)) };
      expect(health).toMatchObject({ isHealthy: false, loops: [{ isHealthy: false, refusal, pending: 10 }] });
      expect(reported).toEqual([expect.stringContaining(reply.slice(1))]);

      proxy.relay();
      await until('all are acknowledged', async () => (await admin.xpending('s', 'g'))[0] === 0, 15_000);
      await until('it is healthy', async () => (await streamer.health()).isHealthy);
    },
  );

  it('fails commit() at once, and the next commit() sends the acks again', async () => {
    const consumer = await streamer.createConsumer('s', { ...OPTIONS, autoCommit: 'disabled' });
    await admin.xadd('s', '*', 'msg', 'x');
    consumer.ack(await consumer.next());
    proxy.answer('control', 'XACK', '-ERR upstream failure');
    await expect(consumer.commit()).rejects.toMatchObject({ code: 'ERR_SERVER_REPLY' });
    proxy.relay();
    await consumer.commit();
    expect((await admin.xpending('s', 'g'))[0]).toBe(0);
  });

  it('does not hold up the end of the consumer', async () => {
    const consumer = await streamer.createConsumer('s', OPTIONS);
    await admin.xadd('s', '*', 'msg', 'x');
    proxy.answer('control', 'XACK', '-ERR upstream failure');
    consumer.ack(await consumer.next());
    await until('an attempt was refused', () => proxy.answers > 0);
    let isOver = false;
    void consumer.end().then(() => (isOver = true));
    await until('the consumer has ended', () => isOver, 4_000);
    expect((await admin.xpending('s', 'g'))[0]).toBe(1);
  });
});

describe('a function of the application that throws', () => {
  it('is no lost connection: the filter of a redrive', async () => {
    const header = ['h:dead-letter-key', 's', 'h:dead-letter-id', '1-0', 'h:dead-letter-group', 'g'];
    await admin.xadd('s.dead', '*', 'msg', 'x', ...header, 'h:dead-letter-consumer', 'c');
    const manager = await streamer.createManager();
    const filter = (): boolean => (undefined as unknown as { x: boolean }).x;

    await expect(manager.redrive('s.dead', { filter })).rejects.toMatchObject({
      code: 'ERR_INTERNAL',
      retryable: false,
      cause: { name: 'TypeError' },
    });
    expect(await admin.xlen('s.dead')).toBe(1);
  });
});

it('a reply to a claim with an invalid cursor ends the scan, and the next scan claims', async () => {
  await admin.xgroup('CREATE', 's', 'g', '0', 'MKSTREAM');
  await admin.xadd('s', '*', 'msg', 'left behind');
  await admin.xreadgroup('GROUP', 'g', 'gone', 'COUNT', 1, 'STREAMS', 's', '>');
  proxy.answer('control', 'XAUTOCLAIM', '*3\r\n$1\r\na\r\n*0\r\n*0');
  const options = { mode: 'load-balanced', ...GROUP, autoClaimIdle: 600, autoClaimInterval: 200 } as const;
  const consumer = await streamer.createConsumer('s', options);
  await until('some claims were answered so', () => proxy.answers > 2);
  const answers = proxy.answers;
  await admin.xadd('s', '*', 'msg', 'new');
  expect((await consumer.next()).text()).toBe('new');
  proxy.relay();

  expect((await consumer.next({ signal: AbortSignal.timeout(8_000) })).text()).toBe('left behind');
  expect(answers).toBeLessThan(50);
});
