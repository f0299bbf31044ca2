import { describe, expect, it } from '@jest/globals';

import { SendFailedError } from '../../../lib/errors.js';
import { RedisStreamer } from '../../../lib/engine/streamer.js';
import { FaultBench, drain, sendMany } from '../../support/fault-bench.js';
import { freePort } from '../../support/free-port.js';
import { Ledger } from '../../support/ledger.js';
import { uniqueName } from '../../support/redis.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const NOT_PERSISTENT = { args: ['--appendonly', 'no'] };

describe('a server that is killed and restarted', () => {
  it('loses no confirmed message when every write is persistent', async () => {
    const server = await bench.server();
    const stream = uniqueName('orders');
    const streamer = await bench.streamer(server.url);
    const ledger = new Ledger();
    const options = { mode: 'load-balanced', group: 'g', mkStream: true, autoStreamReset: 'earliest' } as const;
    const consumer = await streamer.createConsumer(stream, {
      ...options,
      autoCommit: 'rolling',
      autoCommitInterval: 5,
    });
    void drain(consumer, (message) => {
      ledger.handledMessage(message);
      consumer.ack(message);
    });
    const producer = await streamer.createProducer(stream, { maxBatch: 50 });

    const load = sendMany(producer, ledger, 3_000, { perTurn: 10 });
    for (const goal of [500, 1_500]) {
      await until(`${goal} messages are handled`, () => ledger.handled >= goal);
      await server.restart();
    }
    await load;
    const { lost } = await ledger.settled();

    expect({ lost, confirmed: ledger.confirmed }).toEqual({ lost: [], confirmed: 3_000 });
    const admin = bench.admin(server.url);
    await until('nothing is pending', async () => (await admin.xpending(stream, 'g'))[0] === 0);
  });

  it('keeps unacknowledged messages pending, with their delivery counts', async () => {
    const server = await bench.server();
    const streamer = await bench.streamer(server.url);
    const options = { mode: 'load-balanced', group: 'g', mkStream: true, autoCommit: 'rolling' } as const;
    const consumer = await streamer.createConsumer('held', { ...options, autoCommitInterval: 0 });
    const producer = await streamer.createProducer('held');
    await producer.send('before');
    const before = await consumer.next();

    await server.restart();
    await producer.send('after');

    expect((await consumer.next()).text()).toBe('after');
    const admin = bench.admin(server.url);
    const [pending] = (await admin.xpending('held', 'g', '-', '+', 10)) as Array<[string, string, number, number]>;
    expect([pending?.[0], pending?.[3]]).toEqual([before.id, 1]);
    consumer.ack(before);
    await until('the late ack has arrived', async () => (await admin.xpending('held', 'g'))[0] === 1);
  });

  it.each(['resumable', 'load-balanced', 'real-time'] as const)(
    'without its data: a %s consumer recreates its group and receives all messages sent from then on',
    async (mode) => {
      const server = await bench.server(NOT_PERSISTENT);
      const streamer = await bench.streamer(server.url);
      const ledger = new Ledger();
      const options = mode === 'real-time' ? { mode } : { mode, group: 'g', mkStream: true };
      void drain(await streamer.createConsumer('forgotten', options), (message) => ledger.handledMessage(message));
      const producer = await streamer.createProducer('forgotten');
      await sendMany(producer, ledger, 50, { prefix: 'before' });
      await until('all messages sent before are handled', () => ledger.handled === 50);

      await server.kill();
      const during = sendMany(producer, ledger, 50, { prefix: 'during' });
      await server.restart();
      await during;
      await sendMany(producer, ledger, 50, { prefix: 'after' });
      const { lost } = await ledger.settled();

      expect({ lost, confirmed: ledger.confirmed }).toEqual({ lost: [], confirmed: 150 });
    },
  );

  it('and takes long to load its data receives the waiting messages once', async () => {
    const server = await bench.server();
    const admin = bench.admin(server.url);
    await Promise.all(Array.from({ length: 300 }, (_, index) => admin.set(String(index), '')));
    const streamer = await bench.streamer(server.url);
    const ledger = new Ledger();
    const consumer = await streamer.createConsumer('loading', { mode: 'resumable', group: 'g', mkStream: true });
    void drain(consumer, (message) => ledger.handledMessage(message));
    const producer = await streamer.createProducer('loading');
    // With this option the server replies LOADING while it loads; Redis 6.0 does not have it and does not reply at all.
    const isOld = (await admin.info('server')).includes('redis_version:6.0');
    const whileLoading = isOld ? [] : ['--loading-process-events-interval-bytes', '1024'];
    await server.kill();
    const load = sendMany(producer, ledger, 100);
    const begin = Date.now();
    await server.restart(['--key-load-delay', '3000', ...whileLoading]);
    expect(Date.now() - begin).toBeGreaterThan(900);
    await load;

    expect(await ledger.settled()).toEqual({ lost: [], duplicates: new Map() });
    expect(ledger.confirmed).toBe(100);
  });

  it('without its scripts: lease renewal, which needs them, continues', async () => {
    const server = await bench.server();
    const streamer = await bench.streamer(server.url, { blockTimeout: 200 });
    const options = { mode: 'load-balanced', group: 'g', mkStream: true, autoClaimIdle: 600 } as const;
    const consumer = await streamer.createConsumer('scripts', { ...options, autoCommit: 'disabled' });
    await (await streamer.createProducer('scripts')).send('kept alive');
    await consumer.next();
    const admin = bench.admin(server.url);
    const idle = async (): Promise<number> => {
      const [entry] = (await admin.xpending('scripts', 'g', '-', '+', 1)) as Array<[string, string, number, number]>;
      return entry?.[2] ?? Infinity;
    };
    const untilLeaseRenewed = async (): Promise<void> => {
      await until('the entry is idle', async () => (await idle()) > 120);
      await until('its lease is renewed', async () => (await idle()) < 80);
    };
    await untilLeaseRenewed();
    await server.restart();
    await admin.script('FLUSH');
    await untilLeaseRenewed();
    await untilLeaseRenewed();
  });
});

describe('a server that is down', () => {
  it('fails connect() after the timeout, with the address and the last cause', async () => {
    const port = await freePort();
    const begin = Date.now();

    const error: unknown = await RedisStreamer.connect(`redis://:secret@127.0.0.1:${port}`, {
      timeout: 600,
      logger: { error: () => undefined, warn: () => undefined, log: () => undefined },
    }).catch((failure: unknown) => failure);

    expect(error).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', cause: { code: 'ECONNREFUSED' } });
    expect((error as Error).message).toBe(
      `No connection to Redis at 127.0.0.1:${port} within 600 ms; last cause: connect ECONNREFUSED 127.0.0.1:${port}`,
    );
    expect(Date.now() - begin).toBeLessThan(5_000);
  });

  it('makes connect() wait until it is up', async () => {
    const server = await bench.server(NOT_PERSISTENT);
    await server.kill();
    const connecting = bench.streamer(server.url);
    await server.restart();

    await expect(connecting).resolves.toMatchObject({ status: 'connected' });
  });

  it('fails sends after the timeout, however many wait, and the queue stays within its limit', async () => {
    const server = await bench.server(NOT_PERSISTENT);
    const streamer = await bench.streamer(server.url, { timeout: 800 });
    const producer = await streamer.createProducer('queue', { maxQueued: 200, maxBatch: 10 });
    await producer.send('connected');
    await server.kill();
    await until('the loss is detected', () => streamer.connections.ofRole('writer')[0]?.state === 'connecting');

    const begin = Date.now();
    const results = await Promise.allSettled(Array.from({ length: 400 }, (_, index) => producer.send(`${index}`)));
    const took = Date.now() - begin;

    const codes = results.map((result) =>
      result.status === 'rejected' ? (result.reason as { code: string }).code : 'sent',
    );
    expect(new Set(codes.slice(0, 200))).toEqual(new Set(['ERR_SEND_FAILED']));
    expect(new Set(codes.slice(200))).toEqual(new Set(['ERR_QUEUE_FULL']));
    expect((results[0] as PromiseRejectedResult).reason).toBeInstanceOf(SendFailedError);
    expect((results[0] as PromiseRejectedResult).reason).toMatchObject({ retryable: true });
    expect(took).toBeGreaterThanOrEqual(700);
    expect(took).toBeLessThan(5_000);

    await server.restart();
    await until('the writer is back', () => streamer.connections.ofRole('writer')[0]?.state === 'ready');
    await producer.send('back again');
    expect(await bench.admin(server.url).xlen('queue')).toBe(1);
  });

  it('stores the sends that waited for it in the order in which they were sent', async () => {
    const server = await bench.server(NOT_PERSISTENT);
    const streamer = await bench.streamer(server.url);
    const producer = await streamer.createProducer('order', { maxBatch: 7 });
    await server.kill();
    const sends = Array.from({ length: 300 }, (_, index) => producer.send(String(index)));
    await server.restart();
    await Promise.all(sends);

    const entries = await bench.admin(server.url).xrange('order', '-', '+');
    expect(entries.map(([, fields]) => fields[1])).toEqual(Array.from({ length: 300 }, (_, index) => String(index)));
  });
});
