import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { RedisServer } from '../support/redis-server.js';
import { RunningTool } from '../support/tool.js';
import { until } from '../support/until.js';

describe('an outage that is longer than --timeout', () => {
  let server: RedisServer;
  beforeEach(async () => {
    server = await RedisServer.start({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
  });
  afterEach(() => server.stop());

  const add = async (payload: string, group: string): Promise<void> => {
    const redis = new Redis(server.url);
    await redis.xadd('orders', '*', 'msg', payload);
    await redis.xgroup('CREATE', 'orders', group, '$');
    await redis.quit();
  };

  it.each([
    ['tail --follow', ['tail', 'orders', '--follow'], 'second'],
    ['lag --watch', ['lag', 'orders', '--watch', '--interval', '100ms'], 'group=late'],
  ])('does not end %s, which continues when Redis is back', async (_name, args, expected) => {
    await add('first', 'early');
    const tool = new RunningTool([...args, '--timeout', '2s'], { url: server.url });
    await (args[0] === 'tail' ? tool.untilNoted('Following') : tool.untilPrinted('group=early'));
    const killedAt = performance.now();
    await server.kill();
    await tool.untilNoted(/; trying again until Ctrl\+C\n/);
    // What was asked before the outage may have failed at once. The next attempt begins within 250 ms, and takes as long as --timeout.
    await until('an attempt has timed out', () => performance.now() - killedAt > 5_000);
    await server.restart();
    await add('second', 'late');
    await tool.untilPrinted(expected);
    tool.child.kill('SIGINT');
    expect((await tool.ended).code).toBe(0);
    expect(tool.stderr.match(/trying again/g)).toHaveLength(1);
  });
});
