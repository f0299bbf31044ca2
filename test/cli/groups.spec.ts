import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { redisUrl, uniqueName } from '../support/redis.js';
import { RunningTool, runTool, runToolForJson } from '../support/tool.js';

describe('groups', () => {
  const url = redisUrl();
  let redis: Redis;
  beforeAll(() => {
    redis = new Redis(url);
  });
  afterAll(() => redis.quit());

  /** A stream with five messages, of which two were given to a consumer. */
  async function workedOn(): Promise<string> {
    const key = uniqueName('orders');
    for (const id of ['1000-0', '2000-0', '3000-0', '4000-0', '5000-0']) await redis.xadd(key, id, 'msg', id);
    await redis.xgroup('CREATE', key, 'workers', '0');
    await redis.xreadgroup('GROUP', 'workers', 'w1', 'COUNT', 2, 'STREAMS', key, '>');
    return key;
  }

  it('groups, pending and consumers ls print the state of the server', async () => {
    const key = await workedOn();
    expect(await runToolForJson(['groups', key], { url })).toMatchObject([
      {
        name: 'workers',
        pending: 2,
        lastDeliveredId: '2000-0',
        isPaused: false,
        consumers: [{ name: 'w1', pending: 2 }],
      },
    ]);
    const pending = [
      { streamKey: key, shardId: 0, id: '1000-0', consumer: 'w1', deliveryCount: 1 },
      { streamKey: key, shardId: 0, id: '2000-0', consumer: 'w1', deliveryCount: 1 },
    ];
    expect(await runToolForJson(['pending', key, 'workers'], { url })).toMatchObject(pending);
    expect(await runToolForJson(['pending', key, 'workers', '--count', '1'], { url })).toMatchObject(
      pending.slice(0, 1),
    );
    const [cut, whole] = await Promise.all(
      ['1', '2'].map((count) => runTool(['pending', key, 'workers', '--count', count], { url })),
    );
    expect([cut?.stderr, whole?.stderr]).toEqual(['nrs: Listed only up to --count 1; there are more\n', '']);
    expect(await runToolForJson(['pending', key, 'workers', '--consumer', 'w2'], { url })).toEqual([]);
    expect(await runToolForJson(['consumers', 'ls', key, 'workers'], { url })).toMatchObject([
      { name: 'w1', pending: 2 },
    ]);
    const { stdout } = await runTool(['pending', key, 'workers'], { url });
    expect(stdout).toMatch(/^ID +SHARD +CONSUMER +IDLE +DELIVERIES\n1000-0 +0 +w1 +.*1\n2000-0 +0 +w1 +.*1\n$/);
  });

  it('lag --check exits with 3 if more messages wait than are allowed, also if Redis does not count them', async () => {
    const key = await workedOn();
    const codes = async (): Promise<unknown> =>
      Promise.all(['max=2', 'max=3'].map(async (max) => (await runTool(['lag', key, '--check', max], { url })).code));
    expect(await codes()).toEqual([3, 0]);
    // Behind the position of the group: the server does not know any more how many are left.
    await redis.xdel(key, '4000-0');
    await redis.xadd(key, '6000-0', 'msg', 'x');
    expect(await codes()).toEqual([3, 0]);
    expect((await runTool(['lag', key, '--check', '1000'], { url })).code).toBe(2);
  });

  it('lag --watch prints a line for each group at each interval until it is interrupted', async () => {
    const key = await workedOn();
    const [text, json] = [[], ['--json']].map(
      (more) => new RunningTool(['lag', key, '--watch', '--interval', '100ms', ...more], { url }),
    ) as [RunningTool, RunningTool];
    // Redis 6.0 does not count.
    await text.untilPrinted(/(?:group=workers {2}lag=[3-] .*\n.*){2}/);
    await json.untilPrinted(/(?:"group":"workers",.*\n.*){2}/);
    for (const { child } of [text, json]) child.kill('SIGINT');
    expect((await text.ended).code).toBe(0);
    const { code, stdout } = await json.ended;
    expect(code).toBe(0);
    for (const line of stdout.trimEnd().split('\n')) {
      expect(JSON.parse(line)).toMatchObject({ streamKey: key, group: 'workers', pending: 2, consumers: 1 });
    }
  });

  it('seek prints with --dry-run what it would do, requires --yes, and moves the group', async () => {
    const key = await workedOn();
    const position = async (): Promise<unknown> => {
      const groups = (await redis.xinfo('GROUPS', key)) as unknown[][];
      return groups[0]?.[groups[0].indexOf('last-delivered-id') + 1];
    };
    const dry = await runToolForJson(['seek', key, 'workers', '--to', '3000-0', '--dry-run'], { url });
    expect(dry).toMatchObject([{ streamKey: key, group: 'workers', from: '2000-0', messagesAhead: 2, dryRun: true }]);
    const refused = await runTool(['seek', key, 'workers', '--to', 'beginning'], { url });
    expect(refused).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('--yes') });
    expect(await position()).toBe('2000-0');
    for (const [to, expected] of [
      ['beginning', /^0-0$/],
      ['3000-0', /^3000-0$/],
      ['end', /^5000-0$/],
      ['1970-01-01T00:00:02Z', /^2000-/],
    ] as const) {
      const { code } = await runTool(['seek', key, 'workers', '--to', to, '--yes'], { url });
      expect({ to, code, position: await position() }).toEqual({
        to,
        code: 0,
        position: expect.stringMatching(expected),
      });
    }
    expect((await runTool(['seek', key, 'workers', '--to', 'nowhere', '--yes'], { url })).code).toBe(2);
  });

  it('seek moves the group on every shard', async () => {
    const key = uniqueName('orders');
    for (const shard of [0, 1]) {
      await redis.xadd(`${key}:${shard}`, '1000-0', 'msg', 'x');
      await redis.xgroup('CREATE', `${key}:${shard}`, 'workers', '0');
    }
    await runTool(['seek', key, 'workers', '--to', 'end', '--yes'], { url });
    const groups = await runToolForJson<unknown[]>(['groups', key], { url });
    expect(groups).toMatchObject([{ name: 'workers', lastDeliveredId: '1000-0' }]);
  });

  it('consumers prune removes idle consumers without pending entries', async () => {
    const key = await workedOn();
    await redis.xgroup('CREATECONSUMER', key, 'workers', 'idle').catch(async () => {
      // Redis 6.0: a consumer that reads nothing is created, too.
      await redis.xreadgroup('GROUP', 'workers', 'idle', 'STREAMS', key, '9-9');
    });
    const prune = ['consumers', 'prune', key, 'workers', '--idle', '1ms'];
    expect(await runToolForJson([...prune, '--dry-run'], { url })).toMatchObject([{ consumer: 'idle', dryRun: true }]);
    expect((await runTool(prune, { url })).code).toBe(2);
    expect(await runToolForJson(['consumers', 'ls', key, 'workers'], { url })).toHaveLength(2);
    expect(await runToolForJson([...prune, '--yes'], { url })).toMatchObject([{ consumer: 'idle', dryRun: false }]);
    expect(await runToolForJson(['consumers', 'ls', key, 'workers'], { url })).toMatchObject([{ name: 'w1' }]);
    expect(await runToolForJson(['consumers', 'prune', key, 'workers', '--yes'], { url })).toEqual([]);
  });

  it('pause and resume need --yes, and every command shows the pause', async () => {
    const key = await workedOn();
    const isPaused = async (): Promise<unknown> =>
      (await runToolForJson<Array<{ isPaused: boolean }>>(['groups', key], { url }))[0]?.isPaused;
    expect((await runTool(['pause', key, 'workers'], { url })).code).toBe(2);
    expect(await isPaused()).toBe(false);
    expect(await runToolForJson(['pause', key, 'workers', '--yes'], { url })).toEqual([
      { streamKey: key, group: 'workers', isPaused: true },
    ]);
    expect(await isPaused()).toBe(true);
    expect((await runTool(['resume', key, 'workers', '--yes'], { url })).code).toBe(0);
    expect(await isPaused()).toBe(false);
  });

  it('fails for a group that does not exist', async () => {
    const key = await workedOn();
    for (const args of [
      ['pending', key, 'none'],
      ['consumers', 'ls', key, 'none'],
      ['seek', key, 'none', '--to', 'end'],
      ['lag', key, '--group', 'none'],
    ]) {
      const { code, stdout, stderr } = await runTool(args, { url });
      expect({ code, stdout, stderr }).toEqual({
        code: 1,
        stdout: '',
        stderr: `nrs: The stream '${key}' has no group 'none'\n`,
      });
    }
  });
});
