import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { Redis } from 'ioredis';

import { NEEDED, PROMPT_UNBLOCK, SCRIPTS, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import { uniqueName } from '../../support/redis.js';
import { RedisServer } from '../../support/redis-server.js';
import { endClient, nodeClient } from '../../support/node-client.js';
import { stays, until } from '../../support/until.js';

jest.setTimeout(60_000);
const bench = new FaultBench();
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

/** Two consumers have noticed each other by then, on a machine that is busy, too. */
const NOTICE_LIMIT = 30_000;

describe('two live consumers with one name', () => {
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
    expect(loops[0]?.nameConflict).toMatchObject({
      code: 'ERR_CONSUMER_NAME_IN_USE',
      streamKey: stream,
      group: 'g',
      consumer: 'worker',
    });

    await other.disconnect();
    await until('the conflict is over', async () => !(await one.health()).loops[0]?.nameConflict, NOTICE_LIMIT);
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
    await stays('it is noted once', () => lines().length === 1 && errors.length === 0, 4_000);
    await consumer.end();
    expect(errors).toEqual([]);
  });
});
