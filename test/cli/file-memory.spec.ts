import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { fillBacklog } from '../support/backlog.js';
import { redisUrl, uniqueName } from '../support/redis.js';
import { runToolForMemory } from '../support/tool.js';

/** Set by `npm run test:dump-size`, whose messages are smaller: the server has to hold them all. */
const GIVEN = process.env['MESSAGES'];
const MANY = Number(GIVEN ?? 100_000);
const FEW = MANY / 10;
/** Bytes of a payload. */
const SIZE = GIVEN === undefined ? 2_048 : 99;
/** MiB that the garbage collector may leave or not; the payloads alone are 195 MiB. */
const SCATTER = 64;
/** Milliseconds, on a slow machine. */
const LIMIT = 60_000 + MANY * 0.5;

interface Cost {
  readonly peak: number;
  readonly seconds: number;
}

describe('memory of dump and load', () => {
  const url = redisUrl();
  let redis: Redis;
  let folder: string;
  beforeAll(async () => {
    redis = new Redis(url);
    folder = await mkdtemp(join(tmpdir(), 'nrs-memory-'));
  });
  afterAll(async () => {
    await redis.quit();
    await rm(folder, { recursive: true, force: true });
  });

  async function costOf(...args: string[]): Promise<Cost> {
    const started = performance.now();
    const { code, stderr, peak } = await runToolForMemory(args, { url, limit: LIMIT });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    return { peak, seconds: Math.round((performance.now() - started) / 1_000) };
  }

  /** Dumps a stream of so many messages, and loads what was dumped. */
  async function costs(format: string, count: number): Promise<{ dump: Cost; load: Cost; mebibytes: number }> {
    const [key, file] = [uniqueName('orders'), join(folder, `${count}.${format}`)];
    await fillBacklog(redis, key, count, SIZE);
    const dump = await costOf('dump', '--stream', key, '--output', file);
    await redis.unlink(key);
    const load = await costOf('load', '--input', file);
    expect(await redis.xlen(key)).toBe(count);
    await redis.unlink(key);
    const { size } = await stat(file);
    await rm(file);
    return { dump, load, mebibytes: Math.round(size / 1024 ** 2) };
  }

  it.each(['ss', 'ndjson'])(
    'does not grow with the number of messages in %s',
    async (format) => {
      const few = await costs(format, FEW);
      const many = await costs(format, MANY);
      if (GIVEN !== undefined) console.log(format, { few, many });
      expect(many.dump.peak).toBeLessThan(few.dump.peak + SCATTER);
      expect(many.load.peak).toBeLessThan(few.load.peak + SCATTER);
    },
    4 * LIMIT,
  );
});
