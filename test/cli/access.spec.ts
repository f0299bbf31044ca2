import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { RedisServer } from '../support/redis-server.js';
import { RunningTool, runTool } from '../support/tool.js';

interface StreamRow {
  readonly streamKey: string;
}

const PASSWORD = 's3cret p@ss/word';

describe('access', () => {
  let server: RedisServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await RedisServer.start({ args: ['--requirepass', PASSWORD] });
    redis = new Redis({ port: server.port, password: PASSWORD });
    await redis.xadd('orders', '1-0', 'msg', 'x');
    await redis.xgroup('CREATE', 'orders', 'workers', '0');
    await redis.xadd('orders.dead', '1-0', 'msg', 'x');
  });
  afterAll(async () => {
    await redis.quit();
    await server.stop();
  });
  const urlWith = (password: string): string => `redis://:${encodeURIComponent(password)}@127.0.0.1:${server.port}`;

  it('takes the password from the URL or from the environment', async () => {
    const found = await Promise.all([
      runTool(['ls', 'orders'], { url: urlWith(PASSWORD) }),
      runTool(['ls', 'orders'], { url: server.url, env: { REDIS_PASSWORD: PASSWORD } }),
      runTool(['trim', 'orders', '--max-len', '5', '--yes'], { url: server.url, env: { REDISCLI_AUTH: PASSWORD } }),
    ]);
    expect(found.map(({ code, stderr }) => [code, stderr])).toEqual(found.map(() => [0, '']));
  });

  it('exits with 1 for a wrong or missing password, and does not print the password', async () => {
    const wrong = 'wr0ng p@ss';
    const failed = await Promise.all([
      runTool(['ls'], { url: urlWith(wrong) }),
      runTool(['ls'], { url: server.url, env: { REDIS_PASSWORD: wrong } }),
      runTool(['doctor'], { url: server.url }),
    ]);
    for (const { code, stdout, stderr } of failed) {
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(/refused the login/);
      expect(stderr).not.toContain(wrong);
      expect(stderr).not.toContain(encodeURIComponent(wrong));
    }
    const invalid = await runTool(['ls'], { url: `${urlWith(wrong)}/none` });
    expect(invalid.code).toBe(2);
    expect(invalid.stderr).not.toMatch(/wr0ng/);
    for (const args of [[urlWith(wrong)], ['ls', '--timeout', urlWith(wrong)], ['ls', 'a', urlWith(wrong)]]) {
      const misplaced = await runTool(args, { url: server.url });
      expect(misplaced.code).toBe(2);
      expect(misplaced.stderr).not.toMatch(/wr0ng/);
    }
  });

  it('asks for the password at a terminal, without an echo', async () => {
    const tool = new RunningTool(['ls', 'orders'], { url: server.url }, true);
    await tool.untilPrinted('Password of Redis: ');
    tool.child.stdin.write(`${PASSWORD}\r`);
    const { code, stdout } = await tool.ended;
    expect(stdout).toMatch(/orders/);
    expect(stdout).not.toContain(PASSWORD);
    expect(code).toBe(0);
  });

  it.each([
    ['y', 0, 0],
    ['n', 1, 1],
    ['', 1, 1],
  ])('asks before it deletes at a terminal, and answered with %j exits with %i', async (answer, exit, left) => {
    await redis.xadd('orders.dead', '*', 'msg', 'x');
    await redis.xtrim('orders.dead', 'MAXLEN', 1);
    const tool = new RunningTool(['dead', 'rm', 'orders', '--all'], { url: urlWith(PASSWORD) }, true);
    await tool.untilPrinted('Go ahead? [y/N] ');
    tool.child.stdin.write(`${answer}\r`);
    const { code, stdout } = await tool.ended;
    expect(stdout).toContain("This deletes 1 dead letter of 'orders' permanently.");
    expect({ code, left: await redis.xlen('orders.dead') }).toEqual({ code: exit, left });
  });

  it('lag --watch draws the table again at a terminal', async () => {
    const tool = new RunningTool(['lag', 'orders', '--watch', '--interval', '100ms'], { url: urlWith(PASSWORD) }, true);
    await tool.untilPrinted(/(?:orders {2}\d\d:\d\d:\d\d [^]*workers {2}[1-] [^]*){2}/);
    tool.child.stdin.write('\u0003');
    expect((await tool.ended).code).toBe(0);
  });

  it('ls and doctor name the streams that a user may not read, and show the others', async () => {
    await redis.call('ACL', 'SETUSER', 'clerk', 'on', '>pw', '~orders', '+@all');
    const url = `redis://clerk:pw@127.0.0.1:${server.port}`;
    const listed = await runTool(['ls', '--json'], { url });
    expect({ code: listed.code, keys: (JSON.parse(listed.stdout) as StreamRow[]).map((row) => row.streamKey) }).toEqual(
      {
        code: 0,
        keys: ['orders'],
      },
    );
    expect(listed.stderr).toBe('nrs: Not listed, because the user may not read them: orders.dead\n');
    const { stdout } = await runTool(['doctor', '--json'], { url });
    const findings = JSON.parse(stdout) as Array<Record<string, string>>;
    expect(findings).toContainEqual(expect.objectContaining({ level: 'warning', subject: 'orders.dead' }));
  });

  it('load reports why Redis refuses a batch', async () => {
    await redis.call('ACL', 'SETUSER', 'loader', 'on', '>pw', '~*', '+@all', '-xadd');
    const folder = await mkdtemp(join(tmpdir(), 'nrs-access-'));
    const file = join(folder, 'orders.ndjson');
    const message = { id: '1-0', streamKey: 'loaded', shardId: 0, headers: {}, payload: 'x', encoding: 'utf8' };
    await writeFile(file, `${JSON.stringify(message)}\n`);
    const { code, stderr } = await runTool(['load', '--input', file], {
      url: `redis://loader:pw@127.0.0.1:${server.port}`,
    });
    await rm(folder, { recursive: true });
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^nrs: NOPERM .*xadd.*; loaded until then: loaded: 0 of 1\n$/i),
    ]);
  });

  it('doctor names the commands that a user may not use', async () => {
    await redis.call('ACL', 'SETUSER', 'reader', 'on', '>pw', '~*', '+@read', '+@connection', '+info', '-memory');
    const { code, stdout } = await runTool(['doctor', '--json'], { url: `redis://reader:pw@127.0.0.1:${server.port}` });
    expect(code).toBe(0);
    const found = (JSON.parse(stdout) as Array<Record<string, string>>).filter(({ check }) => check === 'permissions');
    expect(found.map(({ subject }) => subject)).toEqual(found.map(() => 'reader'));
    const messages = found.map(({ message }) => message).join('\n');
    expect(messages).toMatch(/XREADGROUP, XACK.* not permitted: needed for consumer groups/);
    expect(messages).toMatch(/XADD.* not permitted/);
    expect(messages).toMatch(/EVAL not permitted/);
    expect(messages).not.toMatch(/XRANGE|XLEN/);
  });
});
