import { afterAll, afterEach, beforeAll, beforeEach } from '@jest/globals';
import { Redis } from 'ioredis';
import { RedisStreamer } from '../../lib/index.js';
import type {
  Payload,
  RedisStreamsLogger,
  StreamConsumer,
  StreamMessage,
  StreamProducer,
  StreamerOptions,
} from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { ownConnectionLines } from './connections.js';
import { redisUrl } from './redis.js';
import { until } from './until.js';

/** The fixture of every test of the engine; see {@link useStreams}. */
export interface TestStreams {
  /** The test's server, in a database that no other test file uses at the same time. */
  readonly url: string;
  /** A plain client, to inspect the server and to write as other clients do. */
  readonly redis: Redis;
  /** The number of open reader connections, including those of other processes. */
  readers(): Promise<number>;
  /** Creates a streamer that is disconnected after the test. */
  connect(options?: StreamerOptions): Promise<RedisStreamer>;
}

/** Milliseconds; short, because tests wait for the end of blocked reads. */
const TEST_BLOCK_TIMEOUT = 1_000;
const READ_LIMIT = 10_000;
const silent: RedisStreamsLogger = { error: () => undefined, warn: () => undefined, log: () => undefined };

/**
 * Creates streamers for a test file, disconnects them after each test, and fails a test that leaves a connection or a
 * timer. Connections are identified by their name and by their database number, which is that of the Jest worker.
 */
export function useStreams(): TestStreams {
  const url = new URL(redisUrl());
  url.pathname = `/${process.env['JEST_WORKER_ID'] ?? '1'}`;
  const streamers: RedisStreamer[] = [];
  let redis: Redis;
  let before: Map<string, number>;

  beforeAll(() => {
    redis = new Redis(url.href, { protocol: 2 });
  });
  beforeEach(async () => {
    await redis.flushdb();
    before = activeResources();
  });
  afterEach(async () => {
    await Promise.all(streamers.splice(0).map((streamer) => streamer.disconnect()));
    await until('no connection of the engine is left', async () => (await ownConnectionLines(redis)).length === 0);
    await until('no timer or socket of the engine is left', () => hasNoMoreThan(before));
  });
  afterAll(async () => {
    await redis.quit();
  });

  return {
    url: url.href,
    get redis() {
      return redis;
    },
    readers: async () => (await ownConnectionLines(redis, 'reader')).length,
    async connect(options) {
      const streamer = await RedisStreamer.connect(url.href, {
        blockTimeout: TEST_BLOCK_TIMEOUT,
        logger: silent,
        ...options,
      });
      streamers.push(streamer);
      return streamer;
    },
  };
}

/** Reads the next messages; fails if they do not arrive in time. */
export async function take(consumer: StreamConsumer, count: number): Promise<StreamMessage[]> {
  const signal = AbortSignal.timeout(READ_LIMIT);
  const messages: StreamMessage[] = [];
  while (messages.length < count) messages.push(await consumer.next({ signal }));
  return messages;
}

/** Reads the next messages and returns their payloads. */
export async function takeTexts(consumer: StreamConsumer, count: number): Promise<string[]> {
  return texts(await take(consumer, count));
}

export function texts(messages: readonly StreamMessage[]): string[] {
  return messages.map((message) => message.text());
}

/** The decimal strings from `first` to `last`, both included. */
export function numbers(first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, index) => String(first + index));
}

/** Sends the decimal strings from `first` to `last` and waits until Redis has them. */
export async function sendNumbers(producer: StreamProducer, first: number, last: number): Promise<void> {
  await Promise.all(numbers(first, last).map((payload) => producer.send(payload)));
}

/** Appends as a client in another language would. */
export async function addRaw(redis: Redis, key: string, ...fields: Payload[]): Promise<string> {
  return String(await redis.xadd(key, '*', ...fields.map((field) => Buffer.from(field as string))));
}

export interface PendingRow {
  readonly id: string;
  readonly consumer: string;
  readonly idle: number;
  readonly deliveryCount: number;
}

/** The pending entries list of a group on the server. */
export async function pendingOf(redis: RedisClient, key: string, group: string): Promise<PendingRow[]> {
  const rows = (await redis.xpending(key, group, '-', '+', 10_000)) as Array<[string, string, number, number]>;
  return rows.map(([id, consumer, idle, deliveryCount]) => ({ id, consumer, idle, deliveryCount }));
}

/** The consumer names of a group on the server. */
export async function consumersOf(redis: RedisClient, key: string, group: string): Promise<string[]> {
  const rows = (await redis.xinfo('CONSUMERS', key, group)) as Array<Array<string | number>>;
  return rows.map((row) => String(row[1]));
}

function activeResources(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of process.getActiveResourcesInfo()) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

function hasNoMoreThan(before: ReadonlyMap<string, number>): boolean {
  const now = activeResources();
  return ['Timeout', 'TCPSocketWrap', 'TCPConnectWrap', 'Immediate'].every(
    (name) => (now.get(name) ?? 0) <= (before.get(name) ?? 0),
  );
}
