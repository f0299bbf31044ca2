import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { redisUrl, uniqueName } from '../support/redis.js';
import { RunningTool, runTool, runToolForJson } from '../support/tool.js';

interface Message {
  id: string;
  streamKey: string;
  shardId: number;
  timestamp: string;
  headers: Record<string, string>;
  payload: string;
  encoding: string;
}

describe('streams and messages', () => {
  const url = redisUrl();
  let redis: Redis;
  beforeAll(() => {
    redis = new Redis(url);
  });
  afterAll(() => redis.quit());

  const lines = <T>(text: string): T[] =>
    text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as T);

  it('send appends a payload with headers, and get and tail print it again', async () => {
    const key = uniqueName('orders');
    const [receipt] = await runToolForJson<Array<{ id: string }>>(
      ['send', key, '{"id":7}', '--header', 'source=ops', '--header', 'note=a=b'],
      { url },
    );
    const sent = {
      id: receipt?.id,
      streamKey: key,
      shardId: 0,
      timestamp: new Date(Number(receipt?.id.split('-')[0])).toISOString(),
      headers: { source: 'ops', note: 'a=b' },
      payload: '{"id":7}',
      encoding: 'utf8',
    };
    expect(await runToolForJson(['get', key, String(receipt?.id)], { url })).toEqual([sent]);
    const tail = await runTool(['tail', key, '--json'], { url });
    expect(lines(tail.stdout)).toEqual([sent]);
    expect((await runTool(['tail', key], { url })).stdout).toBe(`${receipt?.id}  {"id":7}  source=ops note=a=b\n`);
  });

  it('send sends each line of the standard input in order, as bytes, including empty lines', async () => {
    const key = uniqueName('orders');
    const { code, stdout } = await runTool(['send', key], {
      url,
      input: Buffer.from('one\n\n\xff\xfe\nlast', 'latin1'),
    });
    const entries = (await redis.xrangeBuffer(key, '-', '+')).map(([id, fields]) => [String(id), fields[1]] as const);
    expect(entries.map(([, payload]) => payload?.toString('latin1'))).toEqual(['one', '', '\xff\xfe', 'last']);
    expect({ code, ids: stdout.trimEnd().split('\n') }).toEqual({ code: 0, ids: entries.map(([id]) => id) });
  });

  it('send --key chooses the same shard for the same key if the stream has shards', async () => {
    const key = uniqueName('orders');
    for (const shard of [0, 1, 2, 3]) await redis.xadd(`${key}:${shard}`, '*', 'msg', 'first');
    const sent = await runToolForJson<Message[]>(['send', key, '--key', 'customer-7'], { url, input: 'a\nb\nc\n' });
    const [shardId] = sent.map((receipt) => receipt.shardId);
    expect(sent.map((receipt) => [receipt.streamKey, receipt.shardId])).toEqual(sent.map(() => [key, shardId]));
    expect(await redis.xlen(`${key}:${shardId}`)).toBe(4);
    expect(await redis.exists(key)).toBe(0);
  });

  it('tail prints the shards of a stream in the order of their ids, and --since begins in the middle', async () => {
    const key = uniqueName('orders');
    for (const [shard, id] of [
      [0, '1000-0'],
      [1, '1000-1'],
      [1, '2000-0'],
      [0, '2000-1'],
      [0, '3000-0'],
    ] as const) {
      await redis.xadd(`${key}:${shard}`, id, 'msg', `of ${shard}`);
    }
    const places = async (...args: string[]): Promise<unknown> => {
      const { stdout } = await runTool(['tail', key, '--json', ...args], { url });
      return lines<Message>(stdout).map(({ id, shardId, payload }) => [id, shardId, payload]);
    };
    const later = [
      ['2000-0', 1, 'of 1'],
      ['2000-1', 0, 'of 0'],
      ['3000-0', 0, 'of 0'],
    ];
    expect(await places()).toEqual([['1000-0', 0, 'of 0'], ['1000-1', 1, 'of 1'], ...later]);
    expect(await places('--since', '2000')).toEqual(later);
    expect(await places('--since', '1970-01-01T00:00:02Z')).toEqual(later);
    expect(await places('--since', '1h')).toEqual([]);
  });

  it('tail --follow prints new messages only, until it is interrupted', async () => {
    const key = uniqueName('orders');
    await redis.xadd(key, '*', 'msg', 'before');
    const tail = new RunningTool(['tail', key, '--follow', '--json'], { url });
    await tail.untilNoted('Following');
    await redis.xadd(key, '*', 'msg', 'first', 'h:a', 'b');
    await tail.untilPrinted('first');
    await redis.xadd(key, '*', 'msg', 'second');
    await tail.untilPrinted('second');
    tail.child.kill('SIGINT');
    const { code, stdout } = await tail.ended;
    expect(lines<Message>(stdout).map(({ payload, headers }) => [payload, headers])).toEqual([
      ['first', { a: 'b' }],
      ['second', {}],
    ]);
    expect(code).toBe(0);
  });

  it('tail --follow --since prints the messages since that time, then new ones', async () => {
    const key = uniqueName('orders');
    for (const id of ['1000-0', '2000-0', '2000-1']) await redis.xadd(key, id, 'msg', id);
    const tail = new RunningTool(['tail', key, '--follow', '--since', '2000', '--json'], { url });
    await tail.untilPrinted('2000-1');
    await redis.xadd(key, '3000-0', 'msg', 'new');
    await tail.untilPrinted('new');
    tail.child.kill('SIGTERM');
    const { code, stdout } = await tail.ended;
    expect(lines<Message>(stdout).map(({ id }) => id)).toEqual(['2000-0', '2000-1', '3000-0']);
    expect(code).toBe(0);
  });

  it('ls and info describe streams, with their shards and groups', async () => {
    const key = uniqueName('orders');
    await redis.xadd(`${key}:0`, '1000-0', 'msg', 'a');
    await redis.xadd(`${key}:1`, '2000-0', 'msg', 'b');
    await redis.xgroup('CREATE', `${key}:0`, 'workers', '0');
    const info = await runToolForJson<{ shards: unknown[] }>(['info', key], { url });
    expect(info).toMatchObject({ streamKey: key, length: 2, firstId: '1000-0', lastId: '2000-0' });
    expect(info).toMatchObject({ groups: [{ name: 'workers', pending: 0, lastDeliveredId: '0-0' }] });
    expect(info.shards).toMatchObject([
      { key: `${key}:0`, length: 1 },
      { key: `${key}:1`, shardId: 1 },
    ]);
    expect(await runToolForJson(['ls', `${key}*`], { url })).toMatchObject([
      { streamKey: `${key}:0`, length: 1, groups: ['workers'] },
      { streamKey: `${key}:1`, length: 1, groups: [] },
    ]);
    const { stdout } = await runTool(['info', key], { url });
    expect(stdout).toMatch(/entries {3}2\n.*\n {2}first id {2}1000-0\n {2}last id {3}2000-0\n/);
    expect(stdout).toMatch(/\nworkers +0 +0 +/);
  });

  it('--prefix is put before each key, and is not printed', async () => {
    const prefix = uniqueName('app:');
    await runTool(['send', 'orders', 'x', '--prefix', prefix], { url });
    expect(await redis.xlen(`${prefix}orders`)).toBe(1);
    expect(await runToolForJson(['ls', '--prefix', prefix], { url })).toMatchObject([
      { streamKey: 'orders', length: 1 },
    ]);
    await runTool(['trim', 'orders', '--max-len', '0', '--yes', '--prefix', prefix], { url });
    expect(await redis.xlen(`${prefix}orders`)).toBe(0);
  });

  it('fails for a key of another type, a missing stream, and a missing entry', async () => {
    const [list, stream] = [uniqueName('list'), uniqueName('orders')];
    await redis.rpush(list, 'x');
    await redis.xadd(stream, '1-0', 'msg', 'x');
    const failing = async (args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await runTool(args, { url });
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      return stderr;
    };
    for (const command of ['info', 'tail', 'groups', 'lag']) {
      expect(await failing([command, list])).toMatch(/holds another type than a stream/);
    }
    expect(await failing(['send', list, 'x'])).toMatch(/holds another type than a stream/);
    expect(await failing(['info', `${stream}-missing`])).toBe(`nrs: There is no stream '${stream}-missing'\n`);
    expect(await failing(['get', stream, '2-0'])).toBe(`nrs: The stream '${stream}' has no entry 2-0\n`);
  });

  it('prints names and payloads of any bytes with escapes for control characters, and JSON with the same values', async () => {
    const key = `${uniqueName('orders')}\u001b[2J\u0007\u202e`;
    const text = 'red \u001b[31m \u0000 \u009b1m \u2028 é 🎉';
    await redis.xadd(key, '1-0', 'msg', text, 'h:a\nb', 'c\u001b]0;title\u0007');
    await redis.xadd(key, '2-0', 'msg', Buffer.from([0, 0xff, 27, 91]));
    await redis.xadd(key, '3-0', 'msg', '');
    await redis.xadd(key, '4-0', 'other', 'field');
    await redis.xgroup('CREATE', key, 'g\u001b[5m', '0');
    // Every control character but the end of a line.
    const control = /[^\P{Cc}\n]|[\u202e\u2028]/u;
    for (const args of [
      ['tail', key],
      ['get', key, '1-0'],
      ['info', key],
      ['ls', `${key}*`],
      ['lag', key],
      ['tail', key, '--json'],
    ]) {
      const { code, stdout, stderr } = await runTool(args, { url });
      expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: expect.not.stringMatching(control), stderr: '' });
    }
    const missing = await runTool(['info', `${key}-missing`], { url });
    expect(missing.stderr).not.toMatch(control);
    const found = lines<Message>((await runTool(['tail', key, '--json'], { url })).stdout);
    expect(found.map(({ payload, encoding }) => [payload, encoding])).toEqual([
      [text, 'utf8'],
      [Buffer.from([0, 0xff, 27, 91]).toString('base64'), 'base64'],
      ['', 'utf8'],
      ['', 'utf8'],
    ]);
    expect(found[0]).toMatchObject({ streamKey: key, headers: { 'a\nb': 'c\u001b]0;title\u0007' } });
    expect(found[3]).toMatchObject({ fields: { other: 'field' } });
  });

  it('escapes control characters and newlines of names in reports and errors', async () => {
    const hostile = `${uniqueName('orders')}\u001b[31m\nfake\r`;
    await redis.xgroup('CREATE', hostile, hostile, '0', 'MKSTREAM');
    await redis.xadd(hostile, '1-0', 'msg', 'x');
    await redis.xreadgroup('GROUP', hostile, hostile, 'NOACK', 'STREAMS', hostile, '>');
    const results = [];
    for (const args of [
      ['consumers', 'prune', hostile, hostile, '--idle', '0s', '--yes'],
      ['trim', hostile, '--dry-run'],
      ['dead', 'rm', hostile, '--all', '--dry-run'],
      ['delayed', 'cancel', hostile, '--all', '--dry-run'],
      ['resume', hostile, hostile],
      ['get', hostile, '2-0'],
    ]) {
      results.push(await runTool(args, { url }));
    }
    expect(results.map(({ code }) => code)).toEqual([0, 0, 0, 0, 2, 1]);
    for (const { stdout, stderr } of results) {
      expect(stdout + stderr).toContain('\\u001b[31m\\nfake\\r');
      expect(stdout + stderr).not.toMatch(/(?!\n)\p{Cc}|^fake/mu);
    }
  });

  it('prints each row of a table of thousands, once and in order', async () => {
    const key = uniqueName('orders');
    const rows = 5_000;
    const batch = redis.pipeline();
    for (let id = 1; id <= rows; id += 1) batch.xadd(key, `${id}-0`, 'msg', '');
    await batch.exec();
    await redis.xgroup('CREATE', key, 'workers', '0');
    await redis.xreadgroup('GROUP', 'workers', 'one', 'COUNT', rows, 'STREAMS', key, '>');
    const { code, stdout } = await runTool(['pending', key, 'workers', '--count', String(rows)], { url });
    expect(code).toBe(0);
    const ids = stdout
      .trimEnd()
      .split('\n')
      .slice(1)
      .map((line) => line.split(' ')[0]);
    expect(ids).toEqual(Array.from({ length: rows }, (_, index) => `${index + 1}-0`));
  });

  it('sends and prints 3 MB in one message', async () => {
    const key = uniqueName('orders');
    const payload = 'x'.repeat(3 * 1024 * 1024);
    const [receipt] = await runToolForJson<Message[]>(['send', key], { url, input: payload });
    const { stdout } = await runTool(['tail', key, '--json'], { url });
    const [message] = lines<Message>(stdout);
    expect(message?.id).toBe(receipt?.id);
    expect(message?.payload === payload).toBe(true);
  });
});
