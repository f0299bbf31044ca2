import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';

import { acquireRedis } from '../test/support/redis-server.js';

/** Runs the program of one sample on a Redis server that it finds or starts, then removes the sample's keys. */
async function run(sample: string): Promise<number> {
  const redis = await acquireRedis();
  const keyPrefix = `sample-${randomBytes(4).toString('hex')}:`;
  try {
    const main = fileURLToPath(new URL(`./${sample}/main.js`, import.meta.url));
    const child = spawn(process.execPath, ['--enable-source-maps', main], {
      env: { ...process.env, REDIS_URL: redis.url, KEY_PREFIX: keyPrefix },
      stdio: 'inherit',
    });
    // A terminal sends Ctrl-C to both processes: the sample shuts down gracefully, then its keys are removed here.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
    const [code] = (await once(child, 'close')) as [number | null];
    return code ?? 1;
  } finally {
    await removeKeys(redis.url, keyPrefix);
    await redis.stop();
  }
}

async function removeKeys(url: string, keyPrefix: string): Promise<void> {
  const redis = new Redis(url, { maxRetriesPerRequest: 0, retryStrategy: () => null });
  let cursor = '0';
  do {
    const [next, keys] = await redis.scan(cursor, 'MATCH', `${keyPrefix}*`, 'COUNT', 1_000);
    if (keys.length > 0) await redis.del(...keys);
    cursor = next;
  } while (cursor !== '0');
  redis.disconnect();
}

const [sample] = process.argv.slice(2);
if (!sample) throw new Error('usage: run.js <folder of a sample>');
process.exitCode = await run(sample);
