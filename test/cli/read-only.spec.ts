import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { RedisStreamer } from '../../lib/engine.js';
import { RedisServer } from '../support/redis-server.js';
import { RunningTool, runTool } from '../support/tool.js';

/** Processes. */
const AT_ONCE = 4;

describe('read-only commands', () => {
  let server: RedisServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await RedisServer.start();
    redis = new Redis(server.url);
  });
  afterAll(async () => {
    await redis.quit();
    await server.stop();
  });

  /** Every key with its content and its expiry, and the groups of every stream. */
  async function everything(): Promise<unknown> {
    const keys = (await redis.keys('*')).sort();
    return Promise.all(
      keys.map(async (key) => ({
        key,
        content: (await redis.dumpBuffer(key))?.toString('base64'),
        // Redis 6.0 has no EXPIRETIME.
        expires: (await redis.pttl(key)) > 0,
        groups: (await redis.type(key)) === 'stream' ? await redis.xinfo('GROUPS', key) : undefined,
      })),
    );
  }

  it('change no key and no expiry, join no group, and move no delayed message', async () => {
    const streamer = await RedisStreamer.connect(server.url);
    const producer = await streamer.createGenericProducer();
    const receipt = await producer.sendTo('orders', 'x', { deduplication: { id: 'once', within: 3_600_000 } });
    await producer.sendTo('orders', 'due', { delay: 400 });
    await producer.sendTo('orders.dead', 'x');
    await streamer.disconnect();
    await redis.xgroup('CREATE', 'orders', 'workers', '0');
    await redis.xreadgroup('GROUP', 'workers', 'w1', 'COUNT', 1, 'STREAMS', 'orders', '>');
    await redis.set('other', 'value', 'PX', 3_600_000);
    const commands = [
      ['ls'],
      ['info', 'orders'],
      ['tail', 'orders'],
      ['get', 'orders', receipt.id],
      ['groups', 'orders'],
      ['lag', 'orders', '--check', 'max=10'],
      ['pending', 'orders', 'workers'],
      ['consumers', 'ls', 'orders', 'workers'],
      ['dead', 'ls', 'orders'],
      ['dead', 'show', 'orders'],
      ['delayed', 'ls', 'orders'],
      ['doctor'],
      ['shards', 'orders', '--group', 'workers'],
      ['shards', 'new', '--set', '3', '--create', '--dry-run'],
      ['seek', 'orders', 'workers', '--to', 'beginning', '--dry-run'],
      ['trim', 'orders', '--dry-run'],
      ['trim', 'orders', '--max-len', '0', '--dry-run'],
      ['trim', 'orders', '--min-age', '0', '--dry-run'],
      ['dead', 'redrive', 'orders', '--dry-run'],
      ['dead', 'rm', 'orders', '--all', '--dry-run'],
      ['consumers', 'prune', 'orders', 'workers', '--idle', '0ms', '--dry-run'],
      ['delayed', 'cancel', 'orders', '--all', '--dry-run'],
    ];
    const before = await everything();
    const tail = new RunningTool(['tail', 'orders', '--follow'], { url: server.url });
    await tail.untilNoted('Following');
    for (let index = 0; index < commands.length; index += AT_ONCE) {
      const some = commands.slice(index, index + AT_ONCE);
      const results = await Promise.all(some.map((command) => runTool(command, { url: server.url })));
      expect(results.map(({ code }, at) => [some[at], code])).toEqual(some.map((command) => [command, 0]));
    }
    tail.child.kill('SIGINT');
    expect((await tail.ended).code).toBe(0);
    expect(await everything()).toEqual(before);
  });
});
