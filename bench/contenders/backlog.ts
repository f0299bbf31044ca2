import { Redis } from 'ioredis';

import { PAYLOAD } from '../load.js';
import { KEY_PREFIX } from '../row.js';
import type { Setting } from '../row.js';

/** The stream that contenders read, each with a group of its own. */
export const BACKLOG = { key: `${KEY_PREFIX}backlog`, messages: 200_000 } as const;

/** The server stands still for as long as one of these appends. */
const APPENDED_AT_ONCE = 50_000;
const APPEND = `for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'msg', ARGV[2]) end`;

export async function fillBacklog({ url, scale }: Setting): Promise<void> {
  await appendCopies(url, BACKLOG.key, BACKLOG.messages * scale, PAYLOAD);
}

/** Appends the same message so often, by a script, for tens of millions are wanted. */
export async function appendCopies(url: string, key: string, messages: number, payload: string): Promise<void> {
  const redis = new Redis(url);
  for (let left = messages; left > 0; left -= APPENDED_AT_ONCE) {
    await redis.eval(APPEND, 1, key, Math.min(left, APPENDED_AT_ONCE), payload);
  }
  await redis.quit();
}
