import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { RedisCluster } from '../support/redis-cluster.js';
import { runTool } from '../support/tool.js';

describe('while a master of a cluster is away, with no replica in its place,', () => {
  let cluster: RedisCluster;
  let kept: string;
  let lost: string;

  beforeAll(async () => {
    cluster = await RedisCluster.start({ args: ['--cluster-require-full-coverage', 'no'], nodeTimeout: 2_000 });
    [kept, lost] = (await cluster.keys('orders', 2)) as [string, string];
    for (const key of [kept, lost]) {
      const { admin } = await cluster.masterOf(key);
      await admin.xadd(key, '1-0', 'msg', key);
      await admin.xgroup('CREATE', key, 'workers', '0');
    }
  });
  afterAll(() => cluster.stop());

  it('ls, info, groups and lag show what the other masters have, and warn of the rest', async () => {
    const { server } = await cluster.masterOf(lost);
    await server.kill();
    const url = cluster.masters[0]?.server.url as string;
    const run = (...args: string[]): ReturnType<typeof runTool> => runTool([...args, '--cluster'], { url });

    const shows = { code: 0, stdout: expect.stringContaining('workers'), stderr: expect.stringContaining('Left out') };
    const [listing, ...others] = await Promise.all([
      run('ls', 'orders*', '--json'),
      run('info', kept),
      run('groups', kept),
      run('lag', kept),
      run('lag', lost),
      run('lag', kept, '--check', 'max=9', '--timeout', '3s'),
    ]);
    expect(listing).toMatchObject({ code: 0, stderr: expect.stringContaining(`${server.host}:${server.port}`) });
    expect(JSON.parse(listing.stdout)).toMatchObject([{ streamKey: kept, length: 1 }]);
    const fails = { code: 1, stderr: expect.stringContaining(`The node of '${lost}' does not answer`) };
    expect(others).toMatchObject([shows, shows, shows, fails, { code: 1 }]);
  });
});
