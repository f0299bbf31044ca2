import { describe, expect, it } from '@jest/globals';
import { interval, lastValueFrom, of, take, toArray } from 'rxjs';

import { HandlingAbortedError, RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { ExpiredEvent, RedisStreamsContext } from '../../lib/index.js';
import { TestServerRedisStreams } from '../../lib/testing.js';
import { NestFactory } from '@nestjs/core';
import { moduleOf, onBatch, onEvent, onRequest } from '../support/controllers.js';
import { GROUP, LogLines, QUIET, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

/** Resolves with the reason once the signal is aborted. */
const aborted = (signal: AbortSignal): Promise<unknown> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason);
    signal.addEventListener('abort', () => resolve(signal.reason));
  });

describe('the signal of a handler', () => {
  it('is one for each message, and is not aborted while the handler works for a purpose', async () => {
    const pattern = uniqueName('signal');
    const signals: AbortSignal[] = [];
    const { app } = await nest.serve(
      onEvent(pattern, (_, context) => {
        signals.push(context.getSignal(), context.getSignal());
      }),
    );
    await nest.emit(pattern, 1);
    await nest.emit(pattern, 2);
    await nest.untilSettled(pattern);
    await until('both are handled', () => signals.length === 4);
    await app.close();
    const [first, firstAgain, second] = signals;
    expect(first).toBe(firstAgain);
    expect(first).not.toBe(second);
    expect(signals.map((signal) => signal.aborted)).toEqual([false, false, false, false]);
  });

  it('is aborted when the server closes and shutdownTimeout is over; a handler that heeds it settles its message', async () => {
    const pattern = uniqueName('signal');
    const reasons: unknown[] = [];
    let isRunning = false;
    const handle = async (_: never, context: RedisStreamsContext): Promise<void> => {
      isRunning = true;
      const reason = await aborted(context.getSignal());
      reasons.push(reason);
      throw reason as Error;
    };
    const { app, log } = await nest.serve(onEvent(pattern, handle, { retry: { delay: 60_000 } }), {
      shutdownTimeout: 300,
    });
    await nest.emit(pattern, 1);
    await until('it runs', () => isRunning);
    const start = Date.now();
    await app.close();

    expect(Date.now() - start).toBeGreaterThanOrEqual(290);
    expect(Date.now() - start).toBeLessThan(2_300);
    expect(reasons).toEqual([expect.objectContaining({ code: 'ERR_HANDLING_ABORTED', reason: 'shutdown' })]);
    expect(reasons[0]).toBeInstanceOf(HandlingAbortedError);
    // It ended in time, so that it is a failure as any other, and no handler that still runs.
    expect(log.errors).toEqual([expect.stringMatching(/failed \(delivery 1, retry\): .*shutdownTimeout is over/s)]);
    expect(await nest.pending(pattern)).toBe(1);
  });

  type Ending = (context: RedisStreamsContext) => void;
  const fail: Ending = () => {
    // As a library that was given the signal: with an error of its own.
    throw new Error('it was aborted');
  };
  const rethrow: Ending = (context) => context.getSignal().throwIfAborted();
  const batch = { size: 2, timeout: 10_000 };

  it.each<[string, Ending, 'load-balanced' | 'resumable', object, typeof batch | undefined]>([
    ['throws', fail, 'load-balanced', {}, undefined],
    ['throws, in a group with one consumer', fail, 'resumable', {}, undefined],
    [
      'throws the reason, which is no reason against a retry',
      rethrow,
      'load-balanced',
      { unless: () => true },
      undefined,
    ],
    ['asks for a retry', (context) => context.retry(), 'load-balanced', {}, undefined],
    ['throws for a batch', fail, 'load-balanced', {}, batch],
  ])('costs a message no attempt when its handler %s because the server closes', async (_, end, mode, rules, size) => {
    const pattern = uniqueName('signal');
    const retry = { attempts: 1, delay: 100, ...rules };
    const options = { mode, consumer: 'same', autoClaimIdle: 300, autoClaimInterval: 50, shutdownTimeout: 100 };
    const handled: unknown[] = [];
    let running = 0;
    const stop = async (contexts: readonly RedisStreamsContext[]): Promise<void> => {
      const [first] = contexts as [RedisStreamsContext];
      running += contexts.length;
      await aborted(first.getSignal());
      end(first);
    };
    // Twice: a message whose process has ended is counted in another way.
    for (let round = 1; round <= 2; round += 1) {
      running = 0;
      const { app } = await nest.serve(
        size
          ? onBatch(pattern, (_data: never[], contexts) => stop(contexts), { batch: size, retry })
          : onEvent(pattern, (_data, context) => stop([context]), { retry }),
        options,
      );
      if (round === 1) await Promise.all([nest.emit(pattern, 1), nest.emit(pattern, 2)]);
      await until('both are handled', () => running === 2);
      await app.close();
    }

    await nest.serve(
      onEvent(pattern, (data, context) => void handled.push([data, context.getDeliveryCount()]), { retry }),
      options,
    );
    await until('both are handled again', () => handled.length === 2);
    await nest.untilSettled(pattern);
    expect(handled).toEqual(expect.arrayContaining([1, 2].map((data) => [data, 1])));
    expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
  });

  it('is aborted in every context of a batch', async () => {
    const pattern = uniqueName('signal');
    const reasons: unknown[] = [];
    let running = 0;
    const handle = async (_: never[], contexts: RedisStreamsContext[]): Promise<void> => {
      running = contexts.length;
      reasons.push(...(await Promise.all(contexts.map((context) => aborted(context.getSignal())))));
    };
    const { app } = await nest.serve(onBatch(pattern, handle, { batch: { size: 2, timeout: 10_000 } }), {
      shutdownTimeout: 100,
    });
    await Promise.all([nest.emit(pattern, 1), nest.emit(pattern, 2)]);
    await until('both are in the handler', () => running === 2);
    await app.close();
    expect(reasons).toEqual([1, 2].map(() => expect.objectContaining({ reason: 'shutdown' })));
    await nest.untilSettled(pattern);
  });

  it('is aborted when maxHandlerTime is over, and another instance handles the message', async () => {
    const pattern = uniqueName('signal');
    const events: unknown[] = [];
    const times = { autoClaimIdle: 300, autoClaimInterval: 50, maxHandlerTime: 500 };
    const hang = async (_: never, context: RedisStreamsContext): Promise<void> => {
      events.push(await aborted(context.getSignal()));
      await new Promise(() => undefined);
    };
    await nest.serve(onEvent(pattern, hang), { ...times, consumer: 'first', shutdownTimeout: 100 });
    await nest.emit(pattern, 1);
    await until('it is aborted', () => events.length === 1);
    await nest.serve(
      onEvent(pattern, (data) => events.push(data)),
      { ...times, consumer: 'second' },
    );
    await until('the other instance has handled it', () => events.length === 2);
    expect(events).toEqual([expect.objectContaining({ reason: 'max-handler-time' }), 1]);
    await nest.untilSettled(pattern);
  });

  it('is aborted when another consumer has claimed the message', async () => {
    const pattern = uniqueName('signal');
    const reasons: unknown[] = [];
    let isRunning = false;
    const handle = async (_: never, context: RedisStreamsContext): Promise<void> => {
      isRunning = true;
      reasons.push(await aborted(context.getSignal()));
    };
    await nest.serve(onEvent(pattern, handle), { consumer: 'first', autoClaimIdle: 600 });
    await nest.emit(pattern, 1);
    await until('it runs', () => isRunning);
    const [[id]] = (await nest.redis.xpending(pattern, GROUP, '-', '+', 1)) as [[string]];
    await nest.redis.xclaim(pattern, GROUP, 'another', 0, id, 'JUSTID');
    await until('it is aborted', () => reasons.length === 1);
    expect(reasons).toEqual([expect.objectContaining({ code: 'ERR_HANDLING_ABORTED', reason: 'lease-lost' })]);
  });

  it('is aborted at the deadline of a request that was not answered', async () => {
    const pattern = uniqueName('signal');
    const reasons: unknown[] = [];
    await nest.serve(
      onRequest(pattern, async (_, context) => {
        reasons.push(await aborted(context.getSignal()));
      }),
    );
    const client = nest.client({ requestTimeout: 1_500 });
    await expect(lastValueFrom(client.send(pattern, {}))).rejects.toMatchObject({ code: 'ERR_REQUEST_TIMEOUT' });
    await until('it is aborted', () => reasons.length === 1);
    expect(reasons).toEqual([expect.objectContaining({ reason: 'deadline' })]);
    await nest.untilSettled(pattern);
  });

  it.each([
    ['a value', () => 'late'],
    ['an error', () => Promise.reject(new Error('late'))],
    ['an Observable', () => of('late', 'later')],
  ])('is aborted at the deadline, after which %s of the handler is no answer', async (_, answer) => {
    const pattern = uniqueName('signal');
    const reply = `reply:${uniqueName('late')}`;
    let isAborted = false;
    const handle = async (_data: never, context: RedisStreamsContext): Promise<unknown> => {
      await aborted(context.getSignal());
      isAborted = true;
      return answer();
    };
    await nest.serve(onRequest(pattern, handle));
    const deadline = String(Date.now() + 1_500);
    const headers = ['h:correlation-id', 'c', 'h:reply-to', reply, 'h:deadline', deadline];
    await addRaw(nest.redis, pattern, 'msg', '1', ...headers);
    await until('it is aborted', () => isAborted);
    await nest.untilSettled(pattern);
    expect(await nest.redis.exists(reply)).toBe(0);
  });

  it('is not aborted at the deadline while the values of an answer arrive in time', async () => {
    const pattern = uniqueName('signal');
    let signal: AbortSignal | undefined;
    await nest.serve(
      onRequest(pattern, (_, context) => {
        signal = context.getSignal();
        return interval(100).pipe(take(15));
      }),
    );
    const client = nest.client({ requestTimeout: 1_200 });
    const values = await lastValueFrom(client.send(pattern, {}).pipe(toArray()));
    expect(values).toHaveLength(15);
    expect(signal?.aborted).toBe(false);
  });

  it('is aborted when the client stops reading a streamed answer', async () => {
    const pattern = uniqueName('signal');
    const signals: AbortSignal[] = [];
    await nest.serve(
      onRequest(pattern, (_, context) => {
        signals.push(context.getSignal());
        return interval(5);
      }),
    );
    await lastValueFrom(nest.client().send(pattern, {}).pipe(take(1)));
    await until('it is aborted', () => signals[0]?.aborted === true);
    expect(signals[0]?.reason).toMatchObject({ reason: 'cancelled' });
  });
});

describe('a request with a time-out of its own', () => {
  it('fails after that time, before and after requests with the time-out of the client', async () => {
    const pattern = uniqueName('timeout');
    await nest.serve(onRequest(pattern, (wait: number) => new Promise((resolve) => setTimeout(resolve, wait, 'done'))));
    const client = nest.client({ requestTimeout: 2_000 });
    const ended: unknown[] = [];
    const start = Date.now();
    const outcome = async (name: string, data: unknown): Promise<number> => {
      const result: unknown = await lastValueFrom(client.send(pattern, data)).catch(
        ({ code }: { code: string }) => code,
      );
      ended.push([name, result]);
      return Date.now() - start;
    };
    const record = (wait: number, timeout: number): unknown =>
      new RedisStreamsRecordBuilder(wait).setTimeout(timeout).build();
    const times = await Promise.all([
      outcome('of the client', 5_000),
      outcome('shorter', record(5_000, 500)),
      outcome('longer', record(3_000, 8_000)),
    ]);
    expect(ended).toEqual([
      ['shorter', 'ERR_REQUEST_TIMEOUT'],
      ['of the client', 'ERR_REQUEST_TIMEOUT'],
      ['longer', 'done'],
    ]);
    expect(times[0]).toBeGreaterThanOrEqual(1_990);
    expect(times[1]).toBeGreaterThanOrEqual(490);
    expect(client.openRequests).toBe(0);
  });

  it('counts from each value of an answer', async () => {
    const pattern = uniqueName('timeout');
    await nest.serve(onRequest(pattern, () => interval(200).pipe(take(7))));
    const record = new RedisStreamsRecordBuilder({}).setTimeout(1_000).build();
    expect(await lastValueFrom(nest.client().send(pattern, record).pipe(toArray()))).toHaveLength(7);
  });

  it('is not executed when it is read later', async () => {
    const pattern = uniqueName('timeout');
    const handled: unknown[] = [];
    const first = await nest.serve(onRequest(pattern, (data) => handled.push(data)));
    await first.app.close();
    const record = new RedisStreamsRecordBuilder(1).setTimeout(200).build();
    await expect(lastValueFrom(nest.client().send(pattern, record))).rejects.toMatchObject({
      code: 'ERR_REQUEST_TIMEOUT',
    });
    const { log } = await nest.serve(onRequest(pattern, (data) => handled.push(data)));
    await nest.untilSettled(pattern);
    await until('it is reported', () => log.warnings.length > 0);
    expect(log.warnings.join('\n')).toMatch(/after its deadline/);
    expect(handled).toEqual([]);
  });

  it('is refused for an event, and setExpiresAt for a request, before any I/O', async () => {
    const client = nest.client();
    const timed = new RedisStreamsRecordBuilder(1).setTimeout(1_000).build();
    const expiring = new RedisStreamsRecordBuilder(1).setExpiresAt(new Date()).build();
    await expect(lastValueFrom(client.emit('x', timed))).rejects.toMatchObject({ option: 'timeout' });
    await expect(lastValueFrom(client.send('x', expiring))).rejects.toMatchObject({ option: 'expiresAt' });
    expect(() => new RedisStreamsRecordBuilder(1).setTimeout(0)).toThrow(/timeout must/);
    expect(() => new RedisStreamsRecordBuilder(1).setExpiresAt(new Date('no'))).toThrow(
      /expiresAt must be a valid Date/,
    );
  });
});

describe('an event with setExpiresAt', () => {
  const expiringIn = (ms: number, data: unknown): unknown =>
    new RedisStreamsRecordBuilder(data).setExpiresAt(new Date(Date.now() + ms)).build();

  it.each([
    ['single messages', undefined],
    ['batches', { size: 10, timeout: 50 }],
  ])(
    'is handled in time, and acknowledged, counted and reported after it, without the handler (%s)',
    async (_, batch) => {
      const pattern = uniqueName('expires');
      const handled: unknown[] = [];
      const expired: ExpiredEvent[] = [];
      await nest.emit(pattern, expiringIn(-1, 'late'));
      await nest.emit(pattern, expiringIn(60_000, 'in time'));
      await nest.emit(pattern, expiringIn(-1_000, 'later'));
      await addRaw(nest.redis, pattern, 'msg', '"no number"', 'h:expires-at', '');
      const controller = batch
        ? onBatch(pattern, (data) => handled.push(...data), { batch })
        : onEvent(pattern, (data) => handled.push(data));
      const { log } = await nest.serve({
        controllers: [controller],
        configure: (app) => app.on('expired', (event: ExpiredEvent) => expired.push(event)),
      });
      await until('the others are handled', () => handled.length === 2);
      await nest.untilSettled(pattern);

      // Single messages are handled concurrently.
      expect(new Set(handled)).toEqual(new Set(['in time', 'no number']));
      expect(expired.map(({ total, message }) => [total, message.text()])).toEqual([
        [1, '"late"'],
        [2, '"later"'],
      ]);
      expect(expired[0]?.expiresAt).toBeInstanceOf(Date);
      expect(log.warnings.filter((line) => line.includes('had expired'))).toHaveLength(1);
      expect(log.details.filter((line) => line.includes('had expired'))).toHaveLength(1);
      expect(log.errors).toEqual([]);
      expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
    },
  );

  it('is not retried after its time', async () => {
    const pattern = uniqueName('expires');
    let handled = 0;
    const fail = (): void => {
      handled += 1;
      throw new Error('not now');
    };
    await nest.serve(onEvent(pattern, fail, { retry: { delay: 3_200, jitter: 0 } }));
    await nest.emit(pattern, expiringIn(3_000, 1));
    await until('it was tried', () => handled === 1);
    await nest.untilSettled(pattern);
    expect(handled).toBe(1);
    expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
  });

  it('is settled so by the server for tests, which can also abort the signal of a handler', async () => {
    const reasons: unknown[] = [];
    const controllers = [
      onEvent('expiring', () => reasons.push('handled')),
      onEvent('aborted', async (_, context) => void reasons.push(await aborted(context.getSignal()))),
    ];
    const server = new TestServerRedisStreams({ logger: new LogLines() });
    const app = await NestFactory.createMicroservice(moduleOf({ controllers }), { strategy: server, ...QUIET });
    nest.closeLater(app);
    await app.listen();
    expect(await server.deliver('expiring', 1, { headers: { 'expires-at': '1' } })).toEqual({ settlement: 'ack' });
    expect(reasons).toEqual([]);
    const stop = new AbortController();
    const delivered = server.deliver('aborted', 1, { signal: stop.signal });
    stop.abort();
    expect(await delivered).toEqual({ settlement: 'ack' });
    expect(reasons).toEqual([expect.objectContaining({ reason: 'shutdown' })]);
  });
});
