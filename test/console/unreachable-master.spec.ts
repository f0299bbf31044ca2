import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { MessagePage, StreamRow } from '../../packages/console/src/api.js';
import { ConsoleApp } from '../support/console-app.js';
import { OUTAGES, RedisCluster } from '../support/redis-cluster.js';

describe('while a master of a cluster, with no replica in its place,', () => {
  const sharded = Array.from({ length: 6 }, (_, shard) => `sharded:${shard}`);
  let cluster: RedisCluster;
  let kept: string;
  let lost: string;

  beforeAll(async () => {
    const args = ['--cluster-require-full-coverage', 'no', '--appendonly', 'yes'];
    cluster = await RedisCluster.start({ args, nodeTimeout: 2_000 });
    [kept, lost] = (await cluster.keys('orders', 2)) as [string, string];
    for (const key of [kept, lost, ...sharded]) {
      await add(key);
      await (await cluster.masterOf(key)).admin.xgroup('CREATE', key, 'workers', '0');
    }
  });
  afterAll(() => cluster.stop());

  const add = async (key: string): Promise<unknown> => (await cluster.masterOf(key)).admin.xadd(key, '*', 'msg', key);
  const rowOf = (rows: readonly StreamRow[], key: string): StreamRow | undefined =>
    rows.find(({ stream }) => stream === key);

  it.each(OUTAGES)('%s, the streams on the others have figures, and its own are marked', async (_, stop, start) => {
    const master = await cluster.masterOf(lost);
    const options = { guards: [], connection: cluster.connection };
    await using console = await ConsoleApp.start(options);
    await using list = await console.watch({ page: 'streams' });
    await using page = await console.watch({ page: 'stream', stream: kept });
    await using group = await console.watch({ page: 'group', stream: kept, group: 'workers' });
    const { rows } = await list.until('all streams are there', ({ isComplete, total }) => isComplete && total === 3);
    const length = rowOf(rows, kept)?.length as number;

    await stop(master);
    await using later = await ConsoleApp.start(options);
    await using fresh = await later.watch({ page: 'streams' });
    const { rows: marked } = await list.until('two streams are marked', (update) =>
      [lost, 'sharded'].every((key) => typeof rowOf(update.rows, key)?.failure === 'string'),
    );
    expect(rowOf(marked, lost)).toMatchObject({ length: null, failure: `The node of '${lost}' does not answer` });
    for (let more = 1; more <= 3; more += 1) {
      const addedAt = Date.now();
      await add(kept);
      await list.until('the list has the new message', (update) => rowOf(update.rows, kept)?.length === length + more);
      await page.until('the page has it', ({ row }) => row?.length === length + more);
      await group.until('the group was looked at', (update) => update.group !== null && update.at > addedAt);
    }
    expect((await console.json<MessagePage>(`api/messages?stream=${kept}`)).messages).toHaveLength(length + 3);
    expect(list.latest).toMatchObject({ total: 3, isComplete: true });

    const isThere = ({ rows: found }: { rows: readonly StreamRow[] }): boolean => rowOf(found, kept)?.failure === null;
    expect(await fresh.until('what can be read is there', isThere)).toMatchObject({ isComplete: false });

    await start(master);
    for (const viewer of [list, fresh]) {
      await viewer.until('all streams have figures again', ({ isComplete, rows: found }) => {
        return isComplete && found.length === 3 && found.every(({ failure }) => failure === null);
      });
    }
  });
});
