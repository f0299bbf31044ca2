import { expect, it } from '@jest/globals';

import { DEAD_LETTER_HEADERS } from '../../lib/index.js';
import type { DeadLetterMessage, DeadLetterQuery, RedisStreamsContext, StreamManager } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

const manager = async (): Promise<StreamManager> => nest.client().unwrap().createManager();

/** Fails with the data as its message. */
const failing = (pattern: string) =>
  onEvent(pattern, (data: unknown): never => {
    throw new TypeError(String(data));
  });

const untilDead = async (deadLetterStream: string, count: number): Promise<void> => {
  await until('all are dead letters', async () => (await nest.redis.xlen(deadLetterStream)) === count);
};

/** Appends a dead letter as this package does, or as others might. */
const addDeadLetter = async (stream: string, id: string, headers: Record<string, string>): Promise<string> => {
  const fields = Object.entries(headers).flatMap(([name, value]) => [`h:${name}`, value]);
  return String(await nest.redis.xadd(stream, id, 'msg', 'x', ...fields));
};

const idsOf = (letters: readonly DeadLetterMessage[]): string[] => letters.map(({ id }) => id);

it('deadLetters() of a stream returns each with reason, error, origin, times, payload and headers', async () => {
  const pattern = uniqueName('orders');
  await nest.serve(failing(pattern), { retry: { attempts: 2, delay: 1 } });
  const receipt = await nest.emit(pattern, 'no stock');
  await untilDead(`${pattern}.dead`, 1);

  const [letter, ...others] = await (await manager()).deadLetters(pattern);
  expect(others).toEqual([]);
  const [stored] = await nest.entries(`${pattern}.dead`);
  expect(letter).toMatchObject({
    id: stored?.id,
    deadLetterStream: `${pattern}.dead`,
    timestamp: new Date(Number.parseInt(stored?.id ?? '', 10)),
    reason: 'failed 2 times',
    error: { name: 'TypeError', message: 'no stock', stack: expect.stringContaining('dead-letters-of-manager') },
    origin: { streamKey: pattern, key: pattern, id: receipt.id, group: GROUP, consumer: expect.any(String) },
    deliveryCount: 2,
    payload: Buffer.from('"no stock"'),
    headers: { [DEAD_LETTER_HEADERS.group]: GROUP },
  });
  const idsBy = async (reason: string): Promise<string[]> =>
    idsOf(await (await manager()).deadLetters(pattern, { reason }));
  expect(await idsBy('failed 2')).toEqual([stored?.id]);
  expect(await idsBy('TypeError: no')).toEqual([stored?.id]);
  expect(await idsBy('RangeError')).toEqual([]);
  const { firstFailure, lastFailure } = letter as DeadLetterMessage;
  expect((lastFailure as Date).getTime()).toBeGreaterThanOrEqual((firstFailure as Date).getTime());
});

it('a dead letter without an error that was thrown has no error', async () => {
  const pattern = uniqueName('orders');
  const refuse = (_: unknown, context: RedisStreamsContext): void => context.deadLetter('not ours');
  await nest.serve(onEvent(pattern, refuse));
  await nest.emit(pattern, 'x');
  await untilDead(`${pattern}.dead`, 1);

  const [letter] = await (await manager()).deadLetters(pattern);
  expect(letter).toMatchObject({ reason: 'not ours' });
  expect(letter?.error).toBeUndefined();
});

it('reason, group, since, until, count and after select dead letters, and pages follow each other', async () => {
  const stream = uniqueName('orders');
  const { reason, group } = DEAD_LETTER_HEADERS;
  const reasons = ['timed out', 'Timed out', 'it timed out again', 'bad'];
  for (let n = 0; n < 40; n += 1) {
    const headers = { [reason]: reasons[n % 4] as string, [group]: n % 2 === 0 ? 'even' : 'odd' };
    // Two of each millisecond.
    await addDeadLetter(`${stream}.dead`, `${1_000 + Math.floor(n / 2)}-${n % 2}`, headers);
  }
  const admin = await manager();
  const find = async (query: DeadLetterQuery): Promise<string[]> => idsOf(await admin.deadLetters(stream, query));
  const at = (milliseconds: number): Date => new Date(milliseconds);

  expect(await find({})).toHaveLength(40);
  // A part of the reason, with upper and lower case as they are.
  expect(await find({ reason: 'timed out' })).toHaveLength(20);
  expect(await find({ reason: 'timed out', group: 'odd' })).toEqual([]);
  expect(await find({ reason: 'Timed', group: 'odd' })).toHaveLength(10);
  // Both times are included, with all of their millisecond.
  expect(await find({ since: at(1_003), until: at(1_004) })).toEqual(['1003-0', '1003-1', '1004-0', '1004-1']);
  expect(await find({ since: at(1_019) })).toEqual(['1019-0', '1019-1']);
  expect(await find({ until: at(1_000), reason: 'Timed' })).toEqual(['1000-1']);
  expect(await find({ since: at(2_000) })).toEqual([]);
  expect(await find({ until: at(0) })).toEqual([]);
  expect(await find({ since: at(1_001), after: '1000-0', count: 1 })).toEqual(['1001-0']);
  expect(await find({ since: at(1_001), after: '1001-0', count: 1 })).toEqual(['1001-1']);
  expect(await find({ after: '18446744073709551615-18446744073709551615' })).toEqual([]);
  expect(await find({ after: '1019-1' })).toEqual([]);

  const pages: string[][] = [];
  do {
    const after = pages.at(-1)?.at(-1);
    pages.push(await find({ reason: 'bad', count: 3, ...(after ? { after } : {}) }));
  } while (pages.at(-1)?.length === 3);
  expect(pages.map(({ length }) => length)).toEqual([3, 3, 3, 1]);
  expect(pages.flat()).toEqual(await find({ reason: 'bad' }));

  expect(await admin.deadLetters(uniqueName('missing'))).toEqual([]);
});

it('of a stream of dead letters that several streams share, each stream has its own', async () => {
  const [orders, payments, errors] = ['orders', 'payments', 'errors'].map((name) => uniqueName(name)) as [
    string,
    string,
    string,
  ];
  const options = { retry: false, deadLetter: { stream: errors } } as const;
  await nest.serve([failing(orders), failing(payments)], options);
  for (const pattern of [orders, payments, orders]) await nest.emit(pattern, 'broken');
  await untilDead(errors, 3);
  await Promise.all([nest.untilSettled(orders), nest.untilSettled(payments)]);
  const unknown = await addDeadLetter(errors, '*', {});
  const admin = await manager();
  const place = { deadLetterStream: errors };

  const ofOrders = await admin.deadLetters(orders, place);
  const ofPayments = await admin.deadLetters(payments, place);
  expect(ofOrders.map(({ origin }) => origin?.streamKey)).toEqual([orders, orders, undefined]);
  expect(ofPayments.map(({ origin }) => origin?.streamKey)).toEqual([payments, undefined]);
  // One whose origin is unknown may be of any of them.
  expect([ofOrders.at(-1)?.id, ofPayments.at(-1)?.id]).toEqual([unknown, unknown]);
  expect(await admin.deadLetters(orders)).toEqual([]);

  // What a stream does not list, it does not delete.
  const [first] = ofPayments as [DeadLetterMessage];
  expect(await admin.removeDeadLetter(orders, first.id, place)).toBe(false);
  expect(await admin.removeDeadLetter(payments, first.id, place)).toBe(true);
  expect(await admin.removeDeadLetter(payments, first.id, place)).toBe(false);

  // What the manager lists is found by redrive() under the name of its stream.
  const [letter] = ofOrders as [DeadLetterMessage];
  const filter = ({ id }: { id: string }): boolean => id === letter.id;
  const result = await admin.redrive(letter.deadLetterStream, { filter, dryRun: true });
  expect(result).toEqual({ redriven: 1, skipped: 2 });
});

it('removeDeadLetter() deletes one dead letter and tells whether there was one', async () => {
  const stream = uniqueName('orders');
  const ids = [await addDeadLetter(`${stream}.dead`, '5-0', {}), await addDeadLetter(`${stream}.dead`, '5-1', {})];
  const admin = await manager();

  expect(await admin.removeDeadLetter(stream, '5-2')).toBe(false);
  expect(await admin.removeDeadLetter(uniqueName('missing'), '5-1')).toBe(false);
  expect(await admin.removeDeadLetter(stream, '5-1')).toBe(true);
  expect(await admin.removeDeadLetter(stream, '5-1')).toBe(false);
  expect(idsOf(await admin.deadLetters(stream))).toEqual(ids.slice(0, 1));
  // Half an id would be the id of another message of its millisecond.
  await expect(admin.removeDeadLetter(stream, '5')).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', option: 'id' });
});

it('dead letters of other programs are listed, whatever their headers and payloads are', async () => {
  const stream = uniqueName('orders');
  const { redis } = nest;
  const names = DEAD_LETTER_HEADERS;
  const binary = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  await redis.xadd(`${stream}.dead`, '1-0', 'data', 'without our field');
  await redis.xadd(`${stream}.dead`, '2-0', 'msg', binary, 'h:', '', 'h:__proto__', 'x');
  await addDeadLetter(`${stream}.dead`, '3-0', {
    [names.reason]: '',
    [names.deliveryCount]: '9e99',
    [names.firstFailure]: 'yesterday',
    [names.lastFailure]: '-1',
    [names.key]: stream,
    [names.id]: 'no id',
    [names.errorMessage]: 'only a message',
  });
  await redis.xadd(`${stream}.dead`, '18446744073709551615-18446744073709551615', 'msg', binary);
  const admin = await manager();

  const letters = await admin.deadLetters(stream);
  const unknown = { error: undefined, origin: undefined, deliveryCount: undefined, firstFailure: undefined };
  expect(letters.map(({ reason }) => reason)).toEqual([undefined, undefined, '', undefined]);
  expect(letters[0]).toMatchObject({ ...unknown, payload: Buffer.alloc(0), headers: {} });
  expect(letters[1]).toMatchObject({ ...unknown, payload: binary });
  expect(Object.keys(letters[1]?.headers ?? {})).toEqual(['', '__proto__']);
  expect(letters[2]).toMatchObject({ ...unknown, error: { name: 'Error', message: 'only a message' } });
  expect(letters[3]).toMatchObject({ ...unknown, payload: binary });
  expect(() => JSON.stringify(letters)).not.toThrow();
  expect(idsOf(await admin.deadLetters(stream, { reason: 'x' }))).toEqual([]);
  expect(await admin.removeDeadLetter(stream, idsOf(letters)[3] as string)).toBe(true);
});
