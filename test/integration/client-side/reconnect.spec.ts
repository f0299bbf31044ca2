import { createServer } from 'node:net';
import { Redis } from 'ioredis';
import { beforeEach, describe, expect, it } from '@jest/globals';

import { RedisStreamer } from '../../../lib/engine/streamer.js';
import { FaultBench, drain, sendMany } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { Ledger } from '../../support/ledger.js';
import type { RedisServer } from '../../support/redis-server.js';
import { stays, until } from '../../support/until.js';

const bench = new FaultBench();
const quiet = { error: () => undefined, warn: () => undefined, log: () => undefined };
let server: RedisServer;
let proxy: FaultProxy;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  proxy = await bench.proxy(server);
});

/** The timers and sockets that keep this process alive. */
const handles = (): string[] => process.getActiveResourcesInfo().filter((name) => /Timeout|TCPSocket/.test(name));

describe('a connection that is lost', () => {
  it('200 times in a row leaks no connection, listener, timer or consumer name, and loses no message', async () => {
    const streamer = await bench.streamer(proxy.url);
    const ledger = new Ledger();
    const options = { mode: 'load-balanced', group: 'g', mkStream: true } as const;
    const consumer = await streamer.createConsumer('s', { ...options, autoCommit: 'rolling', autoCommitInterval: 0 });
    void drain(consumer, (message) => {
      ledger.handledMessage(message);
      consumer.ack(message);
    });
    const producer = await streamer.createProducer('s');
    const admin = bench.admin(server.url);
    const connections = ['writer', 'control'].flatMap((role) => streamer.connections.ofRole(role as 'writer'));
    await sendMany(producer, ledger, 1, { prefix: 'first' });
    await until(
      'the message is handled and acknowledged',
      async () => (await admin.xpending('s', 'g'))[0] === 0 && ledger.handled === 1,
    );
    const observed = (): unknown => ({
      open: proxy.open,
      listeners: connections.map((connection) => connection.eventNames().map((name) => connection.listenerCount(name))),
    });
    const [before, handlesBefore] = [observed(), handles().length];

    for (let round = 0; round < 200; round += 1) {
      const { reconnects } = streamer.connections;
      const cut = proxy.cut(round % 2 === 0 ? 'rst' : 'fin');
      if (round % 20 === 0) void sendMany(producer, ledger, 5, { prefix: String(round) });
      await until(
        'all connections are back',
        () => streamer.connections.reconnects === reconnects + cut && proxy.open === 3,
      );
    }

    expect(await ledger.settled()).toMatchObject({ lost: [] });
    await until('all messages are acknowledged', async () => (await admin.xpending('s', 'g'))[0] === 0);
    await until('no handle has been added', () => handles().length <= handlesBefore + 1);
    expect(observed()).toEqual(before);
    expect(streamer.connections.reconnects).toBeGreaterThanOrEqual(600);
    expect(await admin.xinfo('CONSUMERS', 's', 'g')).toHaveLength(1);
    expect(String(await admin.client('LIST')).match(/nestjs-redis-streams/g)).toHaveLength(3);
  }, 60_000);

  it('is reported by status events, and a listener that throws has no effect', async () => {
    const streamer = await bench.streamer(proxy.url);
    const statuses: string[] = [];
    streamer.on('status', (status) => {
      statuses.push(status);
      throw new Error('a mistake of the application');
    });
    const producer = await streamer.createProducer('s');
    proxy.cut();
    await until('the connection is back', () => statuses.at(-1) === 'connected');
    await producer.send('x');
    await streamer.disconnect();

    expect(statuses).toEqual(['reconnecting', 'connected', 'disconnected']);
    expect(bench.log.some((line) => line.includes('a mistake of the application'))).toBe(true);
  });

  it('during an outage is retried with a back-off, and does not fill the log', async () => {
    const streamer = await bench.streamer(proxy.url);
    proxy.refuse();
    proxy.cut();
    await until(
      'it has retried often',
      () => streamer.connections.ofRole('writer')[0]?.state === 'connecting' && bench.log.length >= 3,
    );
    const { length } = bench.log;
    await stays('the log has at most two lines more', () => bench.log.length <= length + 2, 1_500);
    await proxy.accept();
    await until('the connection is back', () => streamer.status === 'connected');
  });

  it('is logged, and so is its end', async () => {
    const lines: string[] = [];
    const write = (line: string): void => void lines.push(line);
    const streamer = await bench.streamer(proxy.url, { logger: { error: write, warn: write, log: write } });
    proxy.cut();
    await until('the end is logged', () => lines.some((line) => line.includes('again')));

    expect(lines.at(0)).toBe(`Connection to Redis at ${new URL(proxy.url).host} lost, reconnecting`);
    expect(lines.at(-1)).toMatch(/^Connected to Redis at .* again after \d+\.\d s$/);
    expect(streamer.status).toBe('connected');
  });
});

describe('a peer that accepts connections and never answers', () => {
  it('fails connect() after its timeout, and leaves no connection or timer', async () => {
    proxy.stall();
    const before = handles().length;
    const begin = Date.now();

    const error: unknown = await RedisStreamer.connect(proxy.url, { timeout: 500, logger: quiet }).catch(
      (failure: unknown) => failure,
    );

    expect(error).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT' });
    expect((error as Error).message).toMatch(
      /within 500 ms; last cause: (it does not answer|not ready within 500 ms)$/,
    );
    expect(Date.now() - begin).toBeLessThan(5_000);
    await until('no connection or timer is left', () => {
      proxy.cut();
      return handles().length <= before;
    });
  });

  it('does not delay disconnect()', async () => {
    proxy.stall();
    for (const wait of [0, 5, 50]) {
      const streamer = new RedisStreamer(proxy.url, { timeout: 10_000, logger: quiet });
      const connecting = streamer.connect().catch((error: { code: string }) => error.code);
      await new Promise((resolve) => setTimeout(resolve, wait));
      const begin = Date.now();
      await streamer.disconnect();

      expect(await connecting).toBe('ERR_CLOSED');
      expect(Date.now() - begin).toBeLessThan(5_000);
    }
  });

  it('after a loss is retried until it answers', async () => {
    const streamer = await bench.streamer(proxy.url, { timeout: 400 });
    proxy.stall();
    proxy.cut();
    const accepted = proxy.accepted + 6;
    await until('each connection was retried three times', () => proxy.accepted >= accepted);
    proxy.unstall();

    await until('the connection is back', () => streamer.status === 'connected');
    await (await streamer.createProducer('s')).send('x');
  });

  it('that closes each connection at once is retried with a back-off', async () => {
    let accepted = 0;
    const rude = createServer((socket) => {
      accepted += 1;
      socket.destroy();
    });
    const port = await new Promise<number>((resolve) => {
      rude.listen(0, '127.0.0.1', () => resolve((rude.address() as { port: number }).port));
    });

    const connecting = RedisStreamer.connect(`redis://127.0.0.1:${port}`, { timeout: 1_000, logger: quiet });
    await expect(connecting).rejects.toMatchObject({ code: 'ERR_CONNECT_TIMEOUT' });
    await new Promise((resolve) => rude.close(resolve));
    expect(accepted).toBeLessThan(16);
  });
});

describe('a connection that the application creates', () => {
  it('is created once for each connection needed and after each loss, and is not reconnected by its own client', async () => {
    const admin = bench.admin(server.url);
    let made = 0;
    const streamer = new RedisStreamer(
      () => {
        made += 1;
        return new Redis(proxy.url, { lazyConnect: true, retryStrategy: () => 1 });
      },
      { blockTimeout: 500, logger: quiet },
    );
    await streamer.connect();
    expect(made).toBe(2);
    const consumer = await streamer.createConsumer('s', { mode: 'load-balanced', group: 'g', mkStream: true });
    await until('the consumer reads', async () => (await admin.info('clients')).includes('blocked_clients:1'));
    expect(made).toBe(3);

    proxy.cut();
    await (await streamer.createProducer('s')).send('x');
    expect((await consumer.next()).text()).toBe('x');
    await until('all connections are created again', () => made === 6 && proxy.open === 3);
    await streamer.disconnect();
    await until('all connections are closed', () => proxy.open === 0);
  });
});
