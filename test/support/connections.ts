import type { Redis } from 'ioredis';

/** Ids of the connections of this package to the database of a URL; other test files use other databases of the server. */
export async function connectionIds(redis: Redis, url: string): Promise<string[]> {
  const database = ` db=${new URL(url).pathname.slice(1)} `;
  const lines = String(await redis.client('LIST')).split('\n');
  const own = lines.filter((line) => line.includes(' name=nestjs-redis-streams') && line.includes(database));
  return own.flatMap((line) => /^id=(\d+)/.exec(line)?.[1] ?? []);
}

/** Has the server close these connections. */
export async function cutConnections(redis: Redis, url: string): Promise<void> {
  for (const id of await connectionIds(redis, url)) await redis.call('CLIENT', 'KILL', 'ID', id);
}
