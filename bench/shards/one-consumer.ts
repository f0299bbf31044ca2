import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import type { StreamProducer } from '../../lib/index.js';
import { RedisStreamer } from '../../lib/index.js';
import { ConsumerProcess } from './consumer-process.js';
import type { ConsumerReport } from './consumer-setting.js';
import { now, STREAM } from './consumer-setting.js';
import { connectionsOf, serverCost, startTarget, topologyOf } from './target.js';
import type { Target } from './target.js';

/*
 * One consumer process that reads 1, 12, 64 and 200 shards: what a message costs it, how long a message into a quiet shard takes
 * while others are busy, and what it does when all are quiet. `npm run bench:shards -- --shards 1,200 --topology cluster`
 */

const { values } = parseArgs({
  options: {
    shards: { type: 'string', default: '1,12,64,200' },
    topology: { type: 'string', default: 'cluster,single' },
    mode: { type: 'string', default: 'load-balanced,real-time' },
    rate: { type: 'string', default: '4000' },
    backlog: { type: 'string', default: '600000' },
    seconds: { type: 'string', default: '4' },
    batchSize: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const seconds = Number(values.seconds);
const silent = { error: console.error, warn: console.error, log: (): void => undefined };
/** Connections of a consumer that read. */
const READERS = /:(reader|watcher)$/;
const PADDING = '.'.repeat(80);

async function measure(target: Target, mode: string, shards: number): Promise<void> {
  await Promise.all(target.admins.map((admin) => admin.flushall()));
  const keys = Array.from({ length: shards }, (_, shard) => `${STREAM}:${shard}`);
  await using streamer = await RedisStreamer.connect(target.connection, { logger: silent });
  const producer = await streamer.createGenericProducer({ maxQueued: 1_000_000 });
  const consumer = await ConsumerProcess.start({
    connection: target.connection,
    shards,
    mode,
    batchSize: values.batchSize === undefined ? undefined : Number(values.batchSize),
  });
  await consumer.open();

  // The first recoveries of pending entries, and the ones that follow when the block time is over.
  await pause(11_000);
  const connections = await connectionsOf(target, READERS);
  const idle = await during(target, consumer, () => pause(1_000 * seconds));
  const paced = await during(target, consumer, () => pace(producer, keys, Number(values.rate)));
  const busy = keys.slice(0, Math.ceil(shards / 2));
  const quiet = keys.slice(busy.length);
  const mixed = await during(target, consumer, () =>
    Promise.all([pace(producer, busy, Number(values.rate)), quiet.length > 0 ? trickle(producer, quiet) : undefined]),
  );
  await consumer.reset();
  const backlog = Number(values.backlog);
  for (let sent = 0; sent < backlog; sent += 1) enqueue(producer, keys[sent % shards] as string, 'd');
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

type Measured = ConsumerReport & { readonly commands: number; readonly serverCpu: number };

async function during(target: Target, consumer: ConsumerProcess, work: () => Promise<unknown>): Promise<Measured> {
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

/** A message of a busy stream, of a quiet one, or of a backlog, whose waiting time is not measured. */
type Kind = 'b' | 'q' | 'd';

function enqueue(producer: StreamProducer, key: string, kind: Kind): void {
  producer.enqueueTo(key, `${kind} ${now()} ${PADDING}`);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

for (const topology of values.topology.split(',')) {
  const target = await startTarget(topologyOf(topology));
  try {
    for (const mode of values.mode.split(',')) {
      for (const shards of values.shards.split(',').map(Number)) await measure(target, mode, shards);
    }
  } finally {
    await target.stop();
  }
}
