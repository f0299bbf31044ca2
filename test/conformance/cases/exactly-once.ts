import { randomBytes } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';

import { UnsupportedOperationError } from '../../../lib/errors.js';
import type { AppendOutcomes, AppendRequest, WriteBatch } from '../../../lib/redis/commands/stream-commands.js';
import type { CommandBench } from '../../support/command-bench.js';
import { fieldText } from '../../support/field-text.js';
import { FIELDS, classifyIf } from './appending.js';

const TIMEOUT = 10_000;
const REMEMBER = 60_000;
const text = (payload: string, id = '*'): AppendRequest => ({ id, fields: ['msg', payload] });

/** Batches that the server appends only once. */
export function exactlyOnceCases(bench: CommandBench): void {
  const { way } = bench;
  const batchOf = (streamKey: string, requests: readonly AppendRequest[], batch: number, oldest = 1): WriteBatch => ({
    streamKey,
    requests,
    trim: {},
    wantsIds: true,
    once: { producer: 'p', batch, oldest, remember: REMEMBER },
  });
  const write = async (batch: WriteBatch): Promise<AppendOutcomes> => {
    await bench.writing.appending.prepare(batch, TIMEOUT);
    return bench.writing.appending.write(batch);
  };
  const length = async (key: string): Promise<number> => (await bench.admin(key)).xlen(key);

  if (!way.may.scripts) {
    describe('appending exactly once', () => {
      it('is refused before a batch is written, because it needs scripts', async () => {
        const key = bench.key();
        await expect(write(batchOf(key, [text('a'), text('b')], 1))).rejects.toThrow(UnsupportedOperationError);
        expect(await length(key)).toBe(0);
      });
    });
    return;
  }

  describe('appending exactly once', () => {
    it.each([
      ['entries of one field', [text('a'), text('b'), text('ü\u0000\r\n')]],
      ['entries of all shapes', FIELDS.map(([, fields]) => ({ id: '*', fields }))],
      ['bytes', [{ id: '*', fields: ['msg', randomBytes(10_000)] }]],
    ])('repeats the replies of a batch that comes twice, and stores it once (%s)', async (_, requests) => {
      const key = bench.key();
      const batch = batchOf(key, requests, 1);
      const first = await write(batch);
      expect(first?.map(classifyIf)).toEqual(requests.map(() => 'id'));
      expect(await write(batch)).toEqual(first);
      const entries = await bench.stored(key);
      expect(entries.map(([id]) => id)).toEqual(first);
      expect(entries.map(([, fields]) => fields)).toEqual(requests.map(({ fields }) => fieldText(fields)));
    });

    it('repeats errors too, each in its place', async () => {
      const key = bench.key();
      const batch = batchOf(key, [text('a'), text('late', '1-1'), text('b')], 1);
      const first = await write(batch);
      expect(first?.map(classifyIf)).toEqual(['id', 'refused', 'id']);
      const second = await write(batch);
      expect(second?.map(String)).toEqual(first?.map(String));
      expect(await length(key)).toBe(2);
      const silent = { ...batchOf(key, [text('c'), text('late', '1-1')], 2), wantsIds: false };
      const kinds = [await write(silent), await write(silent)].map((each) => each?.map(classifyIf));
      expect(kinds).toEqual([
        ['id', 'refused'],
        ['id', 'refused'],
      ]);
      expect(await length(key)).toBe(3);
    });

    it('of a batch without a caller for its ids returns nothing when all of it was stored', async () => {
      const key = bench.key();
      const batch = { ...batchOf(key, [text('a'), text('b')], 1), wantsIds: false };
      expect([await write(batch), await write(batch)]).toEqual([undefined, undefined]);
      const headers = { ...batchOf(key, [{ id: '*', fields: ['msg', 'c', 'h:x', 'y'] }], 2), wantsIds: false };
      expect([await write(headers), await write(headers)]).toEqual([undefined, undefined]);
      expect(await length(key)).toBe(3);
    });

    it('stores other batches of the producer, and no late copy of one that is settled', async () => {
      const key = bench.key();
      const [first, second, third] = [
        batchOf(key, [text('a')], 1),
        batchOf(key, [text('b')], 2),
        batchOf(key, [text('c')], 3, 3),
      ];
      const ids = [await write(first), await write(second), await write(third)];
      expect(await length(key)).toBe(3);
      expect(await write(third)).toEqual(ids[2]);
      // A late copy of a batch that is settled is not stored, and no producer waits for its reply.
      await write(first);
      expect(await length(key)).toBe(3);
    });

    it('trims like any other append', async () => {
      const key = bench.key();
      const many = Array.from({ length: 1_000 }, (_, index) => text(`${index}`));
      await write({ ...batchOf(key, many, 1), trim: { maxLen: 100 } });
      expect(await length(key)).toBeLessThan(300);
    });

    it('reports a key of another type for each entry', async () => {
      const key = bench.key();
      await (await bench.admin(key)).set(key, 'no stream');
      const outcomes = await write(batchOf(key, [text('a'), text('b')], 1));
      expect(outcomes?.map(classifyIf)).toEqual(['wrong-type', 'wrong-type']);
    });

    it('loads its scripts again after SCRIPT FLUSH', async () => {
      const key = bench.key();
      const { appending } = bench.writing;
      expect((await write(batchOf(key, [text('a')], 1)))?.map(classifyIf)).toEqual(['id']);
      await (await bench.admin(key)).script('FLUSH');
      const batch = batchOf(key, [text('b')], 2);
      expect((await write(batch))?.map(classifyIf)).toEqual(['retryable']);
      expect(appending.canWrite(batch)).toBe(false);
      expect((await write(batch))?.map(classifyIf)).toEqual(['id']);
      expect(await length(key)).toBe(2);
    });

    it('is refused for an entry that has more fields than a script can pass on', async () => {
      const key = bench.key();
      const fields = Array.from({ length: 10_000 }, (_, index) => `${index}`);
      const outcomes = await write(batchOf(key, [text('a'), { id: '*', fields }], 1));
      expect(outcomes).toEqual([expect.any(UnsupportedOperationError), expect.any(UnsupportedOperationError)]);
      expect(await length(key)).toBe(0);
    });

    it('accepts ids of a millisecond where the server has them', async () => {
      const key = bench.key();
      const batch = batchOf(key, [text('a', '1700000000000-*'), text('b', '1700000000000-*')], 1);
      const refusal: unknown = expect.any(UnsupportedOperationError);
      const expected = bench.version >= 7 ? ['1700000000000-0', '1700000000000-1'] : [refusal, refusal];
      expect(await write(batch)).toEqual(expected);
      expect(await write(batch)).toEqual(expected);
      // What is known of the server by now does not concern other ids.
      expect((await write(batchOf(key, [text('c')], 2)))?.map(classifyIf)).toEqual(['id']);
    });
  });
}
