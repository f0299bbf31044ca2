import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';

import { Redis } from 'ioredis';

import { acquireRedis } from '../test/support/redis-server.js';
import { measureRow } from './harness.js';
import { describeRow, describeTargets } from './report.js';
import { hasPassed, writeResults } from './results.js';
import type { Results, RowResult } from './results.js';
import { ROW_NAMES, rowNamed } from './rows.js';

const QUICK = 0.05;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** The file for the results. */
    out: { type: 'string', default: 'bench/results/latest.json' },
    /** Runs a twentieth of the work, to check that everything runs. Its figures say nothing about speed. */
    quick: { type: 'boolean', default: false },
  },
});
const names = positionals.length === 0 ? ROW_NAMES : positionals.map(rowNamed);
const scale = values.quick ? QUICK : 1;

const takenAt = new Date().toISOString();
// The private server writes nothing to disk; a server that REDIS_URL names may.
await using redis = await acquireRedis();
console.log(`Node ${process.version}, ${redis.origin}`);
const rows: RowResult[] = [];
for (const name of names) {
  const row = await measureRow(name, { url: redis.url, scale });
  rows.push(row);
  console.log(describeRow(row));
}
const results: Results = { takenAt, scale, environment: await environment(redis.url), rows };
console.log(describeTargets(results));
writeResults(values.out, results);
if (!rows.every(hasPassed)) process.exitCode = 1;

async function environment(url: string): Promise<Results['environment']> {
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
