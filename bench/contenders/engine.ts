import { Redis } from 'ioredis';

import { RedisStreamer } from '../../lib/index.js';
import type { ConsumerOptions, Delivery, StreamMessage, StreamProducer } from '../../lib/index.js';
import { PAYLOAD, withInFlight } from '../load.js';
import { KEY_PREFIX } from '../row.js';
import type { Entrant } from '../row.js';
import { BACKLOG } from './backlog.js';

const MESSAGES = 200_000;
/** As many as the hand-written pipelines have in flight: four of 1,000. */
const RECEIPTS_AWAITED = 4_000;

/** Queues all messages at once, then flushes once. */
export function enqueueAll(name: string, delivery: Delivery): Entrant {
  return appending(name, delivery, async (producer, messages) => {
    for (let sent = 0; sent < messages; sent += 1) producer.enqueue(PAYLOAD);
    await producer.flush();
  });
}

/** Awaits every message, {@link RECEIPTS_AWAITED} at a time. */
export function sendEach(name: string): Entrant {
  return appending(name, 'at-least-once', (producer, messages) =>
    withInFlight(messages, RECEIPTS_AWAITED, () => producer.send(PAYLOAD)),
  );
}

function appending(
  name: string,
  delivery: Delivery,
  append: (producer: StreamProducer, messages: number) => Promise<void>,
): Entrant {
  return {
    name,
    async open({ url, scale }) {
      const redis = new Redis(url);
      const streamer = await RedisStreamer.connect(url);
      const key = `${KEY_PREFIX}engine`;
      const producer = await streamer.createProducer(key, { delivery, maxQueued: MESSAGES });
      const messages = MESSAGES * scale;
      return {
        reset: async () => void (await redis.del(key)),
        async work() {
          await append(producer, messages);
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

const GROUP = 'engine';

/**
 * `next()` and `ack()` for each message; the time includes joining the group, and leaving it after everything is
 * committed.
 */
export function acknowledgeEach(name: string, batchSize: number): Entrant {
  return reading(name, async (streamer, messages) => {
    const consumer = await streamer.createConsumer(BACKLOG.key, {
      mode: 'load-balanced',
      group: GROUP,
      autoCommit: 'rolling',
      batchSize,
    });
    for (let seen = 0; seen < messages; seen += 1) consumer.ack(await consumer.next());
    await consumer.end();
  });
}

/** `for await` over all messages; the time includes creating and ending the consumer. */
export function iterate(name: string, batchSize: number): Entrant {
  return reading(name, async (streamer, messages) => {
    const options = { mode: 'real-time', autoStreamReset: 'earliest', batchSize } satisfies ConsumerOptions;
    const consumer = await streamer.createConsumer(BACKLOG.key, options);
    let left = messages;
    const isLast = (_message: StreamMessage): boolean => (left -= 1) === 0;
    for await (const message of consumer) if (isLast(message)) break;
    await consumer.end();
  });
}

function reading(name: string, read: (streamer: RedisStreamer, messages: number) => Promise<void>): Entrant {
  return {
    name,
    async open({ url, scale }) {
      const redis = new Redis(url);
      const streamer = await RedisStreamer.connect(url);
      const messages = BACKLOG.messages * scale;
      return {
        async reset() {
          await redis.xgroup('DESTROY', BACKLOG.key, GROUP);
          await redis.xgroup('CREATE', BACKLOG.key, GROUP, '0');
        },
        async work() {
          await read(streamer, messages);
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
