import type { Redis } from 'ioredis';
import { beforeEach, describe, expect, it } from '@jest/globals';

import type { ServerRedisStreamsOptions } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { FaultBench } from '../support/fault-bench.js';
import { startInstance } from '../support/instances.js';
import type { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';

const COUNT = 5;
const bench = new FaultBench();
let server: RedisServer;
let admin: Redis;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
});

/** Messages that a process had read under this consumer name when it ended. */
async function leaveBehind(stream: string): Promise<void> {
  await admin.xgroup('CREATE', stream, 'g', '0', 'MKSTREAM');
  for (let n = 0; n < COUNT; n += 1) await admin.xadd(stream, '*', 'msg', String(n));
  await admin.xreadgroup('GROUP', 'g', 'me', 'COUNT', COUNT, 'STREAMS', stream, '>');
}

const optionsOf = (options: Partial<ServerRedisStreamsOptions>): ServerRedisStreamsOptions => ({
  connection: server.url,
  group: 'g',
  consumer: 'me',
  ...options,
});

describe('messages that a crash has left behind', () => {
  it('run one at a time in a process, however many servers it has', async () => {
    let running = 0;
    let most = 0;
    let handled = 0;
    const handle = async (): Promise<void> => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 20));
      running -= 1;
      handled += 1;
    };
    for (const stream of ['a', 'b']) await leaveBehind(stream);
    for (const stream of ['a', 'b']) await startInstance(bench, [onEvent(stream, handle)], optionsOf({}));

    await until('all are handled', () => handled === 2 * COUNT);
    expect(most).toBe(1);
  });

  it.each([{ retry: { attempts: 1 } }, { retry: false }] as const)(
    'are handled with %j, too: whether an earlier process had begun them is not known',
    async (options) => {
      await leaveBehind('a');
      const handled: number[] = [];
      await startInstance(bench, [onEvent('a', (n: number) => void handled.push(n))], optionsOf(options));

      await until('nothing is pending', async () => (await admin.xpending('a', 'g'))[0] === 0);
      expect(handled.sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4]);
      expect(await admin.exists('a.dead')).toBe(0);
    },
  );
});

describe('messages that a crash has left behind, and that wait for their turn', () => {
  it.each([
    ['load-balanced', 'its consumer is deleted', () => admin.xgroup('DELCONSUMER', 'a', 'g', 'me')],
    ['load-balanced', 'its group is destroyed', () => admin.xgroup('DESTROY', 'a', 'g')],
    ['load-balanced', 'its stream is deleted', () => admin.del('a')],
    ['load-balanced', 'everything is flushed', () => admin.flushall()],
    ['load-balanced', 'its stream is replaced', () => admin.set('a', 'text')],
    ['resumable', 'its consumer is deleted', () => admin.xgroup('DELCONSUMER', 'a', 'g', 'me')],
    ['resumable', 'its group is destroyed', () => admin.xgroup('DESTROY', 'a', 'g')],
    ['resumable', 'its stream is deleted', () => admin.del('a')],
  ] as const)('%s: are all handled once when %s', async (mode, _, takeAway) => {
    const handled: number[] = [];
    const handle = async (n: number): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      handled.push(n);
    };
    await leaveBehind('a');
    await startInstance(bench, [onEvent('a', handle)], optionsOf({ mode }));
    await until('the first is handled', () => handled.length === 1);
    await takeAway();
    await until('all are handled', () => handled.length === COUNT, 15_000);
    expect(handled).toEqual([0, 1, 2, 3, 4]);
    await until('nothing is pending', async () => (await admin.xpending('a', 'g').catch(() => [0]))[0] === 0);
    expect(handled).toHaveLength(COUNT);
  });

  it('do not hold up those of other streams when Redis does not let them be counted', async () => {
    const handled: string[] = [];
    const slow =
      (stream: string) =>
      async (n: number): Promise<void> => {
        await new Promise((resolve) => setTimeout(resolve, 200));
        handled.push(`${stream}${n}`);
      };
    for (const stream of ['a', 'b']) await leaveBehind(stream);
    await startInstance(bench, [onEvent('a', slow('a')), onEvent('b', slow('b'))], optionsOf({}));
    await until('the first is handled', () => handled.length === 1);
    await admin.acl('SETUSER', 'default', 'resetkeys', '~b', '~nrs:*');

    await until('all of b are handled', () => handled.filter((name) => name.startsWith('b')).length === COUNT, 15_000);
    await admin.acl('SETUSER', 'default', 'allkeys');
    await until('all are handled', () => handled.length === 2 * COUNT, 15_000);
  });
});
