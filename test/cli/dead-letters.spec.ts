import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { DEAD_LETTER_HEADERS } from '../../lib/engine.js';
import { deadLetterFields } from '../support/dead-letter-fields.js';
import { redisUrl, uniqueName } from '../support/redis.js';
import { RunningTool, runTool, runToolForJson } from '../support/tool.js';
import { until } from '../support/until.js';

describe('dead letters', () => {
  const url = redisUrl();
  let redis: Redis;
  beforeAll(() => {
    redis = new Redis(url);
  });
  afterAll(() => redis.quit());

  /** A stream whose messages 1000-0, 2000-0, 3000-0 were handled by a group and are dead letters 1-0, 2-0, 3-0. */
  async function withDeadLetters(dead?: string): Promise<string> {
    const key = uniqueName('orders');
    await redis.xgroup('CREATE', key, 'workers', '0', 'MKSTREAM');
    for (const [number, error] of ['no stock', 'timed out', 'timed out'].entries()) {
      const id = `${number + 1}000-0`;
      await redis.xadd(key, id, 'msg', `order ${number + 1}`, 'h:source', 'shop');
      const own = {
        stream: key,
        key,
        id,
        group: 'workers',
        consumer: 'w1',
        deliveryCount: '5',
        reason: 'handled 5 times without success',
        errorName: 'TypeError',
        errorMessage: `${error}\u001b[31m`,
        errorStack: `TypeError: ${error}\n    at OrdersController.handle (orders.js:7:9)`,
      };
      const fields = deadLetterFields(`order ${number + 1}`, own, { source: 'shop' });
      await redis.xadd(dead ?? `${key}.dead`, `${number + 1}-0`, ...fields);
    }
    await redis.xreadgroup('GROUP', 'workers', 'w1', 'COUNT', 10, 'STREAMS', key, '>');
    await redis.xack(key, 'workers', '1000-0', '2000-0', '3000-0');
    return key;
  }
  const ids = (found: unknown): string[] => (found as Array<{ id: string }>).map(({ id }) => id);

  it('dead ls and dead show take the stream itself, and filter', async () => {
    const key = await withDeadLetters();
    const [all, late, one] = await Promise.all([
      runToolForJson(['dead', 'ls', key], { url }),
      runToolForJson(['dead', 'ls', key, '--reason', 'timed out', '--count', '1'], { url }),
      runToolForJson(['dead', 'show', key, '3-0'], { url }),
    ]);
    expect([ids(all), ids(late), ids(one)]).toEqual([['1-0', '2-0', '3-0'], ['2-0'], ['3-0']]);
    expect(one).toMatchObject([
      {
        reason: 'handled 5 times without success',
        error: { name: 'TypeError', message: 'timed out\u001b[31m' },
        origin: { streamKey: key, id: '3000-0', group: 'workers', consumer: 'w1' },
        deliveryCount: 5,
        payload: 'order 3',
        encoding: 'utf8',
        headers: { source: 'shop' },
      },
    ]);
    const { stdout } = await runTool(['dead', 'show', key, '1-0'], { url });
    expect(stdout).toContain(`\n  message  1000-0 of ${key}\n  group    workers, consumer w1\n`);
    expect(stdout).toContain(
      '\n  error    TypeError: no stock\\u001b[31m\n           at OrdersController.handle (orders.js:7:9)\n',
    );
    expect(stdout).toMatch(/\n {2}headers {2}source: shop\n {2}payload {2}order 1\n$/);
    expect((await runTool(['dead', 'show', key, '9-0'], { url })).stderr).toMatch(/has no dead letter 9-0/);
  });

  it('dead ls and dead show note when there are more than they list', async () => {
    const key = await withDeadLetters();
    const note = 'nrs: Listed only up to --count 2; there are more\n';
    for (const command of ['ls', 'show']) {
      const noted = async (count: string): Promise<string> =>
        (await runTool(['dead', command, key, '--count', count], { url })).stderr;
      expect([await noted('2'), await noted('3')]).toEqual([note, '']);
    }
  });

  it('fails for a stream that does not exist, and for the stream of the dead letters itself', async () => {
    const key = await withDeadLetters();
    for (const command of [['ls'], ['show'], ['redrive', '--yes'], ['rm', '--all', '--yes']]) {
      const [name = '', ...flags] = command;
      const [missing, dead] = await Promise.all(
        [`${key}-none`, `${key}.dead`].map((stream) => runTool(['dead', name, stream, ...flags], { url })),
      );
      expect(missing).toMatchObject({ code: 1, stdout: '', stderr: `nrs: There is no stream '${key}-none'\n` });
      expect(dead).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(`are from: '${key}'\n$`) });
    }
    const clean = uniqueName('orders');
    await redis.xadd(clean, '*', 'msg', 'x');
    expect(await runToolForJson(['dead', 'ls', clean], { url })).toEqual([]);
    expect(await redis.xlen(`${key}.dead`)).toBe(3);
  });

  it('dead show counts one delivery in the singular, with its one time', async () => {
    const key = uniqueName('orders');
    const time = '2026-11-27T10:00:00.000Z';
    const own = { stream: key, deliveryCount: '1', firstFailure: time, lastFailure: time, reason: 'refused' };
    await redis.xadd(`${key}.dead`, '*', ...deadLetterFields('x', own));
    const { stdout } = await runTool(['dead', 'show', key], { url });
    expect(stdout).toContain(`\n  failed   1 delivery, ${time}\n`);
  });

  it('dead redrive counts with --dry-run, refuses without --yes, and returns all, some, or one', async () => {
    const key = await withDeadLetters();
    const redrive = ['dead', 'redrive', key];
    expect(await runToolForJson([...redrive, '--dry-run'], { url })).toEqual([
      { streamKey: key, redriven: 3, skipped: 0, dryRun: true },
    ]);
    expect(await runTool(redrive, { url })).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/--yes/),
    });
    expect(await redis.xlen(`${key}.dead`)).toBe(3);
    expect(await runToolForJson([...redrive, '2-0', '--yes'], { url })).toMatchObject([{ redriven: 1 }]);
    expect((await redis.xpending(key, 'workers', '-', '+', 10)).map((entry) => (entry as unknown[])[0])).toEqual([
      '2000-0',
    ]);
    expect(await runToolForJson([...redrive, '--reason', 'no stock', '--yes'], { url })).toMatchObject([
      { redriven: 1 },
    ]);
    const { code, stdout } = await runTool([...redrive, '--yes'], { url });
    expect({ code, stdout }).toEqual({ code: 0, stdout: `Returned 1 dead letter of ${key}\n` });
    expect(await redis.xlen(`${key}.dead`)).toBe(0);
  });

  it('dead rm deletes the named dead letters, and refuses an empty list of ids without --all', async () => {
    const key = await withDeadLetters();
    const rm = ['dead', 'rm', key];
    const refused = await Promise.all([runTool([...rm, '--yes'], { url }), runTool([...rm, '1-0'], { url })]);
    expect(refused.map(({ code }) => code)).toEqual([2, 2]);
    expect(await runToolForJson([...rm, '--all', '--dry-run'], { url })).toMatchObject([{ removed: 3, dryRun: true }]);
    expect(await redis.xlen(`${key}.dead`)).toBe(3);
    expect(await runToolForJson([...rm, '1-0', '--yes'], { url })).toMatchObject([{ removed: 1 }]);
    expect(ids(await runToolForJson(['dead', 'ls', key], { url }))).toEqual(['2-0', '3-0']);
    expect(await runToolForJson([...rm, '--all', '--yes'], { url })).toMatchObject([{ removed: 2 }]);
    expect(await redis.xlen(key)).toBe(3);
  });

  it('--dead names another stream of dead letters, in which those of other streams are ignored', async () => {
    const dead = uniqueName('graveyard');
    const key = await withDeadLetters(dead);
    await redis.xadd(dead, '9-0', ...deadLetterFields('x', { stream: 'another' }));
    expect(ids(await runToolForJson(['dead', 'ls', key, '--dead', dead], { url }))).toEqual(['1-0', '2-0', '3-0']);
    await runTool(['dead', 'redrive', key, '--dead', dead, '--limit', '2', '--yes'], { url });
    await runTool(['dead', 'rm', key, '--dead', dead, '--all', '--yes'], { url });
    expect((await redis.xrange(dead, '-', '+')).map(([id]) => id)).toEqual(['9-0']);
    expect(await redis.xlen(key)).toBe(3);
  });

  it.each([
    ['redrive', 'SIGINT', 'returned', 'the other dead letters were not returned'],
    ['redrive', 'SIGTERM', 'returned', 'the other dead letters were not returned'],
    ['rm', 'SIGINT', 'deleted', 'the other dead letters were not deleted'],
  ] as const)('dead %s stops at %s and prints how many dead letters it %s', async (command, signal, done, rest) => {
    const COUNT = 20_000;
    const key = uniqueName('orders');
    const dead = `${key}.dead`;
    const fields = deadLetterFields('x', { stream: key, key, group: 'workers', consumer: 'w1', deliveryCount: '5' });
    const script = `for i = 1, tonumber(ARGV[1]) do
      redis.call('XADD', KEYS[1], i .. '-0', 'msg', 'x')
      redis.call('XADD', KEYS[2], i .. '-0', ARGV[2], i .. '-0', unpack(ARGV, 3))
    end`;
    await redis.eval(script, 2, key, dead, COUNT, `h:${DEAD_LETTER_HEADERS.id}`, ...fields);
    await redis.xgroup('CREATE', key, 'workers', '$');
    const args = ['dead', command, key, '--yes', ...(command === 'rm' ? ['--all'] : [])];
    const tool = new RunningTool(args, { url });
    await until('some are handled', async () => (await redis.xlen(dead)) < COUNT);
    tool.child.kill(signal);
    const { code, stdout, stderr } = await tool.ended;
    const left = await redis.xlen(dead);
    expect(left).toBeGreaterThan(0);
    expect({ code, stdout, stderr }).toEqual({
      code: 1,
      stdout: expect.stringMatching(
        new RegExp(`^${done} ${(COUNT - left).toLocaleString('en')} dead letters? of ${key}\n$`, 'i'),
      ),
      stderr: `nrs: Interrupted by ${signal}; ${rest}\n`,
    });
    await redis.del(key, dead);
  });
});
