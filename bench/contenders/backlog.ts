import { Redis } from 'ioredis';

import { PAYLOAD } from '../load.js';
import { KEY_PREFIX } from '../row.js';
import type { Setting } from '../row.js';

/** The stream that all contenders read, each with its own group. */
export const BACKLOG = { key: `${KEY_PREFIX}backlog`, messages: 200_000 } as const;

/** Messages that one call of the script appends; the server is blocked during a call. */
const APPENDED_AT_ONCE = 50_000;
const APPEND = `for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'msg', ARGV[2]) end`;

export async function fillBacklog({ url, scale }: Setting): Promise<void> {
  await appendCopies(url, BACKLOG.key, BACKLOG.messages * scale, PAYLOAD);
}

/** Appends the same message `messages` times with a script, because a backlog has tens of millions of messages. */
export async function appendCopies(url: string, key: string, messages: number, payload: string): Promise<void> {
  const redis = new Redis(url);
  for (let left = messages; left > 0; left -= APPENDED_AT_ONCE) {
    await redis.eval(APPEND, 1, key, Math.min(left, APPENDED_AT_ONCE), payload);
  }
  await redis.quit();
}
