import { describe, expect, it } from '@jest/globals';
import type {
  DeadLetterChanged,
  DeadLetterPage,
  DeadLetterRow,
  DelayedPage,
  GroupMoved,
} from '../../packages/console/src/api.js';
import { moveGroup } from '../../packages/console/src/groups/group-move.js';
import { PermissionError } from '../../lib/index.js';
import type { RewindTarget, StreamManager } from '../../lib/index.js';
import { ConsoleApp } from '../support/console-app.js';
import { deadLetterFields } from '../support/dead-letter-fields.js';
import { useStreams } from '../support/streams.js';

const streams = useStreams();

const start = (options = {}): Promise<ConsoleApp> =>
  ConsoleApp.start({ guards: [], connection: streams.url, showPayloads: true, readOnly: false, ...options });

const MARKUP = '<img src=x onerror=alert(1)>';

/** Dead letters of a group that has acknowledged their messages, one for each reason. */
async function addDeadLetters(stream: string, reasons: readonly string[]): Promise<void> {
  const { redis } = streams;
  await redis.xgroup('CREATE', stream, 'workers', '$', 'MKSTREAM');
  for (const [index, reason] of reasons.entries()) {
    const id = `${index + 1}-0`;
    await redis.xadd(stream, id, 'msg', `payload ${id}`);
    const own = {
      stream, key: stream, id, group: 'workers', consumer: 'c', reason, deliveryCount: '5',
      errorName: 'TypeError', errorMessage: `${reason}!`, errorStack: `TypeError: ${MARKUP}\n    at x`,
    }; // prettier-ignore
    await redis.xadd(`${stream}.dead`, id, ...deadLetterFields(`payload ${id}`, own, { tenant: MARKUP }));
  }
}

const idsOf = ({ deadLetters }: DeadLetterPage): string[] => deadLetters.map(({ id }) => id);

describe('dead letters', () => {
  it('are listed in pages and by reason, error, group and time; one is shown with stack, headers and payload', async () => {
    await addDeadLetters(
      'orders',
      Array.from({ length: 60 }, (_, index) => (index % 2 === 0 ? 'even' : 'odd')),
    );
    await using console = await start();
    const list = (query = '') => console.json<DeadLetterPage>(`api/dead-letters?stream=orders${query}`);
    const first = await list();
    expect([first.deadLetters.length, first.next]).toEqual([50, '50-0']);
    const second = await list('&after=50-0');
    expect([second.deadLetters.length, second.next]).toEqual([10, null]);
    expect(idsOf(await list('&reason=even'))).toHaveLength(30);
    expect(idsOf(await list('&error=odd!'))).toHaveLength(30);
    expect(idsOf(await list('&error=TypeError&reason=odd&since=5-0&until=8'))).toEqual(['6-0', '8-0']);
    expect(idsOf(await list('&group=others'))).toEqual([]);
    const row = await console.json<DeadLetterRow>('api/dead-letter?stream=orders&id=2-0');
    expect(row).toEqual({
      id: '2-0',
      at: 2,
      reason: 'odd',
      error: { name: 'TypeError', message: 'odd!', stack: `TypeError: ${MARKUP}\n    at x` },
      origin: { key: 'orders', id: '2-0', group: 'workers', consumer: 'c' },
      deliveries: 5,
      headers: expect.objectContaining({ tenant: MARKUP }),
      payload: { bytes: 11, text: 'payload 2-0', isBinary: false, isCut: false },
    });
    const missing = await console.get('api/dead-letter?stream=orders&id=2-1');
    expect([missing.status, missing.body]).toMatchObject([
      404,
      { message: expect.stringContaining('no dead letter 2-1') },
    ]);
  });

  it('are redriven one by one, by filter, or all, after a dry run that says how many', async () => {
    await addDeadLetters('orders', ['a', 'b', 'a', 'b', 'c']);
    await using console = await start();
    const redrive = (body: object): Promise<DeadLetterChanged> =>
      console.change('api/dead-letters/redrive', { stream: 'orders', ...body });
    const pending = async () => ((await streams.redis.xpending('orders', 'workers')) as unknown[])[0];
    expect(await redrive({ reason: 'a', dryRun: true })).toEqual({ changed: 2, skipped: 0, upTo: '3-0' });
    expect(await pending()).toBe(0);
    expect(await redrive({ ids: ['1-0', '9-0', '1-0'], dryRun: false })).toEqual({
      changed: 1,
      skipped: 1,
      upTo: null,
    });
    expect(await pending()).toBe(1);
    expect(await redrive({ reason: 'b', dryRun: false })).toEqual({ changed: 2, skipped: 0, upTo: '4-0' });
    expect(await redrive({ dryRun: true })).toEqual({ changed: 2, skipped: 0, upTo: '5-0' });
    expect(await redrive({ dryRun: false })).toEqual({ changed: 2, skipped: 0, upTo: '5-0' });
    expect([await pending(), await streams.redis.xlen('orders.dead')]).toEqual([5, 0]);
    expect(await redrive({ dryRun: false })).toEqual({ changed: 0, skipped: 0, upTo: null });
  });

  it('are deleted, and only those that are meant', async () => {
    await addDeadLetters('orders', ['a', 'b', 'a']);
    await using console = await start();
    const remove = (body: object): Promise<DeadLetterChanged> =>
      console.change('api/dead-letters/delete', { stream: 'orders', ...body });
    expect(await remove({ reason: 'a', dryRun: true })).toEqual({ changed: 2, skipped: 0, upTo: '3-0' });
    expect(await streams.redis.xlen('orders.dead')).toBe(3);
    expect(await remove({ reason: 'a', dryRun: false })).toEqual({ changed: 2, skipped: 0, upTo: '3-0' });
    expect(await remove({ ids: ['1-0', '2-0'], dryRun: false })).toEqual({ changed: 1, skipped: 1, upTo: null });
    expect(await streams.redis.xlen('orders.dead')).toBe(0);
    for (const body of [
      {},
      { dryRun: 'yes' },
      { dryRun: true, ids: [] },
      { dryRun: true, ids: ['x'] },
      { dryRun: true, ids: [7] },
      { dryRun: true, ids: Array.from({ length: 1_001 }, (_, n) => `${n}-0`) },
      { dryRun: true, upTo: '7' },
      { dryRun: true, upTo: 7 },
      { dryRun: true, upTo: '3-0', ids: ['1-0'] },
    ])
      expect((await console.post('api/dead-letters/delete', { stream: 'orders', ...body })).status).toBe(400);
    for (const body of ['', 'null', '[]', '{"a":', '7'])
      expect([body, (await console.post('api/dead-letters/delete', body)).status]).toEqual([body, 400]);
  });

  it.each(['redrive', 'delete'] as const)('that were stored after the dry run of a %s stay', async (way) => {
    await addDeadLetters('orders', ['a', 'a', 'a']);
    await using console = await start();
    const change = (body: object): Promise<DeadLetterChanged> =>
      console.change(`api/dead-letters/${way}`, { stream: 'orders', reason: 'a', ...body });
    const { upTo } = await change({ dryRun: true });
    await streams.redis.xdel('orders.dead', '2-0');
    const [[, fields] = ['', []]] = await streams.redis.xrange('orders.dead', '1-0', '1-0');
    await streams.redis.xadd('orders.dead', '9-0', ...fields);
    expect(await change({ dryRun: false, upTo })).toEqual({ changed: 2, skipped: 0, upTo: '3-0' });
    expect((await streams.redis.xrange('orders.dead', '-', '+')).map(([id]) => id)).toEqual(['9-0']);
  });

  it('of a group that was removed, and those whose message is still pending, are skipped, and the others redriven', async () => {
    const { redis } = streams;
    await addDeadLetters('orders', ['a', 'b', 'c']);
    const [[, fields] = ['', []]] = await redis.xrange('orders.dead', '2-0', '2-0');
    const removed = fields.map((field) => (field === 'workers' ? 'removed' : field));
    await redis.xadd('orders.dead', '7-0', ...removed);
    await redis.xgroup('SETID', 'orders', 'workers', '0');
    await redis.xreadgroup('GROUP', 'workers', 'c', 'COUNT', 1, 'STREAMS', 'orders', '>');
    await using console = await start();
    const redrive = (dryRun: boolean): Promise<DeadLetterChanged> =>
      console.change('api/dead-letters/redrive', { stream: 'orders', dryRun });
    for (const dryRun of [true, false]) expect(await redrive(dryRun)).toEqual({ changed: 2, skipped: 2, upTo: '7-0' });
    expect((await redis.xrange('orders.dead', '-', '+')).map(([id]) => id)).toEqual(['1-0', '7-0']);
    await redis.del('orders');
    expect(await redrive(false)).toEqual({ changed: 0, skipped: 2, upTo: '7-0' });
  });
});

describe('delayed messages', () => {
  it('of all shards are listed in the order in which they are due, in pages, and cancelled', async () => {
    const streamer = await streams.connect();
    const { KeyHashSharder } = await import('../../lib/index.js');
    const sharder = new KeyHashSharder(2);
    const producer = await streamer.createProducer('orders', { sharder });
    const at = Date.now() + 3_600_000;
    for (let n = 0; n < 60; n += 1) {
      await producer.send(`m${n}`, { key: `k${n}`, deliverAt: new Date(at + (n % 30)), headers: { n: String(n) } });
    }
    await using console = await start();
    const first = await console.json<DelayedPage>('api/delayed?stream=orders');
    const second = await console.json<DelayedPage>(
      `api/delayed?stream=orders&after=${encodeURIComponent(first.next ?? '')}`,
    );
    const all = [...first.delayed, ...second.delayed];
    expect([first.delayed.length, second.delayed.length, second.next]).toEqual([50, 10, null]);
    expect(new Set(all.map(({ headers }) => headers['n'])).size).toBe(60);
    const times = all.map(({ deliverAt }) => deliverAt - at);
    expect(times).toEqual([...times].sort((one, other) => one - other));
    expect(new Set(all.map(({ shard }) => shard))).toEqual(new Set([0, 1]));
    const [row] = all;
    expect(row?.payload).toMatchObject({ text: `m${row?.headers['n']}` });
    const cancel = { stream: 'orders', shard: row?.shard, id: row?.id };
    expect(await console.change('api/delayed/cancel', { ...cancel, shard: 1 - (row?.shard ?? 0) })).toEqual({
      cancelled: false,
    });
    expect(await console.change('api/delayed/cancel', cancel)).toEqual({ cancelled: true });
    expect(await console.change('api/delayed/cancel', cancel)).toEqual({ cancelled: false });
  });
});

describe('groups', () => {
  it('are paused and resumed, if they exist', async () => {
    await streams.redis.xgroup('CREATE', 'orders', 'workers', '0', 'MKSTREAM');
    await using console = await start();
    await using viewer = await console.watch({ page: 'group', stream: 'orders', group: 'workers' });
    expect(await console.change('api/groups/pause', { stream: 'orders', group: 'workers' })).toEqual({
      isPaused: true,
    });
    await viewer.until('the group is paused', ({ group }) => group?.isPaused === true);
    expect(await console.change('api/groups/resume', { stream: 'orders', group: 'workers' })).toEqual({
      isPaused: false,
    });
    await viewer.until('the group is not paused', ({ group }) => group?.isPaused === false);
    for (const path of ['pause', 'resume', 'position']) {
      const body = { stream: 'orders', group: 'wrokers', to: 'end', dryRun: false };
      expect([path, (await console.post(`api/groups/${path}`, body)).status]).toEqual([path, 404]);
    }
  });

  it('move to a time, with its messages, to the beginning or to the end on all shards, after a preview', async () => {
    const { redis } = streams;
    for (const shard of [0, 1]) {
      for (let n = 1; n <= 4; n += 1) await redis.xadd(`orders:${shard}`, `${n * 10}-0`, 'msg', 'x');
      await redis.xgroup('CREATE', `orders:${shard}`, 'workers', '40-0');
    }
    await using console = await start();
    const move = (to: unknown, dryRun: boolean): Promise<GroupMoved> =>
      console.change('api/groups/position', { stream: 'orders', group: 'workers', to, dryRun });
    const moves = (from: string, messages: number, skipped: number) => ({
      moves: [0, 1].map((shard) => ({
        key: `orders:${shard}`,
        shard,
        from,
        end: '40-0',
        messages: { count: messages, isMore: false },
        skipped: { count: skipped, isMore: false },
      })),
    });
    const counts = async () => {
      const pages = await Promise.all(
        [0, 1].map((shard) => redis.xreadgroup('GROUP', 'workers', 'c', 'STREAMS', `orders:${shard}`, '>')),
      );
      return pages.map((page) => ((page as Array<[string, unknown[]]> | null)?.[0]?.[1] ?? []).length);
    };
    expect(await move(20, true)).toEqual(moves('40-0', 3, 0));
    expect(await counts()).toEqual([0, 0]);
    expect(await move(20, false)).toEqual(moves('40-0', 3, 0));
    expect(await counts()).toEqual([3, 3]);
    expect(await move('beginning', false)).toEqual(moves('40-0', 4, 0));
    expect(await counts()).toEqual([4, 4]);
    expect(await move(0, false)).toEqual(moves('40-0', 4, 0));
    // Forwards, a move skips what was not delivered.
    expect(await move(25, true)).toEqual(moves('0-0', 2, 2));
    expect(await move(Date.now() + 3_600_000, true)).toEqual(moves('0-0', 0, 4));
    expect(await move('end', false)).toEqual(moves('0-0', 0, 4));
    expect(await counts()).toEqual([0, 0]);
    for (const to of ['soon', -1, 1.5, null, 2 ** 60, undefined])
      expect(
        (await console.post('api/groups/position', { stream: 'orders', group: 'workers', to, dryRun: true })).status,
      ).toBe(400);
  });

  it('count what a move would repeat up to a limit', async () => {
    const pipeline = streams.redis.pipeline();
    for (let n = 1; n <= 5_200; n += 1) pipeline.xadd('orders', `${n}-0`, 'msg', 'x');
    await pipeline.exec();
    await streams.redis.xgroup('CREATE', 'orders', 'workers', '$');
    await using console = await start();
    const body = { stream: 'orders', group: 'workers', to: 10, dryRun: true };
    const { moves } = await console.change<GroupMoved>('api/groups/position', body);
    expect(moves[0]).toMatchObject({ messages: { count: 5_000, isMore: true }, skipped: { count: 0, isMore: false } });
    await streams.redis.xgroup('SETID', 'orders', 'workers', '0');
    const toEnd = await console.change<GroupMoved>('api/groups/position', { ...body, to: 'end' });
    expect(toEnd.moves[0]).toMatchObject({ messages: { count: 0 }, skipped: { count: 5_000, isMore: true } });
  });

  it('are moved to the end that the dry run showed, so that no later message is skipped', async () => {
    const { redis } = streams;
    for (const key of ['orders:0', 'orders:1']) {
      await redis.xadd(key, '1-0', 'msg', 'x');
      await redis.xgroup('CREATE', key, 'workers', '0');
    }
    await using console = await start();
    const body = { stream: 'orders', group: 'workers', to: 'end' };
    const { moves } = await console.change<GroupMoved>('api/groups/position', { ...body, dryRun: true });
    await redis.xadd('orders:1', '2-0', 'msg', 'later');
    // A shard that appears after the dry run keeps its position.
    await redis.xadd('orders:2', '3-0', 'msg', 'later');
    await redis.xgroup('CREATE', 'orders:2', 'workers', '0');
    const ends = Object.fromEntries(moves.map(({ key, end }) => [key, end]));
    const moved = await console.change<GroupMoved>('api/groups/position', { ...body, ends, dryRun: false });
    expect(moved.moves.map(({ key, end, skipped }) => [key, end, skipped.count])).toEqual([
      ['orders:0', '1-0', 1],
      ['orders:1', '1-0', 1],
    ]);
    const read = (await redis.xreadgroup(
      'GROUP', 'workers', 'c', 'STREAMS', 'orders:0', 'orders:1', 'orders:2', '>', '>', '>',
    )) as Array<[string, Array<[string, string[]]>]>; // prettier-ignore
    expect(read.map(([key, entries]) => [key, entries.map(([id]) => id)])).toEqual([
      ['orders:1', ['2-0']],
      ['orders:2', ['3-0']],
    ]);
    // What the group has read since is not delivered again.
    expect(await console.change<GroupMoved>('api/groups/position', { ...body, ends, dryRun: false })).toMatchObject({
      moves: [{ key: 'orders:0' }, { key: 'orders:1', from: '2-0', skipped: { count: 0 } }],
    });
    expect(await redis.xreadgroup('GROUP', 'workers', 'c', 'STREAMS', 'orders:1', '>')).toBeNull();
    for (const wrong of [7, [], {}, { 'orders:0': 7 }, { 'orders:0': 'x' }, null])
      expect((await console.post('api/groups/position', { ...body, ends: wrong, dryRun: true })).status).toBe(400);
    expect((await console.post('api/groups/position', { ...body, to: 'beginning', ends, dryRun: true })).status).toBe(
      400,
    );
  });

  it('are moved to a time in a stream whose ids are in nanoseconds', async () => {
    const { redis } = streams;
    const now = Date.now();
    for (const [n, at] of [now - 3_000, now - 2_000, now - 1_000].entries()) {
      await redis.xadd('orders', `${at}000000-${n}`, 'msg', 'x');
    }
    await redis.xgroup('CREATE', 'orders', 'workers', '0');
    await using console = await start();
    const body = { stream: 'orders', group: 'workers', to: now - 2_000, dryRun: false };
    const { moves } = await console.change<GroupMoved>('api/groups/position', body);
    expect(moves).toMatchObject([{ messages: { count: 2 }, skipped: { count: 1 } }]);
    const read = (await redis.xreadgroup('GROUP', 'workers', 'c', 'STREAMS', 'orders', '>')) as Array<
      [string, unknown[]]
    >;
    expect(read[0]?.[1]).toHaveLength(2);
  });

  it('that could be moved on some shards only are reported with the shards that were moved', async () => {
    for (const key of ['orders:0', 'orders:1', 'orders:2'])
      await streams.redis.xgroup('CREATE', key, 'workers', '0', 'MKSTREAM');
    const manager = await (await streams.connect()).createManager();
    const broken = Object.create(manager, {
      info: { value: manager.info.bind(manager) },
      range: { value: manager.range.bind(manager) },
      setGroupPosition: {
        value: (key: string, group: string, to: RewindTarget) =>
          key === 'orders:1' ? Promise.reject(new PermissionError('no')) : manager.setGroupPosition(key, group, to),
      },
    }) as StreamManager;
    const move = { stream: 'orders', group: 'workers', to: 'end', dryRun: false } as const;
    await expect(moveGroup(broken, move)).rejects.toThrow(
      "'orders:0' was moved, 'orders:1' and those behind it were not: no. Move the group again when the cause is mended.",
    );
  });
});
