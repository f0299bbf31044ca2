import { describe, expect, it } from '@jest/globals';
import {
  compareEntryIds,
  entryId,
  entryIdSequence,
  entryIdTime,
  isEntryId,
  lastIdOfMillisecond,
  nextEntryId,
  timeInIds,
  timestampFormatOf,
  parseEntryId,
} from '../../lib/redis/commands/entry-id.js';

const MAX = 2n ** 64n - 1n;

describe('entry ids', () => {
  it('are parsed with and without a counter', () => {
    expect(parseEntryId('1700000000000-3')).toEqual({ milliseconds: 1_700_000_000_000n, counter: 3n });
    expect(parseEntryId('5')).toEqual({ milliseconds: 5n, counter: 0n });
    expect(parseEntryId(`${MAX}-${MAX}`)).toEqual({ milliseconds: MAX, counter: MAX });
  });

  it.each([
    '',
    '-',
    '5-',
    '-5',
    '5-*',
    '$',
    '>',
    '+',
    '1-2-3',
    ' 5',
    '5 ',
    '0x5',
    '1e3',
    `${MAX + 1n}-0`,
    `0-${MAX + 1n}`,
  ])('%j is not an entry id', (text) => {
    expect(isEntryId(text)).toBe(false);
  });

  it('are compared as numbers, time first', () => {
    const ordered = ['0-0', '0-1', '9-9', '10-0', '10-10', `${MAX}-0`];
    expect([...ordered].sort(() => -1).sort(compareEntryIds)).toEqual(ordered);
    expect(compareEntryIds('5', '5-0')).toBe(0);
    expect(() => compareEntryIds('x', '5')).toThrow(TypeError);
  });

  it('have a next one, also at the end of a millisecond', () => {
    expect(nextEntryId('5-6')).toBe('5-7');
    expect(nextEntryId(`5-${MAX}`)).toBe('6-0');
    expect(compareEntryIds(lastIdOfMillisecond(5, 'ms'), '6-0')).toBeLessThan(0);
    expect(nextEntryId(lastIdOfMillisecond(5, 'ms'))).toBe('6-0');
    expect(nextEntryId(`${MAX}-${MAX}`)).toBeUndefined();
  });

  it('make a sequence of 48 bits time and 16 bits counter', () => {
    expect(entryIdSequence('1-2')).toBe(65_538n);
    expect(entryIdSequence(`${2n ** 48n - 1n}-65535`)).toBe(2n ** 64n - 1n);
    for (const id of ['1-65536', `${2n ** 48n}-0`]) {
      expect(() => entryIdSequence(id)).toThrow(expect.objectContaining({ code: 'ERR_SEQUENCE_OVERFLOW', id }));
    }
  });

  it('can be made from a sequence', () => {
    const ids = ['0-0', '1-2', '1700000000123-65535', `${2n ** 48n - 1n}-65535`];
    for (const id of ids) expect(entryId.fromSequence(entryId.toSequence(id))).toBe(id);
    for (const wrong of [-1n, 2n ** 80n, 5, '5', undefined]) {
      expect(() => entryId.fromSequence(wrong as bigint)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_OPTION', option: 'sequence' }),
      );
    }
    expect(() => entryId.toSequence('-')).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION', option: 'id' }),
    );
  });

  it('have an order and neighbours, except at the ends', () => {
    expect(entryId.compare('1-2', '1-10')).toBeLessThan(0);
    expect(entryId.compare('10-0', '9-5')).toBeGreaterThan(0);
    expect(entryId.compare('5', '5-0')).toBe(0);
    expect([entryId.next('1-2'), entryId.next(`1-${MAX}`), entryId.next(`${MAX}-${MAX}`)]).toEqual([
      '1-3',
      '2-0',
      undefined,
    ]);
    expect([entryId.previous('1-2'), entryId.previous('2-0'), entryId.previous('0-0')]).toEqual([
      '1-1',
      `1-${MAX}`,
      undefined,
    ]);
    expect(['1-2', '1', '-', '+', `${MAX}0-0`, ''].map(entryId.isValid)).toEqual([
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
    for (const use of [entryId.next, entryId.previous, (id: string) => entryId.compare(id, '1-0')])
      expect(() => use('$')).toThrow(expect.objectContaining({ code: 'ERR_INVALID_OPTION' }));
  });

  it('have a time', () => {
    expect(entryIdTime('1700000000123-7')).toBe(1_700_000_000_123);
    expect(entryIdTime('1700000000123999999-7')).toBe(1_700_000_000_123);
    // No time in either unit: more milliseconds than a Date takes, more nanoseconds than programs count.
    expect(entryIdTime(`${MAX}-0`)).toBe(Number(MAX));
  });

  it('have a first and a last one of a millisecond, also with nanoseconds', () => {
    expect([timeInIds(5, 'ms'), lastIdOfMillisecond(5, 'ms')]).toEqual(['5', `5-${MAX}`]);
    expect([timeInIds(5, 'ns'), lastIdOfMillisecond(5, 'ns')]).toEqual(['5000000', `5999999-${MAX}`]);
    expect(timeInIds(0, 'ns')).toBe('0');
  });

  it('reveal the unit of their times', () => {
    expect(['0-0', '0-1', '1700000000123-0', `${2n ** 48n - 1n}-0`].map(timestampFormatOf)).toEqual(
      Array(4).fill('ms'),
    );
    expect(['1700000000123456789-0', `${2n ** 63n - 1024n}-0`].map(timestampFormatOf)).toEqual(['ns', 'ns']);
  });

  it('with nanoseconds make a sequence of 80 bits', () => {
    const id = '1700000000123456789-65535';
    const sequence = (1_700_000_000_123_456_789n << 16n) | 65_535n;
    expect(entryIdSequence(id, 'ns')).toBe(sequence);
    expect(entryId.fromSequence(sequence)).toBe(id);
    expect(() => entryIdSequence(id, 'ms')).toThrow(expect.objectContaining({ code: 'ERR_SEQUENCE_OVERFLOW', id }));
    expect(() => entryIdSequence('1700000000123456789-65536', 'ns')).toThrow(
      expect.objectContaining({ code: 'ERR_SEQUENCE_OVERFLOW' }),
    );
  });
});
