import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';

import { redisUrl } from '../support/redis.js';
import { until } from '../support/until.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** For compiling, starting five processes on two busy cores, and ten seconds of traffic. */
const LIMIT = 240_000;
const STARTED_LIMIT = 60_000;

const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  // A driver that was killed could not remove its keys.
  await withRedis(async (redis) => redis.del('shop', ...(await redis.keys('shop-*'))));
});

/** A program that uses the Redis of this run, and its output so far. */
function run(program: string, args: readonly string[]): { child: ChildProcess; output: () => string } {
  const child = spawn(program, args, {
    cwd: ROOT,
    env: { ...process.env, REDIS_URL: redisUrl() },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return { child, output: () => output };
}

/** The shop that `npm run sample` has compiled, in serve mode, and the id of one of its processes. */
async function openShop(): Promise<{ child: ChildProcess; service: number }> {
  const { child, output } = run(process.execPath, ['.run/sample/main.js', '--serve']);
  await until('the shop is open', () => /kill -9 \d+/.test(output()), STARTED_LIMIT);
  return { child, service: Number(/kill -9 (\d+)/.exec(output())?.[1]) };
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function withRedis<T>(work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(redisUrl());
  try {
    return await work(redis);
  } finally {
    await redis.quit();
  }
}

const shopKeys = (): Promise<string[]> => withRedis((redis) => redis.keys('shop-*'));

it(
  'the shop loses no order when one of its processes is killed, and leaves no key behind',
  async () => {
    const { child, output } = run('npm', ['run', '--silent', 'sample']);
    const [code] = (await once(child, 'close')) as [number | null];
    const [, sent, lost, pending] = /^(\d+) sent, (\d+) lost, (\d+) pending$/m.exec(output()) ?? [];

    // The output is on both sides so that a failure shows it.
    expect({ code, lost, pending, output: output() }).toEqual({ code: 0, lost: '0', pending: '0', output: output() });
    expect(Number(sent)).toBeGreaterThan(1_000);
    expect(output()).toMatch(/orders-2 was killed with SIGKILL; \d+ orders are pending for it/);
    expect(await shopKeys()).toEqual([]);
  },
  LIMIT,
);

it(
  'Ctrl-C closes the shop with all of its processes, and leaves no key behind',
  async () => {
    const { child, service } = await openShop();
    child.kill('SIGINT');
    const [code] = (await once(child, 'close')) as [number | null];

    expect(code).toBe(0);
    expect(isRunning(service)).toBe(false);
    expect(await shopKeys()).toEqual([]);
  },
  LIMIT,
);

it(
  'the processes of the shop end when their driver is killed',
  async () => {
    const { child, service } = await openShop();
    child.kill('SIGKILL');

    await until('the service has ended', () => !isRunning(service));
  },
  LIMIT,
);
