import { Redis } from 'ioredis';

import { PAYLOAD } from '../load.js';
import { KEY_PREFIX } from '../row.js';
import type { Entrant } from '../row.js';
import { BACKLOG } from './backlog.js';

const MESSAGES = 20_000;

/** The simplest loop: one message for each command. */
export const appendOneByOne: Entrant = {
  name: 'await xadd() for each',
  isPeer: true,
  async open({ url, scale }) {
    const redis = new Redis(url);
    const key = `${KEY_PREFIX}one-by-one`;
    const messages = MESSAGES * scale;
    return {
      reset: async () => void (await redis.del(key)),
      async work() {
        for (let sent = 0; sent < messages; sent += 1) await redis.xadd(key, '*', 'msg', PAYLOAD);
        return { messages };
      },
      close: async () => void (await redis.quit()),
    };
  },
};

export const readOneByOne: Entrant = {
  name: 'await xreadgroup() and xack() for each',
  isPeer: true,
  async open({ url, scale }) {
    const redis = new Redis(url);
    const { key } = BACKLOG;
    const group = 'one-by-one';
    const messages = MESSAGES * scale;
    return {
      async reset() {
        await redis.xgroup('DESTROY', key, group);
        await redis.xgroup('CREATE', key, group, '0');
      },
      async work() {
        for (let seen = 0; seen < messages; seen += 1) {
          const reply = await redis.xreadgroup('GROUP', group, 'reader', 'COUNT', 1, 'STREAMS', key, '>');
          const id = reply?.[0]?.[1][0]?.[0];
          if (id === undefined) throw new Error('the backlog is shorter than it should be');
          await redis.xack(key, group, id);
        }
        return { messages };
      },
      close: async () => void (await redis.quit()),
    };
  },
};
