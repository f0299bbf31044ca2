import { describe, expect, it } from '@jest/globals';

import { UnsupportedOperationError } from '../../../lib/errors.js';
import { classifyRedisError } from '../../../lib/redis/commands/redis-error.js';
import type { CommandBench } from '../../support/command-bench.js';

const kindOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'none',
    (error: unknown) => classifyRedisError(error),
  );

/** XGROUP, XINFO, the trimming of acknowledged entries, and the inbox. */
export function groupCases(bench: CommandBench): void {
  const { may } = bench.way;
  const add = async (key: string, count: number): Promise<string[]> => {
    const admin = await bench.admin(key);
    const ids: string[] = [];
    for (let n = 0; n < count; n += 1) ids.push(String(await admin.xadd(key, '*', 'msg', `m-${n}`)));
    return ids;
  };
  const readAll = async (key: string, group: string, consumer: string): Promise<void> => {
    await (await bench.admin(key)).xreadgroup('GROUP', group, consumer, 'STREAMS', key, '>');
  };

  describe('a group', () => {
    it('is created once, also together with its stream', async () => {
      const [key, missing] = [bench.key(), bench.key()];
      const { groups } = bench.control;
      await add(key, 1);
      expect(await groups.createGroup(key, 'g', '$', false)).toBe(true);
      expect(await groups.createGroup(key, 'g', '0', false)).toBe(false);
      expect(await groups.createGroup(missing, 'g', '0', true)).toBe(true);
      expect(await groups.createGroup(missing, 'g', '0', true)).toBe(false);
    });

    it('of a stream that does not exist, or of another key, is refused', async () => {
      const [missing, other] = [bench.key(), bench.key()];
      await (await bench.admin(other)).set(other, 'no stream');
      const { groups } = bench.control;
      expect(await kindOf(groups.createGroup(missing, 'g', '0', false))).toBe('stream-gone');
      expect(await kindOf(groups.createGroup(other, 'g', '0', true))).toBe('wrong-type');
      expect(await kindOf(groups.groups(missing))).toBe('stream-gone');
      expect(await kindOf(groups.setGroupPosition(missing, 'g', '0'))).toBe('stream-gone');
    });

    it('is described with its consumers', async () => {
      const key = bench.key();
      const { groups } = bench.control;
      const ids = await add(key, 3);
      await groups.createGroup(key, 'ä group', '0', false);
      await groups.createGroup(key, 'other', '$', false);
      await readAll(key, 'ä group', 'c');
      expect(await groups.groups(key)).toMatchObject([
        { name: 'other', consumers: 0, pending: 0, lastDeliveredId: ids[2] },
        { name: 'ä group', consumers: 1, pending: 3, lastDeliveredId: ids[2] },
      ]);
      const lags = (await groups.groups(key)).map(({ lag }) => lag);
      expect(lags).toEqual(bench.version >= 7 ? [0, 0] : [undefined, undefined]);
      const time: unknown = expect.any(Number);
      const inactive = bench.version >= 7.2 ? time : undefined;
      expect(await groups.consumers(key, 'ä group')).toEqual([{ name: 'c', pending: 3, idle: time, inactive }]);
      expect(await kindOf(groups.consumers(key, 'none'))).toBe('group-missing');
    });

    it('is moved to a position', async () => {
      const key = bench.key();
      const { groups } = bench.control;
      const ids = await add(key, 2);
      await groups.createGroup(key, 'g', '$', false);
      await groups.setGroupPosition(key, 'g', ids[0] as string);
      expect((await groups.groups(key)).map(({ lastDeliveredId }) => lastDeliveredId)).toEqual([ids[0]]);
      expect(await kindOf(groups.setGroupPosition(key, 'none', '0'))).toBe('group-missing');
    });

    it('loses a consumer without pending entries; another one stays, and their number is returned', async () => {
      const key = bench.key();
      const { groups } = bench.control;
      const ids = await add(key, 2);
      await groups.createGroup(key, 'g', '0', false);
      await readAll(key, 'g', 'c');
      expect(await groups.removeConsumer(key, 'g', 'c')).toBeGreaterThan(0);
      expect(await groups.removeIdleConsumer(key, 'g', 'c', 0)).toBe(false);
      expect(await groups.consumers(key, 'g')).toHaveLength(1);
      await bench.control.pending.ack(key, 'g', ids);
      expect(await groups.removeIdleConsumer(key, 'g', 'c', 60_000)).toBe(false);
      expect(await groups.removeConsumer(key, 'g', 'c')).toBe(0);
      // Without scripts a consumer stays, because it could be given an entry between the look and the removal.
      expect(await groups.consumers(key, 'g')).toHaveLength(may.scripts ? 0 : 1);
      const [id] = await add(key, 1);
      await readAll(key, 'g', 'c');
      await bench.control.pending.ack(key, 'g', [id as string]);
      expect(await groups.removeIdleConsumer(key, 'g', 'c', 0)).toBe(may.scripts);
    });

    const trim = async () => {
      const key = bench.key();
      const { groups } = bench.control;
      const ids = await add(key, 5);
      await groups.createGroup(key, 'g', '0', false);
      await readAll(key, 'g', 'c');
      await bench.control.pending.ack(key, 'g', ids.slice(0, 3));
      const step = { deadAfter: undefined, keepFor: undefined, limit: undefined };
      const outcome = await groups.trimAcknowledged(key, step).catch((error: unknown) => error);
      return { ids, outcome, left: (await bench.stored(key)).map(([id]) => id) };
    };

    if (may.scripts) {
      it('has its acknowledged entries deleted', async () => {
        const { ids, outcome, left } = await trim();
        expect(outcome).toEqual({ trimmed: 3, firstKept: ids[3], keptFor: 'g', next: undefined, deadGroups: [] });
        expect(left).toEqual(ids.slice(3));
      });
    } else {
      it('keeps its acknowledged entries, because their deletion needs scripts', async () => {
        const { ids, outcome, left } = await trim();
        expect(outcome).toBeInstanceOf(UnsupportedOperationError);
        expect(left).toEqual(ids);
      });
    }
  });

  describe('an inbox record', () => {
    it('is made once, and again only for the same token', async () => {
      const record = { streamKey: bench.key(), group: 'g', id: '1-1' };
      const { inbox } = bench.control;
      expect(await inbox.isRecorded(record)).toBe(false);
      expect(await inbox.record(record, 'token', 60_000, [])).toBe(true);
      expect(await inbox.isRecorded(record)).toBe(true);
      expect(await inbox.record(record, 'token', 60_000, [])).toBe(true);
      expect(await inbox.record(record, 'other', 60_000, [])).toBe(false);
      expect(await inbox.isRecorded({ ...record, id: '1-2' })).toBe(false);
    });

    if (!may.scripts) {
      it('is refused together with effects, because they need scripts', async () => {
        const [streamKey, counter] = bench.keysTogether(2) as [string, string];
        const record = { streamKey, group: 'g', id: '1-1' };
        const recording = bench.control.inbox.record(record, 'token', 60_000, [['INCRBY', counter, 5]]);
        await expect(recording).rejects.toBeInstanceOf(UnsupportedOperationError);
      });
      return;
    }

    it('is made together with its effects, which run once', async () => {
      const [streamKey, counter] = bench.keysTogether(2) as [string, string];
      const record = { streamKey, group: 'g', id: '1-1' };
      const { inbox } = bench.control;
      const effects = [
        ['INCRBY', counter, 5],
        ['APPEND', `${counter}:text`, Buffer.from([0, 13, 10, 255])],
      ] as const;
      expect(await inbox.record(record, 'token', 60_000, effects)).toBe(true);
      expect(await inbox.record(record, 'token', 60_000, effects)).toBe(true);
      expect(await inbox.record(record, 'other', 60_000, effects)).toBe(false);
      const admin = await bench.admin(streamKey);
      expect(await admin.get(counter)).toBe('5');
      expect([...((await admin.getBuffer(`${counter}:text`)) as Buffer)]).toEqual([0, 13, 10, 255]);
    });

    it('is not made when an effect is refused', async () => {
      const [streamKey, other] = bench.keysTogether(2) as [string, string];
      await (await bench.admin(other)).set(other, 'text');
      const record = { streamKey, group: 'g', id: '1-1' };
      const { inbox } = bench.control;
      await expect(inbox.record(record, 'token', 60_000, [['INCR', other]])).rejects.toThrow('not an integer');
      expect(await inbox.isRecorded(record)).toBe(false);
    });
  });
}
