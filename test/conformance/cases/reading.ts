import { describe, expect, it } from '@jest/globals';

import type { Command } from '../../../lib/redis/wire/resp-writer.js';
import { classifyRedisError } from '../../../lib/redis/commands/redis-error.js';
import type { StreamEntry, StreamPage } from '../../../lib/redis/commands/stream-commands.js';
import type { CommandBench } from '../../support/command-bench.js';
import { fieldText } from '../../support/field-text.js';
import { until } from '../../support/until.js';
import { FIELDS } from './appending.js';

/** Milliseconds that a read blocks whose entries arrive, or that is ended, before that. */
const LONG = 10_000;

const textOf = ({ fields }: StreamEntry): string => String(fields?.[1]);
const shown = (pages: readonly StreamPage[]) => pages.map(({ streamKey, entries }) => [streamKey, entries.map(textOf)]);

/** XREAD, XREADGROUP, XRANGE and XINFO STREAM. */
export function readingCases(bench: CommandBench): void {
  const add = async (key: string, ...payloads: string[]): Promise<string[]> => {
    const admin = await bench.admin(key);
    const ids: string[] = [];
    for (const payload of payloads) ids.push(String(await admin.xadd(key, '*', 'msg', payload)));
    return ids;
  };
  const addGroup = async (key: string): Promise<void> => {
    await (await bench.admin(key)).xgroup('CREATE', key, 'g', '0', 'MKSTREAM');
  };
  const pendingOf = async (key: string): Promise<unknown[]> =>
    (await (await bench.admin(key)).xpending(key, 'g', '-', '+', 1_000)) as unknown[];

  const untilBlocked = async (key: string): Promise<void> => {
    const admin = await bench.admin(key);
    await until('the read blocks', async () => /blocked_clients:[1-9]/.test(await admin.info('clients')));
  };
  /** In one write, or as one transaction, which begins with other commands. */
  const addTogether = async (key: string, payloads: readonly string[], before?: readonly Command[]): Promise<void> => {
    const admin = await bench.admin(key);
    const batch = before ? admin.multi() : admin.pipeline();
    for (const [name, ...args] of before ?? []) batch.call(name, ...(args as string[]));
    for (const payload of payloads) batch.xadd(key, '*', 'msg', payload);
    for (const [error] of (await batch.exec()) ?? []) if (error) throw error;
  };
  const five = ['a', 'b', 'c', 'd', 'e'];

  describe('reading without a group', () => {
    it('returns nothing when there is nothing, at once and after the block time', async () => {
      const key = bench.key();
      const { reading } = await bench.reader(key);
      expect(await reading.read({ positions: [[key, '0-0']], count: 10 })).toEqual([]);
      await add(key, 'a');
      const begin = Date.now();
      expect(await reading.read({ positions: [[key, '$']], count: 10, block: 100 })).toEqual([]);
      expect(Date.now() - begin).toBeGreaterThanOrEqual(90);
    });

    it('returns the entries behind each position, at most as many of a stream as requested', async () => {
      const keys = bench.keysTogether(4) as [string, string, string, string];
      const [first, second, empty, last] = keys;
      const { reading } = await bench.reader(first);
      const ids = await add(first, 'a', 'b', 'c', 'd');
      await add(second, 'e');
      await add(last, 'f', 'g');
      const after = ids[0] as string;
      const positions = [
        [first, after] as const,
        [second, '0-0'] as const,
        [empty, '0-0'] as const,
        [last, '0-0'] as const,
      ];
      expect(shown(await reading.read({ positions, count: 2, block: LONG }))).toEqual([
        [first, ['b', 'c']],
        [second, ['e']],
        [last, ['f', 'g']],
      ]);
    });

    it('returns an entry that arrives while it blocks', async () => {
      const key = bench.key();
      const { reading } = await bench.reader(key);
      const read = reading.read({ positions: [[key, '0-0']], count: 10, block: LONG });
      const [id] = await add(key, 'late');
      const [page] = await read;
      expect(page?.entries).toMatchObject([{ id, deliveryCount: 1 }]);
      expect(page?.entries.map(textOf)).toEqual(['late']);
    });

    describe('when several entries are expected', () => {
      const several = (key: string, more: { count?: number; block?: number } = {}) =>
        ({ positions: [[key, '0-0']], count: 10, block: LONG, expectsSeveral: true, ...more }) as const;

      it('returns all of a batch that arrives while it blocks, each entry once', async () => {
        const key = bench.key();
        const { reading } = await bench.reader(key);
        const read = reading.read(several(key));
        await untilBlocked(key);
        await addTogether(key, five);
        expect(shown(await read)).toEqual([[key, five]]);
      });

      it('returns what is there at once, and at most as many entries as requested', async () => {
        const key = bench.key();
        const { reading } = await bench.reader(key);
        await add(key, ...five);
        expect(shown(await reading.read(several(key, { count: 3 })))).toEqual([[key, ['a', 'b', 'c']]]);
      });

      it('returns an entry that was removed right after it ended the wait', async () => {
        const key = bench.key();
        const { reading } = await bench.reader(key);
        const read = reading.read(several(key, { count: 3 }));
        await untilBlocked(key);
        const batch = (await bench.admin(key)).pipeline().xadd(key, '1-0', 'msg', 'a').xdel(key, '1-0');
        for (const payload of ['b', 'c', 'd']) batch.xadd(key, '*', 'msg', payload);
        await batch.exec();
        expect(shown(await read)).toEqual([[key, ['a', 'b', 'c']]]);
      });

      it('returns nothing after the block time', async () => {
        const key = bench.key();
        const { reading } = await bench.reader(key);
        expect(await reading.read(several(key, { block: 50 }))).toEqual([]);
      });
    });

    it('returns every byte of entries of all shapes, in one page and one by one', async () => {
      const key = bench.key();
      const { reading } = await bench.reader(key);
      const requests = FIELDS.map(([, fields]) => ({ id: '*', fields }));
      const ids = await bench.writing.appending.append(key, requests);
      const wanted = FIELDS.map(([, fields]) => fieldText(fields));
      const [page] = await reading.read({ positions: [[key, '0-0']], count: 100 });
      expect(page?.entries.map(({ id }) => id)).toEqual(ids);
      expect(page?.entries.map(({ fields }) => fieldText(fields ?? []))).toEqual(wanted);
      const single: string[][] = [];
      for (let after = '0-0'; single.length < wanted.length;) {
        const [next] = await reading.read({ positions: [[key, after]], count: 1 });
        const [entry] = (next?.entries ?? []) as [StreamEntry];
        single.push(fieldText(entry.fields ?? []));
        after = entry.id;
      }
      expect(single).toEqual(wanted);
      // By another command, whose reply is decoded as any other.
      const range = await bench.control.reading.range(key, '-', '+');
      expect(range.map(({ fields }) => fieldText(fields ?? []))).toEqual(wanted);
    });

    it('returns an entry of 100,000 fields, and the one behind it', async () => {
      const key = bench.key();
      const { reading } = await bench.reader(key);
      const fields = Array.from({ length: 200_000 }, (_, index) => `${index % 2 === 0 ? 'n' : 'v'}${index >> 1}`);
      await bench.writing.appending.append(key, [
        { id: '*', fields },
        { id: '*', fields: ['msg', 'b'] },
      ]);
      const [page] = await reading.read({ positions: [[key, '0-0']], count: 10 });
      const [large, small] = (page?.entries ?? []) as [StreamEntry, StreamEntry];
      expect(large.fields?.join()).toBe(fields.join());
      expect(textOf(small)).toBe('b');
    });

    it('of a key of another type fails, and the connection remains usable', async () => {
      const [key, other] = bench.keysTogether(2) as [string, string];
      const { reading } = await bench.reader(key);
      await (await bench.admin(other)).set(other, 'no stream');
      const read = reading.read({ positions: [[other, '0-0']], count: 10, block: LONG });
      expect(classifyRedisError(await read.catch((error: unknown) => error))).toBe('wrong-type');
      await add(key, 'a');
      expect(shown(await reading.read({ positions: [[key, '0-0']], count: 10 }))).toEqual([[key, ['a']]]);
    });
  });

  describe('reading in a group', () => {
    const read = (
      key: string,
      count = 10,
      more: { block?: number; noAck?: boolean; expectsSeveral?: boolean } = {},
    ) => ({
      group: 'g',
      consumer: 'c',
      streamKeys: [key],
      count,
      ...more,
    });

    it('returns new entries once, which are pending from then on', async () => {
      const key = bench.key();
      const { reading } = await bench.reader(key);
      await addGroup(key);
      const ids = await add(key, 'a', 'b', 'c');
      expect(shown(await reading.readGroup(read(key, 2)))).toEqual([[key, ['a', 'b']]]);
      expect(shown(await reading.readGroup(read(key, 2, { block: LONG })))).toEqual([[key, ['c']]]);
      expect(await reading.readGroup(read(key))).toEqual([]);
      expect(await reading.readGroup(read(key, 10, { block: 50 }))).toEqual([]);
      expect(await pendingOf(key)).toEqual(ids.map((id) => [id, 'c', expect.any(Number), 1]));
    });

    it('with NOACK returns entries that are not pending', async () => {
      const key = bench.key();
      const { reading } = await bench.reader(key);
      await addGroup(key);
      await add(key, 'a', 'b');
      expect(shown(await reading.readGroup(read(key, 10, { noAck: true, block: LONG })))).toEqual([[key, ['a', 'b']]]);
      expect(await pendingOf(key)).toEqual([]);
    });

    it('of several streams returns those that have new entries', async () => {
      const keys = bench.keysTogether(3) as [string, string, string];
      const { reading } = await bench.reader(keys[0]);
      for (const key of keys) await addGroup(key);
      await add(keys[0], 'a');
      await add(keys[2], 'b', 'c');
      const request = { ...read(keys[0], 10, { block: LONG }), streamKeys: keys };
      expect(shown(await reading.readGroup(request))).toEqual([
        [keys[0], ['a']],
        [keys[2], ['b', 'c']],
      ]);
    });

    describe('when several entries are expected', () => {
      const several = { block: LONG, expectsSeveral: true };

      it('returns all of a batch that arrives while it blocks, pending in the order of the stream', async () => {
        const key = bench.key();
        const { reading } = await bench.reader(key);
        await addGroup(key);
        const blocked = reading.readGroup(read(key, 10, several));
        await untilBlocked(key);
        await addTogether(key, five);
        const pages = await blocked;
        expect(shown(pages)).toEqual([[key, five]]);
        const ids = pages.flatMap(({ entries }) => entries.map(({ id }) => id));
        expect(await pendingOf(key)).toEqual(ids.map((id) => [id, 'c', expect.any(Number), 1]));
      });

      it('returns at most as many as requested of each stream', async () => {
        const keys = bench.keysTogether(3) as [string, string, string];
        const { reading } = await bench.reader(keys[0]);
        for (const key of keys) await addGroup(key);
        await add(keys[0], ...five);
        await add(keys[2], 'f', 'g');
        const request = { ...read(keys[0], 3, several), streamKeys: keys };
        expect(shown(await reading.readGroup(request))).toEqual([
          [keys[0], ['a', 'b', 'c']],
          [keys[2], ['f', 'g']],
        ]);
        expect(shown(await reading.readGroup(request))).toEqual([[keys[0], ['d', 'e']]]);
      });

      it('returns the entries of all streams of a batch', async () => {
        const keys = bench.keysTogether(2) as [string, string];
        const { reading } = await bench.reader(keys[0]);
        for (const key of keys) await addGroup(key);
        const blocked = reading.readGroup({ ...read(keys[0], 10, several), streamKeys: keys });
        await untilBlocked(keys[0]);
        const [first, second] = keys;
        await addTogether(first, ['b'], [['XADD', second, '*', 'msg', 'a']]);
        expect(new Map(shown(await blocked) as Array<[string, string[]]>)).toEqual(
          new Map([
            [first, ['b']],
            [second, ['a']],
          ]),
        );
      });

      it('returns the entry that ended the wait when the group was removed behind it', async () => {
        const key = bench.key();
        const { reading } = await bench.reader(key);
        await addGroup(key);
        const blocked = reading.readGroup(read(key, 10, several));
        await untilBlocked(key);
        const admin = await bench.admin(key);
        await admin.pipeline().xadd(key, '*', 'msg', 'a').xgroup('DESTROY', key, 'g').exec();
        expect(shown(await blocked)).toEqual([[key, ['a']]]);
        const next = reading.readGroup(read(key, 10, several)).catch(classifyRedisError);
        expect(await next).toBe('group-missing');
      });

      it('fails when the group was replaced during the wait, and leaves what the new one has pending', async () => {
        const key = bench.key();
        const { reading } = await bench.reader(key);
        await addGroup(key);
        const blocked = reading.readGroup(read(key, 10, several)).catch(classifyRedisError);
        await untilBlocked(key);
        const admin = await bench.admin(key);
        const batch = admin.pipeline().xgroup('DESTROY', key, 'g').xgroup('CREATE', key, 'g', '0');
        await batch.xadd(key, '*', 'msg', 'a').xadd(key, '*', 'msg', 'b').exec();
        expect(await blocked).toBe('group-missing');
        expect(await pendingOf(key)).toHaveLength(2);
      });

      it('fails when both reads do', async () => {
        const key = bench.key();
        const { reading } = await bench.reader(key);
        expect(await reading.readGroup(read(key, 10, several)).catch(classifyRedisError)).toBe('group-missing');
      });
    });

    it('marks entries of its history that were deleted', async () => {
      const key = bench.key();
      await addGroup(key);
      const ids = await add(key, 'a', 'b', 'c');
      const { reading, connection } = await bench.reader(key);
      await reading.readGroup(read(key));
      await (await bench.admin(key)).xdel(key, ids[1] as string);
      const channel = await connection.ready();
      const command = ['XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 10, 'STREAMS', key, '0'] as const;
      const [page] = await channel.pages([command], (name) => name);
      expect(page?.entries.map(({ id, fields }) => [id, fields === null])).toEqual([
        [ids[0], false],
        [ids[1], true],
        [ids[2], false],
      ]);
    });

    it('fails when the group or the stream does not exist, and when the group goes while it blocks', async () => {
      const [key, missing] = bench.keysTogether(2) as [string, string];
      const { reading, connection } = await bench.reader(key);
      const kindOf = (promise: Promise<unknown>): Promise<string> =>
        promise.then(
          () => 'none',
          (error: unknown) => classifyRedisError(error),
        );
      expect(await kindOf(reading.readGroup(read(missing, 1, { block: LONG })))).toBe('group-missing');
      await add(key, 'a');
      expect(await kindOf(reading.readGroup(read(key, 1, { block: LONG })))).toBe('group-missing');
      const admin = await bench.admin(key);
      await admin.xgroup('CREATE', key, 'g', '$');
      const blocked = kindOf(reading.readGroup(read(key, 1, { block: LONG })));
      await untilBlocked(key);
      await admin.xgroup('DESTROY', key, 'g');
      expect(await blocked).toBe('group-missing');
      expect(connection.state).toBe('ready');
    });
  });

  describe('looking at streams', () => {
    it('returns a range of entries, limited on request', async () => {
      const key = bench.key();
      const ids = (await add(key, 'a', 'b', 'c', 'd')) as [string, string, string, string];
      const { reading } = bench.control;
      expect((await reading.range(key, '-', '+')).map(textOf)).toEqual(['a', 'b', 'c', 'd']);
      expect((await reading.range(key, ids[1], ids[2])).map(({ id }) => id)).toEqual([ids[1], ids[2]]);
      expect((await reading.range(key, ids[1], '+', 2)).map(textOf)).toEqual(['b', 'c']);
      expect(await reading.range(bench.key(), '-', '+')).toEqual([]);
    });

    it('tells length, ids and memory of a stream, and nothing of one that does not exist', async () => {
      const key = bench.key();
      const { reading } = bench.control;
      expect(await reading.streamInfo(key)).toBeUndefined();
      expect(await reading.memoryUsage(key)).toBeUndefined();
      expect(await reading.isStream(key)).toBe(false);
      const ids = await add(key, 'a', 'b');
      const [firstId, lastId] = ids;
      const { entriesAdded, ...info } = (await reading.streamInfo(key)) ?? {};
      expect(info).toEqual({ length: 2, firstId, lastId, lastGeneratedId: lastId });
      // Redis 6 does not count them.
      expect([2, undefined]).toContain(entriesAdded);
      expect(await reading.memoryUsage(key)).toBeGreaterThan(0);
      expect(await reading.isStream(key)).toBe(true);
    });

    it('distinguishes a stream from a key of another type', async () => {
      const key = bench.key();
      await (await bench.admin(key)).set(key, 'no stream');
      const { reading } = bench.control;
      expect(await reading.isStream(key)).toBe(false);
      await expect(reading.streamInfo(key)).rejects.toThrow('WRONGTYPE');
    });
  });
}
