import type { Cluster, Redis } from 'ioredis';

import type { ConsumerOptions, Delivery, StreamMessage, StreamProducer } from '../../lib/index.js';
import { RedisStreamer } from '../library.js';
import { PAYLOAD, withInFlight } from '../load.js';
import type { Contender, Entrant } from '../row.js';
import { BACKLOG, restartGroup } from './backlog.js';
import { expectAcknowledged, expectAppended } from './checks.js';
import { connectionOf, keysOf, openClient } from './setting.js';

const MESSAGES = 200_000;
/** As many as the hand-written pipelines have in flight: four of 1,000. */
const RECEIPTS_AWAITED = 4_000;

/** Queues all messages at once, then flushes once. */
export function enqueueAll(name: string, delivery: Delivery): Entrant {
  return appending(name, delivery, async (producer, messages, nextKey) => {
    for (let sent = 0; sent < messages; sent += 1) producer.enqueueTo(nextKey(), PAYLOAD);
    await producer.flush();
  });
}

/** Sends all messages at once without a look at their receipts, then flushes once. */
export function sendAll(name: string): Entrant {
  return appending(name, 'at-least-once', async (producer, messages, nextKey) => {
    for (let sent = 0; sent < messages; sent += 1) void producer.sendTo(nextKey(), PAYLOAD);
    await producer.flush();
  });
}

/** Awaits every message, {@link RECEIPTS_AWAITED} at a time. */
export function sendEach(name: string): Entrant {
  return appending(name, 'at-least-once', (producer, messages, nextKey) =>
    withInFlight(messages, RECEIPTS_AWAITED, () => producer.sendTo(nextKey(), PAYLOAD)),
  );
}

type Append = (producer: StreamProducer, messages: number, nextKey: () => string) => Promise<void>;

function appending(name: string, delivery: Delivery, append: Append): Entrant {
  return {
    name,
    async open(setting) {
      const redis = openClient(setting);
      const streamer = await RedisStreamer.connect(connectionOf(setting));
      const keys = keysOf(setting, 'engine');
      const messages = MESSAGES * setting.scale;
      const producer = await streamer.createGenericProducer({
        delivery,
        maxQueued: Math.max(MESSAGES, messages),
        maxQueuedBytes: 2 * PAYLOAD.length * Math.max(MESSAGES, messages),
      });
      return {
        reset: async () => void (await Promise.all(keys.map((key) => redis.del(key)))),
        async work() {
          await append(producer, messages, inTurn(keys));
          return { messages };
        },
        check: () => expectAppended(redis, keys, messages),
        async close() {
          await streamer.disconnect();
          await redis.quit();
        },
      };
    },
  };
}

function inTurn(keys: readonly string[]): () => string {
  let next = 0;
  return () => {
    const key = keys[next] as string;
    next = next + 1 === keys.length ? 0 : next + 1;
    return key;
  };
}

const GROUP = 'engine';

/**
 * `next()` and `ack()` for each message; the time includes joining the group, and leaving it after everything is
 * committed. @param batchSize without it the consumer adapts it
 */
export function acknowledgeEach(name: string, batchSize?: number): Entrant {
  return readingInGroup(name, async (streamer, keys, messages) => {
    const consumer = await streamer.createConsumer(keys, {
      mode: 'load-balanced',
      group: GROUP,
      autoCommit: 'rolling',
      ...(batchSize !== undefined && { batchSize }),
    });
    for (let seen = 0; seen < messages; seen += 1) consumer.ack(await consumer.next());
    await consumer.end();
  });
}

/** The same with commits by hand, each awaited. @param every so many messages are committed at once, at most all */
export function commitEvery(name: string, batchSize: number, every: number): Entrant {
  return readingInGroup(name, async (streamer, keys, messages) => {
    const consumer = await streamer.createConsumer(keys, {
      mode: 'load-balanced',
      group: GROUP,
      autoCommit: 'disabled',
      batchSize,
    });
    for (let seen = 0; seen < messages;) {
      const end = Math.min(messages, seen + every);
      for (; seen < end; seen += 1) consumer.ack(await consumer.next());
      await consumer.commit();
    }
    await consumer.end();
  });
}

function readingInGroup(name: string, read: Read): Entrant {
  return reading(name, read, (redis, keys) => ({
    async reset() {
      for (const key of keys) await restartGroup(redis, key, GROUP);
    },
    async check() {
      for (const key of keys) await expectAcknowledged(redis, key, GROUP);
    },
  }));
}

/** `for await` over all messages; the time includes creating and ending the consumer. */
export function iterate(name: string, batchSize: number): Entrant {
  const read: Read = async (streamer, keys, messages) => {
    const options = { mode: 'real-time', autoStreamReset: 'earliest', batchSize } satisfies ConsumerOptions;
    const consumer = await streamer.createConsumer(keys, options);
    let left = messages;
    const isLast = (_message: StreamMessage): boolean => (left -= 1) === 0;
    for await (const message of consumer) if (isLast(message)) break;
    await consumer.end();
  };
  return reading(name, read, () => ({}));
}

type Read = (streamer: RedisStreamer, keys: readonly string[], messages: number) => Promise<void>;

/** What happens between the rounds. */
type Around = (redis: Redis | Cluster, keys: readonly string[]) => Pick<Contender, 'reset' | 'check'>;

function reading(name: string, read: Read, around: Around): Entrant {
  return {
    name,
    async open(setting) {
      const redis = openClient(setting);
      const streamer = await RedisStreamer.connect(connectionOf(setting));
      const keys = keysOf(setting, BACKLOG.name);
      const messages = BACKLOG.messages * setting.scale;
      return {
        ...around(redis, keys),
        async work() {
          await read(streamer, keys, messages);
          return { messages };
        },
        async close() {
          await streamer.disconnect();
          await redis.quit();
        },
      };
    },
  };
}
