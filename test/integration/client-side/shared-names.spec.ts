import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { Redis } from 'ioredis';

import type { RedisStreamsConnection, ServerRedisStreamsOptions } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { useNestProcesses } from '../../support/nest-process.js';
import type { NestProcess } from '../../support/nest-process.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import { uniqueName } from '../../support/redis.js';
import { RedisServer } from '../../support/redis-server.js';
import { endClient, nodeClient } from '../../support/node-client.js';
import { stays, until } from '../../support/until.js';

jest.setTimeout(90_000);
const bench = new FaultBench();
const startService = useNestProcesses();
let server: RedisServer;
let admin: Redis;

beforeAll(async () => {
  server = await RedisServer.start({ args: ['--appendonly', 'no'] });
  admin = nodeClient(server.url);
});
afterAll(async () => {
  endClient(admin);
  await server.stop();
});

/** A live process reads under the same name. */
const IN_USE = 'ERR_CONSUMER_NAME_IN_USE';
/** Both processes have noticed each other by then, on a machine that is busy, too. */
const NOTICE_LIMIT = 40_000;
/** Longer than two looks of the lease, and than its life. */
const QUIET_TIME = 11_000;

const errorsOf = (service: NestProcess): string[] => service.events.flatMap(({ error }) => error ?? []);

const serve = (pattern: string, options: Partial<ServerRedisStreamsOptions> = {}): Promise<NestProcess> =>
  startService({
    pattern,
    isSilent: true,
    options: { connection: server.url, group: 'g', consumer: 'worker', ...options },
  });

async function expectBothToNotice(how: string, options: Partial<ServerRedisStreamsOptions>): Promise<void> {
  const pattern = uniqueName('names');
  const services = [await serve(pattern, options), await serve(pattern, options)];
  await until(`both report it ${how}`, () => services.every((of) => errorsOf(of).includes(IN_USE)), NOTICE_LIMIT);
}

describe('two live processes with one consumer name', () => {
  it('both report it: with a name that was given, with the derived one of resumable mode, and in Cluster', async () => {
    const cluster = await RedisCluster.start();
    bench.endLater(() => cluster.stop());
    await Promise.all([
      expectBothToNotice('in load-balanced mode with a name that was given', {}),
      expectBothToNotice('in resumable mode, where the name is derived', { mode: 'resumable', consumer: undefined }),
      expectBothToNotice('in Cluster', { connection: cluster.connection as RedisStreamsConnection }),
    ]);
  });
});

describe('one process after the other with one consumer name', () => {
  const killed = async (pattern: string): Promise<void> => {
    const key = `nrs:{${pattern}}:name:${pattern}:g:worker`;
    const first = await serve(pattern);
    await until('the name is held', async () => (await admin.exists(key)) === 1);
    first.kill('SIGKILL');
    await first.ended;
    expect(await admin.exists(key)).toBe(1);
  };
  const closed = async (pattern: string): Promise<void> => {
    const first = await serve(pattern);
    first.kill('SIGTERM');
    await first.ended;
    await until('the key is gone', async () => (await admin.keys(`nrs:{${pattern}}:name:*`)).length === 0);
  };

  it('is no conflict when the next starts at once, whether the first was killed or closed; the closed one leaves no key', async () => {
    await Promise.all(
      [killed, closed].map(async (end) => {
        const pattern = uniqueName('names');
        await end(pattern);
        const second = await serve(pattern);
        await stays('no conflict is reported', () => errorsOf(second).length === 0, QUIET_TIME);
      }),
    );
  });
});
