import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { RedisCluster } from '../support/redis-cluster.js';
import { runTool, runToolForJson } from '../support/tool.js';

describe('a cluster', () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start({ args: ['--appendonly', 'yes'] });
  });
  afterAll(() => cluster.stop());

  const url = (): string => cluster.masters[0]?.server.url as string;
  const tool = <T>(...args: string[]): Promise<T> => runToolForJson<T>([...args, '--cluster'], { url: url() });

  it('commands find a stream on its node', async () => {
    const keys = await cluster.keys('orders', 3);
    for (const key of keys) {
      const { admin } = await cluster.masterOf(key);
      for (const id of ['1000-0', '2000-0', '3000-0']) await admin.xadd(key, id, 'msg', id);
      await admin.xgroup('CREATE', key, 'workers', '0');
    }
    expect(await tool('ls', 'orders*')).toMatchObject([...keys].sort().map((streamKey) => ({ streamKey, length: 3 })));
    const last = keys[2] as string;
    await tool('send', last, 'new');
    await tool('seek', last, 'workers', '--to', '3000-0', '--yes');
    expect(await tool('lag', last)).toMatchObject([{ group: 'workers', pending: 0 }]);
    expect(await tool('trim', last, '--min-age', '1h', '--yes')).toMatchObject([{ trimmed: 3 }]);
    expect(await tool('trim', last, '--max-len', '0', '--yes')).toMatchObject([{ trimmed: 1 }]);
  });

  it('a stream has its shards on several nodes', async () => {
    for (const shard of [0, 1, 2]) {
      const { admin } = await cluster.masterOf(`sharded:${shard}`);
      await admin.xadd(`sharded:${shard}`, `${3 - shard}-0`, 'msg', `of ${shard}`);
      await admin.xgroup('CREATE', `sharded:${shard}`, 'workers', '0');
    }
    const { stdout } = await runTool(['tail', 'sharded', '--json', '--cluster'], { url: url() });
    const payloads = stdout
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { payload: string }).payload);
    expect(payloads).toEqual(['of 2', 'of 1', 'of 0']);
    await tool('seek', 'sharded', 'workers', '--to', 'end', '--yes');
    expect(await tool('info', 'sharded')).toMatchObject({
      length: 3,
      shards: [3, 2, 1].map((time) => ({ groups: [{ name: 'workers', lastDeliveredId: `${time}-0` }] })),
    });
  });

  it('doctor checks every node', async () => {
    const findings = await tool<Array<{ check: string; subject: string; level: string }>>('doctor');
    const nodes = findings.filter(({ check }) => check === 'persistence').map(({ subject }) => subject);
    expect(nodes.sort()).toEqual(cluster.masters.map(({ server }) => `${server.host}:${server.port}`).sort());
    expect(findings.filter(({ level }) => level === 'danger')).toEqual([]);
  });

  it('is named in the error when --cluster is missing or wrong', async () => {
    const key = (await cluster.keys('moved', 3))[1] as string;
    const { code, stderr } = await runTool(['send', key, 'x', '--timeout', '2s'], { url: url() });
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/cluster/i) });
  });
});
