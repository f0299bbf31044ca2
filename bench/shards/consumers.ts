import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { RedisStreamer } from '../../lib/index.js';
import type { StreamProducer } from '../../lib/index.js';
import { times } from '../format.js';
import { markdownTable } from '../markdown.js';
import { summarize } from '../statistics.js';
import { drawChart } from '../svg.js';
import type { ChartRow } from '../svg.js';
import { now, STREAM } from './consumer-setting.js';
import { Fleet } from './fleet.js';
import { serverCost, startTarget, TOPOLOGY_NAMES, topologyOf } from './target.js';
import type { Target, Topology } from './target.js';

/*
 * What 1, 2 and 4 consumer processes of one group make of a backlog in 1, 12 and 64 shards, on one server and on a cluster, with
 * shared and owned shards. `npm run bench:consumers -- --chart docs/scaling.svg`
 */

const { values } = parseArgs({
  options: {
    topology: { type: 'string', default: 'single,cluster' },
    shards: { type: 'string', default: '1,12,64' },
    consumers: { type: 'string', default: '1,2,4' },
    rounds: { type: 'string', default: '3' },
    backlog: { type: 'string', default: '60000' },
    batchSize: { type: 'string', default: '100' },
    ownership: { type: 'string', default: 'shared,owned' },
    /** Where the chart goes. */
    chart: { type: 'string' },
    /** One round of a small backlog, to see that everything runs. Says nothing about speed. */
    quick: { type: 'boolean', default: false },
  },
});
type Ownership = 'shared' | 'owned';
const PADDING = '.'.repeat(80);
const logger = { error: console.error, warn: console.error, log: (): void => undefined };
const rounds = values.quick ? 1 : Number(values.rounds);
const batchSize = Number(values.batchSize);
const backlog = values.quick ? 2_000 : Number(values.backlog);

/** Medians of the rounds. */
interface Measured {
  readonly topology: Topology;
  readonly ownership: Ownership;
  readonly shards: number;
  readonly consumers: number;
  /** Messages in a second. */
  readonly rate: number;
  /** Microseconds of CPU for a message, of all consumers and of all servers. */
  readonly cpu: number;
  readonly serverCpu: number;
}

type Case = Pick<Measured, 'ownership' | 'shards' | 'consumers'>;

async function measure(target: Target, { ownership, shards, consumers }: Case): Promise<Measured> {
  await Promise.all(target.admins.map((admin) => admin.flushall()));
  const { connection, name: topology } = target;
  const fleet = new Fleet({ connection, shards, mode: 'load-balanced', shardOwnership: ownership, batchSize });
  await fleet.open(consumers);
  if (ownership === 'owned') await fleet.untilEven();
  await using streamer = await RedisStreamer.connect(connection, { logger });
  const producer = await streamer.createGenericProducer({ maxQueued: 2 * backlog });
  const measured: Drained[] = [];
  // The first round warms up.
  for (let round = 0; round <= rounds; round += 1) measured.push(await drain(target, fleet, producer, shards));
  await producer.end();
  await fleet.end();
  const median = (of: (one: Drained) => number): number => summarize(measured.slice(1).map(of)).median;
  return {
    topology,
    ownership,
    shards,
    consumers,
    rate: median(({ rate }) => rate),
    cpu: median(({ cpu }) => cpu),
    serverCpu: median(({ serverCpu }) => serverCpu),
  };
}

interface Drained {
  readonly rate: number;
  readonly cpu: number;
  readonly serverCpu: number;
}

/** The consumers begin when the whole backlog is there, so that its producer takes no CPU from them. */
async function drain(target: Target, fleet: Fleet, producer: StreamProducer, shards: number): Promise<Drained> {
  await fleet.hold();
  await fleet.reset();
  for (let sent = 0; sent < backlog; sent += 1) {
    producer.enqueueTo(`${STREAM}:${sent % shards}`, `d ${now()} ${PADDING}`);
  }
  await producer.flush();
  const before = await serverCost(target);
  await fleet.reset();
  const startedAt = now();
  await fleet.resume();
  let reports = await fleet.reports();
  while (reports.reduce((sum, { count }) => sum + count, 0) < backlog) {
    await pause(50);
    reports = await fleet.reports();
  }
  const after = await serverCost(target);
  const took = Math.max(...reports.map(({ lastAt }) => lastAt)) - startedAt;
  return {
    rate: (1_000 * backlog) / took,
    cpu: reports.reduce((sum, { cpu }) => sum + cpu, 0) / backlog,
    serverCpu: (after.cpu - before.cpu) / backlog,
  };
}

/** Rates are multiples of one consumer with the same shards, costs are multiples of one consumer of one shard, shared, on one server. */
function describe(all: readonly Measured[]): string {
  const [baseline] = all as [Measured];
  const counts = [...new Set(all.map(({ consumers }) => consumers))];
  const lines = casesOf(all).map((same) => {
    const [one] = same as [Measured];
    return [
      `${TOPOLOGY_NAMES[one.topology]}, ${one.ownership}`,
      String(one.shards),
      times(one.rate / baseline.rate),
      ...same.slice(1).map(({ rate }) => times(rate / one.rate)),
      ...same.map(({ cpu }) => times(cpu / baseline.cpu)),
      times(one.serverCpu / baseline.serverCpu),
    ];
  });
  const headings = [
    '',
    'shards',
    'messages, 1 consumer',
    ...counts.slice(1).map((count) => `${count} consumers`),
    ...counts.map((count) => `CPU/message, ${count}`),
    'CPU/message of Redis',
  ];
  return markdownTable(headings, lines);
}

/** The measurements that differ in the number of consumers alone, together. */
function casesOf(all: readonly Measured[]): Measured[][] {
  return groupsOf(all, ({ topology, ownership, shards }) => `${topology} ${ownership} ${shards}`);
}

function groupsOf(all: readonly Measured[], nameOf: (one: Measured) => string): Measured[][] {
  const names = new Set(all.map(nameOf));
  return [...names].map((name) => all.filter((one) => nameOf(one) === name));
}

function chartOf(all: readonly Measured[]): string {
  const titleOf = ({ topology, shards }: Measured): string => `${TOPOLOGY_NAMES[topology]}, shards: ${shards}`;
  const rows = groupsOf(all, titleOf).map((group): ChartRow => {
    const title = titleOf(group[0] as Measured);
    const entrants = casesOf(group).flatMap(([one, ...more]) =>
      more.map(({ ownership, consumers, rate }) => {
        const median = rate / (one as Measured).rate;
        const ratios = { rate: { median, lowest: median, highest: median } };
        return { name: `${consumers} consumers, ${ownership}`, isPeer: ownership === 'shared', ratios };
      }),
    );
    return { title, metrics: ['rate'], baseline: 'one consumer', checks: [], entrants };
  });
  const label = 'Messages of two and four consumers as multiples of one consumer, by topology, shards and ownership';
  return drawChart({ rows }, { label, ours: 'owned shards', peers: 'shared shards' });
}

function ownershipOf(name: string): Ownership {
  if (name === 'shared' || name === 'owned') return name;
  throw new Error(`There is no ownership '${name}', only shared and owned`);
}

const listOf = (text: string): number[] => text.split(',').map(Number);
const all: Measured[] = [];
for (const topology of values.topology.split(',').map(topologyOf)) {
  const target = await startTarget(topology);
  try {
    for (const ownership of values.ownership.split(',').map(ownershipOf)) {
      for (const shards of listOf(values.shards)) {
        for (const consumers of listOf(values.consumers)) {
          const measured = await measure(target, { ownership, shards, consumers });
          all.push(measured);
          console.error(JSON.stringify(measured));
        }
      }
    }
  } finally {
    await target.stop();
  }
}
console.log(describe(all));
if (values.chart !== undefined && !values.quick) writeFileSync(values.chart, chartOf(all));
