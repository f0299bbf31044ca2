import { Redis } from 'ioredis';

import { PAYLOAD } from '../load.js';
import type { Entrant } from '../row.js';
import { BACKLOG, restartGroup } from './backlog.js';
import { keyOf } from './setting.js';

const MESSAGES = 20_000;

/** The simplest loop: one awaited command at a time. */
export const appendOneByOne: Entrant = {
  name: 'await xadd() for each',
  isPeer: true,
  async open(setting) {
    const redis = new Redis(setting.url);
    const key = keyOf(setting, 'one-by-one');
    const messages = MESSAGES * setting.scale;
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
  async open(setting) {
    const redis = new Redis(setting.url);
    const key = keyOf(setting, BACKLOG.name);
    const group = 'one-by-one';
    const messages = MESSAGES * setting.scale;
    return {
      reset: () => restartGroup(redis, key, group),
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
