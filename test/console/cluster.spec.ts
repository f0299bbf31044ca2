import { expect, it } from '@jest/globals';
import type { GroupMoved, MessagePage } from '../../packages/console/src/api.js';
import { ConsoleApp } from '../support/console-app.js';
import { RedisCluster } from '../support/redis-cluster.js';

it('a console of a cluster shows the streams of all nodes, and shards that are on several of them', async () => {
  const cluster = await RedisCluster.start();
  try {
    for (const key of ['orders', 'sharded:0', 'sharded:1', 'sharded:2', 'orders.dead']) {
      const { admin } = await cluster.masterOf(key);
      await admin.xadd(key, '1-0', 'msg', key);
      await admin.xgroup('CREATE', key, 'workers', '$');
    }
    const options = {
      guards: [],
      connection: { cluster: [cluster.masters[0]?.server.url as string] },
      showPayloads: true,
    };
    await using console = await ConsoleApp.start({ ...options, readOnly: false });
    await using viewer = await console.watch({ page: 'streams' });
    const { rows } = await viewer.until('the streams are there', ({ isComplete, total }) => isComplete && total === 2);
    expect(rows).toMatchObject([
      { stream: 'orders', length: 1, shards: 1, deadLetters: 1 },
      { stream: 'sharded', length: 3, shards: 3, groups: [{ name: 'workers', isPaused: false }] },
    ]);
    const page = await console.json<MessagePage>('api/messages?stream=sharded&newest=true');
    expect(new Set(page.messages.map(({ payload }) => payload.text))).toEqual(
      new Set(['sharded:0', 'sharded:1', 'sharded:2']),
    );
    const group = { stream: 'sharded', group: 'workers' };
    expect(await console.change('api/groups/pause', group)).toEqual({ isPaused: true });
    const moved = await console.change<GroupMoved>('api/groups/position', { ...group, to: 'beginning', dryRun: false });
    expect(moved.moves.map(({ messages }) => messages.count)).toEqual([1, 1, 1]);
    await viewer.until('the pause is seen', ({ rows: [, sharded] }) => sharded?.groups[0]?.isPaused === true);
  } finally {
    await cluster.stop();
  }
});
