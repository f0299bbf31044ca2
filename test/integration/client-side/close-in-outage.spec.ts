import { setTimeout as pause } from 'node:timers/promises';

import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams, type RedisStreamsContext } from '../../../lib/index.js';
import type { ClientRedisStreamsOptions, ServerRedisStreamsOptions } from '../../../lib/index.js';
import { withResolvers } from '../../../lib/shared/deferred.js';
import { onEvent, onRequest } from '../../support/controllers.js';
import { FaultBench } from '../../support/fault-bench.js';
import { type Instance, startInstance } from '../../support/instances.js';
import { LogLines } from '../../support/nest.js';
import type { RedisServer } from '../../support/redis-server.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import { until } from '../../support/until.js';

/** How long Redis has been away when the close begins; `npm run test:outages` takes longer ones. */
const OUTAGES = (process.env['OUTAGE_SECONDS'] ?? '1').split(',').map(Number);
const SHUTDOWN_TIMEOUT = 500;
/** What closing may take in an outage beyond `shutdownTimeout`, in milliseconds. */
const MARGIN = 2_000;
/** Every send that no server has confirmed fails with one of them. */
const CODES = ['ERR_CLOSED', 'ERR_SEND_UNCERTAIN'];

jest.setTimeout(30_000 + 1_000 * Math.max(...OUTAGES));

const bench = new FaultBench();

const durationOf = async (work: Promise<unknown>): Promise<number> => {
  const begin = performance.now();
  await work;
  return performance.now() - begin;
};

const codeOf = async (work: Promise<unknown>): Promise<string> => {
  return work.then(
    () => 'none',
    (error: { code: string }) => error.code,
  );
};

const clientOf = (options: ClientRedisStreamsOptions): { client: ClientRedisStreams; log: LogLines } => {
  const log = new LogLines();
  const client = new ClientRedisStreams({ logger: log, shutdownTimeout: SHUTDOWN_TIMEOUT, ...options });
  bench.endLater(() => client.close());
  return { client, log };
};

/** Upkeep and looks for shards are due all the time. */
const BUSY = {
  group: 'g',
  shutdownTimeout: SHUTDOWN_TIMEOUT,
  shards: true,
  retention: { interval: 100 },
  consumerExpiry: 1_000,
  autoClaimInterval: 100,
  autoCommitInterval: 0,
} satisfies ServerRedisStreamsOptions;

/** An instance whose handler of the request waits for a gate: its reply begins when the server is away. */
const instanceWithReply = async (
  options: ServerRedisStreamsOptions,
  ask: ClientRedisStreams,
): Promise<{ instance: Instance; reply: () => void }> => {
  const gate = withResolvers<string>();
  let running = 0;
  const handle = (): Promise<string> => ((running += 1), gate.promise);
  const instance = await startInstance(bench, [onRequest('ask', handle), onEvent('tell', () => undefined)], options);
  ask.send('ask', 1).subscribe({ error: () => undefined });
  await until('the request is in its handler', () => running === 1);
  return { instance, reply: () => gate.resolve('answer') };
};

/** Waits for its gate, then acknowledges and commits. */
class CommittingHandler {
  readonly gate = withResolvers<void>();
  isRunning = false;
  /** The code with which the commit failed. */
  committed: Promise<string> | undefined;
  readonly handle = async (_: unknown, context: RedisStreamsContext): Promise<void> => {
    this.isRunning = true;
    await this.gate.promise;
    context.ack();
    await (this.committed = codeOf(context.commit()));
  };
}

describe.each(['down', 'suspended'] as const)('closing while Redis is %s', (how) => {
  let server: RedisServer;

  beforeEach(async () => {
    server = await bench.server({ args: ['--appendonly', 'no'] });
  });

  const takeAway = async (): Promise<void> => {
    if (how === 'down') return server.kill();
    server.pause();
    bench.endLater(() => server.resume());
  };

  it.each(OUTAGES)(
    'for %d s: disconnect() ends within shutdownTimeout and fails unconfirmed sends',
    async (seconds) => {
      const streamer = await bench.streamer(server.url, { timeout: 200_000, shutdownTimeout: SHUTDOWN_TIMEOUT });
      const producer = await streamer.createProducer('s');
      await producer.send('stored');
      await streamer.createConsumer('s', {
        mode: 'load-balanced',
        group: 'g',
        retention: { interval: 100 },
        shardDiscoveryInterval: 100,
      });
      await takeAway();
      const sends = Promise.all(Array.from({ length: 3_000 }, (_, index) => codeOf(producer.send(String(index)))));
      await pause(seconds * 1_000);

      expect(await durationOf(streamer.disconnect())).toBeLessThan(SHUTDOWN_TIMEOUT + MARGIN);
      expect((await sends).filter((code) => !CODES.includes(code))).toEqual([]);
      expect(bench.log.filter((line) => line.includes('did not confirm'))).toEqual([
        `Disconnecting: Redis did not confirm 3000 messages within ${SHUTDOWN_TIMEOUT} ms; they fail`,
      ]);
    },
  );

  it.each(OUTAGES)('for %d s: close() of a client ends within shutdownTimeout', async (seconds) => {
    const { client, log } = clientOf({ connection: server.url, timeout: 200_000, requestTimeout: 200_000 });
    await firstValueFrom(client.emit('s', 'stored'));
    await takeAway();
    const emitted = codeOf(firstValueFrom(client.emit('s', 'not stored')));
    const asked = codeOf(firstValueFrom(client.send('s', 'not answered')));
    await pause(seconds * 1_000);

    expect(await durationOf(client.close())).toBeLessThan(SHUTDOWN_TIMEOUT + MARGIN);
    expect(CODES).toContain(await emitted);
    expect(await asked).toBe('ERR_CLOSED');
    expect(log.warnings.filter((line) => line.includes('did not confirm'))).toHaveLength(1);
  });

  it.each(OUTAGES)('for %d s: close() of a server ends although a reply and acks are due', async (seconds) => {
    const { client } = clientOf({ connection: server.url });
    const options = { connection: server.url, timeout: 200_000, ...BUSY };
    const { instance, reply } = await instanceWithReply(options, client);
    await takeAway();
    reply();
    await pause(seconds * 1_000);

    expect(await durationOf(instance.app.close())).toBeLessThan(SHUTDOWN_TIMEOUT + MARGIN);
  });

  it('ends also when a handler still runs, and when it waits for context.commit()', async () => {
    const { client } = clientOf({ connection: server.url });
    const handler = new CommittingHandler();
    const options = { connection: server.url, timeout: 200_000, ...BUSY, ack: 'manual', concurrency: 2 } as const;
    const { app } = await startInstance(bench, onEvent('tell', handler.handle), options);
    await firstValueFrom(client.emit('tell', 1));
    await until('the handler runs', () => handler.isRunning);
    await takeAway();
    handler.gate.resolve();
    await until('the commit is called', () => handler.committed !== undefined);

    expect(await durationOf(app.close())).toBeLessThan(SHUTDOWN_TIMEOUT + MARGIN);
    expect(await handler.committed).toBe('ERR_CLOSED');
  });

  it('context.commit() ends after `timeout`, also when the server stays', async () => {
    const { client } = clientOf({ connection: server.url });
    const handler = new CommittingHandler();
    const options = { connection: server.url, ...BUSY, timeout: 1_000, ack: 'manual' } as const;
    await startInstance(bench, onEvent('tell', handler.handle), options);
    await firstValueFrom(client.emit('tell', 1));
    await until('the handler runs', () => handler.isRunning);
    await takeAway();
    handler.gate.resolve();
    await until('the commit is called', () => handler.committed !== undefined);

    expect(await handler.committed).toBe('ERR_CONNECTION');
  });
});

/** The client named it in its request. */
const replyKeyOf = async (cluster: RedisCluster): Promise<string> => {
  const { admin } = await cluster.masterOf('ask');
  const [[, fields]] = (await admin.xrange('ask', '-', '+')) as [[string, string[]]];
  return fields[fields.indexOf('h:reply-to') + 1] as string;
};

describe('closing while one master of a cluster stands still', () => {
  it('ends within shutdownTimeout although a reply to it and events to it are under way', async () => {
    const cluster = await RedisCluster.start();
    bench.endLater(() => cluster.stop());
    const connection = cluster.connection;
    const { client } = clientOf({ connection, timeout: 200_000 });
    const { instance, reply } = await instanceWithReply({ connection, timeout: 200_000, ...BUSY }, client);
    const replyKey = await replyKeyOf(cluster);
    const node = await cluster.masterOf(replyKey);
    node.server.pause();
    bench.endLater(() => node.server.resume());
    reply();
    const emitted = codeOf(firstValueFrom(client.emit(replyKey, 'not stored')));
    await pause(1_000);

    expect(await durationOf(instance.app.close())).toBeLessThan(SHUTDOWN_TIMEOUT + MARGIN);
    expect(await durationOf(client.close())).toBeLessThan(SHUTDOWN_TIMEOUT + MARGIN);
    expect(CODES).toContain(await emitted);
  });
});
