import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import type { BasicConsumer } from '../../../lib/engine/consuming/consumer-types.js';
import type { RedisStreamer } from '../../../lib/index.js';
import { CLUSTER, NEEDED, PROMPT_UNBLOCK, setUser } from '../../support/acl.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import { RedisCluster, type ClusterNode } from '../../support/redis-cluster.js';
import { uniqueName } from '../../support/redis.js';
import { ShardRecorder } from '../../support/shard-recorder.js';
import { numbers } from '../../support/streams.js';
import { until } from '../../support/until.js';

const STREAMS = 200;
/** Streams that nothing is announced of are read again after this time. */
const LONG_BLOCK = 60_000;
/** Far less, and far more than a busy machine needs. */
const SETTLING = 30_000;

const bench = new FaultBench();
let cluster: RedisCluster;

beforeAll(async () => {
  cluster = await RedisCluster.start();
});
afterAll(() => cluster.stop());

const streamsOf = (name: string, count = STREAMS): string[] => numbers(0, count - 1).map((n) => `${name}-${n}`);

/** Connections of a role to all nodes. */
async function connections(role: string): Promise<Array<{ node: ClusterNode; id: string }>> {
  const lists = cluster.masters.map(async (node) => {
    const lines = String(await node.admin.client('LIST')).split('\n');
    return lines
      .filter((line) => line.includes(` name=nestjs-redis-streams:${role} `))
      .map((line) => ({ node, id: /^id=(\d+)/.exec(line)?.[1] as string }));
  });
  return (await Promise.all(lists)).flat();
}

const open = (streamer: RedisStreamer, keys: readonly string[], mode = 'load-balanced'): Promise<BasicConsumer> => {
  // A claim of idle entries would be a look at the stream.
  const claims = mode === 'load-balanced' ? { autoClaimInterval: false } : {};
  const group = mode === 'real-time' ? { autoStreamReset: 'earliest' } : { group: 'g', mkStream: true, ...claims };
  return streamer.createConsumer(keys, { mode, ...group } as { mode: 'real-time' });
};

/** What was handled of each stream, in order. */
class Handled {
  readonly byStream = new Map<string, string[]>();
  count = 0;

  follow(consumer: BasicConsumer): void {
    void drain(consumer, (message) => {
      const payloads = this.byStream.get(message.streamKey) ?? [];
      this.byStream.set(message.streamKey, payloads);
      payloads.push(message.text());
      this.count += 1;
    });
  }

  /** Whether each message of each stream has been handled. */
  hasAll(keys: readonly string[], count: number): boolean {
    return keys.every((key) => new Set(this.byStream.get(key)).size === count);
  }
}

/** The first handling of each message, in the order of handling. */
const firstOf = (payloads: readonly string[] = []): string[] => [...new Set(payloads)];

describe('200 streams of a cluster in one process', () => {
  it.each(['load-balanced', 'resumable', 'real-time'])(
    'share one connection to each node, and are read when the server announces an entry (%s)',
    async (mode) => {
      const keys = streamsOf(uniqueName('many'));
      const streamer = await bench.streamer(cluster.connection, { blockTimeout: LONG_BLOCK });
      const handled = new Handled();
      handled.follow(await open(streamer, keys, mode));
      const producer = await streamer.createGenericProducer();

      for (const [round, payload] of numbers(0, 2).entries()) {
        await Promise.all(keys.map((key) => producer.sendTo(key, payload)));
        await until(`round ${round} is handled`, () => handled.hasAll(keys, round + 1), SETTLING);
      }
      expect(await connections('watcher')).toHaveLength(3);
      expect((await connections('reader')).length).toBeLessThanOrEqual(4);
      for (const key of keys) expect(handled.byStream.get(key)).toEqual(['0', '1', '2']);
      expect(handled.count).toBe(3 * STREAMS);
    },
    60_000,
  );

  it('as owned shards of one consumer, more than it has places for, share connections too and are not polled', async () => {
    const stream = uniqueName('owned');
    const shards = 64;
    const sharder = { shards, shardOf: (_stream: string, key: string | undefined) => Number(key) };
    const streamer = await bench.streamer(cluster.connection, { blockTimeout: LONG_BLOCK });
    const producer = await streamer.createProducer(stream, { sharder });
    const recorder = new ShardRecorder();
    const member = await recorder.join(streamer, stream, { shards, leaseTime: 10_000, autoClaimInterval: false });
    await until('it owns all', () => member.owned.size === shards, SETTLING);
    for (const [round, payload] of numbers(0, 2).entries()) {
      await Promise.all(numbers(0, shards - 1).map((key) => producer.send(payload, { key })));
      await until(`round ${round} is handled`, () => recorder.handled.length === (round + 1) * shards, SETTLING);
    }
    expect([recorder.repeated, recorder.disorder]).toEqual([[], []]);
    expect(await connections('watcher')).toHaveLength(3);
    expect((await connections('reader')).length).toBeLessThanOrEqual(4);
    const reads = async (): Promise<number> => {
      const stats = await Promise.all(cluster.masters.map(({ admin }) => admin.info('commandstats')));
      return stats.reduce((sum, text) => sum + Number(/cmdstat_xread:calls=(\d+)/.exec(text)?.[1] ?? 0), 0);
    };
    // Those that follow what was read last.
    let before = -1;
    await until('the reads end', async () => before === (before = await reads()));
    const over = performance.now() + 2_000;
    await until('two seconds have passed', () => performance.now() > over);
    expect((await reads()) - before).toBeLessThan(shards);
  });

  it('a quiet one is read while others have a backlog', async () => {
    const keys = streamsOf(uniqueName('many'));
    const busy = keys.slice(0, 100);
    const quiet = keys.slice(100);
    const streamer = await bench.streamer(cluster.connection, { blockTimeout: LONG_BLOCK });
    const handled = new Handled();
    handled.follow(await open(streamer, keys));
    const producer = await streamer.createGenericProducer({ maxQueued: 100_000 });
    for (const payload of numbers(0, 199)) for (const key of busy) producer.enqueueTo(key, payload);
    await until('the backlog is being handled', () => handled.count > 0);
    await Promise.all(quiet.map((key) => producer.sendTo(key, '0')));
    await until('the quiet streams have been read', () => handled.hasAll(quiet, 1), SETTLING);
    await until('the busy streams have been read', () => handled.hasAll(busy, 200), SETTLING);
    for (const key of busy) expect(handled.byStream.get(key)).toEqual(numbers(0, 199));
    await producer.flush();
  }, 90_000);

  it('lose nothing, and keep the order of each, while their connections are killed and slots move', async () => {
    const keys = streamsOf(uniqueName('many'), 60);
    const streamer = await bench.streamer(cluster.connection, { blockTimeout: 2_000 });
    const handled = new Handled();
    handled.follow(await open(streamer, keys));
    const producer = await streamer.createGenericProducer();
    const rounds = 120;
    let round = 0;
    const load = (async () => {
      for (; round < rounds; round += 1) await Promise.all(keys.map((key) => producer.sendTo(key, String(round))));
    })();
    for (const [step] of numbers(0, 5).entries()) {
      const goal = Math.min(rounds, round + 10);
      await until(`${goal} rounds are sent`, () => round >= goal, SETTLING);
      const [victim] = (await connections('watcher')).slice(step % 3);
      if (victim) await victim.node.admin.call('CLIENT', 'KILL', 'ID', victim.id);
      const key = keys[10 + step] as string;
      const owner = await cluster.masterOf(key);
      await cluster.move(key, cluster.masters.find((node) => node !== owner) as ClusterNode);
    }
    await load;
    await until('all messages are handled', () => handled.hasAll(keys, rounds), SETTLING);
    const expected = numbers(0, rounds - 1);
    for (const key of keys) expect(firstOf(handled.byStream.get(key))).toEqual(expected);
  }, 120_000);

  it('as owned shards of two consumers lose nothing, and keep the order of each, under the same faults', async () => {
    const stream = uniqueName('owned');
    const shards = 24;
    const sharder = { shards, shardOf: (_stream: string, key: string | undefined) => Number(key) };
    const keys = numbers(0, shards - 1);
    const streamer = await bench.streamer(cluster.connection, { blockTimeout: 2_000 });
    const producer = await streamer.createProducer(stream, { sharder });
    const recorder = new ShardRecorder();
    const options = { shards, leaseTime: 5_000 };
    const first = await recorder.join(streamer, stream, options);
    await until('it owns all', () => first.owned.size === shards, SETTLING);
    const rounds = 100;
    let round = 0;
    const load = (async () => {
      for (; round < rounds; round += 1) {
        await Promise.all(keys.map((key) => producer.send(String(round), { key })));
      }
    })();
    const second = await recorder.join(streamer, stream, options);
    for (const [step] of numbers(0, 5).entries()) {
      const goal = Math.min(rounds, round + 10);
      await until(`${goal} rounds are sent`, () => round >= goal, SETTLING);
      const [victim] = (await connections('watcher')).slice(step % 3);
      if (victim) await victim.node.admin.call('CLIENT', 'KILL', 'ID', victim.id);
      const key = `${stream}:${10 + step}`;
      const owner = await cluster.masterOf(key);
      await cluster.move(key, cluster.masters.find((node) => node !== owner) as ClusterNode);
    }
    await load;
    const handled = (): number => new Set(recorder.handled.map(({ shardId, text }) => `${shardId} ${text}`)).size;
    await until('all messages are handled', () => handled() === shards * rounds, SETTLING);
    await until('they share', () => first.owned.size === second.owned.size, SETTLING);
    expect([recorder.overtaken, recorder.sharedShards]).toEqual([[], []]);
  }, 120_000);

  it('are read at once after their connection was lost while they were quiet, and after their slot has moved', async () => {
    const keys = streamsOf(uniqueName('many'), 40);
    const streamer = await bench.streamer(cluster.connection, { blockTimeout: LONG_BLOCK });
    const handled = new Handled();
    handled.follow(await open(streamer, keys));
    const producer = await streamer.createGenericProducer();
    await Promise.all(keys.map((key) => producer.sendTo(key, '0')));
    await until('the first messages are handled', () => handled.hasAll(keys, 1), SETTLING);

    for (const { node, id } of await connections('watcher')) await node.admin.call('CLIENT', 'KILL', 'ID', id);
    await Promise.all(keys.map((key) => producer.sendTo(key, '1')));
    await until('the messages after the loss are handled', () => handled.hasAll(keys, 2), SETTLING);

    const moved = keys[20] as string;
    const owner = await cluster.masterOf(moved);
    await cluster.move(moved, cluster.masters.find((node) => node !== owner) as ClusterNode);
    await producer.sendTo(moved, '2');
    await until('the message on the other node is handled', () => handled.hasAll([moved], 3), SETTLING);
  }, 120_000);

  it('each have a connection where the server does not permit announcements of entries, which is logged once', async () => {
    const keys = streamsOf(uniqueName('many'), 20);
    for (const { admin } of cluster.masters) await setUser(admin, 'app', `${NEEDED} ~* ${CLUSTER} ${PROMPT_UNBLOCK}`);
    const connection = { ...cluster.connection, options: { redisOptions: { username: 'app', password: 'pw' } } };
    const streamer = await bench.streamer(connection);
    const handled = new Handled();
    handled.follow(await open(streamer, keys));
    const producer = await streamer.createGenericProducer();
    await Promise.all(keys.map((key) => producer.sendTo(key, '0')));
    await until('the messages are handled', () => handled.hasAll(keys, 1), SETTLING);
    expect(await connections('reader')).toHaveLength(20);
    expect(bench.log.filter((line) => line.includes('CLIENT TRACKING'))).toHaveLength(1);
  }, 60_000);
});
