import { expect, it } from '@jest/globals';

import { listDeadLetters, resolveDeadLetterQuery } from '../../lib/engine/admin/dead-letters.js';
import type { DeadLetterQuery } from '../../lib/engine/admin/dead-letters.js';
import { redrive } from '../../lib/engine/admin/redrive.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import { entryIdTime, lastIdOfMillisecond } from '../../lib/redis/commands/entry-id.js';
import type { StreamEntry } from '../../lib/redis/commands/stream-commands.js';

const MIB = 1024 * 1024;

/** A stream of dead letters with the ids `1-0`, `2-0`, … that are made when they are read. */
class Letters {
  readonly counts: number[] = [];
  /** Most bytes that one page had. */
  largest = 0;
  readonly #length: number;
  readonly #payload: Buffer;

  constructor(length: number, bytes: number) {
    this.#length = length;
    this.#payload = Buffer.alloc(bytes);
  }

  async range(_: string, from: string, to: string, count = Number.NaN): Promise<StreamEntry[]> {
    this.counts.push(count);
    const first = from === '-' ? 1 : Math.max(1, entryIdTime(from) + (from.endsWith('-0') ? 0 : 1));
    const last = to === '+' ? this.#length : Math.min(this.#length, entryIdTime(to));
    const page: StreamEntry[] = [];
    for (let n = first; n <= last && page.length < count; n += 1) page.push(this.#letter(n));
    this.largest = Math.max(this.largest, page.length * this.#payload.length);
    return page;
  }

  async timestampFormat(): Promise<'ms'> {
    return 'ms';
  }

  list(query: DeadLetterQuery): ReturnType<typeof listDeadLetters> {
    return listDeadLetters(resolveDeadLetterQuery('orders', query), this, DEFAULTS.streamer);
  }

  #letter(number: number): StreamEntry {
    const reason = number % 10_000 === 0 ? 'rare' : 'usual';
    const fields = ['msg', this.#payload, 'h:dead-letter-reason', reason].map((field) => Buffer.from(field));
    return { id: `${number}-0`, fields, deliveryCount: 0 };
  }
}

it('a filter that matches few of 100,000 dead letters reads them in pages of limited size', async () => {
  const letters = new Letters(100_000, 100);

  const found = await letters.list({ reason: 'rare' });
  expect(found.map(({ id }) => id)).toEqual(Array.from({ length: 10 }, (_, index) => `${(index + 1) * 10_000}-0`));
  expect(Math.max(...letters.counts)).toBeLessThanOrEqual(250);
});

it('reading dead letters ends with a full page', async () => {
  const letters = new Letters(100_000, 100);

  expect(await letters.list({ count: 10 })).toHaveLength(10);
  expect(letters.counts).toEqual([10]);
  expect((await letters.list({ reason: 'rare', count: 1 })).map(({ id }) => id)).toEqual(['10000-0']);
  const sofar = letters.counts.reduce((sum, count) => sum + count, 0);
  expect(sofar).toBeLessThan(11_000);
});

it('large dead letters are read in small pages', async () => {
  const letters = new Letters(60, MIB);

  expect(await letters.list({ reason: 'rare' })).toEqual([]);
  expect(letters.counts[1]).toBe(1);
  expect(letters.largest).toBeLessThanOrEqual(16 * MIB);
});

it('a dry run of redrive() reads dead letters in the same pages', async () => {
  const letters = new Letters(10_000, 100);
  const unused = {} as never;

  const result = await redrive(
    'orders.dead',
    { dryRun: true },
    { reading: letters, appending: unused, pending: unused, layouts: unused },
    DEFAULTS.streamer,
  );
  expect(result).toEqual({ redriven: 0, skipped: 10_000 });
  expect(Math.max(...letters.counts)).toBeLessThanOrEqual(250);
});

it.each([
  ['ms', ''],
  ['ns', '000000'],
] as const)('the ids and times of a query become one range, with %s', async (format, digits) => {
  const rangeOf = async (query: DeadLetterQuery): Promise<unknown> => {
    let asked: unknown;
    const range = async (_: string, ...ids: unknown[]): Promise<StreamEntry[]> => {
      asked = ids.slice(0, 2);
      return [];
    };
    const timestampFormat = async (): Promise<typeof format> => format;
    await listDeadLetters(resolveDeadLetterQuery('orders', query), { range, timestampFormat }, DEFAULTS.streamer);
    return asked;
  };
  const last = (milliseconds: number): string => lastIdOfMillisecond(milliseconds, format);
  const [since, until] = [new Date(5), new Date(7)];
  expect(await rangeOf({})).toEqual(['0-0', '+']);
  expect(await rangeOf({ since, until })).toEqual([`5${digits}`, last(7)]);
  expect(await rangeOf({ since, until: since })).toEqual([`5${digits}`, last(5)]);
  expect(await rangeOf({ since, after: '4-9' })).toEqual([`5${digits}`, '+']);
  expect(await rangeOf({ since, after: `5${digits}-0` })).toEqual([`5${digits}-1`, '+']);
  expect(await rangeOf({ after: '18446744073709551615-18446744073709551615' })).toBeUndefined();
});
