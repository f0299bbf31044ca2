import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Catch, Controller, UseFilters } from '@nestjs/common';
import type { ExceptionFilter } from '@nestjs/common';
import { MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import type { Observable } from 'rxjs';
import { EMPTY, Subject, concat, firstValueFrom, lastValueFrom, of, take, throwError, toArray } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import type { ClientRedisStreams } from '../../lib/index.js';
import { onBatch, onEvent, onRequest } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

function ask<T = unknown>(client: ClientRedisStreams, pattern: unknown, data: unknown): Promise<T[]> {
  return lastValueFrom(client.send<T>(pattern, data).pipe(toArray()));
}

it('the value that a handler returns is the answer', async () => {
  const pattern = uniqueName('sum');
  await nest.serve(onRequest(pattern, async (numbers: number[]) => numbers.reduce((a, b) => a + b, 0)));
  const client = nest.client();

  expect(await ask(client, pattern, [1, 2, 3])).toEqual([6]);
  expect(await ask(client, pattern, [])).toEqual([0]);
  await nest.untilSettled(pattern);
});

it.each([0, '', false, null, { id: 'i', err: 'e', response: 'r', isDisposed: false }])(
  'the value %j arrives unchanged',
  async (value) => {
    const pattern = uniqueName('echo');
    await nest.serve(onRequest(pattern, () => value));

    expect(await ask(nest.client(), pattern, 1)).toEqual([value]);
  },
);

it('every value of an Observable is one answer, in order', async () => {
  const pattern = uniqueName('stream');
  const later = new Subject<number>();
  await nest.serve(onRequest(pattern, () => concat(of(1, 2, 3), later)));
  const seen: unknown[] = [];
  const answer = nest.client().send(pattern, 1);
  const over = withResolvers<void>();
  answer.subscribe({ next: (value) => seen.push(value), complete: over.resolve });

  await until('the first three have arrived', () => seen.length === 3);
  later.next(4);
  await until('the next has arrived', () => seen.length === 4);
  later.complete();
  await over.promise;
  expect(seen).toEqual([1, 2, 3, 4]);
});

it.each([
  ['undefined', () => undefined],
  ['an empty Observable', () => EMPTY],
])('a handler that returns %s ends the answer without a value', async (_name, handle) => {
  const pattern = uniqueName('nothing');
  await nest.serve(onRequest(pattern, handle));

  expect(await ask(nest.client(), pattern, 1)).toEqual([]);
});

it.each<[string, () => unknown, unknown]>([
  ['an RpcException with a text', () => throwError(() => new RpcException('no stock')), { status: 'error', message: 'no stock' }], // prettier-ignore
  ['an RpcException with an object', () => { throw new RpcException({ code: 7, left: 0 }); }, { code: 7, left: 0 }], // prettier-ignore
  ['any other error, without its details', () => { throw new Error('secret'); }, { status: 'error', message: 'Internal server error' }], // prettier-ignore
])('a handler that fails with %s is answered with it, and acknowledged', async (_name, handle, expected) => {
  const pattern = uniqueName('failing');
  await nest.serve(onRequest(pattern, handle));

  await expect(ask(nest.client(), pattern, 1)).rejects.toEqual(expected);
  await nest.untilSettled(pattern);
  expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
});

it.each<[string, () => unknown, unknown]>([
  ['an RpcException with an object', () => new RpcException({ code: 7 }), { code: 7 }],
  ['an RpcException with a text', () => new RpcException('no stock'), { status: 'error', message: 'no stock' }],
  ['an RpcException without a payload', () => new RpcException(null as never), { status: 'error', message: null }],
  ['an object', () => ({ code: 8 }), { code: 8 }],
  ['a text', () => 'no', 'no'],
])('a filter that ends with %s answers the request with it', async (_name, make, expected) => {
  @Catch()
  class Filter implements ExceptionFilter {
    catch(error: Error): Observable<never> {
      if (error.message === 'throw') throw make();
      return throwError(make);
    }
  }
  const pattern = uniqueName('filtered');
  @Controller()
  class FilteredController {
    @UseFilters(new Filter())
    @MessagePattern<string>(pattern)
    handle(@Payload() how: string): void {
      throw new Error(how);
    }
  }
  await nest.serve(FilteredController);

  for (const how of ['throw', 'return']) {
    await expect(ask(nest.client(), pattern, how)).rejects.toEqual(expected);
  }
  await nest.untilSettled(pattern);
});

it('an Observable that fails after some values is answered with these values, then with the error', async () => {
  const pattern = uniqueName('half');
  const failing = concat(of(1, 2), throwError(() => new RpcException('enough'))); // prettier-ignore
  await nest.serve(onRequest(pattern, () => failing));
  const seen: unknown[] = [];
  const failure = withResolvers<unknown>();
  nest
    .client()
    .send(pattern, 1)
    .subscribe({ next: (value) => seen.push(value), error: failure.resolve });

  expect(await failure.promise).toEqual({ status: 'error', message: 'enough' });
  expect(seen).toEqual([1, 2]);
});

it('a request for a pattern that has a handler for events only is answered with an error', async () => {
  const [single, batch] = [uniqueName('event'), uniqueName('batch')];
  let handled = 0;
  const handle = (): unknown => (handled += 1);
  await nest.serve([onEvent(single, handle), onBatch(batch, handle, { batch: { size: 10, timeout: 10 } })]);
  const client = nest.client({ requestTimeout: 3_000 });

  for (const pattern of [single, batch]) {
    await expect(ask(client, pattern, 1)).rejects.toMatchObject({ message: expect.stringMatching(/no matching/) });
    await nest.untilSettled(pattern);
  }
  expect(handled).toBe(0);
});

it('a request for a pattern without a server fails at once, and succeeds once a server has started', async () => {
  const pattern = uniqueName('unknown');
  const client = nest.client();
  await expect(ask(client, pattern, 1)).rejects.toMatchObject({ code: 'ERR_NO_HANDLER' });
  expect(await nest.redis.exists(pattern)).toBe(0);

  await nest.serve(onRequest(pattern, () => 'here'));
  expect(await ask(client, pattern, 1)).toEqual(['here']);
});

it('a real-time server that reads the same stream does not answer requests', async () => {
  const pattern = uniqueName('observed');
  let observed = 0;
  await nest.serve(
    onEvent(pattern, () => (observed += 1)),
    { mode: 'real-time' },
  );
  await nest.serve(
    onRequest(pattern, async () => {
      await until('the observer has read past the request', () => observed === 1);
      return 'answer';
    }),
  );
  const answer = ask(nest.client(), pattern, 1);
  await until('the request is there', async () => (await nest.redis.xlen(pattern)) === 1);
  await nest.emit(pattern, 'an event, which the observer sees after the request');

  expect(await answer).toEqual(['answer']);
});

it('an event for a pattern with a request handler is handled, and the result is dropped', async () => {
  const pattern = uniqueName('both');
  const seen: unknown[] = [];
  await nest.serve(onRequest(pattern, (data) => seen.push(data)));
  await nest.emit(pattern, 'event');

  await until('it is handled', () => seen.length === 1);
  await nest.untilSettled(pattern);
  expect(await nest.redis.keys('*')).toEqual([pattern]);
});

it('a request without an answer fails after requestTimeout', async () => {
  const pattern = uniqueName('slow');
  const gate = withResolvers<void>();
  await nest.serve(onRequest(pattern, () => gate.promise));
  const start = Date.now();

  await expect(ask(nest.client({ requestTimeout: 200 }), pattern, 1)).rejects.toMatchObject({
    code: 'ERR_REQUEST_TIMEOUT',
  });
  expect(Date.now() - start).toBeGreaterThanOrEqual(199);
  gate.resolve();
});

it('a request whose client has given up is not executed', async () => {
  const pattern = uniqueName('expired');
  const seen: unknown[] = [];
  await nest.redis.xgroup('CREATE', pattern, 'test-group', '0', 'MKSTREAM');
  const client = nest.client({ requestTimeout: 50 });
  // A client that takes longer to connect gives the request up before it is sent.
  await until('a request is in the stream', async () => {
    await expect(ask(client, pattern, 'late')).rejects.toMatchObject({ code: 'ERR_REQUEST_TIMEOUT' });
    return (await nest.redis.xlen(pattern)) > 0;
  });

  const { log } = await nest.serve(onRequest(pattern, (data) => seen.push(data)));
  await ask(nest.client(), pattern, 'in time');
  await nest.untilSettled(pattern);
  expect(seen).toEqual(['in time']);
  expect(log.warnings.join('\n')).toMatch(/after its deadline/);
});

describe('the deadline of a request is by the clock of Redis', () => {
  afterEach(() => {
    jest.restoreAllMocks();
  });

  const setClock = (shift: number): void => {
    const now = Date.now.bind(Date);
    jest.spyOn(Date, 'now').mockImplementation(() => now() + shift);
  };
  const HOUR = 3_600_000;

  it.each([
    ['behind', -HOUR],
    ['ahead', HOUR],
  ])('so a request of a client whose clock is %s is answered', async (_, shift) => {
    const pattern = uniqueName('client-clock');
    await nest.serve(onRequest(pattern, (data) => data));
    const client = nest.client({ requestTimeout: 5_000 });
    setClock(shift);
    expect(await ask(client, pattern, 'first')).toEqual(['first']);
    const answer = ask(client, pattern, 'second');
    jest.restoreAllMocks();
    expect(await answer).toEqual(['second']);
    expect(await ask(client, pattern, 'after the clock was set')).toEqual(['after the clock was set']);
  });

  it.each([
    ['behind', -HOUR],
    ['ahead', HOUR],
  ])('so a server whose clock is %s answers the requests that are in time, and no others', async (_, shift) => {
    const pattern = uniqueName('server-clock');
    const seen: unknown[] = [];
    await nest.redis.xgroup('CREATE', pattern, 'test-group', '0', 'MKSTREAM');
    const hasty = nest.client({ requestTimeout: 50 });
    await until('a request is in the stream', async () => {
      await expect(ask(hasty, pattern, 'late')).rejects.toMatchObject({ code: 'ERR_REQUEST_TIMEOUT' });
      return (await nest.redis.xlen(pattern)) > 0;
    });
    const patient = ask(nest.client({ requestTimeout: 20_000 }), pattern, 'in time');
    await until('the other request is in the stream', async () => {
      const texts = (await nest.entries(pattern)).map(({ fields }) => fields['msg']);
      return texts.includes('"in time"');
    });

    setClock(shift);
    const { log } = await nest.serve(onRequest(pattern, (data) => seen.push(data)));
    expect(await patient).toEqual([1]);
    await nest.untilSettled(pattern);
    expect(seen).toEqual(['in time']);
    expect(log.warnings.join('\n')).toMatch(/after its deadline/);
  });

  it('also when another client has computed the deadline', async () => {
    const pattern = uniqueName('foreign-clock');
    const seen: unknown[] = [];
    const { log } = await nest.serve(onRequest(pattern, (data) => seen.push(data)));
    const request = (data: string, deadline: number): Promise<unknown> =>
      addRaw(
        nest.redis,
        pattern,
        'msg',
        data,
        'h:correlation-id',
        'c',
        'h:reply-to',
        'reply:x',
        'h:deadline',
        `${deadline}`,
      );
    await request('1', Date.now() - 1_000);
    await request('2', Date.now() + 10_000);
    setClock(HOUR);
    await request('3', Date.now() - HOUR + 10_000);

    await until('all are read', () => seen.length === 2 && log.warnings.length === 1);
    expect(seen).toEqual([2, 3]);
  });
});

it('a request whose reply-to is not a reply stream is refused', async () => {
  const pattern = uniqueName('forged');
  const victim = uniqueName('victim');
  let handled = 0;
  const { log } = await nest.serve(onRequest(pattern, () => (handled += 1)));
  await addRaw(nest.redis, pattern, 'msg', '1', 'h:correlation-id', 'c', 'h:reply-to', victim);

  await until('it is refused', () => log.errors.length === 1);
  await nest.untilSettled(pattern);
  expect(log.errors[0]).toMatch(/refused/);
  expect(handled).toBe(0);
  expect(await nest.redis.exists(victim)).toBe(0);
});

it('a payload that cannot be decoded is answered with an error', async () => {
  const pattern = uniqueName('garbled');
  await nest.serve(onRequest(pattern, () => 1));
  const client = nest.client({ serializer: { serialize: () => '{"broken' } });

  await expect(ask(client, pattern, 1)).rejects.toMatchObject({ message: expect.stringMatching(/is not JSON/) });
});

it('the serializers of both sides also apply to answers', async () => {
  const pattern = uniqueName('coded');
  const options = {
    serializer: { serialize: (value: unknown) => `~${JSON.stringify(value)}` },
    deserializer: { deserialize: async (value: Buffer) => JSON.parse(value.toString().slice(1)) as never },
  };
  await nest.serve(
    onRequest(pattern, (data: number) => of(data + 1, data + 2)),
    options,
  );

  expect(await ask(nest.client(options), pattern, 1)).toEqual([2, 3]);
});

it('a value that cannot be serialized is answered with an error', async () => {
  const pattern = uniqueName('bigint');
  await nest.serve(onRequest(pattern, () => 1n));

  await expect(ask(nest.client({ requestTimeout: 3_000 }), pattern, 1)).rejects.toMatchObject({
    message: expect.stringMatching(/JSON/),
  });
});

it.each([
  ['synchronous', (fail: () => never) => fail()],
  ['asynchronous', (fail: () => never) => Promise.resolve().then(fail)],
])('what a %s serializer of the server fails with is not told to the client', async (_, run) => {
  const pattern = uniqueName('secret');
  const fail = (): never => {
    throw new Error('cannot encrypt with key s3cret');
  };
  const { log } = await nest.serve(
    onRequest(pattern, () => 1),
    { serializer: { serialize: () => run(fail) } },
  );
  await expect(ask(nest.client(), pattern, 1)).rejects.toEqual({ status: 'error', message: 'Internal server error' });
  await until('the server logs it', () =>
    log.errors.some((line) => line.includes('serializer failed: cannot encrypt')),
  );
});

it('values that are encoded to no bytes arrive, alone and among others', async () => {
  const pattern = uniqueName('empty');
  const options = {
    serializer: { serialize: (value: number) => (value === 0 ? new Uint8Array() : Uint8Array.of(value)) },
    deserializer: { deserialize: (payload: Buffer) => (payload[0] ?? 0) as never },
  };
  await nest.serve(
    onRequest(pattern, (count: number) => of(0, 3, 0, 2, 0).pipe(take(count))),
    options,
  );
  const client = nest.client(options);
  for (const [count, values] of [
    [1, [0]],
    [2, [0, 3]],
    [5, [0, 3, 0, 2, 0]],
  ] as const)
    // prettier-ignore
    expect(await ask(client, pattern, count)).toEqual(values);
  await nest.untilSettled(pattern);
});

it('retry() and deadLetter() of a request have no effect, which is logged: it is answered once', async () => {
  const pattern = uniqueName('settled');
  let runs = 0;
  const { log } = await nest.serve(
    onRequest(pattern, (way: string, context) => {
      runs += 1;
      if (way === 'retry') context.retry({ delay: 1 });
      else context.deadLetter('wrong');
      return way;
    }),
  );
  const client = nest.client();
  for (const way of ['retry', 'deadLetter']) expect(await ask(client, pattern, way)).toEqual([way]);
  await nest.untilSettled(pattern);
  expect(runs).toBe(2);
  expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
  expect([...log.warnings, ...log.errors].join('\n')).toContain('it is a request, which is answered once');
});

it('the handler gets the headers of a request', async () => {
  const pattern = uniqueName('headers');
  await nest.serve(onRequest(pattern, (_data, context) => context.getHeader('tenant') ?? null));
  const { RedisStreamsRecordBuilder } = await import('../../lib/index.js');
  const record = new RedisStreamsRecordBuilder(1).setHeader('tenant', 'acme').build();

  expect(await firstValueFrom(nest.client().send(pattern, record))).toBe('acme');
});
