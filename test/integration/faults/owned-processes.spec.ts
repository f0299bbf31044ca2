import { expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { readRecord, useOwnedProcesses } from '../../support/owned-process.js';
import type { OwnedProcess } from '../../support/owned-process.js';
import { until } from '../../support/until.js';

// Registered first, so that they are killed before their servers stop.
const start = useOwnedProcesses();
const bench = new FaultBench();

const SHARDS = 6;
const LIMIT = 60_000;
const HOUR = 3_600_000;

const isSpread = (members: readonly OwnedProcess[]): boolean => {
  const counts = members.map(({ owned }) => owned.size);
  return counts.reduce((sum, count) => sum + count, 0) === SHARDS && Math.max(...counts) - Math.min(...counts) <= 1;
};
const ownAll = (members: readonly OwnedProcess[]): boolean =>
  new Set(members.flatMap(({ owned }) => [...owned])).size === SHARDS;

it('processes that are killed, frozen, cut off and have wrong clocks: nothing is lost, and each shard stays in order', async () => {
  const server = await bench.server();
  const recorderServer = await bench.server();
  const recorder = bench.admin(recorderServer.url);
  const proxy = await bench.proxy(server);
  const stream = 'orders';
  const streamer = await bench.streamer(server.url);
  const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(SHARDS) });

  let started = 0;
  const join = (connection = server.url, clock = 0): Promise<OwnedProcess> => {
    started += 1;
    return start({ name: `m${started}`, connection, recorder: recorderServer.url, stream, shards: SHARDS, clock });
  };
  const [killed, frozen, cutOff] = await Promise.all([
    join(server.url, HOUR),
    join(server.url, -HOUR),
    join(proxy.url, HOUR / 2),
  ]);
  const sent: string[] = [];
  let isSending = true;
  const sending = (async () => {
    for (let number = 0; isSending; number += 1) {
      const { shardId, id } = await producer.send(String(number), { key: `k${number % 50}` });
      sent.push(`${shardId}/${id}`);
      if (number % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  const isHandled = async (ids: readonly string[]): Promise<boolean> => {
    const { handled } = await readRecord(recorder);
    return ids.every((id) => handled.has(id));
  };
  const handledMore = async (): Promise<void> => {
    const before = [...sent];
    await until('what was sent by then is handled', () => isHandled(before), LIMIT);
  };
  await until('three share', () => isSpread([killed, frozen, cutOff]), LIMIT);
  await handledMore();

  killed.process.kill('SIGKILL');
  await until('two share', () => isSpread([frozen, cutOff]), LIMIT);
  await handledMore();

  frozen.process.kill('SIGSTOP');
  await until('the other one owns all', () => cutOff.owned.size === SHARDS, LIMIT);
  await handledMore();
  frozen.process.kill('SIGCONT');
  await until('two share again', () => isSpread([frozen, cutOff]), LIMIT);
  expect(frozen.errors).toContain('ERR_SHARD_LEASE_LOST');

  proxy.hold();
  await until('the one that is not cut off owns all', () => frozen.owned.size === SHARDS, LIMIT);
  await until('the one that is cut off owns none', () => cutOff.owned.size === 0, LIMIT);
  await handledMore();
  proxy.deliver();
  await until('two share once more', () => isSpread([frozen, cutOff]), LIMIT);

  // A deployment: each is replaced by a new one.
  const replaced = await Promise.all([join(), join()]);
  frozen.process.kill('SIGTERM');
  cutOff.process.kill('SIGTERM');
  expect(await Promise.all([frozen.ended, cutOff.ended])).toEqual([0, 0]);
  await until('the new ones share', () => ownAll(replaced) && isSpread(replaced), LIMIT);
  isSending = false;
  await sending;
  await until('everything is handled', () => isHandled(sent), LIMIT);
  const { disorder } = await readRecord(recorder);
  expect(disorder).toEqual([]);
}, 300_000);
