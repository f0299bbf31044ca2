import { Redis } from 'ioredis';

import { PAYLOAD } from '../load.js';
import type { Entrant } from '../row.js';
import { BACKLOG, restartGroup } from './backlog.js';
import { keyOf } from './setting.js';

const MESSAGES = 200_000;
const PAGE = 1_000;
const IN_FLIGHT = 4;

/** The fast way to append with ioredis alone, without any handling of errors. */
export const appendByHand: Entrant = {
  name: 'XADD pipelines by hand',
  isPeer: true,
  async open(setting) {
    const redis = new Redis(setting.url);
    const key = keyOf(setting, 'by-hand');
    const messages = MESSAGES * setting.scale;
    return {
      reset: async () => void (await redis.del(key)),
      async work() {
        await Promise.all(Array.from({ length: IN_FLIGHT }, () => append(redis, key, messages / IN_FLIGHT)));
        return { messages };
      },
      close: async () => void (await redis.quit()),
    };
  },
};

export const readByHand: Entrant = {
  name: 'XREADGROUP and XACK by hand',
  isPeer: true,
  async open(setting) {
    const redis = new Redis(setting.url);
    const key = keyOf(setting, BACKLOG.name);
    const messages = BACKLOG.messages * setting.scale;
    return {
      reset: () => restartGroup(redis, key, 'by-hand'),
      async work() {
        await read(redis, key, messages);
        return { messages };
      },
      close: async () => void (await redis.quit()),
    };
  },
};

async function append(redis: Redis, key: string, messages: number): Promise<void> {
  for (let sent = 0; sent < messages;) {
    const pipeline = redis.pipeline();
    for (let size = 0; size < PAGE && sent < messages; size += 1, sent += 1) {
      pipeline.xadd(key, '*', 'msg', PAYLOAD);
    }
    for (const [error] of (await pipeline.exec()) ?? []) if (error) throw error;
  }
}

type RawPage = Array<[key: Buffer, entries: Array<[id: Buffer, fields: Buffer[]]>]>;

async function read(redis: Redis, key: string, messages: number): Promise<void> {
  for (let seen = 0; seen < messages;) {
    const reply = await redis.xreadgroupBuffer('GROUP', 'by-hand', 'reader', 'COUNT', PAGE, 'STREAMS', key, '>');
    const entries = (reply as RawPage | null)?.[0]?.[1] ?? [];
    if (entries.length === 0) throw new Error('the backlog is shorter than it should be');
    seen += entries.length;
    await redis.xack(key, 'by-hand', ...entries.map(([id]) => id));
  }
}
