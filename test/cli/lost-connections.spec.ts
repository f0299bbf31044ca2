import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { DEAD_LETTER_HEADERS } from '../../lib/engine.js';
import { fillBacklog } from '../support/backlog.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { redisUrl, uniqueName } from '../support/redis.js';
import { runTool } from '../support/tool.js';
import { until } from '../support/until.js';

describe('a connection that falls silent or is lost', () => {
  const url = redisUrl();
  let redis: Redis;
  let folder: string;
  let proxy: FaultProxy;
  let key: string;
  let file: string;
  /** Four batches of load, each different. */
  const COUNT = 2_000;
  beforeAll(async () => {
    redis = new Redis(url);
    folder = await mkdtemp(join(tmpdir(), 'nrs-lost-'));
    [key, file] = [uniqueName('orders'), join(folder, 'orders.ss')];
    await fillBacklog(redis, key, COUNT, 64);
    await redis.xgroup('CREATE', key, 'workers', '0');
    await redis.xreadgroup('GROUP', 'workers', 'w1', 'COUNT', 10, 'STREAMS', key, '>');
    await redis.xreadgroup('GROUP', 'workers', 'w2', 'STREAMS', key, '0');
    const [[first]] = (await redis.xrange(key, '-', '+', 'COUNT', 1)) as [[string, string[]]];
    await redis.xack(key, 'workers', first);
    const origin = { stream: key, key, id: first, group: 'workers', consumer: 'w1', deliveryCount: '5' };
    const headers = Object.entries(origin).flatMap(([name, value]) => [
      `h:${DEAD_LETTER_HEADERS[name as keyof typeof origin]}`,
      value,
    ]);
    await redis.xadd(`${key}.dead`, '1-0', 'msg', 'x', ...headers);
    expect(await runTool(['dump', '--stream', key, '--output', file], { url })).toMatchObject({ code: 0 });
  });
  afterAll(async () => {
    await redis.quit();
    await rm(folder, { recursive: true, force: true });
  });
  beforeEach(async () => {
    proxy = await FaultProxy.start(Number(new URL(url).port));
  });
  afterEach(() => proxy.stop());

  it.each([
    ['ls', 'SCAN'],
    ['tail KEY', 'XRANGE'],
    ['dump --stream KEY --output FILE.new', 'XRANGE'],
    ['dead redrive KEY --yes', 'XCLAIM'],
    ['dead rm KEY --all --yes', 'XDEL'],
    ['consumers prune KEY workers --idle 0s --yes', 'EVAL'],
    ['send KEY x', 'XADD'],
    ['pause KEY workers --yes', 'SET'],
    ['trim KEY --yes', 'EVAL'],
    ['trim KEY --max-len 1 --yes', 'XTRIM'],
    ['trim KEY --min-age 1s --yes', 'XTRIM'],
    ['load --input FILE --stream KEY.copy', 'xinfo'],
    ['load --input FILE --stream KEY.copy', 'exec'],
    ['doctor', 'info'],
    ['doctor', 'CONFIG'],
    ['doctor', 'XREADGROUP'],
    ['doctor', 'scan'],
  ])('%s ends with 1 and one sentence when the server is silent at %s', async (command, text) => {
    const args = command.split(' ').map((word) => word.replace('KEY', key).replace('FILE', file));
    let isStalled = false;
    void proxy.stallAt(text).then(() => (isStalled = true));
    const { code, stderr } = await runTool([...args, '--timeout', '1s'], { url: proxy.url });
    expect(isStalled).toBe(true);
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(/^nrs: .*(?:1s|1000 ms|1 s)/);
    expect([code, stderr]).toEqual([1, expect.not.stringMatching(/^\s+at /m)]);
  });

  describe.each(['--new-ids', '--keep-ids'])('load %s', (ids) => {
    const copy = uniqueName('copy');
    afterEach(() => redis.del(copy));
    const payloadsOf = async (stream: string): Promise<string[]> =>
      (await redis.xrange(stream, '-', '+')).map(([, [, payload = '']]) => payload);
    let original: string[];
    beforeAll(async () => {
      original = await payloadsOf(key);
      expect(original).toHaveLength(COUNT);
    });

    it('appends a batch once when the reply to it is lost', async () => {
      const torn = proxy.loseReplyTo('exec');
      const loaded = await runTool(['load', '--input', file, '--stream', copy, ids], { url: proxy.url });
      await torn;
      expect(loaded).toMatchObject({ code: 0, stdout: expect.stringContaining(`${copy}: 2,000 messages loaded`) });
      expect(await payloadsOf(copy)).toEqual(original);
    });

    it('appends a batch that the server did not get, when the connection is back', async () => {
      proxy.refuseText('exec');
      const loading = runTool(['load', '--input', file, '--stream', copy, ids], { url: proxy.url });
      await until('batches were lost', () => proxy.refusals > 1);
      proxy.relay();
      expect(await loading).toMatchObject({ code: 0 });
      expect(await payloadsOf(copy)).toEqual(original);
    });

    it('ends with 1 and tells what was loaded when the connection does not come back', async () => {
      const torn = proxy.loseReplyTo('exec').then(() => proxy.refuse());
      const args = ['load', '--input', file, '--stream', copy, ids, '--timeout', '1s'];
      const [{ code, stderr }] = await Promise.all([runTool(args, { url: proxy.url }), torn]);
      expect([code, stderr]).toEqual([
        1,
        expect.stringMatching(
          /^nrs: .*connection.*loaded until then: copy-\w+: 0 of 2,?000, and perhaps the next 500\n$/,
        ),
      ]);
    });
  });

  it('a password that the server does not want is one sentence, and no warning of a library', async () => {
    const { code, stderr } = await runTool(['trim', key, '--max-len', '5000', '--yes'], {
      url: url.replace('redis://', 'redis://:pw@'),
    });
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^nrs: [^\n]*password[^\n]*\n$/)]);
    expect(stderr).not.toContain('[WARN]');
  });
});
