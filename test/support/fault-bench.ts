import { afterAll, afterEach } from '@jest/globals';
import { Redis } from 'ioredis';

import type { BasicConsumer } from '../../lib/engine/consuming/consumer-types.js';
import type { StreamerOptions } from '../../lib/engine/options/options.js';
import type { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import type { StreamProducer } from '../../lib/engine/producing/stream-producer.js';
import { RedisStreamer } from '../../lib/engine/streamer.js';
import { ConsumerEndedError } from '../../lib/errors.js';
import type { RedisStreamsConnection } from '../../lib/redis/connection/connection-target.js';
import { FaultProxy } from './fault-proxy.js';
import type { Ledger } from './ledger.js';
import { RedisServer, type RedisServerOptions } from './redis-server.js';
import { keepTestRedis, startTestRedis, stopLastingRedis } from './test-redis.js';
import type { TestRedis, TestRedisOptions } from './test-redis.js';

/**
 * Creates the servers, proxies, clients and streamers of a fault test, and stops them after the test. Jest itself fails
 * a test during which an unhandled rejection happens, so no listener is needed here.
 */
export class FaultBench {
  /** Warnings and errors that streamers wrote. */
  readonly log: string[] = [];
  readonly #cleanups: Array<() => unknown> = [];

  constructor() {
    afterEach(() => this.#cleanUp());
    afterAll(stopLastingRedis);
  }

  async server(options?: RedisServerOptions): Promise<RedisServer> {
    const server = await RedisServer.start(options);
    this.#cleanups.push(() => server.stop());
    return server;
  }

  /** A server or a cluster, as `REDIS_TOPOLOGY` says. */
  redis(options?: TestRedisOptions): Promise<TestRedis> {
    return startTestRedis(this, options);
  }

  /** The same, for tests that change nothing of it and use names of their own; a cluster then serves a whole file. */
  lastingRedis(options?: TestRedisOptions): Promise<TestRedis> {
    return keepTestRedis(this, options);
  }

  async proxy(server: RedisServer): Promise<FaultProxy> {
    const proxy = await FaultProxy.start(server.port);
    this.#cleanups.push(() => proxy.stop());
    return proxy;
  }

  /** Runs `end` after the test, before the clean-ups that were registered earlier. */
  endLater(end: () => unknown): void {
    this.#cleanups.push(end);
  }

  /** A plain client, to inspect the server from outside and to cause faults. */
  admin(url: string): Redis {
    let isWanted = true;
    const retryStrategy = (): number | null => (isWanted ? 50 : null);
    const client = new Redis(url, { protocol: 2, retryStrategy, maxRetriesPerRequest: 100, disconnectTimeout: 100 });
    client.on('error', () => undefined);
    this.#cleanups.push(() => {
      // If disconnect() comes while ioredis waits to reconnect, it still reconnects; retryStrategy ends that.
      isWanted = false;
      client.disconnect();
    });
    return client;
  }

  async streamer(connection: RedisStreamsConnection, options: StreamerOptions = {}): Promise<RedisStreamer> {
    const write = (message: string): unknown => this.log.push(message);
    const logger = { error: write, warn: write, log: () => undefined };
    const streamer = new RedisStreamer(connection, { timeout: 20_000, blockTimeout: 1_000, logger, ...options });
    this.#cleanups.push(() => streamer.disconnect());
    await streamer.connect();
    return streamer;
  }

  /** In reverse order: clients before their server. */
  async #cleanUp(): Promise<void> {
    this.log.length = 0;
    for (const clean of this.#cleanups.splice(0).reverse()) await clean();
  }
}

/** Passes every message to `handle` until the consumer ends; any other error rejects. */
export async function drain(consumer: BasicConsumer, handle: (message: StreamMessage) => unknown): Promise<void> {
  for (;;) {
    try {
      await handle(await consumer.next());
    } catch (error) {
      if (error instanceof ConsumerEndedError) return;
      throw error;
    }
  }
}

/** Sends numbered messages, a few in each turn, so that sends are in flight while faults happen. */
export async function sendMany(
  producer: StreamProducer,
  ledger: Ledger,
  count: number,
  { prefix = 'm', perTurn = 20 }: { prefix?: string; perTurn?: number } = {},
): Promise<void> {
  const sends: Array<Promise<void>> = [];
  for (let index = 0; index < count; index += 1) {
    const payload = `${prefix}-${index}`;
    sends.push(ledger.sent(payload, producer.send(payload)));
    if (index % perTurn === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(sends);
}
