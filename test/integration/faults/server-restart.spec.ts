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

describe('a server that is killed and comes back', () => {
  it('loses nothing confirmed when every write is persistent', async () => {
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

  it('keeps what was handed out and not acknowledged pending, with its delivery count', async () => {
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
    await until('its late ack arrives', async () => (await admin.xpending('held', 'g'))[0] === 1);
  });

  it.each(['resumable', 'load-balanced', 'real-time'] as const)(
    'has forgotten everything: a %s consumer makes its group again and gets all that is sent from then on',
    async (mode) => {
      const server = await bench.server(NOT_PERSISTENT);
      const streamer = await bench.streamer(server.url);
      const ledger = new Ledger();
      const options = mode === 'real-time' ? { mode } : { mode, group: 'g', mkStream: true };
      void drain(await streamer.createConsumer('forgotten', options), (message) => ledger.handledMessage(message));
      const producer = await streamer.createProducer('forgotten');
      await sendMany(producer, ledger, 50, { prefix: 'before' });
      await until('all before are handled', () => ledger.handled === 50);

      await server.kill();
      const during = sendMany(producer, ledger, 50, { prefix: 'during' });
      await server.restart();
      await during;
      await sendMany(producer, ledger, 50, { prefix: 'after' });
      const { lost } = await ledger.settled();

      expect({ lost, confirmed: ledger.confirmed }).toEqual({ lost: [], confirmed: 150 });
    },
  );

  it('takes its time to load: sends wait for it, and are sent once', async () => {
    const server = await bench.server();
    const admin = bench.admin(server.url);
    await Promise.all(Array.from({ length: 300 }, (_, index) => admin.set(String(index), '')));
    const streamer = await bench.streamer(server.url);
    const ledger = new Ledger();
    const consumer = await streamer.createConsumer('loading', { mode: 'resumable', group: 'g', mkStream: true });
    void drain(consumer, (message) => ledger.handledMessage(message));
    const producer = await streamer.createProducer('loading');
    // With this it answers LOADING meanwhile; Redis 6.0 cannot be told and says nothing at all.
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

  it('has forgotten its scripts: what needs them goes on', async () => {
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
    const untilKeptAlive = async (): Promise<void> => {
      await until('it has aged', async () => (await idle()) > 120);
      await until('it is kept alive', async () => (await idle()) < 80);
    };
    await untilKeptAlive();
    await server.restart();
    await admin.script('FLUSH');
    await untilKeptAlive();
    await untilKeptAlive();
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
    expect(Date.now() - begin).toBeLessThan(1_500);
  });

  it('is waited for by connect()', async () => {
    const server = await bench.server(NOT_PERSISTENT);
    await server.kill();
    const connecting = bench.streamer(server.url);
    await server.restart();

    await expect(connecting).resolves.toMatchObject({ status: 'connected' });
  });

  it('fails sends after the timeout, however many wait, and holds no more than the queue may', async () => {
    const server = await bench.server(NOT_PERSISTENT);
    const streamer = await bench.streamer(server.url, { timeout: 800 });
    const producer = await streamer.createProducer('queue', { maxQueued: 200, maxBatch: 10 });
    await producer.send('connected');
    await server.kill();
    await until('the loss is noticed', () => streamer.connections.ofRole('writer')[0]?.state === 'connecting');

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
    expect(took).toBeLessThan(2_000);

    await server.restart();
    await until('the writer is back', () => streamer.connections.ofRole('writer')[0]?.state === 'ready');
    await producer.send('back again');
    expect(await bench.admin(server.url).xlen('queue')).toBe(1);
  });

  it('gives sends that waited for it ids in the order in which they were sent', async () => {
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
