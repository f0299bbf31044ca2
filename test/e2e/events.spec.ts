import { expect, it } from '@jest/globals';
import { inspect } from 'node:util';
import { EMPTY, firstValueFrom } from 'rxjs';

import { Receipt, RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { BatchSendError, DeadLetterEvent, RedisStreamsContext } from '../../lib/index.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { onEvent } from '../support/controllers.js';
import { GROUP, LogLines, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

it.each([0, '', false])('the falsy payload %j is delivered', async (payload) => {
  const pattern = uniqueName('falsy');
  const seen: unknown[] = [];
  await nest.serve(onEvent(pattern, (data) => seen.push(data)));
  await nest.emit(pattern, payload);

  await until('the event is handled', () => seen.length === 1);
  expect(seen).toEqual([payload]);
});

it.each([null, undefined])('the payload %p is refused, as by every transport of Nest', async (payload) => {
  const pattern = uniqueName('nil');
  const client = nest.client();

  await expect(firstValueFrom(client.emit(pattern, payload))).rejects.toThrow(/Invalid/i);
  await expect(firstValueFrom(client.emitBatch(pattern, [1, payload]))).rejects.toMatchObject({
    code: 'ERR_BATCH_SEND',
  } satisfies Partial<BatchSendError>);
  expect((await nest.entries(pattern)).map(({ fields }) => fields['msg'])).toEqual(['1']);
});

it("a user's payload with the keys pattern, data and id arrives untouched and is not mutated", async () => {
  const pattern = uniqueName('untouched');
  const payload = Object.freeze({ pattern: 'mine', data: Object.freeze({ deep: 1 }), id: 7, response: 'r' });
  const seen: unknown[] = [];
  await nest.serve(onEvent(pattern, (data) => seen.push(data)));
  await nest.emit(pattern, payload);

  await until('the event is handled', () => seen.length === 1);
  expect(seen).toEqual([{ pattern: 'mine', data: { deep: 1 }, id: 7, response: 'r' }]);
  expect((await nest.entries(pattern))[0]?.fields).toEqual({ msg: JSON.stringify(payload) });
});

it('a pattern that is not a string is normalized on both sides as Nest does it', async () => {
  const pattern = { service: uniqueName('shop'), cmd: 'order' };
  const seen: string[] = [];
  await nest.serve(onEvent(pattern, (data: number, context) => seen.push(`${data} ${context.getPattern()}`)));
  const receipt = await nest.emit({ cmd: 'order', service: pattern.service }, 1);

  await until('the event is handled', () => seen.length === 1);
  expect(receipt.streamKey).toBe(`{"cmd":"order","service":"${pattern.service}"}`);
  expect(seen).toEqual([`1 ${receipt.streamKey}`]);
});

it('a handler may be bound to several patterns', async () => {
  const patterns = [uniqueName('first'), uniqueName('second')];
  const seen: string[] = [];
  await nest.serve(onEvent(patterns, (_data, context) => seen.push(context.getPattern())));
  for (const pattern of patterns) await nest.emit(pattern, 1);

  await until('both are handled', () => seen.length === 2);
  expect(seen.sort()).toEqual([...patterns].sort());
});

it('an entry of another program, without the payload field, arrives as an object of its fields', async () => {
  const pattern = uniqueName('foreign');
  const seen: unknown[] = [];
  await nest.serve(onEvent(pattern, (data) => seen.push(data)));
  await addRaw(nest.redis, pattern, 'temperature', '21.5', 'unit', 'C', '__proto__', 'x');

  await until('the entry is handled', () => seen.length === 1);
  expect(Object.entries(seen[0] as object)).toEqual([
    ['temperature', '21.5'],
    ['unit', 'C'],
    ['__proto__', 'x'],
  ]);
});

it.each<[string, (data: number) => unknown, string]>([
  ['string', (data) => `<${data}>`, '<5>'],
  ['Uint8Array', (data) => Buffer.from(`<${data}>`), '<5>'],
  ['promise of a string', async (data) => `<${data}>`, '<5>'],
  ['object', (data) => ({ wrapped: data }), '{"wrapped":5}'],
])('the deserializer gets the output of a custom serializer that returns a %s', async (_kind, serialize, stored) => {
  const pattern = uniqueName('serialized');
  const seen: unknown[] = [];
  const deserializer = { deserialize: async (value: Buffer) => value.toString() };
  await nest.serve(
    onEvent(pattern, (data) => seen.push(data)),
    { deserializer },
  );
  await firstValueFrom(nest.client({ serializer: { serialize } as never }).emit(pattern, 5));

  await until('the event is handled', () => seen.length === 1);
  expect(seen).toEqual([stored]);
  expect((await nest.entries(pattern))[0]?.fields).toEqual({ msg: stored });
});

it('a record carries headers, key and time together with its payload', async () => {
  const pattern = uniqueName('record');
  const timestamp = new Date('2021-03-04T05:06:07.089Z');
  const seen: RedisStreamsContext[] = [];
  await nest.serve(onEvent(pattern, (_data, context) => seen.push(context)));
  const record = new RedisStreamsRecordBuilder({ total: 5 })
    .setHeaders({ tenant: 'acme' })
    .setHeader('traceparent', '00-1')
    .setKey('customer-7')
    .setTimestamp(timestamp)
    .build();
  const receipt = await nest.emit(pattern, record);

  await until('the event is handled', () => seen.length === 1);
  expect(receipt.timestamp).toEqual(timestamp);
  expect(seen[0]?.getTimestamp()).toEqual(timestamp);
  expect(seen[0]?.getMessage().json()).toEqual({ total: 5 });
  expect({ ...seen[0]?.getHeaders() }).toEqual({ tenant: 'acme', traceparent: '00-1', key: 'customer-7' });
});

it('a payload that cannot be decoded becomes a dead letter and does not stop the stream', async () => {
  const pattern = uniqueName('broken');
  const seen: unknown[] = [];
  const dead: DeadLetterEvent[] = [];
  const { log } = await nest.serve(
    onEvent(pattern, (data) => seen.push(data)),
    { onDeadLetter: (event) => void dead.push(event) },
  );
  await addRaw(nest.redis, pattern, 'msg', '{"total":');
  await nest.emit(pattern, 'after');

  await until('the next event is handled', () => seen.length === 1);
  await until('the broken one is a dead letter', () => dead.length === 1);
  expect(seen).toEqual(['after']);
  expect(dead[0]?.reason).toMatch(/is not JSON/);
  expect(log.errors.join('\n')).toMatch(/is not JSON/);
  await nest.untilSettled(pattern);
});

it('all handlers of a pattern get each event, also when one of them completes without a value', async () => {
  const pattern = uniqueName('several');
  const [first, second] = [withResolvers<void>(), withResolvers<void>()];
  const started: string[] = [];
  await nest.serve([
    onEvent(pattern, () => {
      started.push('empty');
      return EMPTY;
    }),
    onEvent(pattern, async () => {
      started.push('first');
      await first.promise;
    }),
    onEvent(pattern, async () => {
      started.push('second');
      await second.promise;
    }),
  ]);
  await nest.emit(pattern, 1);

  await until('all are running', () => started.length === 3);
  first.resolve();
  // By the time that a second message is being handled, an acknowledgement of the first would have been sent.
  await nest.emit(pattern, 2);
  await until('the next event is with all', () => started.length === 6);
  expect(await nest.pending(pattern)).toBe(2);
  second.resolve();
  await nest.untilSettled(pattern);
});

it('a late subscriber of emit gets the receipt, and so does each further one', async () => {
  const pattern = uniqueName('late');
  const emission = nest.client().emit(pattern, 1);
  await until('Redis has it', async () => (await nest.redis.xlen(pattern)) === 1);

  const receipt = await firstValueFrom(emission);
  expect(receipt).toBeInstanceOf(Receipt);
  expect(await firstValueFrom(emission)).toBe(receipt);
  expect(await nest.redis.xlen(pattern)).toBe(1);
});

it('a failed emit without a subscriber is logged and emitted as error, and causes no unhandled rejection', async () => {
  const pattern = uniqueName('taken');
  await nest.redis.set(pattern, 'a string');
  const logger = new LogLines();
  const client = nest.client({ logger });
  const errors: Error[] = [];
  client.on('error', (error) => errors.push(error));
  client.emit(pattern, 1);
  client.emit(pattern, { circular: null, toJSON: () => { throw new Error('cannot be JSON'); } }); // prettier-ignore
  client.emitBatch(pattern, [1, 2]);

  await until('all three are reported', () => errors.length === 3);
  expect(new Set(errors.map((error) => (error as Error & { code?: string }).code))).toEqual(
    new Set(['ERR_BATCH_SEND', 'ERR_INVALID_OPTION', 'ERR_WRONG_TYPE']),
  );
  expect(logger.errors).toHaveLength(3);
  expect(logger.errors).toContainEqual(
    expect.stringMatching(`^The event for '${pattern}' was not sent: data must be serializable as JSON`),
  );
  const ofBatch = `^Sending to '${pattern}' failed: 2 of 2 messages were not confirmed, the first with: .*${pattern}`;
  expect(logger.errors).toContainEqual(expect.stringMatching(ofBatch));
});

it('the log line of a refused batch has its pattern', async () => {
  const logger = new LogLines();
  nest.client({ logger }).emitBatch('orders', 'tea' as never);
  await until('it is reported', () => logger.errors.length === 1);
  expect(logger.errors).toEqual([
    expect.stringMatching("^The event for 'orders' was not sent: messages must be an array"),
  ]);
});

it('the log line of a refused event has its pattern, with an asynchronous serializer and a stream of another name too', async () => {
  const pattern = uniqueName('renamed');
  const logger = new LogLines();
  const serializer = { serialize: () => Promise.reject(new Error('no schema')) };
  const client = nest.client({ logger, serializer, streams: { [pattern]: `tenant:${pattern}` } });
  client.emit(pattern, 1);
  const shy = { cmd: pattern, [inspect.custom]: () => { throw new Error('not shown'); } }; // prettier-ignore
  client.emit(shy, 2);

  await until('both are reported', () => logger.errors.length === 2);
  expect(logger.errors).toEqual([
    `The event for '${pattern}' was not sent: serializer failed: no schema`,
    'The event for a pattern that cannot be shown was not sent: serializer failed: no schema',
  ]);
});

it('the log line of an override that fails has the pattern', async () => {
  const pattern = uniqueName('override');
  const logger = new LogLines();
  const client = nest.client({ logger });
  Object.assign(client, { dispatchEvent: () => Promise.reject(new Error('no token')) });
  client.emit(pattern, 1);

  await until('it is reported', () => logger.errors.length === 1);
  expect(logger.errors).toEqual([`Sending to '${pattern}' failed: no token`]);
});

it('a failed emit with a subscriber is reported to that subscriber only', async () => {
  const pattern = uniqueName('taken');
  await nest.redis.set(pattern, 'a string');
  const client = nest.client();
  const errors: Error[] = [];
  client.on('error', (error) => errors.push(error));

  await expect(firstValueFrom(client.emit(pattern, 1))).rejects.toMatchObject({ code: 'ERR_WRONG_TYPE' });
  await expect(firstValueFrom(client.emit(pattern, { toJSON: () => undefined }))).rejects.toMatchObject({
    code: 'ERR_INVALID_OPTION',
  });
  expect(errors).toEqual([]);
});

it('events are stored in the order of the calls, however long an asynchronous serializer takes for each', async () => {
  const [pattern, other] = [uniqueName('ordered'), uniqueName('other')];
  const gate = withResolvers<void>();
  const serialize = async (time: number): Promise<string> => {
    if (time === 60) await gate.promise;
    else await new Promise((resolve) => setTimeout(resolve, time));
    if (time === 7) throw new Error('expected');
    return String(time);
  };
  const client = nest.client({ serializer: { serialize } });
  client.on('error', () => undefined);
  const slow = firstValueFrom(client.emit(pattern, 60));
  client.emit(pattern, 7).subscribe({ error: () => undefined });
  await firstValueFrom(client.emit(other, 1));
  expect(await nest.redis.xlen(pattern)).toBe(0);
  setTimeout(gate.resolve, 50);
  await Promise.all([slow, firstValueFrom(client.emitBatch(pattern, [20, 2]))]);
  await firstValueFrom(client.emit(pattern, 3));
  expect((await nest.entries(pattern)).map(({ fields }) => fields['msg'])).toEqual(['60', '20', '2', '3']);
});

it('close() waits for the serializers of events that were emitted before', async () => {
  const pattern = uniqueName('closing');
  const serialize = (n: number): unknown =>
    n === 1 ? new Promise((resolve) => setTimeout(() => resolve('1'), 100)) : String(n);
  const client = nest.client({ serializer: { serialize } as never });
  const sent = [1, 2].map((n) => firstValueFrom(client.emit(pattern, n)));
  await client.close();
  await Promise.all(sent);
  expect((await nest.entries(pattern)).map(({ fields }) => fields['msg'])).toEqual(['1', '2']);
});

it('a serializer that fails makes the event fail with CallbackError', async () => {
  const fail = (): never => {
    throw new TypeError('no schema');
  };
  for (const serialize of [fail, () => Promise.resolve().then(fail)]) {
    const sending = firstValueFrom(nest.client({ serializer: { serialize } }).emit('orders', 1));
    await expect(sending).rejects.toMatchObject({
      code: 'ERR_CALLBACK',
      message: 'serializer failed: no schema',
      cause: expect.any(TypeError),
    });
  }
});

it('an event handler that is a generator fails, because its code would not run', async () => {
  const pattern = uniqueName('generator');
  await nest.serve(
    onEvent(pattern, function* () {
      yield 1;
    }),
    { retry: false },
  );
  await nest.emit(pattern, 1);
  await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
  const [dead] = await nest.entries(`${pattern}.dead`);
  expect(dead?.fields['h:dead-letter-error-message']).toContain('must not be a generator');
});

it('emitBatch emits the receipts in order, and stores the headers and keys of records', async () => {
  const pattern = uniqueName('batch');
  const record = new RedisStreamsRecordBuilder('b').setHeader('n', '2').build();
  const receipts = await firstValueFrom(nest.client().emitBatch(pattern, ['a', record, 'c']));

  const entries = await nest.entries(pattern);
  expect(receipts.map(({ id }) => id)).toEqual(entries.map(({ id }) => id));
  expect(entries.map(({ fields }) => fields)).toEqual([{ msg: '"a"' }, { msg: '"b"', 'h:n': '2' }, { msg: '"c"' }]);
  expect(await firstValueFrom(nest.client().emitBatch(pattern, []))).toEqual([]);
});

it('emitBatch stores the messages that can be stored and returns an error for each other one', async () => {
  const pattern = uniqueName('batch');
  const wrong = { toJSON: () => undefined };
  const failure = (await firstValueFrom(nest.client().emitBatch(pattern, ['a', wrong, 'c'])).catch(
    (error: unknown) => error,
  )) as BatchSendError;

  expect(failure).toMatchObject({ code: 'ERR_BATCH_SEND', message: '1 of 3 messages were not confirmed' });
  expect(failure.errors).toHaveLength(1);
  expect(await nest.redis.xlen(pattern)).toBe(2);
});

it('events that were emitted before the group existed are handled when its server starts', async () => {
  const pattern = uniqueName('early');
  const seen: unknown[] = [];
  for (const n of [1, 2, 3]) await nest.emit(pattern, n);
  await nest.serve(onEvent(pattern, (data) => seen.push(data)));

  await until('all are handled', () => seen.length === 3);
  expect(seen).toEqual([1, 2, 3]);
  expect(await nest.redis.xinfo('GROUPS', pattern)).toEqual([expect.arrayContaining(['name', GROUP])]);
});
