import type { Redis } from 'ioredis';

import { pause } from '../../shared/backoff.js';
import { classifyRedisError, replyWord } from '../commands/redis-error.js';
import { failureOf } from './ioredis-errors.js';

/** Interval at which a server that loads its data is asked whether it is ready, in milliseconds. */
const LOADING_POLL = 200;

/** In place of a version: the server still loads its data. */
const LOADING = Symbol('loading');

/** Servers that have a line `<name>_version` in INFO. */
const SERVERS: ReadonlySet<string> = new Set(['redis', 'valkey', 'dragonfly', 'keydb', 'kvrocks']);

/**
 * Resolves when the server of a connected client takes commands. It takes the place of the ready check of ioredis, which needs
 * INFO and writes to the console where that is not permitted; a proxy may not know it at all. Where INFO is refused, PING
 * tells whether the server still loads its data.
 * @returns name and version of the server, where it tells them
 * @param onMissing called when INFO is refused
 * @throws Error when the connection ends, the login fails, or the node that Sentinels named is no master any more
 */
export async function untilServing(client: Redis, onMissing: () => void): Promise<string | undefined> {
  for (;;) {
    const state = await ask(client, onMissing);
    if (state !== LOADING) return state.version;
    await pause(LOADING_POLL);
  }
}

async function ask(
  client: Redis,
  onMissing: () => void,
): Promise<typeof LOADING | { readonly version: string | undefined }> {
  try {
    const info = String(await client.info());
    if (client.options.sentinels && /^role:(?!master)/m.test(info)) {
      throw new Error('the node that the Sentinels named is no master');
    }
    return /^loading:1/m.test(info) ? LOADING : { version: versionIn(info) };
  } catch (error) {
    const failure = failureOf(error);
    if (replyWord(failure) === 'LOADING') return LOADING;
    if (replyWord(failure) !== 'NOPERM' && classifyRedisError(failure) !== 'unsupported') throw error;
    onMissing();
    const refusal = await client.ping().then(
      () => undefined,
      (refused: unknown) => replyWord(failureOf(refused)),
    );
    return refusal === 'LOADING' ? LOADING : { version: undefined };
  }
}

/** Valkey and others also name the version of Redis that they are compatible with. */
function versionIn(info: string): string | undefined {
  const versions = [...info.matchAll(/^(\w+)_version:(\S+)/gm)].filter(([, name]) => SERVERS.has(name as string));
  const [, name, version] = versions.find(([, own]) => own !== 'redis') ?? versions[0] ?? [];
  return name && version && `${name[0]?.toUpperCase()}${name.slice(1)} ${version}`;
}

/**
 * Makes sure of the database: when SELECT is refused, ioredis continues in database 0, and messages would be stored where no
 * consumer looks for them.
 */
export async function selectDatabase(client: Redis): Promise<void> {
  if (client.options.db) await client.select(client.options.db);
}
