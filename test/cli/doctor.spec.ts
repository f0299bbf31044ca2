import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { RedisStreamer } from '../../lib/index.js';
import { RedisServer } from '../support/redis-server.js';
import { runTool } from '../support/tool.js';
import { until } from '../support/until.js';

interface Finding {
  level: string;
  check: string;
  subject: string;
  message: string;
  advice?: string;
}

describe('doctor', () => {
  let server: RedisServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await RedisServer.start();
    redis = new Redis(server.url);
  });
  beforeEach(() => redis.flushall());
  afterAll(async () => {
    await redis.quit();
    await server.stop();
  });

  async function doctor(...args: string[]): Promise<{ code: number | null; findings: Finding[] }> {
    const { code, stdout, stderr } = await runTool(['doctor', '--json', ...args], { url: server.url });
    expect(stderr).toBe('');
    return { code, findings: JSON.parse(stdout) as Finding[] };
  }

  it('exits with 0 if no message can be lost', async () => {
    const { code, findings } = await doctor();
    expect(code).toBe(0);
    expect(findings.filter(({ level }) => level === 'danger' || level === 'warning')).toEqual([]);
    const checks = ['version', 'eviction', 'persistence', 'clock', 'permissions', 'groups', 'consumer names'];
    expect(findings.map(({ check }) => check).sort()).toEqual(checks.sort());
  });

  it.each([
    ['a policy that deletes whole streams', { 'maxmemory-policy': 'allkeys-lru' }, 'eviction', 'danger', 3],
    ['no persistence at all', { appendonly: 'no', save: '' }, 'persistence', 'danger', 3],
    ['a policy that deletes keys with an expiry', { 'maxmemory-policy': 'volatile-ttl' }, 'eviction', 'warning', 0],
    ['snapshots only', { appendonly: 'no', save: '3600 1' }, 'persistence', 'warning', 0],
  ])('finds %s', async (_case, settings, check, level, exit) => {
    const names = Object.keys(settings);
    const before = await Promise.all(
      names.map(async (name) => [name, String(((await redis.config('GET', name)) as string[])[1])] as const),
    );
    try {
      for (const [name, value] of Object.entries(settings)) await redis.config('SET', name, value);
      const { code, findings } = await doctor();
      expect(findings.filter((finding) => finding.check === check)).toMatchObject([
        { level, advice: expect.stringMatching(/CONFIG SET/) },
      ]);
      expect(code).toBe(exit);
    } finally {
      for (const [name, value] of before) await redis.config('SET', name, value);
    }
  });

  it('checks all that a user may who has the permissions of a service only', async () => {
    const rules = ['reset', 'on', '>pw', '~*', '+@read', '+@write', '+@stream', '+info', '+ping', '+time', '-scan'];
    await redis.acl('SETUSER', 'service', ...rules);
    await redis.xadd('orders', '*', 'msg', 'x');
    const url = server.url.replace('redis://', 'redis://service:pw@');
    const { code, stdout } = await runTool(['doctor', 'orders', '--json'], { url });
    const findings = JSON.parse(stdout) as Finding[];
    expect(findings.map(({ check }) => check)).toEqual(expect.arrayContaining(['version', 'permissions', 'groups']));
    expect(findings.find(({ check }) => check === 'consumer names')).toMatchObject({
      level: 'note',
      message: expect.stringContaining('NOPERM'),
    });
    expect(code).not.toBe(1);
  });

  it('finds dead groups, long pending lists, paused groups and dead letters', async () => {
    await redis.xadd('orders', '1-0', 'msg', 'x');
    await redis.xadd('orders', '2-0', 'msg', 'x');
    await redis.xgroup('CREATE', 'orders', 'gone', '0');
    await redis.xgroup('CREATE', 'orders', 'slow', '0');
    await redis.xreadgroup('GROUP', 'slow', 'w1', 'COUNT', 2, 'STREAMS', 'orders', '>');
    await redis.xgroup('CREATE', 'orders', 'waiting', '0');
    await redis.xadd('orders.dead', '*', 'msg', 'x');
    await runTool(['pause', 'orders', 'waiting', '--yes'], { url: server.url });
    const { code, findings } = await doctor('--dead-after', '1h', '--max-pending', '1');
    const found = findings.filter(({ check }) => ['groups', 'pending', 'dead letters'].includes(check));
    expect(found).toMatchObject([
      {
        level: 'warning',
        check: 'groups',
        subject: 'gone of orders',
        advice: expect.stringMatching(/XGROUP DESTROY orders gone/),
      },
      {
        level: 'warning',
        check: 'pending',
        subject: 'slow of orders',
        message: expect.stringMatching(/^2 pending entries/),
      },
      { level: 'note', check: 'groups', subject: 'waiting of orders', message: 'the group is paused' },
      { level: 'note', check: 'dead letters', subject: 'orders.dead', advice: 'nrs dead ls orders' },
    ]);
    expect(code).toBe(0);
  });

  it('finds a consumer name that two live processes use', async () => {
    const streamer = await RedisStreamer.connect(server.url);
    const options = { mode: 'load-balanced', group: 'workers', mkStream: true } as const;
    const same = await streamer.createConsumer('orders', { ...options, consumer: 'same' });
    same.on('error', () => undefined);
    await streamer.createConsumer('orders', { ...options, consumer: 'other' });
    const key = 'nrs:{orders}:name:orders:workers:same';
    await until('the name is held', async () => (await redis.exists(key)) === 1);
    // As another process would, but more often, and not in step with the consumer, which writes every three seconds: the two could
    // always write at nearly the same moment.
    const writing = setInterval(() => void redis.set(key, 'another', 'PX', 60_000), 470);
    const { findings } = await doctor().finally(() => clearInterval(writing));
    await streamer.disconnect();
    expect(findings.filter(({ check }) => check === 'consumer names')).toMatchObject([
      { level: 'warning', subject: 'orders:workers:same', advice: expect.stringMatching(/a name of its own/) },
    ]);
  });
});
