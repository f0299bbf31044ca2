import type { Cluster, Redis } from 'ioredis';

import { PAYLOAD } from '../load.js';
import type { Setting } from '../row.js';
import { keysOf, openClient } from './setting.js';

/** The messages that contenders read, each with a group of its own. */
export const BACKLOG = { name: 'backlog', messages: 200_000 } as const;

/** One script appends so many; the server answers nothing else until it ends. */
const APPENDED_AT_ONCE = 50_000;
const APPEND = `for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'msg', ARGV[2]) end`;

export async function fillBacklog(setting: Setting): Promise<void> {
  const keys = keysOf(setting, BACKLOG.name);
  const messages = BACKLOG.messages * setting.scale;
  for (const [index, key] of keys.entries()) {
    // These shares are whole numbers, and their sum is the number of messages.
    await appendCopies(setting, key, Math.floor((messages + index) / keys.length), PAYLOAD);
  }
}

/** Creates the group at the beginning of the backlog, in place of one that has read some of it. */
export async function restartGroup(redis: Redis | Cluster, key: string, group: string): Promise<void> {
  await redis.xgroup('DESTROY', key, group);
  await redis.xgroup('CREATE', key, group, '0');
}

/** Appends copies of one message, by a script because there may be tens of millions of them. */
export async function appendCopies(setting: Setting, key: string, messages: number, payload: string): Promise<void> {
  const redis = openClient(setting);
  for (let left = messages; left > 0; left -= APPENDED_AT_ONCE) {
    await redis.eval(APPEND, 1, key, Math.min(left, APPENDED_AT_ONCE), payload);
  }
  await redis.quit();
}
