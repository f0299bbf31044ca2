import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';

import { useCompiledSamples } from '../support/compiled-samples.js';
import { redisUrl } from '../support/redis.js';

/** Repeats which shards are moved and which processes are killed. */
const SEED = process.env['SAMPLE_SEED'] ?? String(Math.floor(Math.random() * 2 ** 32));
/** The sample takes less than a minute; much more when both cores are busy. */
const LIMIT = 300_000;

const folder = useCompiledSamples();

it(
  'with owned shards nothing is lost or out of order while slots are moved, a master and a consumer are killed, and a consumer joins',
  async () => {
    const child = spawn(process.execPath, [join(folder, 'sample/run.js'), '06-cluster'], {
      env: { ...process.env, REDIS_URL: redisUrl(), SAMPLE_SEED: SEED, NODE_NO_WARNINGS: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: LIMIT,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => (output += part.toString()));
    const [code] = (await once(child, 'close')) as [number | null];

    /** A number of the ledger, and what it consists of. */
    const row = (name: string): { count: number; parts: string[] } => {
      const [, count, parts = ''] = new RegExp(`^${name} +(\\d+)(?: +(.+))?$`, 'm').exec(output) ?? [];
      return { count: Number(count), parts: parts.split(', ').filter(Boolean) };
    };
    const unexplained = row('duplicates').parts.filter((part) => !part.endsWith(' was killed'));
    const found = { code, lost: row('lost').count, outOfOrder: row('out of order').count, unexplained, output };
    // The output is on both sides so that a failure shows it.
    expect(found).toEqual({ code: 0, lost: 0, outOfOrder: 0, unexplained: [], output });
    expect(row('confirmed').count).toBeGreaterThan(1_000);
    expect(row('handled').count).toBeGreaterThanOrEqual(row('confirmed').count);
    expect(output.match(/ has moved from /g)).toHaveLength(4);
    expect(output.match(/ is killed with SIGKILL$/gm)).toHaveLength(2);
  },
  LIMIT,
);
