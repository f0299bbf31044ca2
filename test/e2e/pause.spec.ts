import { describe, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { RedisStreamsRecordBuilder, RedisStreamsRetryException, ServerRedisStreams } from '../../lib/index.js';
import type { RedisStreamsContext } from '../../lib/index.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { onBatch, onEvent, onRequest } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { numbers } from '../support/streams.js';
import { stays, until } from '../support/until.js';

const nest = useNest();

const claims = { autoClaimIdle: 1_000, autoClaimInterval: 50 } as const;

async function emitNumbers(pattern: string, first: number, last: number): Promise<void> {
  for (const n of numbers(first, last)) await nest.emit(pattern, n);
}

/** Long enough for a message to be handled that must not be. */

/** How many entries were delivered to the group. */
async function delivered(pattern: string): Promise<unknown> {
  const groups = (await nest.redis.xinfo('GROUPS', pattern)) as unknown[][];
  const group = groups.find((fields) => fields[1] === GROUP) as unknown[];
  return group[group.indexOf('last-delivered-id') + 1];
}

describe('pause() of a server', () => {
  it('one pattern of several that share a consumer is paused, and the others are handled', async () => {
    const [a, b] = [uniqueName('a'), uniqueName('b')];
    const handled: string[] = [];
    const collect = (pattern: string) => onEvent(pattern, (n: string) => void handled.push(`${pattern} ${n}`));
    // Fewer places than messages: those of the paused pattern must not occupy them.
    const { server } = await nest.serve([collect(a), collect(b)], { batchSize: 2, prefetch: 2, concurrency: 1 });
    await server.pause(a);
    await server.pause(a);
    await emitNumbers(a, 0, 9);
    await emitNumbers(b, 0, 9);
    await until('the other pattern is handled', () => handled.length === 10);
    expect(handled).toEqual(numbers(0, 9).map((n) => `${b} ${n}`));
    expect(await delivered(a)).toBe('0-0');
    const { isHealthy, loops } = await server.health();
    expect(isHealthy).toBe(true);
    expect(loops[0]?.streams.map(({ streamKey, pausedBy }) => [streamKey, pausedBy])).toEqual([
      [a, 'consumer'],
      [b, undefined],
    ]);

    await server.resume(a);
    await server.resume(a);
    await until('both are handled', () => handled.length === 20);
    expect(handled.slice(10)).toEqual(numbers(0, 9).map((n) => `${a} ${n}`));
    await nest.untilSettled(a);
  });

  it('all patterns are paused, also those with consumers of their own, and the last call for a pattern decides', async () => {
    const [a, b, c] = [uniqueName('a'), uniqueName('b'), uniqueName('c')];
    const handled: string[] = [];
    const { server } = await nest.serve([
      onEvent(a, () => void handled.push('a')),
      onEvent(b, () => void handled.push('b'), { concurrency: 1 }),
      onEvent(c, () => void handled.push('c'), { mode: 'real-time' }),
    ]);
    await server.pause();
    for (const pattern of [a, b, c]) await nest.emit(pattern, 1);
    await stays('nothing is handled', () => handled.length === 0);
    const { isHealthy, loops } = await server.health();
    expect({ isHealthy, states: loops.map(({ state }) => state) }).toEqual({
      isHealthy: true,
      states: ['paused', 'paused', 'paused'],
    });

    await server.resume(b);
    await until('it is handled', () => handled.length === 1);
    await server.pause(b);
    await nest.emit(b, 2);
    await server.resume();
    await until('all are handled', () => handled.length === 4);
    expect([...handled].sort()).toEqual(['a', 'b', 'b', 'c']);
  });

  it('a handler that runs ends and is acknowledged, and may pause its own pattern', async () => {
    const pattern = uniqueName('breaker');
    const handled: string[] = [];
    const gate = withResolvers<void>();
    const served = await nest.serve(
      onEvent(
        pattern,
        async (n: string) => {
          handled.push(n);
          if (n !== '0') return;
          await served.server.pause(pattern);
          await gate.promise;
        },
        { concurrency: 1 },
      ),
    );
    await emitNumbers(pattern, 0, 4);
    await until('it runs', () => handled.length === 1);
    await until('the rest was given back', async () => (await served.server.health()).loops[0]?.buffered === 0);
    gate.resolve();
    await until('it is acknowledged', async () => {
      const rows = (await nest.redis.xpending(pattern, GROUP, '-', '+', 10)) as Array<[string, string, number, number]>;
      return rows.every(([, , , count]) => count === 0);
    });
    await stays('only the first is handled', () => handled.join() === '0');
    await served.server.resume(pattern);
    await until('all are handled', () => handled.length === 5);
    expect(handled).toEqual(numbers(0, 4));
    await nest.untilSettled(pattern);
  });

  it('what a paused instance has read and not begun is handled by another instance of its group', async () => {
    const pattern = uniqueName('shared');
    const gate = withResolvers<void>();
    const seen: string[] = [];
    const handler = (name: string) =>
      onEvent(
        pattern,
        async (n: string, context: RedisStreamsContext) => {
          seen.push(`${name} ${n} ${context.getDeliveryCount()}`);
          if (name === 'first') await gate.promise;
        },
        { concurrency: 1 },
      );
    const { server } = await nest.serve(handler('first'), { ...claims, consumer: 'first', prefetch: 10 });
    await emitNumbers(pattern, 0, 5);
    await until('five are buffered', async () => (await server.health()).loops[0]?.buffered === 5);
    await server.pause();
    await nest.serve(handler('second'), { ...claims, consumer: 'second' });
    await until('the other instance has handled them', () => seen.length === 6);
    expect([...seen].sort()).toEqual(['first 0 1', ...numbers(1, 5).map((n) => `second ${n} 1`)]);
    gate.resolve();
    await nest.untilSettled(pattern);
  });

  it('a retry that becomes due waits until the pattern is resumed, with its count', async () => {
    const pattern = uniqueName('retry');
    const counts: number[] = [];
    const { server } = await nest.serve(
      onEvent(pattern, (_: unknown, context: RedisStreamsContext) => {
        counts.push(context.getDeliveryCount());
        if (counts.length === 1) throw new RedisStreamsRetryException(200);
      }),
    );
    await nest.emit(pattern, 1);
    await until('it waits for its retry', () => counts.length === 1);
    await server.pause(pattern);
    await stays('it is not handled again', () => counts.length === 1, 600);
    await server.resume(pattern);
    await until('it is handled again', () => counts.length === 2);
    expect(counts).toEqual([1, 2]);
    await nest.untilSettled(pattern);
  });

  it('messages of one key stay in order through a pause, and the parked ones are not handled in it', async () => {
    const pattern = uniqueName('ordered');
    const handled: number[] = [];
    const gate = withResolvers<void>();
    const { server } = await nest.serve(
      onEvent(
        pattern,
        async (n: number) => {
          handled.push(n);
          if (n === 0) await gate.promise;
        },
        { ordered: true },
      ),
    );
    const records = numbers(0, 9).map((n) => new RedisStreamsRecordBuilder(Number(n)).setKey('k').build());
    await firstValueFrom(nest.client().emitBatch(pattern, records));
    await until('the first runs', () => handled.length === 1);
    await until('others are parked behind it', async () => (await nest.pending(pattern)) > 3);
    await server.pause(pattern);
    gate.resolve();
    await stays('only the first is handled', () => handled.join() === '0');
    await server.resume(pattern);
    await until('all are handled', () => handled.length === 10);
    expect(handled).toEqual(numbers(0, 9).map(Number));
    await nest.untilSettled(pattern);
  });

  it('a batch that is not full is not handled in a pause, and is handled after it', async () => {
    const pattern = uniqueName('batch');
    const handled: string[] = [];
    const { server } = await nest.serve(
      onBatch(pattern, (payloads) => void handled.push(...(payloads as string[])), {
        batch: { size: 10, timeout: 800 },
      }),
    );
    await emitNumbers(pattern, 0, 2);
    await until('they are buffered', async () => (await nest.pending(pattern)) === 3);
    await server.pause(pattern);
    await stays('nothing is handled', () => handled.length === 0, 1_200);
    await emitNumbers(pattern, 3, 4);
    await server.resume(pattern);
    await until('all are handled', () => handled.length === 5);
    expect(handled).toEqual(numbers(0, 4));
    await nest.untilSettled(pattern);
  });

  it('real-time handlers continue where they stopped and lose nothing', async () => {
    const pattern = uniqueName('live');
    const handled: string[] = [];
    const { server } = await nest.serve(onEvent(pattern, (n: string) => void handled.push(n), { mode: 'real-time' }));
    await emitNumbers(pattern, 0, 1);
    await until('they are handled', () => handled.length === 2);
    await server.pause(pattern);
    await emitNumbers(pattern, 2, 9);
    await stays('nothing more is handled', () => handled.length === 2);
    await server.resume(pattern);
    await until('all are handled', () => handled.length === 10);
    expect(handled).toEqual(numbers(0, 9));
  });

  it('what an earlier process left behind is not begun in a pause, and counted when it is', async () => {
    const pattern = uniqueName('suspects');
    const seen: string[] = [];
    await emitNumbers(pattern, 0, 2);
    await nest.redis.xgroup('CREATE', pattern, GROUP, '0');
    await nest.redis.xreadgroup('GROUP', GROUP, 'worker', 'COUNT', 2, 'STREAMS', pattern, '>');
    const { server } = await nest.serve(
      {
        controllers: [
          onEvent(
            pattern,
            (n: string, context: RedisStreamsContext) => void seen.push(`${n} ${context.getDeliveryCount()}`),
          ),
        ],
        configure: (app) => void (app as unknown as { serverInstance: ServerRedisStreams }).serverInstance.pause(),
      },
      { consumer: 'worker', mode: 'resumable' },
    );
    await stays('nothing is handled', () => seen.length === 0);
    await server.resume();
    await server.pause();
    await server.resume();
    await until('all are handled', () => seen.length === 3);
    expect([...seen].sort()).toEqual(['0 2', '1 2', '2 1']);
    await nest.untilSettled(pattern);
  });

  it('a request waits for its answer until its pattern is resumed', async () => {
    const pattern = uniqueName('request');
    const { server } = await nest.serve(onRequest(pattern, (n: number) => n * 2));
    await server.pause(pattern);
    const asking = firstValueFrom(nest.client().send(pattern, 21));
    let answer: unknown;
    void asking.then((value: unknown) => (answer = value));
    await stays('there is no answer', () => answer === undefined);
    await server.resume(pattern);
    expect(await asking).toBe(42);
  });

  it('before listen() it means to start paused, and it outlives close()', async () => {
    const [a, b] = [uniqueName('a'), uniqueName('b')];
    const handled: string[] = [];
    const before: { server?: ServerRedisStreams } = {};
    const { server, log } = await nest.serve({
      controllers: [onEvent(a, () => void handled.push('a')), onEvent(b, () => void handled.push('b'))],
      configure: (app) => {
        before.server = (app as unknown as { serverInstance: ServerRedisStreams }).serverInstance;
        void before.server.pause(a);
      },
    });
    expect(before.server).toBe(server);
    expect(log.messages.find((line) => line.startsWith('Reading'))).toContain(
      `'${a}' (1 event handler, load-balanced, concurrency 16, paused)`,
    );
    await nest.emit(a, 1);
    await nest.emit(b, 1);
    await until('the other pattern is handled', () => handled.length === 1);
    await stays('the paused pattern is not handled', () => handled.join() === 'b');

    await server.close();
    await server.listen((error) => expect(error).toBeUndefined());
    await nest.emit(b, 2);
    await until('the other pattern is handled', () => handled.length === 2);
    expect(handled).toEqual(['b', 'b']);
    await server.resume(a);
    await until('it is handled', () => handled.length === 3);
  });

  it('a pattern without a handler is refused by name: by the call, or by listen() when it came before', async () => {
    const pattern = uniqueName('known');
    const refusal = { code: 'ERR_INVALID_OPTION', option: 'pattern', value: 'unknown' };
    const { server } = await nest.serve(onEvent(pattern, () => undefined));
    await expect(server.pause('unknown')).rejects.toMatchObject(refusal);
    await expect(server.resume('unknown')).rejects.toMatchObject(refusal);
    await expect(server.pause('*')).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });

    const early = new ServerRedisStreams({ connection: nest.url, group: GROUP, logger: false });
    early.addHandler(pattern, async () => undefined as never, true);
    await early.pause('unknown');
    const failed = withResolvers<unknown>();
    await early.listen(failed.resolve);
    expect(await failed.promise).toMatchObject(refusal);
    await early.close();
  });

  it.each(['load-balanced', 'resumable'] as const)(
    'pauses at any moment lose nothing, repeat nothing and keep the order of a key (%s)',
    async (mode) => {
      const pattern = uniqueName('often');
      const handled: number[] = [];
      const { server } = await nest.serve(
        onEvent(
          pattern,
          async (n: number) => {
            await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
            handled.push(n);
          },
          { ordered: true },
        ),
        { mode },
      );
      const count = 400;
      const records = numbers(0, count - 1).map((n) => {
        return new RedisStreamsRecordBuilder(Number(n)).setKey(String(Number(n) % 5)).build();
      });
      const emitting = firstValueFrom(nest.client().emitBatch(pattern, records));
      while (handled.length < count) {
        // Not awaited: a pause that is not over yet is ended, too.
        void server.pause(pattern);
        if (Math.random() < 0.5) await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
        void server.resume(pattern);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
      }
      await emitting;
      await nest.untilSettled(pattern);
      expect([...handled].sort((a, b) => a - b)).toEqual(numbers(0, count - 1).map(Number));
      for (const key of [0, 1, 2, 3, 4]) {
        const own = handled.filter((n) => n % 5 === key);
        expect(own).toEqual([...own].sort((a, b) => a - b));
      }
    },
  );

  it('a paused server closes at once, and its successor handles everything', async () => {
    const pattern = uniqueName('closing');
    const handled: string[] = [];
    const gate = withResolvers<void>();
    const { server, app } = await nest.serve(
      onEvent(pattern, () => gate.promise, { concurrency: 1 }),
      { mode: 'resumable' },
    );
    await emitNumbers(pattern, 0, 4);
    await until('all were read', async () => (await nest.pending(pattern)) === 5);
    await server.pause();
    gate.resolve();
    await app.close();
    await nest.serve(
      onEvent(pattern, (n: string) => void handled.push(n)),
      { mode: 'resumable' },
    );
    await until('the rest is handled', () => handled.length >= 4);
    expect(handled).toEqual(numbers(1, 4));
    await nest.untilSettled(pattern);
  });
});
