import type { Redis } from 'ioredis';
import { beforeEach, describe, expect, it } from '@jest/globals';

import { withResolvers } from '../../../lib/shared/deferred.js';
import { ServerRedisStreams } from '../../../lib/index.js';
import type { HandlerExtras, ServerRedisStreamsOptions } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;
let admin: Redis;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
});

interface Instance {
  readonly name: string;
  readonly handle: (id: number) => Promise<void> | void;
  readonly options?: ServerRedisStreamsOptions;
  readonly extras?: HandlerExtras;
}

/** A server that handles `s`, retries each failure once after `delay`, and has the consumer name `name`. */
async function start({ name, handle, options, extras }: Instance, delay: number): Promise<void> {
  const logger = { error: () => undefined, warn: () => undefined, log: () => undefined };
  const retry = { attempts: 5, delay, factor: 1, jitter: 0 };
  const strategy = new ServerRedisStreams({
    connection: server.url,
    group: 'g',
    consumer: name,
    retry,
    logger,
    blockTimeout: 1_000,
    ...options,
  });
  strategy.addHandler('s', async (id: number) => handle(id), true, { ...extras });
  bench.endLater(() => strategy.close());
  const listening = withResolvers<void>();
  void strategy.listen((error?: unknown) => (error ? listening.reject(error as Error) : listening.resolve()));
  await listening.promise;
}

/** In one transaction, so that one read returns all. */
const send = async (count: number): Promise<void> => {
  const transaction = admin.multi();
  for (let id = 0; id < count; id += 1) transaction.xadd('s', '*', 'msg', String(id));
  await transaction.exec();
};

/** Fails each message the first time, and notes what succeeded. */
class Handler {
  readonly failed = new Set<number>();
  readonly succeeded: number[] = [];
  readonly handle = (id: number): void => {
    if (!this.failed.has(id)) {
      this.failed.add(id);
      throw new Error('not yet');
    }
    this.succeeded.push(id);
  };

  /** Each of them, once. */
  get isDone(): boolean {
    return this.succeeded.length === this.failed.size;
  }
}

const range = (count: number): number[] => Array.from({ length: count }, (_, id) => id);

describe('a message that waits for its retry', () => {
  it.each([
    ['load-balanced', 'its consumer is deleted', () => admin.xgroup('DELCONSUMER', 's', 'g', 'me')],
    ['load-balanced', 'its group is destroyed', () => admin.xgroup('DESTROY', 's', 'g')],
    ['load-balanced', 'its stream is deleted', () => admin.del('s')],
    ['load-balanced', 'everything is flushed', () => admin.flushall()],
    ['resumable', 'its consumer is deleted', () => admin.xgroup('DELCONSUMER', 's', 'g', 'me')],
    ['resumable', 'its group is destroyed', () => admin.xgroup('DESTROY', 's', 'g')],
    ['resumable', 'its stream is deleted', () => admin.del('s')],
  ] as const)('%s: is handled again, once, when %s', async (mode, _, takeAway) => {
    const handler = new Handler();
    await start({ name: 'me', handle: handler.handle, options: { mode } }, 1_500);
    await send(50);
    await until('all have failed', () => handler.failed.size === 50);
    await takeAway();

    await until('all have succeeded', () => handler.isDone, 15_000);
    expect(handler.succeeded.sort((a, b) => a - b)).toEqual(range(50));
    await until('nothing is pending', async () => (await admin.xpending('s', 'g').catch(() => [0]))[0] === 0);
  });

  it('is pending again before it is due, so that it is not lost with its process', async () => {
    const handler = new Handler();
    await start({ name: 'me', handle: handler.handle, options: { autoClaimIdle: 900 } }, 60_000);
    await send(5);
    await until('all have failed', () => handler.failed.size === 5);
    await until('all are pending', async () => (await admin.xpending('s', 'g'))[0] === 5);
    await admin.xgroup('DELCONSUMER', 's', 'g', 'me');

    await until('all are pending again', async () => (await admin.xpending('s', 'g'))[0] === 5);
  });
});

describe('a message in a handler, or behind it', () => {
  it.each([
    ['its group is destroyed, and another instance creates it again', () => admin.xgroup('DESTROY', 's', 'g')],
    ['its consumer is deleted', () => admin.xgroup('DELCONSUMER', 's', 'g', 'busy')],
  ])('is handled to its success when %s', async (_, takeAway) => {
    const handler = new Handler();
    const busy = async (id: number): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      handler.handle(id);
    };
    await start({ name: 'busy', handle: busy, options: { concurrency: 2, batchSize: 5, prefetch: 5 } }, 400);
    await send(7);
    await until('the instance is full', async () => (await admin.xpending('s', 'g'))[0] === 7);
    const others: number[] = [];
    await start({ name: 'idle', handle: (id) => void others.push(id) }, 400);
    await takeAway();

    await until('all have succeeded', () => new Set([...handler.succeeded, ...others]).size === 7, 10_000);
  });

  it.each<ServerRedisStreamsOptions>([
    { mode: 'load-balanced', autoClaimIdle: 900 },
    { mode: 'load-balanced', autoClaimIdle: 900, autoClaimInterval: false },
    { mode: 'resumable' },
  ])('is pending again when its consumer is deleted, so that it is not lost with its process (%j)', async (mode) => {
    const handled: number[] = [];
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const handle = async (id: number): Promise<void> => {
      await gate;
      handled.push(id);
    };
    await start({ name: 'me', handle, options: { ...mode, concurrency: 1, batchSize: 10, prefetch: 10 } }, 100);
    await send(8);
    await until('all are read', async () => (await admin.xpending('s', 'g'))[0] === 8);
    await admin.xgroup('DELCONSUMER', 's', 'g', 'me');
    await until('all are pending again', async () => (await admin.xpending('s', 'g'))[0] === 8, 15_000);
    release();

    await until('all are handled', () => handled.length === 8);
    expect(handled).toEqual(range(8));
    await until('nothing is pending', async () => (await admin.xpending('s', 'g'))[0] === 0);
  });
});
