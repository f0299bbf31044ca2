import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { Redis } from 'ioredis';

import type { RedisStreamsConnection, StreamProducer } from '../lib/index.js';
import { RedisStreamer } from '../lib/index.js';
import { RedisCluster } from '../test/support/redis-cluster.js';
import { RedisServer } from '../test/support/redis-server.js';
import type { ShardsReport, ShardsSetting } from './shards-consumer.js';

/*
 * One consumer process that reads 1, 12, 64 and 200 shards: what a message costs it, how long a message into a quiet shard takes
 * while others are busy, and what it does when all are quiet. `node .run/bench/shards.js --shards 1,200 --topology cluster`
 */

const { values } = parseArgs({
  options: {
    shards: { type: 'string', default: '1,12,64,200' },
    topology: { type: 'string', default: 'cluster,standalone' },
    mode: { type: 'string', default: 'load-balanced,real-time' },
    rate: { type: 'string', default: '4000' },
    backlog: { type: 'string', default: '60000' },
    seconds: { type: 'string', default: '4' },
    batchSize: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const seconds = Number(values.seconds);
const silent = { error: console.error, warn: console.error, log: (): void => undefined };
const PADDING = '.'.repeat(80);

interface Target {
  readonly name: string;
  readonly connection: RedisStreamsConnection;
  readonly admins: readonly Redis[];
  stop(): Promise<void>;
}

async function clusterTarget(): Promise<Target> {
  const cluster = await RedisCluster.start();
  const admins = cluster.masters.map(({ admin }) => admin);
  return { name: 'cluster', connection: cluster.connection, admins, stop: () => cluster.stop() };
}

async function standaloneTarget(): Promise<Target> {
  const server = await RedisServer.start();
  const admin = new Redis(server.url);
  const stop = async (): Promise<void> => {
    admin.disconnect();
    await server.stop();
  };
  return { name: 'standalone', connection: server.url, admins: [admin], stop };
}

async function measure(target: Target, mode: string, shards: number): Promise<void> {
  await Promise.all(target.admins.map((admin) => admin.flushall()));
  const keys = Array.from({ length: shards }, (_, shard) => `bench:${shard}`);
  await using streamer = await RedisStreamer.connect(target.connection, { logger: silent });
  const producer = await streamer.createGenericProducer({ maxQueued: 1_000_000 });
  const consumer = new Consumer({
    connection: target.connection,
    keys,
    mode,
    batchSize: values.batchSize === undefined ? undefined : Number(values.batchSize),
  });
  await consumer.ready();

  const connections = await connectionsOf(target);
  // The first recoveries of pending entries, and the ones that follow when the block time is over.
  await pause(11_000);
  const idle = await during(target, consumer, () => pause(1_000 * seconds));
  const paced = await during(target, consumer, () => pace(producer, keys, Number(values.rate)));
  const busy = keys.slice(0, Math.ceil(shards / 2));
  const quiet = keys.slice(busy.length);
  const mixed = await during(target, consumer, () =>
    Promise.all([pace(producer, busy, Number(values.rate)), quiet.length > 0 ? trickle(producer, quiet) : undefined]),
  );
  await consumer.reset();
  const backlog = Number(values.backlog);
  for (let sent = 0; sent < backlog; sent += 1) enqueue(producer, keys[sent % shards] as string, 'b');
  const startedAt = performance.now();
  let drained = await consumer.report();
  while (drained.count < backlog) {
    await pause(20);
    drained = await consumer.report();
  }
  const took = performance.now() - startedAt;
  await producer.end();
  await consumer.end();
  const row = {
    topology: target.name,
    mode,
    shards,
    connections,
    'idle cpu %': round((idle.cpu / 1e6 / seconds) * 100),
    'idle cmds/s': Math.round(idle.commands / seconds),
    'paced us/msg': round(paced.cpu / paced.count),
    'paced server us/msg': round(paced.serverCpu / paced.count),
    'paced p50': round(paced.busy.p50),
    'paced p99': round(paced.busy.p99),
    'quiet p50': round(mixed.quiet.p50),
    'quiet p99': round(mixed.quiet.p99),
    'drain us/msg': round(drained.cpu / drained.count),
    'drain msg/s': Math.round(backlog / (took / 1_000)),
  };
  console.log(
    values.json
      ? JSON.stringify(row)
      : Object.entries(row)
          .map(([name, value]) => `${name} ${value}`)
          .join(' | '),
  );
}

type Measured = ShardsReport & { readonly commands: number; readonly serverCpu: number };

async function during(target: Target, consumer: Consumer, work: () => Promise<unknown>): Promise<Measured> {
  await consumer.reset();
  const before = await serverCost(target);
  await work();
  await pause(200);
  const report = await consumer.report();
  const after = await serverCost(target);
  return { ...report, commands: after.commands - before.commands, serverCpu: after.cpu - before.cpu };
}

/** Sends at an even rate, in turn to each stream. */
async function pace(producer: StreamProducer, keys: readonly string[], rate: number): Promise<void> {
  const startedAt = performance.now();
  for (let sent = 0; ;) {
    const elapsed = performance.now() - startedAt;
    if (elapsed > 1_000 * seconds) break;
    for (const due = (elapsed / 1_000) * rate; sent < due; sent += 1) {
      enqueue(producer, keys[sent % keys.length] as string, 'b');
    }
    await pause(2);
  }
  await producer.flush();
}

async function trickle(producer: StreamProducer, keys: readonly string[]): Promise<void> {
  const until = performance.now() + 1_000 * seconds;
  for (let sent = 0; performance.now() < until; sent += 1) {
    enqueue(producer, keys[(sent * 7) % keys.length] as string, 'q');
    await pause(20);
  }
}

function enqueue(producer: StreamProducer, key: string, kind: 'b' | 'q'): void {
  producer.enqueueTo(key, `${kind} ${performance.timeOrigin + performance.now()} ${PADDING}`);
}

async function serverCost({ admins }: Target): Promise<{ commands: number; cpu: number }> {
  const infos = await Promise.all(admins.map((admin) => admin.info()));
  const sum = (pattern: RegExp): number => infos.reduce((total, info) => total + Number(pattern.exec(info)?.[1]), 0);
  const cpu = sum(/^used_cpu_user:(\S+)/m) + sum(/^used_cpu_sys:(\S+)/m);
  return { commands: sum(/^total_commands_processed:(\d+)/m), cpu: cpu * 1e6 };
}

/** Connections of the consumer that read. */
async function connectionsOf({ admins }: Target): Promise<number> {
  const lists = await Promise.all(admins.map((admin) => admin.client('LIST')));
  return lists.join('').match(/name=nestjs-redis-streams:(reader|watcher) /g)?.length ?? 0;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

class Consumer {
  readonly #child: ChildProcess;

  constructor(setting: ShardsSetting) {
    const program = fileURLToPath(new URL('shards-consumer.js', import.meta.url));
    this.#child = fork(program, [JSON.stringify(setting)]);
  }

  async ready(): Promise<void> {
    await once(this.#child, 'message');
  }

  async reset(): Promise<void> {
    await this.#ask('reset');
  }

  report(): Promise<ShardsReport> {
    return this.#ask('report');
  }

  async end(): Promise<void> {
    const exit = once(this.#child, 'exit');
    this.#child.send('end');
    await exit;
  }

  async #ask(question: string): Promise<ShardsReport> {
    const answer = once(this.#child, 'message');
    this.#child.send(question);
    return (await answer)[0] as ShardsReport;
  }
}

for (const topology of values.topology.split(',')) {
  const target = topology === 'cluster' ? await clusterTarget() : await standaloneTarget();
  try {
    for (const mode of values.mode.split(',')) {
      for (const shards of values.shards.split(',').map(Number)) await measure(target, mode, shards);
    }
  } finally {
    await target.stop();
  }
}
