import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import type { StreamManager } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { OUTAGES, RedisCluster } from '../../support/redis-cluster.js';
import type { ClusterNode } from '../../support/redis-cluster.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const SHARDS = [0, 1, 2, 3, 4, 5].map((shard) => `sharded:${shard}`);

describe('a master of a cluster, with no replica in its place, that', () => {
  let cluster: RedisCluster;
  let away: ClusterNode;
  let lost: string;
  let kept: string;
  let manager: StreamManager;

  beforeAll(async () => {
    const args = ['--cluster-require-full-coverage', 'no', '--appendonly', 'yes'];
    cluster = await RedisCluster.start({ args, nodeTimeout: 2_000 });
    [kept, lost] = (await cluster.keys('orders', 2)) as [string, string];
    away = await cluster.masterOf(lost);
    for (const key of [lost, kept, ...SHARDS]) {
      const { admin } = await cluster.masterOf(key);
      await admin.xadd(key, '1-0', 'msg', key);
      await admin.xgroup('CREATE', key, 'workers', '0');
    }
  });
  afterAll(() => cluster.stop());
  beforeEach(async () => {
    manager = await (await bench.streamer(cluster.connection)).createManager();
  });

  const isAway = async (key: string): Promise<boolean> => (await cluster.masterOf(key)) === away;

  async function scanned(): Promise<{ streams: string[]; unreachable: string[] }> {
    const [streams, unreachable] = [[] as string[], [] as string[]];
    let cursor = '0';
    do {
      const page = await manager.scan(cursor, { skipUnreachable: true });
      streams.push(...page.streams);
      unreachable.push(...(page.unreachable ?? []));
      cursor = page.cursor;
    } while (cursor !== '0');
    return { streams: streams.sort(), unreachable };
  }

  it.each(OUTAGES)('%s is left out of a look, and named, until it answers again', async (_, stop, start) => {
    const all = [lost, kept, ...SHARDS].sort();
    expect(await scanned()).toEqual({ streams: all, unreachable: [] });
    const places = await Promise.all(all.map(async (key) => ({ key, isAway: await isAway(key) })));
    const keysThat = (isGone: boolean): string[] =>
      places.flatMap((each) => (each.isAway === isGone ? [each.key] : []));

    await stop(away);
    const { host, port } = away.server;
    expect(await scanned()).toEqual({ streams: keysThat(false), unreachable: [`${host}:${port}`] });
    const details = await manager.info(kept, { skipUnreachable: true });
    expect(details).toMatchObject({
      length: 1,
      groups: [{ name: 'workers', isPaused: false }],
      shards: [{ key: kept }],
    });
    expect(await manager.info(lost, { skipUnreachable: true })).toMatchObject({
      length: 0,
      shards: [],
      unreachable: expect.arrayContaining([lost]),
    });
    const sharded = await manager.info('sharded', { skipUnreachable: true });
    const shards = keysThat(false).filter((key) => SHARDS.includes(key));
    expect(sharded.shards.map(({ key }) => key)).toEqual(shards);
    expect(sharded.unreachable).toEqual(expect.arrayContaining(SHARDS.filter((key) => !shards.includes(key))));
    expect(sharded.unreachable?.filter((key) => shards.includes(key))).toEqual([]);

    await start(away);
    const isWhole = async (): Promise<boolean> =>
      (await manager.info('sharded', { skipUnreachable: true })).unreachable?.length === 0;
    await until('it is looked at again', isWhole, 30_000);
    expect(await scanned()).toEqual({ streams: all, unreachable: [] });
    expect((await manager.info('sharded')).shards.map(({ key }) => key)).toEqual(SHARDS);
  });

  it('is one of three that do not answer makes a look fail: nothing of it would be true', async () => {
    await scanned();
    for (const { server } of cluster.masters) server.pause();
    try {
      await expect(scanned()).rejects.toMatchObject({ code: 'ERR_CONNECTION' });
      await expect(manager.info('sharded', { skipUnreachable: true })).rejects.toMatchObject({
        code: 'ERR_CONNECTION',
      });
    } finally {
      for (const { server } of cluster.masters) server.resume();
    }
  });
});
