import { Redis } from 'ioredis';

import { RedisStreamer } from '../lib/index.js';
import { rate } from './harness.js';
import type { Comparison } from './harness.js';

const MESSAGES = 50_000;
const PAYLOAD = 'x'.repeat(256);
const PIPELINE = 1_000;
const IN_FLIGHT = 4;

/** Appending as fast as one process can, receipts not wanted. */
export async function engineSend(url: string): Promise<Comparison> {
  const redis = new Redis(url);
  const streamer = await RedisStreamer.connect(url);
  const producer = await streamer.createProducer('bench-engine-send');

  return {
    title: 'Appending',
    note: `${MESSAGES} messages of 256 bytes a round. By hand: ioredis pipelines of ${PIPELINE} XADDs, ${IN_FLIGHT} in flight, no repetition, no limit.`,
    contenders: [
      {
        name: 'XADD pipelines by hand',
        async round() {
          await redis.del('bench-hand-send');
          return rate(MESSAGES, async () => {
            await Promise.all(Array.from({ length: IN_FLIGHT }, () => appendByHand(redis, MESSAGES / IN_FLIGHT)));
          });
        },
      },
      {
        name: 'enqueue() and flush()',
        async round() {
          await redis.del('bench-engine-send');
          return rate(MESSAGES, async () => {
            for (let sent = 0; sent < MESSAGES; sent += 1) producer.enqueue(PAYLOAD);
            await producer.flush();
          });
        },
      },
    ],
    async close() {
      await redis.del('bench-hand-send', 'bench-engine-send');
      await streamer.disconnect();
      await redis.quit();
    },
  };
}

async function appendByHand(redis: Redis, messages: number): Promise<void> {
  for (let sent = 0; sent < messages;) {
    const pipeline = redis.pipeline();
    for (let size = 0; size < PIPELINE && sent < messages; size += 1, sent += 1) {
      pipeline.xadd('bench-hand-send', '*', 'msg', PAYLOAD);
    }
    for (const [error] of (await pipeline.exec()) ?? []) if (error) throw error;
  }
}
