import { expect, it } from '@jest/globals';

import { FaultBench } from '../../support/fault-bench.js';
import { useKeyedProducers } from '../../support/keyed-producer.js';
import { KeyRecord, useOwnedProcesses } from '../../support/owned-process.js';
import type { OwnedProcess } from '../../support/owned-process.js';
import { until } from '../../support/until.js';

// Registered first, so that they are killed before their servers stop.
const produce = useKeyedProducers();
const start = useOwnedProcesses();
const bench = new FaultBench();

const LIMIT = 60_000;
const KEYS = 8;

it('setShards() with a frozen producer, a killed consumer and a restart of Redis: keys in order, nothing lost', async () => {
  const server = await bench.server();
  const recorderServer = await bench.server();
  const record = new KeyRecord(bench.admin(recorderServer.url));
  const manager = await (await bench.streamer(server.url)).createManager();
  const stream = 'orders';
  const join = (name: string): Promise<OwnedProcess> =>
    start({ name, connection: server.url, recorder: recorderServer.url, stream, shards: 3, clock: 0 });
  const [killed, ...members] = (await Promise.all(['m0', 'm1', 'm2'].map(join))) as [OwnedProcess, ...OwnedProcess[]];
  const producers = await Promise.all(
    ['a', 'b'].map((name) => produce({ name, connection: server.url, stream, keys: KEYS, shards: 3 })),
  );
  const [frozen, other] = producers as [(typeof producers)[0], (typeof producers)[0]];
  const handledMore = async (): Promise<void> => {
    const wanted = producers.map(({ name, sent }) => ({ name, sent: sent + 1 }));
    await until(
      'what is sent next is handled',
      async () => {
        await record.update();
        return wanted.every(({ name, sent }) => (record.counts.get(`${name}0`) ?? 0) >= sent);
      },
      LIMIT,
    );
  };
  const areOwned = (first: number, shards: number): Promise<void> => {
    const wanted = Array.from({ length: shards }, (_, index) => first + index).join();
    return until(
      `the shards ${wanted} are owned`,
      () => {
        const owned = members.flatMap((member) => [...member.owned]);
        return owned.sort((one, another) => one - another).join() === wanted;
      },
      LIMIT,
    );
  };
  await handledMore();

  frozen.process.kill('SIGSTOP');
  await manager.setShards(stream, 5);
  await until('the other producer has noticed', () => other.shardId >= 3, LIMIT);
  const sentToNew = other.sent;
  await until(
    'the new shards are handled',
    async () => {
      await record.update();
      return (
        (record.counts.get('b0') ?? 0) >= sentToNew &&
        killed.owned.size + members.flatMap(({ owned }) => [...owned]).length === 5
      );
    },
    LIMIT,
  );
  frozen.process.kill('SIGCONT');
  // Before that it may report sends that were confirmed before it was frozen.
  await until('the frozen producer has noticed', () => frozen.shardId >= 3, LIMIT);
  await handledMore();

  killed.process.kill('SIGKILL');
  await manager.setShards(stream, 2);
  await areOwned(8, 2);
  await handledMore();

  const change = manager.setShards(stream, 4).catch(() => undefined);
  await server.kill();
  await server.restart();
  await change;
  await manager.setShards(stream, 4);
  await areOwned(10, 4);
  await handledMore();

  for (const { process } of producers) process.kill('SIGTERM');
  expect(await Promise.all(producers.map(({ ended }) => ended))).toEqual([0, 0]);
  await until(
    'everything is handled',
    async () => {
      await record.update();
      return producers.every(({ name, total }) =>
        Array.from({ length: KEYS }, (_, index) => record.counts.get(`${name}${index}`) === total).every(Boolean),
      );
    },
    LIMIT,
  );
  expect(producers.flatMap(({ errors }) => errors)).toEqual([]);
  expect(record.disorder).toEqual([]);
}, 240_000);
