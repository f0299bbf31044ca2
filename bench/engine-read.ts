import { Redis } from 'ioredis';

import { RedisStreamer } from '../lib/index.js';
import { rate } from './harness.js';
import type { Comparison } from './harness.js';

const MESSAGES = 100_000;
const PAYLOAD = 'x'.repeat(256);
const PAGE = 1_000;
const STREAM = 'bench-engine-read';

/** Reading a backlog through a group and acknowledging all of it. */
export async function engineRead(url: string): Promise<Comparison> {
  const redis = new Redis(url);
  const streamer = await RedisStreamer.connect(url);
  const producer = await streamer.createProducer(STREAM);
  for (let sent = 0; sent < MESSAGES; sent += 1) producer.enqueue(PAYLOAD);
  await producer.flush();

  let groups = 0;
  return {
    title: 'Reading and acknowledging a backlog',
    note: `${MESSAGES} messages of 256 bytes a round. By hand: XREADGROUP COUNT ${PAGE}, then one XACK for the page. The consumer's time
includes connecting and leaving the group.`,
    contenders: [
      {
        name: 'XREADGROUP and XACK by hand',
        async round() {
          const group = `by-hand-${groups++}`;
          await redis.xgroup('CREATE', STREAM, group, '0');
          return rate(MESSAGES, () => readByHand(redis, group));
        },
      },
      {
        name: 'next() and ack()',
        round: () => rate(MESSAGES, () => readWithConsumer(streamer, `engine-${groups++}`)),
      },
    ],
    async close() {
      await streamer.disconnect();
      await redis.del(STREAM);
      await redis.quit();
    },
  };
}

type RawPage = Array<[key: Buffer, entries: Array<[id: Buffer, fields: Buffer[]]>]>;

async function readByHand(redis: Redis, group: string): Promise<void> {
  for (let read = 0; read < MESSAGES;) {
    const reply = await redis.xreadgroupBuffer('GROUP', group, 'reader', 'COUNT', PAGE, 'STREAMS', STREAM, '>');
    const entries = (reply as RawPage | null)?.[0]?.[1] ?? [];
    if (entries.length === 0) throw new Error('the backlog is shorter than it should be');
    read += entries.length;
    await redis.xack(STREAM, group, ...entries.map(([id]) => id));
  }
}

async function readWithConsumer(streamer: RedisStreamer, group: string): Promise<void> {
  const consumer = await streamer.createConsumer(STREAM, {
    mode: 'resumable',
    group,
    autoStreamReset: 'earliest',
    autoCommit: 'rolling',
    batchSize: PAGE,
  });
  for (let read = 0; read < MESSAGES; read += 1) consumer.ack(await consumer.next());
  await consumer.end();
}
