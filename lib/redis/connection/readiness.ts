import type { Redis } from 'ioredis';

import { pause } from '../../shared/backoff.js';
import { classifyRedisError, replyWord } from '../commands/redis-error.js';
import { failureOf } from './ioredis-errors.js';

/** Interval at which a server that loads its data is asked whether it is ready, in milliseconds. */
const LOADING_POLL = 200;

/**
 * Resolves when the server of a connected client takes commands. It takes the place of the ready check of ioredis, which needs
 * INFO and writes to the console where that is not permitted; a proxy may not know it at all. Where INFO is refused, PING
 * tells whether the server still loads its data.
 * @param onMissing called when INFO is refused
 * @throws Error when the connection ends, the login fails, or the node that Sentinels named is no master any more
 */
export async function untilServing(client: Redis, onMissing: () => void): Promise<void> {
  while (await isLoading(client, onMissing)) await pause(LOADING_POLL);
}

async function isLoading(client: Redis, onMissing: () => void): Promise<boolean> {
  try {
    const info = String(await client.info());
    if (client.options.sentinels && /^role:(?!master)/m.test(info)) {
      throw new Error('the node that the Sentinels named is no master');
    }
    return /^loading:1/m.test(info);
  } catch (error) {
    const failure = failureOf(error);
    if (replyWord(failure) === 'LOADING') return true;
    if (replyWord(failure) !== 'NOPERM' && classifyRedisError(failure) !== 'unsupported') throw error;
    onMissing();
    return client.ping().then(
      () => false,
      (refusal: unknown) => replyWord(failureOf(refusal)) === 'LOADING',
    );
  }
}

/**
 * Makes sure of the database: when SELECT is refused, ioredis continues in database 0, and messages would be stored where no
 * consumer looks for them.
 */
export async function selectDatabase(client: Redis): Promise<void> {
  if (client.options.db) await client.select(client.options.db);
}
