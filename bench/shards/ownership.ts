import { parseArgs } from 'node:util';

import { markdownTable } from '../markdown.js';
import { simulateOwnership } from '../ownership/simulation.js';
import type { Scenario } from '../ownership/simulation.js';
import { summarize } from '../statistics.js';
import { Fleet } from './fleet.js';
import { commandsDuring, connectionsOf, startTarget, TOPOLOGY_NAMES, topologyOf } from './target.js';
import type { Target, Topology } from './target.js';

/*
 * How long owned shards of consumer processes take to be spread evenly after a start, an end and a crash, and what the consumers cost
 * without messages, beside the simulation and the model. `npm run bench:ownership -- --consumers 2 --shards 12 --rounds 1`
 */

const { values } = parseArgs({
  options: {
    topology: { type: 'string', default: 'single,cluster' },
    consumers: { type: 'string', default: '2,8' },
    shards: { type: 'string', default: '12,64' },
    rounds: { type: 'string', default: '3' },
    batchSize: { type: 'string' },
  },
});
const batchSize = values.batchSize === undefined ? undefined : Number(values.batchSize);
/** The default of `leaseTime`, in milliseconds. */
const LEASE_TIME = 10_000;
/** Milliseconds in which the commands at rest are counted. */
const REST = LEASE_TIME;
/** Of the cluster. */
const MASTERS = 3;
const SEEDS = [1, 2, 3];

const EVENTS = {
  'all start together': 'together',
  'one ends': 'one-ends',
  'one joins': 'one-joins',
  'one is killed': 'one-dies',
} as const satisfies Record<string, Scenario>;
type Event = keyof typeof EVENTS;

/** Milliseconds until the shards were spread evenly; one for each round. */
type Times = Map<Event, number[]>;

interface AtRest {
  readonly connections: number;
  /** In a second. */
  readonly commands: ReadonlyMap<string, number>;
}

interface Measured {
  readonly topology: Topology;
  readonly consumers: number;
  readonly shards: number;
  readonly times: Times;
  readonly longestWithoutOwner: number;
  readonly atRest: AtRest;
}

async function measure(target: Target, consumers: number, shards: number, rounds: number): Promise<Measured> {
  await Promise.all(target.admins.map((admin) => admin.flushall()));
  const { connection, name: topology } = target;
  const times: Times = new Map();
  const note = (event: Event, time: number): void => void times.set(event, [...(times.get(event) ?? []), time]);
  let atRest: AtRest | undefined;
  let longestWithoutOwner = 0;
  for (let round = 0; round < rounds; round += 1) {
    const fleet = new Fleet({ connection, shards, mode: 'load-balanced', shardOwnership: 'owned', batchSize });
    const measured = async (event: Event, begin: () => Promise<number>): Promise<void> => {
      const begun = await begin();
      note(event, (await fleet.untilEven()) - begun);
    };
    await measured('all start together', () => fleet.open(consumers));
    atRest ??= await restOf(target);
    await measured('one ends', () => fleet.endOne());
    await measured('one joins', () => fleet.open(1));
    longestWithoutOwner = Math.max(longestWithoutOwner, fleet.spread.longestWithoutOwner);
    await measured('one is killed', () => fleet.killOne());
    await fleet.end();
  }
  return { topology, consumers, shards, times, longestWithoutOwner, atRest: atRest as AtRest };
}

async function restOf(target: Target): Promise<AtRest> {
  const connections = await connectionsOf(target);
  const counts = await commandsDuring(target, REST);
  return { connections, commands: new Map([...counts].map(([name, count]) => [name, (1_000 * count) / REST])) };
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1_000).toFixed(1)} s`;
}

async function describeTimes(all: readonly Measured[]): Promise<string> {
  const lines: string[][] = [];
  for (const { consumers, shards } of all.filter(({ topology }) => topology === all[0]?.topology)) {
    const same = all.filter((one) => one.consumers === consumers && one.shards === shards);
    for (const [event, scenario] of Object.entries(EVENTS) as Array<[Event, Scenario]>) {
      const simulated: number[] = [];
      // A member joins those that the end of another one has left.
      const members = scenario === 'one-joins' ? consumers - 1 : consumers;
      for (const seed of SEEDS) {
        const { evenAfter } = await simulateOwnership({ scenario, members, shards, seed });
        simulated.push(1_000 * (evenAfter ?? Number.NaN));
      }
      const measured = same.map(({ times }) => spreadOf(times.get(event) as number[]));
      lines.push([String(consumers), String(shards), event, spreadOf(simulated), ...measured]);
    }
  }
  const topologies = [...new Set(all.map(({ topology }) => `measured, ${TOPOLOGY_NAMES[topology]}`))];
  return markdownTable(['consumers', 'shards', 'event', 'simulated', ...topologies], lines);
}

function spreadOf(values: readonly number[]): string {
  const { median, lowest, highest } = summarize(values);
  return `${seconds(median)} (${seconds(lowest)} … ${seconds(highest)})`;
}

function describeRest(all: readonly Measured[]): string {
  const lines = all.map(({ topology, consumers, shards, atRest, longestWithoutOwner }) => {
    const { commands } = atRest;
    const named = (name: string): number => commands.get(name) ?? 0;
    const renewals = (3_000 * shards) / LEASE_TIME;
    const reports = (3_400 * consumers) / LEASE_TIME;
    const reads = [...commands.keys()].filter((name) => /^(xread|read-owned)/.test(name));
    const figures = [
      named('renew-shard'),
      renewals,
      named('join-owners'),
      reports,
      reads.reduce((sum, name) => sum + named(name), 0),
      [...commands.values()].reduce((sum, count) => sum + count, 0),
    ].map((value) => value.toFixed(1));
    const counts = [String(consumers), String(shards)];
    // In Cluster four shards of a consumer have connections of their own, and the others share one to each master.
    const own = Math.min(4, shards / consumers);
    const inCluster = Math.round(own * consumers) + (shards / consumers > own ? 3 : 2) * MASTERS * consumers;
    const connections = topology === 'single' ? 3 * consumers : inCluster;
    const modelled = [String(atRest.connections), String(connections)];
    return [TOPOLOGY_NAMES[topology], ...counts, ...figures, ...modelled, seconds(longestWithoutOwner)];
  });
  const headings = ['', 'consumers', 'shards', 'renewals/s', 'model', 'reports/s', 'model', 'reads/s', 'commands/s'];
  return markdownTable([...headings, 'connections', 'model', 'longest without owner, handed over'], lines);
}

const listOf = (text: string): number[] => text.split(',').map(Number);
const all: Measured[] = [];
for (const topology of values.topology.split(',').map(topologyOf)) {
  const target = await startTarget(topology);
  try {
    for (const consumers of listOf(values.consumers)) {
      for (const shards of listOf(values.shards)) {
        all.push(await measure(target, consumers, shards, Number(values.rounds)));
        console.error(JSON.stringify(all.at(-1), (_, value: unknown) => (value instanceof Map ? [...value] : value)));
      }
    }
  } finally {
    await target.stop();
  }
}
console.log(await describeTimes(all));
console.log(`\n${describeRest(all)}`);
