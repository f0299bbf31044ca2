import { RedisCluster } from '../test/support/redis-cluster.js';
import {
  describeClusterTargets,
  describeComparison,
  describeRegressions,
  describeWire,
  isCheapInCluster,
} from './comparison-report.js';
import { compareRow } from './comparison.js';
import type { ComparedRow, Sides } from './comparison.js';
import type { Options } from './options.js';
import type { Results } from './results.js';
import type { Setting } from './row.js';
import { checkoutSides, spreadOver, topologySides, wireSides } from './sides.js';

const ROUNDS = 3;

/** What a comparison leaves behind. */
export interface Compared {
  readonly rows: readonly ComparedRow[];
  readonly hasPassed: boolean;
}

/** This checkout's library against that of another checkout. Fails where this one is worse beyond noise. */
export async function compareCheckouts(setting: Setting, options: Options): Promise<Compared> {
  const rows = await compareRows(checkoutSides(setting, options.other), options);
  console.log(describeRegressions(rows));
  const isWorse = ({ entrants }: ComparedRow): boolean =>
    entrants.some(({ metrics }) => metrics.some(({ verdict }) => verdict === 'worse'));
  return { rows, hasPassed: rows.every((row) => row.failure === undefined && !isWorse(row)) };
}

/** A cluster of three masters against one server. Fails where the cluster costs the client too much CPU time. */
export async function compareTopologies(setting: Setting, options: Options): Promise<Compared> {
  return withCluster(async (cluster) => {
    console.log(`${options.streams} streams, on three masters and on one server`);
    const rows = await compareRows(await topologySides(setting, cluster, options.streams), options);
    console.log(describeClusterTargets(rows));
    return {
      rows,
      hasPassed: rows.every(({ entrants, failure }) => failure === undefined && entrants.every(isCheapInCluster)),
    };
  });
}

/** The library's own wire against ioredis, on one server and on a cluster. Nothing is demanded of the figures. */
export async function compareWires(
  setting: Setting,
  options: Options,
  environment: Results['environment'],
): Promise<Compared> {
  return withCluster(async (cluster) => {
    const spread = await spreadOver(setting, cluster, options.streams);
    const places: Array<[place: string, row: ComparedRow]> = [];
    for (const name of options.rows) {
      const only = { ...options, rows: [name] };
      for (const row of await compareRows(wireSides(setting), only)) places.push(['one server', row]);
      for (const row of await compareRows(wireSides(spread), only)) places.push(['Cluster', row]);
    }
    console.log(describeWire(environment, places));
    const rows = places.map(([, row]) => row);
    return { rows, hasPassed: rows.every(({ failure }) => failure === undefined) };
  });
}

async function compareRows(sides: Sides, { rows, rounds = ROUNDS }: Options): Promise<ComparedRow[]> {
  const compared: ComparedRow[] = [];
  for (const name of rows) {
    const row = await compareRow(name, sides, rounds);
    compared.push(row);
    console.log(describeComparison(row));
  }
  return compared;
}

async function withCluster<T>(work: (cluster: RedisCluster) => Promise<T>): Promise<T> {
  const cluster = await RedisCluster.start();
  try {
    return await work(cluster);
  } finally {
    await cluster.stop();
  }
}
