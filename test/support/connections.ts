import type { Redis } from 'ioredis';

/** Lines of CLIENT LIST for the connections to the client's database. Other test files use other databases of the server. */
async function connectionLines(redis: Redis): Promise<string[]> {
  const database = ` db=${redis.options.db ?? 0} `;
  return String(await redis.client('LIST'))
    .split('\n')
    .filter((line) => line.includes(database));
}

/** Those of this package. @param role such as 'reader'; default: all roles */
export async function ownConnectionLines(redis: Redis, role = ''): Promise<string[]> {
  return (await connectionLines(redis)).filter((line) => line.includes(` name=nestjs-redis-streams:${role}`));
}

/** Ids of this package's connections to the client's database. */
export async function connectionIds(redis: Redis): Promise<string[]> {
  return (await ownConnectionLines(redis)).flatMap((line) => /^id=(\d+)/.exec(line)?.[1] ?? []);
}

/** Has the server close this package's connections to the client's database. */
export async function cutConnections(redis: Redis): Promise<void> {
  for (const id of await connectionIds(redis)) await redis.call('CLIENT', 'KILL', 'ID', id);
}

/** Counts the commands with one of these names, in lower case, that reach the client's database. */
export async function countCommands(
  redis: Redis,
  ...names: string[]
): Promise<Disposable & { readonly count: number }> {
  const monitor = await redis.monitor();
  const counter = { count: 0, [Symbol.dispose]: () => monitor.disconnect() };
  monitor.on('monitor', (_time: string, [name]: string[], _source: string, database: string) => {
    if (Number(database) === (redis.options.db ?? 0) && names.includes(String(name).toLowerCase())) counter.count += 1;
  });
  return counter;
}
