import { execFile } from 'node:child_process';
import {
  appendFile,
  chmod,
  lstat,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';
import { RedisCluster } from '../support/redis-cluster.js';
import { redisUrl, uniqueName } from '../support/redis.js';
import { RunningTool, runTool } from '../support/tool.js';
import { until } from '../support/until.js';

/** Where the messages of a .ss file begin. */
const HEADER_SIZE = 128;
const TIME = 1_700_000_000_000;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nrs-files-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const fileIn = (name: string): string => join(folder, name);
const folderOf = (test: string): Promise<string> => mkdtemp(fileIn(test));

type Stored = Array<[id: string, fields: string[]]>;

/** The entries of a key, byte for byte. */
async function entriesOf(redis: Redis | Cluster, key: string): Promise<Stored> {
  const entries = await redis.xrangeBuffer(key, '-', '+');
  return entries.map(([id, fields]) => [id.toString(), fields.map((field) => field.toString('hex'))]);
}

/** Appends numbered messages of 99 bytes, four a millisecond, without as many round trips. */
async function seed(redis: Redis, key: string, count: number): Promise<void> {
  const script = `for i = 0, tonumber(ARGV[1]) - 1 do
    local id = string.format('%.0f-%d', ${TIME} + math.floor(i / 4), i % 4 + 1)
    redis.call('XADD', KEYS[1], id, 'msg', string.format('%099d', i))
  end`;
  await redis.eval(script, 1, key, count);
}

describe('dump and load', () => {
  const url = redisUrl();
  let redis: Redis;
  beforeAll(() => {
    redis = new Redis(url);
  });
  afterAll(() => redis.quit());

  const tool = async (...args: string[]) => runTool(args, { url });

  it.each(['ss', 'ndjson'])(
    'as %s bring back streams and shards with ids, empty payloads and payloads of 3 MB, and the next dump is equal',
    async (format) => {
      const [orders, payments] = [uniqueName('orders'), uniqueName('payments')];
      const keys = [orders, `${payments}:0`, `${payments}:1`, `${payments}:70`];
      const large = Buffer.from(Uint8Array.from({ length: 3_000_000 }, (_, index) => (index * 31) >> 3));
      await redis.xadd(orders, `${TIME}-1`, 'msg', '');
      await redis.xadd(orders, `${TIME}-7`, 'msg', large);
      await redis.xadd(orders, `${TIME + 1}-65535`, 'msg', 'last');
      for (const [index, key] of keys.slice(1).entries()) {
        await redis.xadd(key, `${TIME + index}-0`, 'msg', Buffer.from([index, 0xff, 0x0d, 0x0a]));
        await redis.xadd(key, `${TIME + 10 - index}-0`, 'msg', `text ${index}`);
      }
      if (format === 'ndjson') {
        await redis.xadd(orders, `${TIME + 2}-0`, 'msg', 'with headers', 'h:source', 'ops', 'h:note', 'ä\n');
        await redis.xadd(orders, `${TIME + 3}-0`, 'name', 'no payload');
        await redis.xadd(orders, `${TIME + 4}-0`, 'msg', 'a', 'msg', 'b', Buffer.from([0xff]), Buffer.from([0xfe]));
      }
      const before = await Promise.all(keys.map((key) => entriesOf(redis, key)));
      const [first, second] = [fileIn(`${orders}-1.${format}`), fileIn(`${orders}-2.${format}`)];
      const streams = ['--stream', orders, '--stream', payments, '--format', format];

      const dumped = await tool('dump', ...streams, '--output', first);
      expect(dumped).toMatchObject({ code: 0 });
      const count = format === 'ss' ? 3 : 6;
      expect(dumped.stdout).toMatch(
        new RegExp(
          `^${orders}: ${count} messages\n${payments}: 6 messages\n.*: ${count + 6} messages, .* MiB, .*/s\n$`,
        ),
      );
      await redis.del(...keys);
      const loaded = await tool('load', '--input', first);
      expect(loaded).toMatchObject({
        code: 0,
        stdout: `${orders}: ${count} messages loaded, with their ids\n${payments}: 6 messages loaded, with their ids\n`,
      });
      expect(await Promise.all(keys.map((key) => entriesOf(redis, key)))).toEqual(before);
      expect(await tool('dump', ...streams, '--output', second)).toMatchObject({ code: 0 });
      const [one, other] = await Promise.all([readFile(first), readFile(second)]);
      const start = format === 'ss' ? HEADER_SIZE : 0;
      expect(one.subarray(start).equals(other.subarray(start))).toBe(true);
      // At each multiple of 1 MiB is a beacon.
      const beacons = format === 'ss' ? [1, 2].map((number) => one[number * 1024 * 1024]) : [];
      expect(beacons.filter((byte) => byte !== 0x0d)).toEqual([]);
    },
  );

  it('dump names in a note what a .ss file does not keep, such as headers', async () => {
    const key = uniqueName('orders');
    await redis.xadd(key, '*', 'msg', 'a', 'h:source', 'ops');
    const { code, stderr } = await tool('dump', '--stream', key, '--output', fileIn(`${key}.ss`));
    expect([code, stderr]).toEqual([0, expect.stringContaining('1 message had headers')]);
    const colon = uniqueName('shop:orders');
    await redis.xadd(colon, '*', 'msg', 'a');
    const other = await tool('dump', '--stream', colon, '--output', fileIn('colon.ss'));
    expect([other.code, other.stderr]).toEqual([0, expect.stringContaining(`refuse '${colon}'`)]);
  });

  it('dump overwrites a file with --force only, and writes none when a stream does not exist', async () => {
    const [key, file] = [uniqueName('orders'), fileIn('existing.ss')];
    await redis.xadd(key, '*', 'msg', 'a');
    await writeFile(file, 'precious');
    const refused = await tool('dump', '--stream', key, '--output', file);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('--force')]);
    expect(await readFile(file, 'utf8')).toBe('precious');
    expect(await tool('dump', '--stream', key, '--output', file, '--force')).toMatchObject({ code: 0 });
    expect((await readFile(file)).subarray(0, 3)).toEqual(Buffer.from([0x53, 0x73, 1]));
    const missing = await tool('dump', '--stream', uniqueName('none'), '--output', fileIn('missing.ss'));
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining('There is no stream')]);
    await expect(stat(fileIn('missing.ss'))).rejects.toThrow('ENOENT');
  });

  it('dump that fails with --force leaves the file that exists, and no other', async () => {
    const [key, own] = [uniqueName('orders'), await folderOf('failing')];
    const file = join(own, 'orders.ss');
    // Only the first and the last id are checked before the file is written.
    for (const id of [`${TIME}-0`, `${TIME}-65536`, `${TIME + 1}-0`]) await redis.xadd(key, id, 'msg', 'a');
    await writeFile(file, 'precious');
    const failed = await tool('dump', '--stream', key, '--output', file, '--force');
    expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining(`${file} was not written`)]);
    const other = await tool('dump', '--stream', key, '--output', join(own, 'other.ss'));
    expect(other.code).toBe(1);
    expect([await readdir(own), await readFile(file, 'utf8')]).toEqual([['orders.ss'], 'precious']);
  });

  it('dump writes to where a symbolic link points, and keeps the permissions of the file there', async () => {
    const [key, own] = [uniqueName('orders'), await folderOf('links')];
    const [file, link, broken] = ['orders.ss', 'link.ss', 'broken.ss'].map((name) => join(own, name)) as [
      string,
      string,
      string,
    ];
    await redis.xadd(key, '*', 'msg', 'a');
    await writeFile(file, 'old');
    await chmod(file, 0o640);
    await symlink('orders.ss', link);
    await symlink('new.ss', broken);
    const refused = await tool('dump', '--stream', key, '--output', link);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('--force')]);
    for (const name of [link, broken]) {
      expect(await tool('dump', '--stream', key, '--output', name, '--force')).toMatchObject({ code: 0 });
      expect((await lstat(name)).isSymbolicLink()).toBe(true);
    }
    expect((await readdir(own)).sort()).toEqual(['broken.ss', 'link.ss', 'new.ss', 'orders.ss']);
    expect((await stat(file)).mode & 0o777).toBe(0o640);
    for (const name of ['orders.ss', 'new.ss']) {
      expect(await tool('load', '--input', join(own, name), '--dry-run')).toMatchObject({ code: 0 });
    }
  });

  it('dump writes to pipes directly, and to the standard output nothing but the dump', async () => {
    const [key, pipe] = [uniqueName('orders'), join(await folderOf('pipes'), 'pipe')];
    await redis.xadd(key, '1-0', 'msg', 'a');
    const dump = ['dump', '--stream', key, '--format', 'ndjson', '--output'];
    await promisify(execFile)('mkfifo', [pipe]);
    const [read, piped] = await Promise.all([
      promisify(execFile)('cat', [pipe], { timeout: 20_000 }),
      tool(...dump, pipe),
    ]);
    expect(piped.code).toBe(0);
    const direct = await tool(...dump, '/dev/stdout');
    expect(direct).toMatchObject({ code: 0, stderr: expect.stringContaining(`${key}: 1 message\n`) });
    expect(JSON.parse(read.stdout)).toMatchObject({ id: '1-0', payload: 'a' });
    expect(direct.stdout).toBe(read.stdout);
    expect((await tool(...dump, '-')).stdout).toBe(read.stdout);
  });

  it('dump takes the messages between --since and --until, both included', async () => {
    const [key, file] = [uniqueName('orders'), fileIn('range.ndjson')];
    for (const [index, id] of ['0-9', '1-0', '2-5', '3-0'].entries()) {
      await redis.xadd(key, `${TIME + Number(id[0])}-${id[2]}`, 'msg', String(index));
    }
    const bounds = ['--since', new Date(TIME + 1).toISOString(), '--until', String(TIME + 2)];
    expect(await tool('dump', '--stream', key, '--output', file, ...bounds)).toMatchObject({ code: 0 });
    const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { payload: string }).payload)).toEqual(['1', '2']);
  });

  it.each([
    ['in nanoseconds', '1700000000000000000-0'],
    ['with a counter over 16 bits', `${TIME}-65536`],
  ])('dump refuses an id %s for .ss, names it and ndjson, which keeps it', async (_case, id) => {
    const [key, name] = [uniqueName('orders'), uniqueName('ids')];
    await redis.xadd(key, id, 'msg', 'a');
    const refused = await tool('dump', '--stream', key, '--output', fileIn(`${name}.ss`));
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(`${id}.*--format ndjson`)]);
    await expect(stat(fileIn(`${name}.ss`))).rejects.toThrow('ENOENT');
    expect(await tool('dump', '--stream', key, '--output', fileIn(`${name}.ndjson`))).toMatchObject({ code: 0 });
    await redis.del(key);
    expect(await tool('load', '--input', fileIn(`${name}.ndjson`))).toMatchObject({ code: 0 });
    expect((await entriesOf(redis, key)).map(([found]) => found)).toEqual([id]);
  });

  it('dump fails with the error of the system when the disk is full', async () => {
    const key = uniqueName('orders');
    await redis.xadd(key, '*', 'msg', 'a');
    const { code, stderr } = await tool('dump', '--stream', key, '--output', '/dev/full', '--force');
    expect([code, stderr]).toEqual([1, expect.stringMatching(/ENOSPC.*\/dev\/full is incomplete/)]);
  });

  it('load needs --yes for a stream that has entries, and appends with new ids there', async () => {
    const [key, file] = [uniqueName('orders'), fileIn('again.ss')];
    await redis.xadd(key, `${TIME}-0`, 'msg', 'a');
    await tool('dump', '--stream', key, '--output', file);
    const refused = await tool('load', '--input', file);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('--yes')]);
    const dry = await tool('load', '--input', file, '--dry-run');
    expect(dry).toMatchObject({ code: 0, stdout: `${key}: 1 message would be loaded, with new ids\n` });
    const kept = await tool('load', '--input', file, '--yes', '--keep-ids');
    expect([kept.code, kept.stderr]).toEqual([1, expect.stringContaining(`has had the id ${TIME}-0`)]);
    expect(await redis.xlen(key)).toBe(1);
    expect(await tool('load', '--input', file, '--yes')).toMatchObject({ code: 0 });
    const copy = uniqueName('copy');
    const renamed = await tool('load', '--input', file, '--stream', copy, '--new-ids', '--json');
    expect(JSON.parse(renamed.stdout)).toEqual([{ streamKey: copy, messages: 1, ids: 'new' }]);
    const [one, other] = [await entriesOf(redis, key), await entriesOf(redis, copy)];
    expect([one.length, one[1]?.[1]]).toEqual([2, one[0]?.[1]]);
    expect(other[0]?.[0]).not.toBe(`${TIME}-0`);
  });

  it.each(['ss', 'ndjson'])(
    'load names the offset of the damage in a %s file and loads nothing, or with --salvage the intact messages',
    async (format) => {
      const [key, file] = [uniqueName('orders'), fileIn(`damaged.${format}`)];
      await seed(redis, key, 20);
      await tool('dump', '--stream', key, '--output', file, '--force');
      await redis.del(key);
      const bytes = await readFile(file);
      const at = bytes.indexOf(String(7).padStart(99, '0'));
      // Of a number a bit, and of a line its first brace.
      bytes[format === 'ss' ? at : bytes.lastIndexOf('{"id"', at)] = 0x21;
      await writeFile(file, bytes.subarray(0, -5));
      const start = format === 'ss' ? at - (1 + key.length + 24 + 4) : bytes.lastIndexOf('\n', at) + 1;
      const refused = await tool('load', '--input', file);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(`damaged at byte ${start}:`)]);
      expect(await redis.exists(key)).toBe(0);
      const salvaged = await tool('load', '--input', file, '--salvage');
      expect(salvaged).toMatchObject({ code: 0, stdout: `${key}: 18 messages loaded, with their ids\n` });
      expect(salvaged.stderr.match(/damaged at byte/g)).toHaveLength(2);
      const payloads = (await entriesOf(redis, key)).map(([, [, payload = '']]) => Number(Buffer.from(payload, 'hex')));
      expect(payloads).toEqual([0, 1, 2, 3, 4, 5, 6, ...Array.from({ length: 11 }, (_, index) => index + 8)]);
    },
  );

  it('load takes a last line of ndjson without its end', async () => {
    const [key, file] = [uniqueName('orders'), fileIn('by-hand.ndjson')];
    await seed(redis, key, 2);
    await tool('dump', '--stream', key, '--output', file);
    await redis.del(key);
    await writeFile(file, (await readFile(file)).subarray(0, -1));
    expect(await tool('load', '--input', file)).toMatchObject({ code: 0 });
    expect(await redis.xlen(key)).toBe(2);
  });

  it('load takes a number that contradicts the time of its message for damage', async () => {
    const [key, file] = [uniqueName('orders'), fileIn('number.ss')];
    await seed(redis, key, 3);
    await tool('dump', '--stream', key, '--output', file);
    await redis.del(key);
    const handle = await open(file, 'r+');
    const second = HEADER_SIZE + 1 + key.length + 24 + 4 + 99 + 3;
    await handle.write(Buffer.from([0x7f]), 0, 1, second + 1 + key.length + 8 + 3);
    await handle.close();
    const { code, stderr } = await tool('load', '--input', file);
    expect([code, stderr]).toEqual([1, expect.stringContaining(`damaged at byte ${second}:`)]);
    const salvaged = await tool('load', '--input', file, '--salvage');
    expect(salvaged).toMatchObject({ code: 0, stdout: `${key}: 2 messages loaded, with their ids\n` });
  });

  it.each([
    ['is empty', Buffer.alloc(0), /damaged at byte 0: it is empty/],
    ['is of another kind', Buffer.from('root:x:0:0'), /damaged at byte 0: it is neither/],
    ['has another version', Buffer.from([0x53, 0x73, 2, ...Buffer.alloc(200)]), /damaged at byte 2: .*version 2/],
    ['ends in its header', Buffer.from([0x53, 0x73, 1, 0, 0]), /damaged at byte 0: .*header/],
    ['has other lines', Buffer.from('{"level":30}\n'), /damaged at byte 0: a line is not a message/],
  ])('load refuses a file that %s', async (_case, bytes, message) => {
    const file = fileIn('wrong');
    await writeFile(file, bytes);
    expect(await tool('load', '--input', file)).toMatchObject({ code: 1, stderr: expect.stringMatching(message) });
  });

  it.each<[string, string[], RegExp]>([
    ['dump without a file', ['dump', '--stream', 'a'], /--output/],
    ['dump in another format', ['dump', '--stream', 'a', '--output', 'b', '--format', 'csv'], /csv/],
    ['dump of a time that is none', ['dump', '--stream', 'a', '--output', 'b', '--since', 'soon'], /--since/],
    ['load with both kinds of ids', ['load', '--input', 'a', '--keep-ids', '--new-ids'], /--new-ids/],
  ])('%s exits with 2', async (_case, args, message) => {
    expect(await runTool(args, { url })).toMatchObject({ code: 2, stderr: expect.stringMatching(message) });
  });

  it('dump shows count, rate, bytes and time left on a terminal', async () => {
    const key = uniqueName('orders');
    await seed(redis, key, 5_000);
    const dumping = new RunningTool(['dump', '--stream', key, '--output', fileIn('terminal.ss')], { url }, true);
    const { code, stdout } = await dumping.ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/Dumped \[.*\] 100% \| 5000\/5000 messages \| [\d,]+\/s \| \d+ KiB \| 0 ms left/);
  });

  describe('that are interrupted', () => {
    const COUNT = 100_000;
    const key = uniqueName('big');
    const whole = (): string => fileIn('whole.ss');
    beforeAll(async () => {
      await seed(redis, key, COUNT);
      expect(await tool('dump', '--stream', key, '--output', whole())).toMatchObject({ code: 0 });
    });
    afterAll(() => redis.del(key));

    /** A dump that overwrites a file, and stands still in the middle: it writes to the part. */
    async function halfDump(own: string): Promise<{ dumping: RunningTool; file: string; part: string }> {
      const file = join(own, 'orders.ss');
      const sizeOf = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;
      for (;;) {
        await writeFile(file, 'precious');
        const dumping = new RunningTool(['dump', '--stream', key, '--output', file, '--force'], { url });
        let part = '';
        await until('the dump has written messages, or has ended', async () => {
          part = join(own, (await readdir(own)).find((name) => name.endsWith('.part')) ?? 'none');
          return dumping.child.exitCode !== null || (await sizeOf(part)) > HEADER_SIZE;
        });
        dumping.child.kill('SIGSTOP');
        if ((await sizeOf(part)) > HEADER_SIZE) return { dumping, file, part };
        // It was faster than this process.
        dumping.child.kill('SIGCONT');
        await dumping.ended;
      }
    }

    it.each(['SIGINT', 'SIGTERM'] as const)(
      'dump leaves a valid file and no other at %s, and exits with 1',
      async (signal) => {
        const own = await folderOf('interrupted');
        const { dumping, file } = await halfDump(own);
        dumping.child.kill(signal);
        dumping.child.kill('SIGCONT');
        const { code, stdout, stderr } = await dumping.ended;
        expect([code, stderr]).toEqual([1, expect.stringContaining(`Interrupted by ${signal}; ${file} is valid`)]);
        expect(await readdir(own)).toEqual(['orders.ss']);
        const count = Number(/: ([\d,]+) messages?\n/.exec(stdout)?.[1]?.replaceAll(',', ''));
        const loaded = await tool('load', '--input', file, '--stream', uniqueName('copy'), '--dry-run', '--json');
        expect(loaded).toMatchObject({ code: 0 });
        expect(JSON.parse(loaded.stdout)).toMatchObject([{ messages: count }]);
      },
    );

    it('dump that is killed leaves the file that exists, and a part that load --salvage reads', async () => {
      const [own, copy] = [await folderOf('killed'), uniqueName('copy')];
      const { dumping, file, part } = await halfDump(own);
      dumping.child.kill('SIGKILL');
      await dumping.ended;
      expect(await readFile(file, 'utf8')).toBe('precious');
      const { size } = await stat(part);
      const complete = await readFile(whole());
      expect((await readFile(part)).subarray(HEADER_SIZE).equals(complete.subarray(HEADER_SIZE, size))).toBe(true);
      const salvaged = await tool('load', '--input', part, '--stream', copy, '--salvage', '--dry-run', '--json');
      expect(salvaged).toMatchObject({ code: 0 });
      // It was cut there, unless by chance between two messages.
      const { code, stderr } = await tool('load', '--input', part, '--stream', copy, '--dry-run');
      const isNamed = /damaged at byte \d+: the file ends in the middle of a message/.test(stderr);
      expect({ code, stderr, isNamed }).toEqual({ code, stderr, isNamed: code !== 0 });
    });

    it('load leaves the beginning of the stream when it is killed, in whole batches', async () => {
      const copy = uniqueName('copy');
      const loading = new RunningTool(['load', '--input', whole(), '--stream', copy], { url });
      await until('some messages are loaded', async () => (await redis.xlen(copy)) > 0);
      loading.child.kill('SIGKILL');
      await loading.ended;
      const found = await redis.xrange(copy, '-', '+');
      expect(found.length % 500 === 0).toBe(true);
      expect(found).toEqual(await redis.xrange(key, '-', '+', 'COUNT', found.length));
      const again = await tool('load', '--input', whole(), '--stream', copy);
      expect([again.code, again.stderr]).toEqual([2, expect.stringContaining('--yes')]);
      await redis.del(copy);
    });

    it('load ends at Ctrl+C between two batches, and tells how many messages it has loaded', async () => {
      const copy = uniqueName('copy');
      const loading = new RunningTool(['load', '--input', whole(), '--stream', copy], { url });
      await until('some messages are loaded', async () => (await redis.xlen(copy)) > 0);
      loading.child.kill('SIGINT');
      const { code, stderr } = await loading.ended;
      const length = await redis.xlen(copy);
      // It may have loaded the last batch before the signal arrived.
      const isCut = code === 1 && stderr.includes(`${copy}: ${length} of ${COUNT}`);
      expect({ code, stderr, isCut: isCut || length === COUNT }).toEqual({ code, stderr, isCut: true });
      await redis.del(copy);
    });

    it('load reads to its end a file to which its writer still appends, and names where it is cut', async () => {
      const file = fileIn('growing.ss');
      await writeFile(file, (await readFile(whole())).subarray(0, 5_000));
      await appendFile(file, Buffer.from([1]));
      const { code, stderr } = await tool('load', '--input', file, '--stream', uniqueName('copy'));
      expect([code, stderr]).toEqual([1, expect.stringMatching(/damaged at byte \d+: the file ends/)]);
    });
  });
});

describe('dump and load on a cluster', () => {
  let cluster: RedisCluster;
  let redis: Cluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start();
    redis = new Cluster(cluster.masters.map(({ server: { host, port } }) => ({ host, port })));
  });
  afterAll(async () => {
    await redis.quit();
    await cluster.stop();
  });

  it('bring back the shards of all nodes', async () => {
    const keys = Array.from({ length: 6 }, (_, shard) => `orders:${shard}`);
    for (const [index, key] of [...keys, ...keys].entries())
      await redis.xadd(key, `${TIME + index}-1`, 'msg', `${index}`);
    const before = await Promise.all(keys.map((key) => entriesOf(redis, key)));
    const url = cluster.masters[0]?.server.url as string;
    const file = fileIn('cluster.ss');
    expect(await runTool(['dump', '--cluster', '--stream', 'orders', '--output', file], { url })).toMatchObject({
      code: 0,
    });
    for (const key of keys) await redis.del(key);
    const loaded = await runTool(['load', '--cluster', '--input', file], { url });
    expect(loaded).toMatchObject({ code: 0, stdout: 'orders: 12 messages loaded, with their ids\n' });
    expect(await Promise.all(keys.map((key) => entriesOf(redis, key)))).toEqual(before);
  });
});
