import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { KeyHashSharder, RedisStreamer } from '../../lib/engine.js';
import { redisUrl, uniqueName } from '../support/redis.js';
import { runTool, runToolForJson } from '../support/tool.js';

interface Shard {
  readonly shardId: number;
  readonly state: string;
  readonly layout?: number;
  readonly isCurrent: boolean;
}

const summary = (shards: readonly Shard[]): unknown[] =>
  shards.map(({ shardId, state, layout, isCurrent }) => [shardId, state, layout, isCurrent]);

describe('nrs shards', () => {
  const url = redisUrl();
  let redis: Redis;
  beforeAll(() => {
    redis = new Redis(url);
  });
  const streamers: RedisStreamer[] = [];
  afterAll(async () => {
    await Promise.all(streamers.map((streamer) => streamer.disconnect()));
    await redis.quit();
  });

  it('refuses a stream of which nothing exists, a shard, and too many shards, and creates nothing', async () => {
    const key = uniqueName('orders');
    await redis.hset(`nrs:{${key}}:layout:${key}`, { layouts: '', pending: '', first: 2 });
    const missing = uniqueName('typo');
    const [listed, set, shard, many, unasked] = await Promise.all(
      [
        [missing],
        [missing, '--set', '3', '--yes'],
        [`${key}:0`, '--set', '3'],
        [key, '--set', '10001'],
        [key, '--set', '3'],
      ].map((args) => runTool(['shards', ...args], { url })),
    );
    expect(listed).toMatchObject({ code: 1, stderr: `nrs: There is no stream '${missing}'\n` });
    expect(set).toMatchObject({
      code: 1,
      stderr: `nrs: There is no stream '${missing}'; --create creates its shards\n`,
    });
    expect(shard).toMatchObject({ code: 1, stderr: expect.stringContaining('There is no stream') });
    expect(many).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('shards must be a whole number from 1 to 10000'),
    });
    expect(unasked).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(
        `--yes is required. This closes the shards 0 and 1 of '${key}', and creates the shards 2 to 4`,
      ),
    });
    expect(await redis.keys(`*${missing}*`)).toEqual([]);
    expect(await redis.keys(`*${key}*`)).toEqual([`nrs:{${key}}:layout:${key}`]);
  });

  it('--set closes the old shards and creates new ones; the list and info tell closed shards from open ones', async () => {
    const key = uniqueName('orders');
    const created = await runTool(['shards', key, '--set', '2', '--create', '--yes'], { url });
    expect(created).toMatchObject({ code: 0, stdout: `Created the shards 0 and 1 of ${key}\n`, stderr: '' });
    const dry = await runTool(['shards', key, '--set', '1', '--dry-run'], { url });
    expect(dry.stdout).toBe(`Would create the shard 2 of ${key}, and close the shards 0 and 1\n`);
    const closed = { first: 0, shards: 2 };
    expect(await runToolForJson(['shards', key, '--set', '1', '--yes'], { url })).toEqual([
      { streamKey: key, first: 2, shards: 1, closed, dryRun: false },
    ]);
    await redis.del(`${key}:0`);
    const [shards, info, again] = await Promise.all([
      runToolForJson<Shard[]>(['shards', key], { url }),
      runTool(['info', key], { url }),
      runTool(['shards', key, '--set', '1', '--yes'], { url }),
    ]);
    expect(summary(shards)).toEqual([
      [0, 'missing', 1, false],
      [1, 'closed', 1, false],
      [2, 'open', 2, true],
    ]);
    expect(info.stdout).toMatch(/:1 .* closed\n.*:2 .* open\n/);
    expect(again.stdout).toBe(`${key} has the shard 2 already; those of old layouts are closed\n`);
  });

  it('--group shows owners, generations and what is left; a shard that is open again and a change that was left are noted', async () => {
    const key = uniqueName('orders');
    const streamer = await RedisStreamer.connect(url);
    streamers.push(streamer);
    const producer = await streamer.createProducer(key, { sharder: new KeyHashSharder(1) });
    await producer.send('x', { key: 'k' });
    const consumer = await streamer.createConsumer(key, {
      mode: 'load-balanced',
      group: 'g',
      autoStreamReset: 'earliest',
      shardOwnership: 'owned',
    });
    await consumer.next();
    const shown = await runToolForJson<unknown[]>(['shards', key, '--group', 'g'], { url });
    expect(shown).toMatchObject([
      {
        key: `${key}:0`,
        length: 1,
        pending: 1,
        owner: consumer.consumerId,
        generation: expect.stringMatching(/^\d+$/),
        isCurrent: false,
      },
    ]);
    await streamer.disconnect();
    await redis.hset(`nrs:{${key}}:layout:${key}`, { layouts: '0:1,1:1', pending: '' });
    expect((await runTool(['shards', key], { url })).stderr).toContain('Shards of old layouts are open: 0;');
    await redis.hset(`nrs:{${key}}:layout:${key}`, { pending: '2:3:1' });
    const [pending, unknown] = await Promise.all([
      runTool(['shards', key], { url }),
      runTool(['shards', key, '--group', 'other'], { url }),
    ]);
    expect(pending.stderr).toBe(
      `nrs: A change to the shards 2 to 4 is under way, or its process has died: 'nrs shards ${key} --set 3' ends it\n`,
    );
    expect(unknown).toMatchObject({ code: 1, stderr: `nrs: The stream '${key}' has no group 'other'\n` });
  });
});
