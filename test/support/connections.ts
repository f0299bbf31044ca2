import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

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

const MONITORED = /^\+\S+ \[(?<database>\d+) [^\]]*\] "(?<name>[^"]*)"/;

/**
 * Counts the commands with one of these names, in lower case, that reach the client's database. Over a socket of its own: ioredis loses
 * track of its commands where a busy server answers MONITOR.
 */
export async function countCommands(
  redis: Redis,
  ...names: string[]
): Promise<Disposable & { readonly count: number }> {
  const { host, port, db = 0 } = redis.options;
  const socket = connect(port as number, host);
  const counter = { count: 0, [Symbol.dispose]: () => socket.destroy() };
  const lines = createInterface({ input: socket });
  lines.on('line', (line) => {
    const { database, name = '' } = MONITORED.exec(line)?.groups ?? {};
    if (Number(database) === db && names.includes(name.toLowerCase())) counter.count += 1;
  });
  socket.write('MONITOR\r\n');
  await once(lines, 'line');
  return counter;
}
