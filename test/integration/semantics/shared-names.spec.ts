import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { Redis } from 'ioredis';

import type { RedisStreamsConnection, ServerRedisStreamsOptions } from '../../../lib/index.js';
import { NEEDED, PROMPT_UNBLOCK, SCRIPTS, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import { useNestProcesses } from '../../support/nest-process.js';
import type { NestProcess } from '../../support/nest-process.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import { uniqueName } from '../../support/redis.js';
import { RedisServer } from '../../support/redis-server.js';
import { endClient, nodeClient } from '../../support/node-client.js';
import { until } from '../../support/until.js';

jest.setTimeout(60_000);
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
/** Both processes have noticed each other by then. */
const NOTICE_LIMIT = 15_000;
/** Longer than two looks of the lease, and than its life. */
const QUIET_TIME = 11_000;

const errorsOf = (service: NestProcess): string[] => service.events.flatMap(({ error }) => error ?? []);

const serve = (pattern: string, options: Partial<ServerRedisStreamsOptions> = {}): Promise<NestProcess> =>
  startService({
    pattern,
    isSilent: true,
    options: { connection: server.url, group: 'g', consumer: 'worker', ...options },
  });

async function bothNotice(pattern: string, options: Partial<ServerRedisStreamsOptions>): Promise<void> {
  const services = [await serve(pattern, options), await serve(pattern, options)];
  await until('both report it', () => services.every((service) => errorsOf(service).includes(IN_USE)), NOTICE_LIMIT);
}

describe('two live processes with one consumer name', () => {
  it('both report it, in load-balanced mode with a name that was given', async () => {
    await bothNotice(uniqueName('names'), {});
  });

  it('both report it, in resumable mode, where the name is derived', async () => {
    await bothNotice(uniqueName('names'), { mode: 'resumable', consumer: undefined });
  });

  it('both report it in Cluster', async () => {
    const cluster = await RedisCluster.start();
    bench.endLater(() => cluster.stop());
    await bothNotice(uniqueName('names'), { connection: cluster.connection as RedisStreamsConnection });
  });

  it('is shown by health(), which stays healthy: a rollout must not wait for the old process', async () => {
    const stream = uniqueName('names');
    const [one, other] = await Promise.all([bench.streamer(server.url), bench.streamer(server.url)]);
    const options = { mode: 'load-balanced', group: 'g', consumer: 'worker', mkStream: true } as const;
    const errors: unknown[] = [];
    for (const streamer of [one, other]) {
      (await streamer.createConsumer(stream, options)).on('error', (error) => errors.push(error));
    }
    await until('both report it', () => errors.length === 2, NOTICE_LIMIT);
    const { isHealthy, loops } = await one.health();
    expect(isHealthy).toBe(true);
    expect(loops[0]?.nameConflict).toMatchObject({ code: IN_USE, streamKey: stream, group: 'g', consumer: 'worker' });

    await other.disconnect();
    await until('the conflict is over', async () => !(await one.health()).loops[0]?.nameConflict, NOTICE_LIMIT);
  });
});

describe('one process after the other with one consumer name', () => {
  it('is no conflict when the first was killed and the next starts at once', async () => {
    const pattern = uniqueName('names');
    const key = `nrs:{${pattern}}:lease:${pattern}:g:worker`;
    const first = await serve(pattern);
    await until('the name is held', async () => (await admin.exists(key)) === 1);
    first.kill('SIGKILL');
    await first.ended;
    expect(await admin.exists(key)).toBe(1);
    const second = await serve(pattern);
    await pause(QUIET_TIME);
    expect(errorsOf(second)).toEqual([]);
  });

  it('is no conflict when the first was closed; the closed one leaves no key', async () => {
    const pattern = uniqueName('names');
    const first = await serve(pattern);
    first.kill('SIGTERM');
    await first.ended;
    await until('the key is gone', async () => (await admin.keys(`nrs:{${pattern}}:lease:*`)).length === 0);
    const second = await serve(pattern);
    await pause(QUIET_TIME);
    expect(errorsOf(second)).toEqual([]);
  });
});

describe('the key of a consumer name', () => {
  it('is not written for names that the package generates', async () => {
    const stream = uniqueName('names');
    const streamer = await bench.streamer(server.url);
    await streamer.createConsumer(stream, { mode: 'load-balanced', group: 'g', mkStream: true });
    await until('it reads', async () => (await streamer.health()).loops[0]?.state === 'reading');
    expect(await admin.keys(`nrs:{${stream}}:*`)).toEqual([]);
  });

  it.each([
    ['may not GET and SET', `${NEEDED} ${SCRIPTS} ${PROMPT_UNBLOCK}`],
    [
      'may not use keys beside its streams',
      `${NEEDED} ${SCRIPTS} ${PROMPT_UNBLOCK} +get +set`.replace('~app:*', '~app:names*'),
    ],
  ])('costs a user that %s one debug line, and everything else holds', async (_, rules) => {
    await setUser(admin, 'app', rules);
    const connection = server.url.replace('redis://', 'redis://app:pw@');
    const debug: string[] = [];
    const errors: string[] = [];
    const note = (message: string): unknown => errors.push(message);
    const logger = { error: note, warn: note, log: () => undefined, debug: (line: string) => void debug.push(line) };
    const streamer = await bench.streamer(connection, { keyPrefix: 'app:', logger });
    const stream = uniqueName('names');
    const options = { mode: 'load-balanced', group: 'g', consumer: 'worker', mkStream: true } as const;
    const consumer = await streamer.createConsumer(stream, options);
    await (await streamer.createProducer(stream)).send('hello');
    expect((await consumer.next()).text()).toBe('hello');
    const lines = (): string[] => debug.filter((line) => line.includes("the consumer name 'worker'"));
    await until('it is noted', () => lines().length > 0);
    await pause(4_000);
    expect(lines()).toHaveLength(1);
    expect(errors).toEqual([]);
    await consumer.end();
    expect(errors).toEqual([]);
  });
});
