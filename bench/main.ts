import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

import { Redis } from 'ioredis';

import { acquireRedis } from '../test/support/redis-server.js';
import { compareCheckouts, compareTopologies, compareWires } from './compare.js';
import type { Compared } from './compare.js';
import { measureRow } from './harness.js';
import { readOptions } from './options.js';
import { describeRow, describeTargets } from './report.js';
import { hasPassed, writeJson } from './results.js';
import type { Results, RowResult } from './results.js';
import { KEY_PREFIX } from './row.js';

const options = readOptions(process.argv.slice(2));
const { mode, scale, out } = options;

const takenAt = new Date().toISOString();
// The private server writes nothing to disk; a server that REDIS_URL names may.
await using redis = await acquireRedis();
const setting = { url: redis.url, scale, keyPrefix: KEY_PREFIX };
const environment = await environmentOf(redis.url);
console.log(`Node ${process.version}, ioredis ${environment.ioredis}, ${redis.origin}`);
if (mode === 'targets') await checkTargets();
else {
  const { rows, hasPassed: isGood } = await compare();
  if (out !== undefined) writeJson(out, { takenAt, scale, environment, rows });
  if (!isGood) process.exitCode = 1;
}

async function checkTargets(): Promise<void> {
  const rows: RowResult[] = [];
  for (const name of options.rows) {
    const row = await measureRow(name, setting, options.rounds);
    rows.push(row);
    console.log(describeRow(row));
  }
  const results: Results = { takenAt, scale, environment, rows };
  console.log(describeTargets(results));
  writeJson(out ?? 'bench/results/latest.json', results);
  if (!rows.every(hasPassed)) process.exitCode = 1;
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
