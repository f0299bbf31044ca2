import { RedisCluster } from '../test/support/redis-cluster.js';
import {
  describeClusterTargets,
  describeComparison,
  describeRegressions,
  describeWire,
  isCheapInCluster,
  worseFigures,
} from './comparison-report.js';
import { compareRow } from './comparison.js';
import type { ComparedRow, Sides } from './comparison.js';
import type { Options } from './options.js';
import type { Results } from './results.js';
import type { Setting } from './row.js';
import type { RowName } from './rows.js';
import { checkoutSides, spreadOver, topologySides, wireSides } from './sides.js';

const ROUNDS = 3;

/** What a comparison leaves behind. */
export interface Compared {
  readonly rows: readonly ComparedRow[];
  readonly hasPassed: boolean;
}

/**
 * This checkout's library against that of another checkout. Fails where this one is worse beyond noise. With few rounds
 * some figures of a whole table differ by chance, so a row that is worse is compared a second time. Both runs are results,
 * and what is worse in both is a failure.
 */
export async function compareCheckouts(setting: Setting, options: Options): Promise<Compared> {
  const sides = checkoutSides(setting, options.other);
  const rows: ComparedRow[] = [];
  const confirmed: string[] = [];
  const unconfirmed: string[] = [];
  for (const name of options.rows) {
    const first = await compare(name, sides, options);
    rows.push(first);
    const suspects = worseFigures(first);
    if (suspects.length === 0) continue;
    const second = await compare(name, sides, options);
    rows.push(second);
    const worse = new Set(worseFigures(second));
    for (const figure of suspects) (worse.has(figure) ? confirmed : unconfirmed).push(figure);
  }
  const failed = rows.flatMap(({ name, failure }) => (failure === undefined ? [] : [name]));
  console.log(describeRegressions(confirmed, unconfirmed, failed));
  return { rows, hasPassed: confirmed.length === 0 && failed.length === 0 };
}

/** A cluster of three masters against one server. Fails where the cluster costs the client too much CPU time. */
export async function compareTopologies(setting: Setting, options: Options): Promise<Compared> {
  return withCluster(async (cluster) => {
    console.log(`${options.streams} streams, on three masters and on one server`);
    const sides = await topologySides(setting, cluster, options.streams);
    const rows: ComparedRow[] = [];
    for (const name of options.rows) rows.push(await compare(name, sides, options));
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
      places.push(['one server', await compare(name, wireSides(setting), options)]);
      places.push(['Cluster', await compare(name, wireSides(spread), options)]);
    }
    console.log(describeWire(environment, places));
    const rows = places.map(([, row]) => row);
    return { rows, hasPassed: rows.every(({ failure }) => failure === undefined) };
  });
}

async function compare(name: RowName, sides: Sides, { rounds = ROUNDS }: Options): Promise<ComparedRow> {
  const row = await compareRow(name, sides, rounds);
  console.log(describeComparison(row));
  return row;
}

export async function withCluster<T>(work: (cluster: RedisCluster) => Promise<T>): Promise<T> {
  const cluster = await RedisCluster.start();
  try {
    return await work(cluster);
  } finally {
    await cluster.stop();
  }
}
