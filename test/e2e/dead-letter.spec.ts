import { expect, it } from '@jest/globals';
import { BadRequestException, Controller, ParseIntPipe } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';

import { DEAD_LETTER_HEADERS, RedisStreamsDeadLetterException, RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { DeadLetterEvent, RedisStreamsContext, ServerRedisStreamsOptions } from '../../lib/index.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { onEvent } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw, pendingOf } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

/** A retry would happen only after the end of these tests. */
const LATER = { delay: 60_000 } as const;

/** Serves a handler that fails with `error`, emits one event and returns its dead letter. */
async function deadLetterOf(
  error: () => unknown,
  options: Partial<ServerRedisStreamsOptions> = {},
): Promise<DeadLetterEvent> {
  const pattern = uniqueName('buried');
  const buried = withResolvers<DeadLetterEvent>();
  const fail = async (_data: unknown, context: RedisStreamsContext): Promise<void> => {
    await error.call(context);
  };
  await nest.serve(onEvent(pattern, fail), { retry: LATER, ...options, onDeadLetter: buried.resolve });
  await nest.emit(pattern, 1);
  const deadLetter = await buried.promise;
  await nest.untilSettled(pattern);
  return deadLetter;
}

const raise = (error: unknown) => (): never => {
  throw error;
};

it('an error for which retry.unless returns true makes the message a dead letter at once', async () => {
  const unless = (error: unknown): boolean => error instanceof RangeError;
  const { message, reason } = await deadLetterOf(raise(new RangeError('too far')), { retry: { ...LATER, unless } });

  expect(message.deliveryCount).toBe(1);
  expect(reason).toMatch(/too far/);
});

it("a validation pipe's BadRequestException makes the message a dead letter at once", async () => {
  const pattern = uniqueName('validated');
  const dead: DeadLetterEvent[] = [];

  @Controller()
  class OrdersController {
    @EventPattern<string>(pattern)
    handle(@Payload(ParseIntPipe) _total: number): void {}
  }

  await nest.serve(OrdersController, { retry: LATER, onDeadLetter: (event) => void dead.push(event) });
  await nest.emit(pattern, 'abc');
  await until('it is a dead letter', () => dead.length === 1);
  expect(dead[0]?.message.deliveryCount).toBe(1);
  expect(dead[0]?.error).toBeInstanceOf(BadRequestException);
});

it.each([
  ['retry: false', { retry: false }],
  ['one attempt', { retry: { attempts: 1 } }],
] as const)('with %s the first failure makes the message a dead letter', async (_name, options) => {
  const { message } = await deadLetterOf(raise(new Error('once')), options);
  expect(message.deliveryCount).toBe(1);
});

it("RedisStreamsDeadLetterException passes through Nest's filters and sets the reason", async () => {
  const { reason, error } = await deadLetterOf(raise(new RedisStreamsDeadLetterException('customer is gone')));

  expect(reason).toBe('customer is gone');
  expect(error).toBeInstanceOf(RedisStreamsDeadLetterException);
});

it('context.deadLetter makes the message a dead letter although its handler succeeds', async () => {
  const { reason, error } = await deadLetterOf(function (this: RedisStreamsContext) {
    this.deadLetter('asked for');
  });

  expect(reason).toBe('asked for');
  expect(error).toBeUndefined();
});

it('a dead letter contains the unchanged message, and headers with its origin, its failures and the original error', async () => {
  const pattern = uniqueName('described');
  class StockError extends Error {
    override readonly name = 'StockError';
  }
  let failedAt = 0;
  await nest.serve(
    onEvent(pattern, () => {
      failedAt ||= Date.now();
      throw new StockError('nothing left');
    }),
    { retry: { attempts: 2, delay: 20 }, consumer: 'worker-1' },
  );
  const record = new RedisStreamsRecordBuilder({ sku: 'ä' }).setHeader('tenant', 'acme').setKey('k').build();
  const { id } = await nest.emit(pattern, record);

  await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
  const [dead] = await nest.entries(`${pattern}.dead`);
  const header = (name: keyof typeof DEAD_LETTER_HEADERS): string | undefined =>
    dead?.fields[`h:${DEAD_LETTER_HEADERS[name]}`];
  expect(dead?.fields).toMatchObject({ msg: '{"sku":"ä"}', 'h:tenant': 'acme', 'h:key': 'k' });
  expect({
    stream: header('stream'),
    key: header('key'),
    id: header('id'),
    group: header('group'),
    consumer: header('consumer'),
    deliveryCount: header('deliveryCount'),
    reason: header('reason'),
    errorName: header('errorName'),
    errorMessage: header('errorMessage'),
  }).toEqual({
    stream: pattern,
    key: pattern,
    id,
    group: GROUP,
    consumer: 'worker-1',
    deliveryCount: '2',
    reason: 'failed 2 times',
    errorName: 'StockError',
    errorMessage: 'nothing left',
  });
  expect(header('errorStack')).toMatch(/nothing left\n.*at .*dead-letter\.spec/s);
  const [first, last] = [header('firstFailure'), header('lastFailure')].map((time) => Date.parse(time as string));
  expect(Math.abs((first as number) - failedAt)).toBeLessThan(1_000);
  expect((last as number) - (first as number)).toBeGreaterThanOrEqual(15);
});

it('a dead letter of a binary payload contains the same bytes', async () => {
  const pattern = uniqueName('bytes');
  const payload = Buffer.from([0, 255, 10, 13, 128, 254]);
  await nest.serve(onEvent(pattern, () => undefined));
  await addRaw(nest.redis, pattern, 'msg', payload, 'other', payload);

  await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
  const [row] = await nest.redis.xrangeBuffer(`${pattern}.dead`, '-', '+');
  expect(row?.[1].slice(0, 4)).toEqual([Buffer.from('msg'), payload, Buffer.from('other'), payload]);
});

it('onDeadLetter and the deadLetter event report each dead letter, and an error of onDeadLetter is only logged', async () => {
  const pattern = uniqueName('hook');
  const { server, log } = await nest.serve(onEvent(pattern, raise(new Error('no'))), {
    retry: false,
    onDeadLetter: async () => {
      throw new Error('the hook fails');
    },
  });
  const events: DeadLetterEvent[] = [];
  server.on('deadLetter', () => {
    throw new Error('a listener fails');
  });
  server.on('deadLetter', (event) => events.push(event));
  const { id } = await nest.emit(pattern, 1);

  await until('the hook has failed', () => log.errors.some((line) => line.includes('the hook fails')));
  expect(log.errors.some((line) => line.includes('a listener fails'))).toBe(true);
  expect(events).toMatchObject([
    { group: GROUP, deadLetterStream: `${pattern}.dead`, reason: 'failed once', message: { id } },
  ]);
  expect((await nest.entries(`${pattern}.dead`))[0]?.id).toBe(events[0]?.deadLetterId);
});

it('deadLetter.stream and deadLetter.maxLen, of the server or of a handler, set the stream of dead letters and its length', async () => {
  const [pattern, other] = [uniqueName('own'), uniqueName('own')];
  const [graveyard, special] = [uniqueName('graveyard'), uniqueName('special')];
  const fail = raise(new Error('no'));
  await nest.serve([onEvent(pattern, fail), onEvent(other, fail, { deadLetter: { stream: special } })], {
    retry: false,
    deadLetter: { stream: graveyard, maxLen: 10 },
  });
  await Promise.all(Array.from({ length: 300 }, (_, n) => nest.emit(pattern, n)));
  await nest.emit(other, 1);

  await until('all are settled', async () => (await nest.redis.xlen(special)) === 1);
  await nest.untilSettled(pattern);
  const left = await nest.redis.xlen(graveyard);
  expect(left).toBeGreaterThanOrEqual(10);
  expect(left).toBeLessThan(300);
  expect(await nest.redis.exists(`${pattern}.dead`, `${other}.dead`)).toBe(0);
});

it('dead letters that deadLetter.maxLen deletes are counted in the event, and warned of once for each stream', async () => {
  const [pattern, other] = [uniqueName('full'), uniqueName('full')];
  const trimmed: number[] = [];
  const fail = raise(new Error('no'));
  const { log } = await nest.serve([onEvent(pattern, fail), onEvent(other, fail)], {
    retry: false,
    deadLetter: { maxLen: 10 },
    onDeadLetter: (event) => void trimmed.push(event.trimmed ?? NaN),
  });
  await Promise.all(Array.from({ length: 300 }, (_, n) => nest.emit(pattern, n)));
  await until('all are settled', () => trimmed.length === 300);

  const left = await nest.redis.xlen(`${pattern}.dead`);
  expect(left + trimmed.reduce((sum, each) => sum + each)).toBe(300);
  const warningsOf = (stream: string) => log.warnings.filter((line) => line.includes(`'${stream}.dead' has more than`));
  expect(warningsOf(pattern)).toEqual([
    expect.stringMatching(/deadLetter\.maxLen entries: its \d+ oldest were deleted/),
  ]);
  await Promise.all(Array.from({ length: 300 }, (_, n) => nest.emit(other, n)));
  await until('all are settled', () => trimmed.length === 600);
  expect([pattern, other].map((stream) => warningsOf(stream).length)).toEqual([1, 1]);
});

it.each([
  ['by default deletes over 100,000', {}, true],
  ['with maxLen: false deletes nothing', { maxLen: false }, false],
] as const)('a stream of dead letters %s', async (_name, deadLetter, isTrimmed) => {
  const pattern = uniqueName('many');
  const dead: DeadLetterEvent[] = [];
  const onDeadLetter = (event: DeadLetterEvent): void => void dead.push(event);
  const { log } = await nest.serve(onEvent(pattern, raise(new Error('no'))), {
    retry: false,
    deadLetter,
    onDeadLetter,
  });
  const fill = "for n = 1, 100500 do redis.call('XADD', KEYS[1], n .. '-0', 'msg', '') end";
  await nest.redis.eval(fill, 1, `${pattern}.dead`);
  await nest.emit(pattern, 1);

  await until('it is a dead letter', () => dead.length === 1);
  const left = await nest.redis.xlen(`${pattern}.dead`);
  expect(left + (dead[0]?.trimmed as number)).toBe(100_501);
  expect(left > 100_100).toBe(!isTrimmed);
  expect(left).toBeGreaterThanOrEqual(100_000);
  expect(log.warnings.some((line) => line.includes('has more than deadLetter.maxLen'))).toBe(isTrimmed);
});

it('with deadLetter: false a message is retried without end, at the longest delay, and never dropped', async () => {
  const pattern = uniqueName('endless');
  const counts: number[] = [];
  await nest.serve(
    onEvent(pattern, (_data, context) => {
      counts.push(context.getDeliveryCount());
      throw new RedisStreamsDeadLetterException('please');
    }),
    { retry: { attempts: 2, delay: 10, maxDelay: 20 }, deadLetter: false },
  );
  await nest.emit(pattern, 1);

  await until('it was tried often', () => counts.length === 10);
  expect(counts).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(await nest.pending(pattern)).toBe(1);
  expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
});

it('a message whose dead letter cannot be stored stays pending, and the failure is reported', async () => {
  const pattern = uniqueName('no-grave');
  await nest.redis.set(`${pattern}.dead`, 'a string');
  const { server } = await nest.serve(onEvent(pattern, raise(new Error('no'))), { retry: false });
  const codes: unknown[] = [];
  server.on('error', (error) => codes.push((error as { code?: string }).code));
  const { id } = await nest.emit(pattern, 1);

  await until('both failures are reported', () => codes.length === 2);
  expect(codes).toEqual([undefined, 'ERR_WRONG_TYPE']);
  expect((await pendingOf(nest.redis, pattern, GROUP)).map((row) => row.id)).toEqual([id]);
});

it.each([
  ['in real-time mode', { mode: 'real-time' }],
  ['with immediate commits', { autoCommit: 'immediate' }],
] as const)('%s a failure is only logged and reported, whatever the handler asks for', async (_name, options) => {
  const pattern = uniqueName('gone');
  let handled = 0;
  const { server, log } = await nest.serve(
    onEvent(
      pattern,
      (data: string, context) => {
        handled += 1;
        if (data === 'retry') context.retry({ delay: 0 });
        if (data === 'dead') context.deadLetter('why');
        if (data === 'fail') throw new Error('it failed');
      },
      { ordered: true },
    ),
    { retry: { attempts: 3, delay: 0 }, ...options },
  );
  const errors: Error[] = [];
  server.on('error', (error) => errors.push(error));
  for (const data of ['fail', 'retry', 'dead', 'ok']) {
    await nest.emit(pattern, new RedisStreamsRecordBuilder(data).setKey('same').build());
  }

  await until('all are handled', () => handled === 4);
  await nest.emit(pattern, 'ok');
  await until('the next is handled', () => handled === 5);
  expect(errors.map(({ message }) => message)).toEqual(['it failed']);
  expect(log.errors).toHaveLength(1);
  expect(log.warnings.join('\n')).toMatch(/retry\(\) ignored.*\n.*deadLetter\(\) ignored/);
  expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
});
