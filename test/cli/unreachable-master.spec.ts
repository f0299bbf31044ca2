import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { RedisCluster } from '../support/redis-cluster.js';
import type { RedisServer } from '../support/redis-server.js';
import { runTool } from '../support/tool.js';
import { until } from '../support/until.js';

describe('after the loss of a master, in a cluster that needs all of them,', () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start({ nodeTimeout: 2_000 });
  });
  afterAll(() => cluster.stop());

  it('ls and doctor show what the others answer, and name what these do not serve', async () => {
    const [kept, lost] = (await cluster.keys('orders', 2)) as [string, string];
    const { admin } = await cluster.masterOf(kept);
    await admin.xadd(kept, '*', 'msg', kept);
    await admin.set(`nrs:{${kept}}:name:${kept}:workers:w1`, 'id of a process');
    const { server } = await cluster.masterOf(lost);
    await server.kill();
    await until('the cluster is down', async () => /cluster_state:fail/.test(await admin.cluster('INFO')), 30_000);

    const url = cluster.masters[0]?.server.url as string;
    const listing = await runTool(['ls', '--cluster'], { url });
    expect(listing).toMatchObject({ code: 0, stderr: expect.stringContaining(`does not serve them: ${kept}`) });
    const { code, stdout } = await runTool(['doctor', '--cluster'], { url });
    expect([code, stdout]).toEqual([3, expect.stringMatching(`danger +server +${server.host}:${server.port}: `)]);
    expect(stdout).toMatch(new RegExp(`warning +groups .*${kept}: not checked`));
    expect(stdout).toMatch(new RegExp(`warning +consumer names +${kept}:workers:w1: not watched`));
    const sending = await runTool(['send', kept, 'x', '--cluster', '--timeout', '2s'], { url });
    expect(sending).toMatchObject({ code: 1, stderr: expect.not.stringMatching(/^\s+at /m) });
  });

  it('load fails with one sentence and no stack', async () => {
    const url = cluster.masters[0]?.server.url as string;
    const folder = await mkdtemp(join(tmpdir(), 'nrs-down-'));
    const file = join(folder, 'orders.ndjson');
    const message = { id: '1-0', streamKey: 'loaded', shardId: 0, headers: {}, payload: 'x', encoding: 'utf8' };
    await writeFile(file, `${JSON.stringify(message)}\n`);
    const { code, stderr } = await runTool(['load', '--input', file, '--cluster', '--timeout', '2s'], { url });
    await rm(folder, { recursive: true });
    expect([code, stderr]).toEqual([1, expect.not.stringMatching(/^\s+at /m)]);
  });
});

describe('while a master of a cluster is away, with no replica in its place,', () => {
  let cluster: RedisCluster;
  let kept: string;
  let lost: string;
  let lostServer: RedisServer;
  const run = (...args: string[]): ReturnType<typeof runTool> => {
    return runTool([...args, '--cluster'], { url: cluster.masters[0]?.server.url as string });
  };

  beforeAll(async () => {
    cluster = await RedisCluster.start({ args: ['--cluster-require-full-coverage', 'no'], nodeTimeout: 2_000 });
    [kept, lost] = (await cluster.keys('orders', 2)) as [string, string];
    for (const key of [kept, lost]) {
      const { admin } = await cluster.masterOf(key);
      await admin.xadd(key, '1-0', 'msg', key);
      await admin.xgroup('CREATE', key, 'workers', '0');
    }
    lostServer = (await cluster.masterOf(lost)).server;
    await lostServer.kill();
  });
  afterAll(() => cluster.stop());

  it('ls, info, groups and lag show what the other masters have, and warn of the rest', async () => {
    const shows = { code: 0, stdout: expect.stringContaining('workers'), stderr: expect.stringContaining('Left out') };
    const [listing, ...others] = await Promise.all([
      run('ls', 'orders*', '--json'),
      run('info', kept),
      run('groups', kept),
      run('lag', kept),
      run('lag', lost),
      run('lag', kept, '--check', 'max=9', '--timeout', '3s'),
    ]);
    expect(listing).toMatchObject({
      code: 0,
      stderr: expect.stringContaining(`${lostServer.host}:${lostServer.port}`),
    });
    expect(JSON.parse(listing.stdout)).toMatchObject([{ streamKey: kept, length: 1 }]);
    const fails = { code: 1, stderr: expect.stringContaining(`The node of '${lost}' does not answer`) };
    expect(others).toMatchObject([shows, shows, shows, fails, { code: 1 }]);
  });

  it('doctor finds that out, checks the other masters, and names what it has not checked', async () => {
    const { code, stdout } = await run('doctor', kept, lost, '--json');
    expect(code).toBe(3);
    const findings = JSON.parse(stdout) as Array<Record<'level' | 'check' | 'subject', string>>;
    const subjectsOf = (level: string, check: string): string[] => {
      return findings
        .filter((finding) => finding.level === level && finding.check === check)
        .map(({ subject }) => subject);
    };
    expect(subjectsOf('danger', 'server')).toEqual([`${lostServer.host}:${lostServer.port}`]);
    const others = cluster.masters.filter(({ server }) => server !== lostServer);
    expect(subjectsOf('ok', 'clock').sort()).toEqual(
      others.map(({ server }) => `${server.host}:${server.port}`).sort(),
    );
    expect(subjectsOf('ok', 'permissions')).toEqual(['default']);
    expect(subjectsOf('warning', 'groups')).toEqual([`workers of ${kept}`, expect.stringMatching(`\\b${lost}$`)]);
    expect(subjectsOf('ok', 'consumer names')).toEqual(['all groups']);
  });

  it('doctor without a stream checks those of the other masters', async () => {
    const { code, stdout } = await run('doctor', '--json');
    expect(code).toBe(3);
    expect(stdout).toContain(`workers of ${kept}`);
    expect(stdout).not.toContain(lost);
  });
});
