import { describe, expect, it } from '@jest/globals';

import { ServerFeatures } from '../../../lib/redis/commands/server-features.js';
import type { ClaimedPage, PendingCommands } from '../../../lib/redis/commands/stream-commands.js';
import type { CommandBench } from '../../support/command-bench.js';
import { until } from '../../support/until.js';

/** The features without which each strategy of claiming is the best one. */
const STRATEGIES: ReadonlyArray<readonly [name: string, without: readonly string[]]> = [
  ['the best of the server', []],
  ['XAUTOCLAIM', ['XREADGROUP CLAIM']],
  ['XPENDING and XCLAIM', ['XREADGROUP CLAIM', 'XAUTOCLAIM']],
];

const GROUP = 'g';
/** Idle time of entries that count as abandoned, in milliseconds. */
const ABANDONED = 100_000;

type Row = [id: string, consumer: string, idle: number, deliveries: number];

/** XACK, XPENDING and every kind of XCLAIM. */
export function pendingCases(bench: CommandBench): void {
  /** A stream whose entries are pending for a consumer. */
  const withPending = async (count: number, consumer = 'mine'): Promise<[key: string, ids: string[]]> => {
    const key = bench.key();
    const admin = await bench.admin(key);
    await admin.xgroup('CREATE', key, GROUP, '0', 'MKSTREAM');
    const ids: string[] = [];
    for (let n = 0; n < count; n += 1) ids.push(String(await admin.xadd(key, '*', 'msg', `m-${n}`)));
    await admin.xreadgroup('GROUP', GROUP, consumer, 'COUNT', count, 'STREAMS', key, '>');
    return [key, ids];
  };
  const abandon = async (key: string, consumer: string, ids: readonly string[]): Promise<void> => {
    await (await bench.admin(key)).xclaim(key, GROUP, consumer, 0, ...ids, 'IDLE', ABANDONED, 'JUSTID');
  };
  const rows = async (key: string): Promise<Row[]> =>
    (await (await bench.admin(key)).xpending(key, GROUP, '-', '+', 1_000)) as Row[];
  const shown = ({ entries, deleted }: ClaimedPage) => ({
    entries: entries.map(({ id, fields, deliveryCount }) => [id, String(fields?.[1]), deliveryCount]),
    deleted,
  });

  describe('pending entries', () => {
    it('are acknowledged, and the number of those that were pending is returned', async () => {
      const [key, ids] = await withPending(3);
      const { pending } = bench.control;
      expect(await pending.ack(key, GROUP, [ids[0] as string, ids[1] as string, '1-1'])).toBe(2);
      expect(await pending.ack(key, GROUP, ids)).toBe(1);
      expect(await rows(key)).toEqual([]);
    });

    it('are listed from an id on, limited, and of one consumer', async () => {
      const [key, ids] = await withPending(4);
      await abandon(key, 'other', ids.slice(3));
      const { pending } = bench.control;
      const all = await pending.pending(key, GROUP, { count: 10 });
      expect(all.map(({ id, consumer, deliveryCount }) => [id, consumer, deliveryCount])).toEqual([
        [ids[0], 'mine', 1],
        [ids[1], 'mine', 1],
        [ids[2], 'mine', 1],
        [ids[3], 'other', 1],
      ]);
      expect(all[3]?.idle).toBeGreaterThanOrEqual(ABANDONED);
      expect(all[0]?.idle).toBeLessThan(ABANDONED);
      const page = await pending.pending(key, GROUP, { count: 2, after: ids[0] });
      expect(page.map(({ id }) => id)).toEqual(ids.slice(1, 3));
      const others = await pending.pending(key, GROUP, { count: 10, consumer: 'other' });
      expect(others.map(({ id }) => id)).toEqual(ids.slice(3));
      expect(await pending.isPending(key, GROUP, ids[0] as string)).toBe(true);
      expect(await pending.isPending(key, GROUP, '1-1')).toBe(false);
    });

    it('of its own are read again: as a redelivery or not, deleted ones by their id, those of others not at all', async () => {
      const [key, ids] = await withPending(4);
      const { pending } = bench.control;
      const listed = await pending.pending(key, GROUP, { count: 10 });
      await abandon(key, 'other', ids.slice(3));
      await (await bench.admin(key)).xdel(key, ids[1] as string);
      const again = await pending.claimOwn(key, GROUP, 'mine', listed, false);
      expect(shown(again)).toEqual({
        entries: [
          [ids[0], 'm-0', 1],
          [ids[2], 'm-2', 1],
        ],
        // Without scripts, XCLAIM of Redis 7.0 removes it and does not tell.
        deleted: bench.way.may.scripts || bench.version < 7 ? [ids[1]] : [],
      });
      const redelivered = await pending.claimOwn(key, GROUP, 'mine', [listed[0] as never, listed[2] as never], true);
      expect(shown(redelivered).entries).toEqual([
        [ids[0], 'm-0', 2],
        [ids[2], 'm-2', 2],
      ]);
      const counts = new Map((await rows(key)).map(([id, consumer, , count]) => [id, [consumer, count]]));
      expect([counts.get(ids[0] as string), counts.get(ids[3] as string)]).toEqual([
        ['mine', 2],
        ['other', 1],
      ]);
      expect(await pending.claimOwn(key, GROUP, 'mine', [], true)).toEqual({ entries: [], deleted: [] });
    });

    it('are kept alive when they are still its own', async () => {
      const [key, ids] = await withPending(3);
      await abandon(key, 'mine', ids.slice(0, 2));
      await abandon(key, 'other', ids.slice(2));
      const { pending } = bench.control;
      expect(await pending.keepAlive(key, GROUP, 'mine', [...ids, '1-1'])).toEqual(ids.slice(0, 2));
      const [first, second, third] = await rows(key);
      expect([first?.[2], second?.[2]].every((idle) => (idle as number) < ABANDONED)).toBe(true);
      expect(third?.slice(1, 3)).toEqual(['other', expect.any(Number)]);
      expect(third?.[2]).toBeGreaterThanOrEqual(ABANDONED);
      // The delivery counts have not changed.
      expect([first?.[3], second?.[3]]).toEqual([1, 1]);
      expect(await pending.keepAlive(key, GROUP, 'mine', [])).toEqual([]);
    });

    it('get another idle time and delivery count when they are still its own', async () => {
      const [key, ids] = await withPending(3);
      await abandon(key, 'other', ids.slice(2));
      const [first, second, third] = ids as [string, string, string];
      const { pending } = bench.control;
      const entries = [{ id: first, deliveryCount: 7 }, { id: second }, { id: third, deliveryCount: 9 }];
      await pending.setIdle(key, GROUP, 'mine', entries, 50_000.4);
      const after = await rows(key);
      expect(after.map(([, consumer, , count]) => [consumer, count])).toEqual([
        ['mine', 7],
        ['mine', 1],
        ['other', 1],
      ]);
      for (const [, consumer, idle] of after) {
        expect(idle).toBeGreaterThanOrEqual(consumer === 'mine' ? 50_000 : ABANDONED);
        expect(idle).toBeLessThan(consumer === 'mine' ? 60_000 : ABANDONED + 10_000);
      }
    });

    it('are put back when they are pending for no consumer, with a delivery count, and only then', async () => {
      const [key, ids] = await withPending(3);
      const [acked, foreign, deleted] = ids as [string, string, string];
      const admin = await bench.admin(key);
      await abandon(key, 'other', [foreign]);
      await admin.xack(key, GROUP, acked, deleted);
      await admin.xdel(key, deleted);
      const { pending } = bench.control;
      const entries = [...ids, '1-1'].map((id) => ({ id, deliveryCount: 4 }));
      expect(await pending.restore(key, GROUP, 'mine', entries)).toEqual({ restored: [acked], gone: [deleted, '1-1'] });
      const after = await rows(key);
      expect(after.map(([id, consumer, , count]) => [id, consumer, count])).toEqual([
        [acked, 'mine', 4],
        [foreign, 'other', 1],
      ]);
      expect(await pending.restore(key, GROUP, 'mine', [])).toEqual({ restored: [], gone: [] });
    });

    it('can be made of entries that were read with NOACK', async () => {
      const key = bench.key();
      const admin = await bench.admin(key);
      await admin.xgroup('CREATE', key, GROUP, '0', 'MKSTREAM');
      const ids = [await admin.xadd(key, '*', 'msg', 'a'), await admin.xadd(key, '*', 'msg', 'b')].map(String);
      await admin.xreadgroup('GROUP', GROUP, 'mine', 'NOACK', 'STREAMS', key, '>');
      await bench.control.pending.forcePending(key, GROUP, 'mine', ids, 5_000);
      const after = await rows(key);
      expect(after.map(([id, consumer, , count]) => [id, consumer, count])).toEqual(ids.map((id) => [id, 'mine', 0]));
      expect(after.every(([, , idle]) => idle >= 5_000)).toBe(true);
    });

    it('without a group fail with NOGROUP', async () => {
      const key = bench.key();
      await (await bench.admin(key)).xadd(key, '*', 'msg', 'x');
      const { pending } = bench.control;
      await expect(pending.pending(key, GROUP, { count: 1 })).rejects.toThrow('NOGROUP');
      await expect(pending.claimOwn(key, GROUP, 'c', [row('1-1')], false)).rejects.toThrow('NOGROUP');
      await expect(pending.keepAlive(key, GROUP, 'c', ['1-1'])).rejects.toThrow('NOGROUP');
      await expect(pending.setIdle(key, GROUP, 'c', [{ id: '1-1' }], 1)).rejects.toThrow('NOGROUP');
      await expect(pending.restore(key, GROUP, 'c', [{ id: '1-1', deliveryCount: 1 }])).rejects.toThrow('NOGROUP');
      await expect(
        pending.claimIdle({ streamKey: key, group: GROUP, consumer: 'c', minIdle: 0, count: 1 }),
      ).rejects.toThrow('NOGROUP');
    });
  });

  describe.each(STRATEGIES)('entries of dead consumers, claimed by %s,', (_, without) => {
    const commands = (): PendingCommands => {
      const features = new ServerFeatures();
      for (const feature of without) features.forget(feature);
      return bench.commandsWith({ features }).control.pending;
    };
    /** Claims page by page until the end of the list. */
    const claimAll = async (key: string, count: number): Promise<ClaimedPage[]> => {
      const pages: ClaimedPage[] = [];
      const pending = commands();
      const request = { streamKey: key, group: GROUP, consumer: 'mine', minIdle: ABANDONED / 2, count };
      for (let after: string | undefined = undefined; pages.length < 20;) {
        const page: ClaimedPage = await pending.claimIdle({ ...request, after });
        pages.push(page);
        after = page.next;
        if (after === undefined) return pages;
      }
      throw new Error('the list has no end');
    };

    it('are only those that have been idle long enough, with their delivery counts', async () => {
      const [key, ids] = await withPending(5, 'dead');
      await abandon(key, 'dead', ids.slice(1, 4));
      const pages = await claimAll(key, 10);
      expect(pages.flatMap((page) => shown(page).entries)).toEqual([
        [ids[1], 'm-1', 2],
        [ids[2], 'm-2', 2],
        [ids[3], 'm-3', 2],
      ]);
      expect((await rows(key)).map(([, consumer]) => consumer)).toEqual(['dead', 'mine', 'mine', 'mine', 'dead']);
    });

    it('come page by page', async () => {
      const [key, ids] = await withPending(7, 'dead');
      await abandon(key, 'dead', ids);
      const pages = await claimAll(key, 2);
      expect(pages.flatMap(({ entries }) => entries.map(({ id }) => id)).sort()).toEqual([...ids].sort());
      expect(Math.max(...pages.map(({ entries }) => entries.length))).toBe(2);
    });

    it('that were deleted are named, or are not pending any more', async () => {
      const [key, ids] = await withPending(3, 'dead');
      await abandon(key, 'dead', ids);
      await (await bench.admin(key)).xdel(key, ids[1] as string);
      const pages = await claimAll(key, 10);
      expect(pages.flatMap(({ entries }) => entries.map(({ id }) => id))).toEqual([ids[0], ids[2]]);
      const named = pages.flatMap(({ deleted }) => deleted);
      const left = (await rows(key)).map(([id]) => id);
      expect(named.includes(ids[1] as string) || !left.includes(ids[1] as string)).toBe(true);
    });

    it('are none when nothing has been idle long enough', async () => {
      const [key] = await withPending(2, 'dead');
      const pages = await claimAll(key, 10);
      expect(pages.flatMap(({ entries }) => entries)).toEqual([]);
      await until('the list has its old owner', async () => (await rows(key)).every(([, name]) => name === 'dead'));
    });
  });
}

const row = (id: string) => ({ id, consumer: 'c', idle: 0, deliveryCount: 1 });
