import { randomBytes } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';

import { classifyRedisError } from '../../../lib/redis/commands/redis-error.js';
import type { AppendRequest, WriteBatch } from '../../../lib/redis/commands/stream-commands.js';
import type { CommandBench } from '../../support/command-bench.js';
import { fieldText } from '../../support/field-text.js';

type Fields = AppendRequest['fields'];

const TIMEOUT = 10_000;
/** 2023: an id that no server generates now. */
const PAST = 1_700_000_000_000;
const any = (fields: Fields): AppendRequest => ({ id: '*', fields });
const text = (payload: string, id = '*'): AppendRequest => ({ id, fields: ['msg', payload] });

/** Fields as an application may have them, each list an entry. */
export const FIELDS: ReadonlyArray<readonly [what: string, fields: Fields]> = [
  ['text', ['msg', 'hello']],
  ['an empty value', ['msg', '']],
  ['an empty name and an empty value', ['', '']],
  ['unicode', ['ключ', '€ 𝄞 ü\u0000']],
  ['text that looks like a reply', ['$3\r\n', '*1\r\n$3\r\nfoo\r\n-ERR\r\n']],
  ['half of a surrogate pair', ['msg', '\ud834']],
  ['a Buffer of all bytes', ['msg', Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))]],
  ['a Buffer as a name', [Buffer.from([0, 255, 13, 10]), Buffer.from([254])]],
  ['a part of an Uint8Array', ['msg', Uint8Array.from([0, 1, 2, 253, 254, 255]).subarray(2, 5)]],
  ['an empty Uint8Array', ['msg', new Uint8Array(0)]],
  ['names that occur twice', ['msg', 'a', 'msg', 'b', 'h:x', '1', 'h:x', '2']],
  ['many headers', ['msg', 'x', ...Array.from({ length: 200 }, (_, index) => [`h:name-${index}`, `${index}`]).flat()]],
  ['a value of 1,024 bytes', ['msg', '$'.repeat(1_024)]],
  ['a value of 1,025 bytes', ['msg', '*'.repeat(1_025)]],
  ['1 MB of text', ['msg', 'ü'.repeat(524_288)]],
  ['1 MB of bytes', ['msg', randomBytes(1_048_576)]],
];

/** XADD and XTRIM. */
export function appendingCases(bench: CommandBench): void {
  const { way } = bench;
  const stored = (key: string) => bench.stored(key);
  const write = async (batch: WriteBatch) => {
    const { appending } = bench.writing;
    await appending.prepare(batch, TIMEOUT);
    return appending.write(batch);
  };

  describe('appending', () => {
    it.each(FIELDS)('stores %s byte for byte', async (_, fields) => {
      const key = bench.key();
      const [id] = await bench.writing.appending.append(key, [any(fields)]);
      expect(await stored(key)).toEqual([[id, fieldText(fields)]]);
    });

    it('stores entries of all shapes in one batch, in order, and returns the id of each', async () => {
      const key = bench.key();
      const ids = await bench.writing.appending.append(
        key,
        FIELDS.map(([, fields]) => any(fields)),
      );
      const entries = await stored(key);
      expect(entries.map(([id]) => id)).toEqual(ids);
      expect(entries.map(([, fields]) => fields)).toEqual(FIELDS.map(([, fields]) => fieldText(fields)));
    });

    it('stores an entry of 100,000 fields between two others', async () => {
      const key = bench.key();
      const fields = Array.from({ length: 200_000 }, (_, index) => `${index % 2 === 0 ? 'n' : 'v'}${index >> 1}`);
      const ids = await bench.writing.appending.append(key, [text('a'), any(fields), text('b')]);
      const entries = await stored(key);
      expect(entries.map(([id]) => id)).toEqual(ids);
      expect(entries[1]?.[1].join()).toBe(fields.join());
    });

    it('stores 5,000 entries of one batch in order', async () => {
      const key = bench.key();
      const payloads = Array.from({ length: 5_000 }, (_, index) => `payload ${index}`);
      const ids = await bench.writing.appending.append(
        key,
        payloads.map((payload) => text(payload)),
      );
      const entries = await stored(key);
      expect(entries.map(([id]) => id)).toEqual(ids);
      expect(entries.map(([, [, payload]]) => String(payload))).toEqual(payloads);
    });

    it('gives entries the ids that are requested: complete ones, and those of a millisecond', async () => {
      if (!bench.hasPartialIds) return;
      const key = bench.key();
      const requested = [`${PAST}-5`, `${PAST}-*`, `${PAST + 1}-*`, `${PAST + 1}-*`, `${PAST + 2}-0`, '*'];
      const ids = await bench.writing.appending.append(
        key,
        requested.map((id) => text('x', id)),
      );
      const known = [`${PAST}-5`, `${PAST}-6`, `${PAST + 1}-0`, `${PAST + 1}-1`, `${PAST + 2}-0`];
      expect(ids.slice(0, -1)).toEqual(known);
      expect((await stored(key)).map(([id]) => id)).toEqual(ids);
    });

    it('reports an entry that is refused in its place, and stores its neighbours', async () => {
      const key = bench.key();
      const batch = [text('a'), text('late', '1-1'), text('b'), text('again late', '1-1'), text('c')];
      const outcomes = await bench.writing.appending.append(key, batch);
      expect(outcomes.map((outcome) => classifyIf(outcome))).toEqual(['id', 'refused', 'id', 'refused', 'id']);
      const entries = await stored(key);
      expect(entries.map(([, [, payload]]) => String(payload))).toEqual(['a', 'b', 'c']);
      expect(entries.map(([id]) => id)).toEqual(outcomes.filter((outcome) => typeof outcome === 'string'));
    });

    it('reports a key of another type for each entry, and stores batches that are written next to it', async () => {
      const [first, other, last] = bench.keysTogether(3) as [string, string, string];
      await (await bench.admin(other)).set(other, 'no stream');
      const requests = [text('a'), text('b')];
      const batches = [first, other, last].map((streamKey) => ({ streamKey, requests, trim: {}, wantsIds: true }));
      await bench.writing.appending.prepare(batches[0] as WriteBatch, TIMEOUT);
      const outcomes = await Promise.all(batches.map((batch) => bench.writing.appending.write(batch)));
      const kinds = outcomes.map((each) => each?.map((outcome) => classifyIf(outcome)));
      expect(kinds).toEqual([
        ['id', 'id'],
        ['wrong-type', 'wrong-type'],
        ['id', 'id'],
      ]);
      expect((await stored(first)).map(([id]) => id)).toEqual(outcomes[0]);
      expect((await stored(last)).map(([id]) => id)).toEqual(outcomes[2]);
    });

    it('without a caller for the ids reports errors only', async () => {
      const key = bench.key();
      const batch = { streamKey: key, trim: {}, wantsIds: false };
      const good = await write({ ...batch, requests: [text('a'), text('b')] });
      // ioredis returns the ids in any case.
      expect(good === undefined || good.every((outcome) => typeof outcome === 'string')).toBe(true);
      const mixed = await write({ ...batch, requests: [text('c'), text('late', '1-1'), text('d')] });
      expect(mixed?.map((outcome) => classifyIf(outcome))).toEqual(['id', 'refused', 'id']);
      expect((await stored(key)).map(([, [, payload]]) => String(payload))).toEqual(['a', 'b', 'c', 'd']);
    });

    it('writes batches in the order of the calls, and gives each its own replies', async () => {
      const keys = bench.keysTogether(3);
      const rounds = Array.from({ length: 30 }, (_, index) => index);
      const batches = rounds.flatMap((round) =>
        keys.map((streamKey) => ({
          streamKey,
          requests: [text(`${round}`), text(`${round}'`)],
          trim: {},
          wantsIds: true,
        })),
      );
      const { appending } = bench.writing;
      await appending.prepare(batches[0] as WriteBatch, TIMEOUT);
      const outcomes = await Promise.all(batches.map((batch) => appending.write(batch)));
      for (const [index, key] of keys.entries()) {
        const entries = await stored(key);
        expect(entries.map(([, [, payload]]) => String(payload))).toEqual(rounds.flatMap((n) => [`${n}`, `${n}'`]));
        const own = outcomes.filter((_, at) => at % keys.length === index);
        expect(own.flat()).toEqual(entries.map(([id]) => id));
      }
    });
  });

  describe('trimming', () => {
    const fill = async (key: string, count: number): Promise<void> => {
      const requests = Array.from({ length: count }, (_, index) => text('x', `${PAST + index}-0`));
      await bench.writing.appending.append(key, requests);
    };

    it('to a length or an age returns how many entries went, and never too many', async () => {
      const key = bench.key();
      await fill(key, 1_000);
      const byLength = await bench.control.appending.trimMaxLen(key, 500);
      expect(byLength).toBeGreaterThan(0);
      expect(byLength).toBeLessThanOrEqual(500);
      if (bench.version < 6.2 && !way.may.scripts) return;
      const byAge = await bench.control.appending.trimMinId(key, String(PAST + 900));
      expect(byAge).toBeGreaterThan(0);
      const ids = (await stored(key)).map(([id]) => id);
      expect(ids).toHaveLength(1_000 - byLength - byAge);
      expect(ids.slice(-100)).toEqual(Array.from({ length: 100 }, (_, index) => `${PAST + 900 + index}-0`));
    });

    it('of a stream that does not exist returns 0', async () => {
      expect(await bench.control.appending.trimMaxLen(bench.key(), 5)).toBe(0);
      if (bench.version < 6.2 && !way.may.scripts) return;
      expect(await bench.control.appending.trimMinId(bench.key(), String(PAST))).toBe(0);
    });

    it('happens with every append where a limit is given', async () => {
      const [byLength, byAge] = [bench.key(), bench.key()];
      await fill(byLength, 1_000);
      await bench.writing.appending.append(byLength, [text('last')], { maxLen: 100 });
      const length = (await stored(byLength)).length;
      expect(length).toBeGreaterThanOrEqual(100);
      expect(length).toBeLessThan(300);
      if (bench.version < 6.2 && !way.may.scripts) return;
      await fill(byAge, 1_000);
      await bench.writing.appending.append(byAge, [text('last')], { minAge: Date.now() - (PAST + 900) });
      const entries = await stored(byAge);
      expect(entries.length).toBeGreaterThanOrEqual(101);
      expect(entries.length).toBeLessThan(300);
      expect(String(entries.at(-1)?.[1][1])).toBe('last');
    });

    it('behind an append tells how many entries went, and with an expiry of 0 the stream goes at once', async () => {
      const key = bench.key();
      await fill(key, 1_000);
      const { appending } = bench.writing;
      const { outcome, trimmed } = await appending.appendTrimmed(key, text('last'), 100);
      const left = await stored(key);
      expect(left.at(-1)?.[0]).toBe(outcome);
      expect(left.length).toBeLessThan(300);
      expect(left.length + (trimmed as number)).toBe(1_001);
      expect(await appending.appendTrimmed(key, text('more'), false)).toEqual({
        outcome: expect.any(String),
        trimmed: 0,
      });
      await appending.expire(key, 0);
      expect(await (await bench.admin(key)).exists(key)).toBe(0);
    });

    it('is not the only way to remove entries: single ones can be deleted, and a stream can expire', async () => {
      const key = bench.key();
      const ids = (await bench.writing.appending.append(key, [text('a'), text('b'), text('c')])) as string[];
      await bench.control.appending.remove(key, [ids[1] as string, '1-1']);
      expect((await stored(key)).map(([id]) => id)).toEqual([ids[0], ids[2]]);
      await bench.control.appending.expire(key, 60_000);
      const ttl = await (await bench.admin(key)).pttl(key);
      expect(ttl).toBeGreaterThan(50_000);
      expect(ttl).toBeLessThanOrEqual(60_000);
    });
  });
}

/** `id` for an id or the empty text that stands for one; the kind of an error. */
export function classifyIf(outcome: unknown): string {
  return typeof outcome === 'string' ? 'id' : classifyRedisError(outcome);
}
