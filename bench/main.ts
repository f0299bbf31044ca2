import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

import { Redis } from 'ioredis';

import { acquireRedis } from '../test/support/redis-server.js';
import { compareCheckouts, compareTopologies, compareWires } from './compare.js';
import type { Compared } from './compare.js';
import { describeGrowth, measureGrowth } from './growth/measure.js';
import { measureRow } from './harness.js';
import { readOptions } from './options.js';
import { buildPeer } from './peers/build.js';
import type { PeerName } from './peers/build.js';
import { describeRow, describeTargets } from './report.js';
import { hasPassed, writeJson } from './results.js';
import type { Results, RowResult } from './results.js';
import { KEY_PREFIX } from './row.js';
import type { Row, Target } from './row.js';
import { loadRow } from './rows.js';
import type { RowName } from './rows.js';

const options = readOptions(process.argv.slice(2));
const { mode, scale, out } = options;

const takenAt = new Date().toISOString();
// The private server writes nothing to disk; a server that REDIS_URL names may.
await using redis = await acquireRedis();
const setting = { url: redis.url, scale, keyPrefix: `${KEY_PREFIX}${process.pid}.` };
const environment = await environmentOf(redis.url);
console.log(`Node ${process.version}, ioredis ${environment.ioredis}, ${redis.origin}`);
if (mode === 'targets') await checkTargets(({ targets }) => targets, 'bench/results/latest.json');
else if (mode === 'growth') await checkGrowth();
else if (mode === 'peers') await checkTargets(({ goals, targets }) => goals ?? targets, 'bench/results/peers.json');
else {
  const { rows, hasPassed: isGood } = await compare();
  if (out !== undefined) writeJson(out, { takenAt, scale, environment, rows });
  if (!isGood) process.exitCode = 1;
}

async function checkTargets(targetsOf: (row: Row) => readonly Target[], defaultOut: string): Promise<void> {
  const rows: RowResult[] = [];
  const { ready, missing } = await prepare(options.rows);
  for (const line of missing) console.log(line);
  for (const name of ready) {
    const row = await measureRow(name, setting, options.rounds, targetsOf);
    rows.push(row);
    console.log(describeRow(row));
  }
  conclude(rows, missing, defaultOut);
}

async function checkGrowth(): Promise<void> {
  const rows: RowResult[] = [];
  for await (const row of measureGrowth(setting, options)) {
    rows.push(row);
    console.log(describeGrowth(row));
  }
  conclude(rows, [], 'bench/results/growth.json');
}

function conclude(rows: readonly RowResult[], missing: readonly string[], defaultOut: string): void {
  const results: Results = { takenAt, scale, environment, rows, missing };
  console.log(describeTargets(results));
  writeJson(out ?? defaultOut, results);
  if (!rows.every(hasPassed)) process.exitCode = 1;
}

/** Builds the programs that the rows need. The rows that lack theirs are left out, with one line for each program. */
async function prepare(names: readonly RowName[]): Promise<{ ready: RowName[]; missing: string[] }> {
  const rows = await Promise.all(names.map(async (name) => ({ name, needs: (await loadRow(name)).needs })));
  const absent = new Map<PeerName | undefined, string>();
  for (const needs of new Set(rows.map((row) => row.needs))) {
    const reason = needs && buildPeer(needs);
    if (reason) absent.set(needs, reason);
  }
  const missing = [...absent].map(([peer, reason]) => {
    const without = rows.filter(({ needs }) => needs === peer).map(({ name }) => name);
    return `Not measured: ${without.join(', ')}. ${reason}`;
  });
  return { ready: rows.filter(({ needs }) => !absent.has(needs)).map(({ name }) => name), missing };
}

async function compare(): Promise<Compared> {
  if (mode === 'against') return compareCheckouts(setting, options);
  if (mode === 'cluster') return compareTopologies(setting, options);
  return compareWires(setting, options, environment);
}

async function environmentOf(url: string): Promise<Results['environment']> {
  const client = new Redis(url);
  const info = await client.info('server');
  await client.quit();
  return {
    node: process.version.slice(1),
    redis: /^redis_version:(\S+)/m.exec(info)?.[1] ?? 'unknown',
    cores: String(availableParallelism()),
    ioredis: versionOf('ioredis'),
    nest: versionOf('@nestjs/microservices'),
    bullmq: versionOf('bullmq'),
  };
}

function versionOf(name: string): string {
  const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8')) as { version: string };
  return version;
}
