import { beforeEach, describe, expect, it } from '@jest/globals';

import type { Redis } from 'ioredis';

import type { RedisStreamer } from '../../../lib/engine/streamer.js';
import { ConsumerEndedError } from '../../../lib/errors.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;
let streamer: RedisStreamer;
let admin: Redis;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
  streamer = await bench.streamer(server.url, { blockTimeout: 10_000 });
});

const MODES = ['real-time', 'resumable', 'load-balanced'] as const;

const consumerOf = (mode: (typeof MODES)[number]) =>
  streamer.createConsumer(
    's',
    mode === 'real-time' ? { mode } : { mode, group: 'g', mkStream: true, autoCommit: 'rolling' },
  );

const untilBlocked = async (readers = 1): Promise<void> => {
  await until('the read is blocked', async () => {
    return (await admin.info('clients')).includes(`blocked_clients:${readers}`);
  });
};

const durationOf = async (work: Promise<unknown>): Promise<number> => {
  const begin = Date.now();
  await work;
  return Date.now() - begin;
};

/** With a margin for a machine that does other work; a blocked read would last for ten seconds. */
const WITHIN_A_SECOND = 4_000;

/** The number of timers and sockets that keep this process alive. */
const handles = (): number => process.getActiveResourcesInfo().filter((name) => /Timeout|TCPSocket/.test(name)).length;

describe('ending while a read is blocked', () => {
  it.each(MODES)('ends a %s consumer within a second, and rejects a waiting next()', async (mode) => {
    const consumer = await consumerOf(mode);
    const waiting = consumer.next().catch((error: unknown) => error);
    await untilBlocked();

    expect(await durationOf(consumer.end())).toBeLessThan(WITHIN_A_SECOND);
    expect(await waiting).toBeInstanceOf(ConsumerEndedError);
  });

  it('disconnect() ends everything within a second, and leaves no connection, timer or consumer', async () => {
    const before = handles();
    const other = await bench.streamer(server.url, { blockTimeout: 10_000 });
    await other.createConsumer(['s', 't'], { mode: 'load-balanced', group: 'g', mkStream: true });
    await other.createConsumer('s', { mode: 'resumable', group: 'r' });
    await other.createConsumer('s', { mode: 'real-time' });
    await (await other.createProducer('s')).send('x');
    await untilBlocked(3);

    expect(await durationOf(other.disconnect())).toBeLessThan(WITHIN_A_SECOND);
    await until('all connections are gone', async () => {
      return !String(await admin.client('LIST')).includes('nestjs-redis-streams:reader');
    });
    await until('no handle is left', () => handles() <= before);
    expect(await admin.xinfo('CONSUMERS', 't', 'g')).toEqual([]);
  });

  it('keeps messages that arrive at the last moment for the next consumer', async () => {
    for (let round = 0; round < 20; round += 1) {
      const consumer = await streamer.createConsumer('s', { mode: 'resumable', group: 'g', mkStream: true });
      const sent = admin.xadd('s', '*', 'msg', String(round));
      await Promise.all([sent, consumer.end()]);
    }
    const consumer = await streamer.createConsumer('s', { mode: 'resumable', group: 'g' });
    const texts: string[] = [];
    while (texts.length < 20) texts.push((await consumer.next()).text());
    expect(texts).toEqual(Array.from({ length: 20 }, (_, index) => String(index)));
  });
});

describe('ending without a server', () => {
  it.each(MODES)('is bounded when the server is down (%s)', async (mode) => {
    const consumer = await consumerOf(mode);
    await (await streamer.createProducer('s')).send('x');
    await consumer.next();
    await server.kill();
    await until('the loss is detected', () => streamer.status === 'reconnecting');

    expect(await durationOf(streamer.disconnect())).toBeLessThan(2_500);
  });

  it.each(MODES)('is bounded when the server is suspended (%s)', async (mode) => {
    const consumer = await consumerOf(mode);
    await (await streamer.createProducer('s')).send('x');
    await consumer.next();
    await untilBlocked();
    server.pause();

    expect(await durationOf(streamer.disconnect())).toBeLessThan(5_000);
    server.resume();
  });

  it('is bounded when upkeep of the group and a look for shards wait for the suspended server', async () => {
    await streamer.createConsumer('s', {
      mode: 'load-balanced',
      group: 'g',
      mkStream: true,
      retention: { interval: 100 },
      shardDiscoveryInterval: 100,
    });
    await untilBlocked();
    server.pause();
    // Long enough for both to begin.
    await new Promise((resolve) => setTimeout(resolve, 300));

    expect(await durationOf(streamer.disconnect())).toBeLessThan(6_000);
    server.resume();
  });

  it('waits some seconds for the server to come back and receive the acknowledgements', async () => {
    await server.restart(['--appendonly', 'yes']);
    const consumer = await streamer.createConsumer('s', { mode: 'load-balanced', group: 'g', mkStream: true });
    const producer = await streamer.createProducer('s');
    await producer.send('x');
    await consumer.next();
    await server.kill();
    const ending = streamer.disconnect();
    await server.restart();
    await ending;

    expect((await admin.xpending('s', 'g'))[0]).toBe(0);
  });

  it('stops waiting for the server after some seconds', async () => {
    const consumer = await streamer.createConsumer('s', { mode: 'load-balanced', group: 'g', mkStream: true });
    await (await streamer.createProducer('s')).send('x');
    await consumer.next();
    await server.kill();

    expect(await durationOf(streamer.disconnect())).toBeLessThan(7_500);
  });
});

describe('ending while other calls are in flight', () => {
  it('ends consumers that are being created', async () => {
    const before = handles();
    for (let round = 0; round < 10; round += 1) {
      const other = await bench.streamer(server.url);
      const creating = other.createConsumer('s', { mode: 'load-balanced', group: 'g', mkStream: true }).then(
        () => 'created',
        (error: { code: string }) => error.code,
      );
      // A different moment each time: after 0 to 9 turns of the event loop.
      for (let turn = 0; turn < round; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      await other.disconnect();
      expect(['created', 'ERR_CLOSED', 'ERR_CONSUMER_ENDED']).toContain(await creating);
    }
    await until('no handle is left', () => handles() <= before);
  });

  it('settles every send, also when disconnect() is called twice at once', async () => {
    const producer = await streamer.createProducer('s');
    const sends = Promise.allSettled(Array.from({ length: 1_000 }, (_, index) => producer.send(String(index))));
    await Promise.all([streamer.disconnect(), streamer.disconnect()]);

    expect((await sends).filter(({ status }) => status === 'fulfilled').length).toBe(1_000);
    expect(streamer.status).toBe('disconnected');
  });
});
