import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { RedisStreamer } from '../../lib/engine.js';
import { redisUrl, uniqueName } from '../support/redis.js';
import { runTool, runToolForJson } from '../support/tool.js';

describe('delayed messages and trimming', () => {
  const url = redisUrl();
  let redis: Redis;
  beforeAll(() => {
    redis = new Redis(url);
  });
  afterAll(() => redis.quit());

  it('delayed ls lists delayed messages, and delayed cancel removes them by their ids or those of receipts', async () => {
    const key = uniqueName('orders');
    const streamer = await RedisStreamer.connect(url);
    const producer = await streamer.createProducer(key);
    const receipt = await producer.send('first', { delay: 3_600_000, headers: { a: 'b' } });
    await producer.send('second', { delay: 7_200_000 });
    await producer.send('third', { delay: 9_000_000 });
    await streamer.disconnect();
    const listed = await runToolForJson<Array<{ id: string }>>(['delayed', 'ls', key], { url });
    expect(listed).toMatchObject([
      {
        streamKey: key,
        headers: { a: 'b' },
        payload: 'first',
        encoding: 'utf8',
        deliverAt: receipt.deliverAt?.toISOString(),
      },
      { payload: 'second' },
      { payload: 'third' },
    ]);
    const cancel = ['delayed', 'cancel', key];
    const ids = listed.map(({ id }) => id);
    const refused = await Promise.all([runTool([...cancel, '--all'], { url }), runTool([...cancel, '--yes'], { url })]);
    expect(refused.map(({ code }) => code)).toEqual([2, 2]);
    expect(await runToolForJson([...cancel, String(ids[1]), '--dry-run'], { url })).toMatchObject([{ cancelled: 1 }]);
    expect(await runToolForJson([...cancel, receipt.id, '--yes'], { url })).toMatchObject([{ cancelled: 1 }]);
    expect((await runTool([...cancel, receipt.id, '--yes'], { url })).code).toBe(1);
    expect(await runToolForJson([...cancel, '--all', '--yes'], { url })).toMatchObject([{ cancelled: 2 }]);
    expect(await runToolForJson(['delayed', 'ls', key], { url })).toEqual([]);
  });

  it('delayed ls lists the messages of all shards in the order of their times, and notes when there are more', async () => {
    const key = uniqueName('orders');
    const streamer = await RedisStreamer.connect(url);
    for (const [shard, payload, delay] of [
      [0, 'second', 7_200_000],
      [1, 'first', 3_600_000],
      [1, 'third', 9_000_000],
    ] as const) {
      await redis.xadd(`${key}:${shard}`, '*', 'msg', 'x');
      const producer = await streamer.createProducer(`${key}:${shard}`);
      await producer.send(payload, { delay });
    }
    await streamer.disconnect();
    const list = async (count: string): Promise<unknown[]> => {
      const { stdout, stderr } = await runTool(['delayed', 'ls', key, '--json', '--count', count], { url });
      return [(JSON.parse(stdout) as Array<{ payload: string }>).map(({ payload }) => payload), stderr];
    };
    expect(await list('2')).toEqual([['first', 'second'], 'nrs: Listed only up to --count 2; there are more\n']);
    expect(await list('3')).toEqual([['first', 'second', 'third'], '']);
  });

  it('the id of a delayed message does not look like an option of a command', async () => {
    const key = uniqueName('orders');
    const streamer = await RedisStreamer.connect(url);
    const producers = await Promise.all(Array.from({ length: 300 }, () => streamer.createProducer(key)));
    const receipts = await Promise.all(producers.map((producer) => producer.send('x', { delay: 3_600_000 })));
    await streamer.disconnect();
    expect(receipts.map(({ id }) => id).filter((id) => id.startsWith('-'))).toEqual([]);
  });

  it('trim deletes the messages that every group has acknowledged', async () => {
    const key = uniqueName('orders');
    for (const id of ['1000-0', '2000-0', '3000-0']) await redis.xadd(key, id, 'msg', id);
    await redis.xgroup('CREATE', key, 'workers', '0');
    await redis.xreadgroup('GROUP', 'workers', 'w1', 'COUNT', 2, 'STREAMS', key, '>');
    await redis.xack(key, 'workers', '1000-0');
    const dry = await runTool(['trim', key, '--dry-run'], { url });
    expect(dry).toMatchObject({ code: 0, stdout: `Would delete 1 message of ${key}\n` });
    expect(dry.stderr).toContain("Messages from 2000-0 on are kept for the group 'workers'");
    expect((await runTool(['trim', key], { url })).code).toBe(2);
    expect(await redis.xlen(key)).toBe(3);
    expect(await runToolForJson(['trim', key, '--yes'], { url })).toMatchObject([{ trimmed: 1, keptFor: 'workers' }]);
    expect(await redis.xlen(key)).toBe(2);
  });

  it('trim names the reason when it deletes nothing of a stream without groups', async () => {
    const key = uniqueName('orders');
    await redis.xadd(key, '1000-0', 'msg', 'x');
    const { code, stdout, stderr } = await runTool(['trim', key, '--dry-run'], { url });
    expect({ code, stdout }).toEqual({ code: 0, stdout: `Would delete 0 messages of ${key}\n` });
    expect(stderr).toBe(`nrs: '${key}' has no group that could acknowledge messages; use --max-len or --min-age\n`);
    expect((await runTool(['trim', key, '--max-len', '5', '--dry-run'], { url })).stderr).toBe('');
  });

  it.each([
    ['', 'milliseconds'],
    ['123456', 'nanoseconds'],
  ])('trim --max-len and --min-age delete exactly, on every shard, where ids end in "%s" for %s', async (digits) => {
    const key = uniqueName('orders');
    const now = Date.now();
    for (const shard of [0, 1]) {
      for (const age of [7_200_000, 3_700_000, 60_000, 0])
        await redis.xadd(`${key}:${shard}`, `${now - age}${digits}-0`, 'msg', 'x');
    }
    const { stdout } = await runTool(['tail', key, '--since', '1h', '--json'], { url });
    expect(stdout.trim().split('\n')).toHaveLength(4);
    const trim = async (...args: string[]): Promise<number[]> => {
      const trimmed = await runToolForJson<Array<{ trimmed: number }>>(['trim', key, ...args], { url });
      return trimmed.map((each) => each.trimmed);
    };
    expect(await trim('--min-age', '1h', '--dry-run')).toEqual([2, 2]);
    expect(await trim('--max-len', '1', '--dry-run')).toEqual([3, 3]);
    expect(await trim('--min-age', '3600000', '--yes')).toEqual([2, 2]);
    expect(await trim('--max-len', '1', '--yes')).toEqual([1, 1]);
    expect((await runTool(['trim', key, '--max-len', '1', '--min-age', '1'], { url })).code).toBe(2);
  });
});
