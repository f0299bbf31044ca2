import { describe, expect, it } from '@jest/globals';
import { BadRequestException, Controller } from '@nestjs/common';
import type { PipeTransform, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Payload } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import { RedisStreamsContext, RedisStreamsDeadLetterException, RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { HandlerExtras, ServerRedisStreamsOptions } from '../../lib/index.js';
import { TestServerRedisStreams } from '../../lib/testing.js';
import { moduleOf, onBatch, onEvent } from '../support/controllers.js';
import { LogLines, QUIET, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

async function emitMany(pattern: string, count: number): Promise<void> {
  const numbers = Array.from({ length: count }, (_, index) => index);
  await firstValueFrom(nest.client().emitBatch(pattern, numbers));
}

it('a batch handler gets full batches while there are enough messages, and every message in order', async () => {
  const pattern = uniqueName('full');
  const batches: unknown[][] = [];
  await emitMany(pattern, 250);
  await nest.serve(
    onBatch(pattern, (payloads) => batches.push(payloads), { batch: { size: 100, timeout: 500 } }),
    { batchSize: 100, prefetch: 200 },
  );

  await until('all are handled', () => batches.flat().length === 250);
  expect(batches.map(({ length }) => length)).toEqual([100, 100, 50]);
  expect(batches.flat()).toEqual(Array.from({ length: 250 }, (_, index) => index));
  await nest.untilSettled(pattern);
});

it('a batch that does not become full is handled when its timeout has passed', async () => {
  const pattern = uniqueName('timeout');
  const seen: Array<{ at: number; size: number }> = [];
  await nest.serve(
    onBatch(pattern, (payloads) => seen.push({ at: Date.now(), size: payloads.length }), {
      batch: { size: 100, timeout: 300 },
    }),
  );
  const start = Date.now();
  await emitMany(pattern, 3);

  await until('it is handled', () => seen.length === 1);
  expect(seen[0]?.size).toBe(3);
  expect((seen[0]?.at ?? 0) - start).toBeGreaterThanOrEqual(299);
});

it('each item has its own context', async () => {
  const pattern = uniqueName('contexts');
  const seen: Array<[unknown, RedisStreamsContext]> = [];
  await nest.serve(
    onBatch(
      pattern,
      (payloads, contexts) => {
        for (const [index, payload] of payloads.entries()) seen.push([payload, contexts[index] as RedisStreamsContext]);
      },
      { batch: { size: 2, timeout: 20 } },
    ),
  );
  const ids = [(await nest.emit(pattern, 'a')).id, (await nest.emit(pattern, 'b')).id];

  await until('both are handled', () => seen.length === 2);
  expect(seen.map(([payload, context]) => [payload, context.getMessageId()])).toEqual([
    ['a', ids[0]],
    ['b', ids[1]],
  ]);
  expect(seen.every(([, context]) => context instanceof RedisStreamsContext)).toBe(true);
});

it('when a batch handler fails, each item is retried and then becomes a dead letter with the original error', async () => {
  const pattern = uniqueName('failing');
  const counts: number[][] = [];
  await nest.serve(
    onBatch(
      pattern,
      (_payloads, contexts) => {
        counts.push(contexts.map((context) => context.getDeliveryCount()));
        throw new Error('the database is down');
      },
      { batch: { size: 3, timeout: 50 }, retry: { attempts: 2, delay: 50 } },
    ),
  );
  await emitMany(pattern, 3);

  await until('all are dead letters', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 3);
  expect(counts.flat().sort((a, b) => a - b)).toEqual([1, 1, 1, 2, 2, 2]);
  const [dead] = await nest.entries(`${pattern}.dead`);
  expect(dead?.fields['h:dead-letter-error-message']).toBe('the database is down');
  await nest.untilSettled(pattern);
});

it('one failing item does not fail the others when each is settled through its context', async () => {
  const pattern = uniqueName('one-by-one');
  const handled: string[] = [];
  const { log } = await nest.serve(
    onBatch(
      pattern,
      (payloads: number[], contexts) => {
        for (const [index, payload] of payloads.entries()) {
          const context = contexts[index] as RedisStreamsContext;
          handled.push(`${payload} (${context.getDeliveryCount()})`);
          if (payload === 1 && context.getDeliveryCount() === 1) context.retry({ delay: 10 });
          else if (payload === 2) context.deadLetter('of no use');
          else if (payload === 3) context.ack();
        }
      },
      { batch: { size: 5, timeout: 50 } },
    ),
  );
  await emitMany(pattern, 5);

  await until('the retry is handled', () => handled.length === 6);
  await nest.untilSettled(pattern);
  expect(handled).toEqual(['0 (1)', '1 (1)', '2 (1)', '3 (1)', '4 (1)', '1 (2)']);
  expect((await nest.entries(`${pattern}.dead`)).map(({ fields }) => fields['msg'])).toEqual(['2']);
  expect(log.errors).toEqual([]);
});

it('an item that was settled before the handler failed stays settled', async () => {
  const pattern = uniqueName('partly');
  const seen: unknown[][] = [];
  await nest.serve(
    onBatch(
      pattern,
      (payloads, contexts) => {
        seen.push([...payloads]);
        if (seen.length > 1) return;
        contexts[0]?.ack();
        throw new Error('after the first');
      },
      { batch: { size: 3, timeout: 50 }, retry: { delay: 20 } },
    ),
  );
  await emitMany(pattern, 3);

  await nest.untilSettled(pattern);
  await until('the others are handled again', () => seen.flat().length === 5);
  expect(seen[0]).toEqual([0, 1, 2]);
  expect(new Set(seen.slice(1).flat())).toEqual(new Set([1, 2]));
});

it('an item that cannot be decoded becomes a dead letter, and the rest of its batch is handled', async () => {
  const pattern = uniqueName('decoded');
  const seen: unknown[] = [];
  await addRaw(nest.redis, pattern, 'msg', '1');
  await addRaw(nest.redis, pattern, 'msg', '{');
  await addRaw(nest.redis, pattern, 'msg', '3');
  await nest.serve(onBatch(pattern, (payloads) => seen.push(...payloads), { batch: { size: 3, timeout: 50 } }));

  await until('the rest is handled', () => seen.length === 2);
  expect(seen).toEqual([1, 3]);
  await until('the other is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
});

it('with manual acknowledgement a batch is pending until each context acknowledges', async () => {
  const pattern = uniqueName('manual');
  const seen: RedisStreamsContext[] = [];
  await nest.serve(
    onBatch(pattern, (_payloads, contexts) => void seen.push(...contexts), {
      batch: { size: 3, timeout: 20 },
      ack: 'manual',
    }),
  );
  await emitMany(pattern, 3);

  await until('all are handled', () => seen.length === 3);
  for (const context of seen.slice(0, 2)) context.ack();
  await seen[0]?.commit();
  expect(await nest.pending(pattern)).toBe(1);
});

it('batches run one at a time, or up to `concurrency` at once, and never delay other handlers', async () => {
  const [one, two, other] = [uniqueName('one'), uniqueName('two'), uniqueName('other')];
  const gate = withResolvers<void>();
  const running = { one: 0, two: 0, other: 0 };
  await emitMany(one, 30);
  await emitMany(two, 30);
  await nest.serve([
    onBatch(one, () => ((running.one += 1), gate.promise), { batch: { size: 10 } }),
    onBatch(two, () => ((running.two += 1), gate.promise), { batch: { size: 10 }, concurrency: 2 }),
    onEvent(other, () => (running.other += 1)),
  ]);
  await until('batches are running', () => running.one === 1 && running.two === 2);
  await nest.emit(other, 1);

  await until('the other is handled', () => running.other === 1);
  expect(running).toEqual({ one: 1, two: 2, other: 1 });
  gate.resolve();
  await nest.untilSettled(one);
});

it('closing while a batch is being collected loses no message', async () => {
  const pattern = uniqueName('collected');
  const seen: unknown[] = [];
  const batch = { batch: { size: 100, timeout: 30_000 } };
  const first = await nest.serve(onBatch(pattern, (payloads) => seen.push(...payloads), batch));
  await emitMany(pattern, 5);
  await until('the server has read them', async () => (await nest.pending(pattern)) === 5);
  await first.app.close();
  expect(seen).toEqual([]);

  await nest.serve(
    onBatch(pattern, (payloads, contexts) => seen.push(...payloads, ...contexts.map((c) => c.getDeliveryCount())), {
      batch: { size: 5, timeout: 50 },
    }),
    { autoClaimInterval: 50 },
  );
  await until('the next server handles them', () => seen.length === 10);
  // No handler was given them, so their delivery count has not risen.
  expect(seen).toEqual([0, 1, 2, 3, 4, 1, 1, 1, 1, 1]);
});

describe('one item of a batch that is invalid or fails', () => {
  /** Refuses an array with a negative number, as ParseArrayPipe refuses one with an invalid item. */
  const positives: PipeTransform<number[], number[]> = {
    transform: (numbers) => {
      const wrong = numbers.flatMap((number, index) => (number < 0 ? [`[${index}] must be positive`] : []));
      if (wrong.length > 0) throw new BadRequestException(wrong);
      return numbers;
    },
  };

  /** A controller whose pipe is given the arrays. */
  function onValidBatch(pattern: string, handle: (numbers: number[]) => unknown, extras: HandlerExtras): Type {
    @Controller()
    class NumbersController {
      @EventPattern<string>(pattern, { ...extras })
      handle(@Payload(positives) numbers: number[]): unknown {
        return handle(numbers);
      }
    }
    return NumbersController;
  }

  const deadPayloads = async (pattern: string): Promise<unknown[]> =>
    (await nest.entries(`${pattern}.dead`)).map(({ fields }) => JSON.parse(fields['msg'] as string) as unknown);

  /** All of them are in the first batch. */
  async function emitAll(pattern: string, data: readonly unknown[]): Promise<void> {
    for (const one of data) await nest.emit(pattern, one);
  }

  it('becomes a dead letter at once when a pipe refuses it, and the others are handled in their order', async () => {
    const pattern = uniqueName('validated');
    const seen: number[] = [];
    await emitAll(pattern, [1, -2, 3, -4, 5]);
    const handle = (numbers: number[]): unknown => seen.push(...numbers);
    const { log } = await nest.serve(onValidBatch(pattern, handle, { batch: { size: 5, timeout: 1_000 } }), {
      retry: { delay: 60_000 },
    });

    await until('two are dead letters', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 2);
    await nest.untilSettled(pattern);
    expect(seen).toEqual([1, 3, 5]);
    expect(await deadPayloads(pattern)).toEqual([-2, -4]);
    const [dead] = await nest.entries(`${pattern}.dead`);
    expect(dead?.fields).toMatchObject({
      'h:dead-letter-delivery-count': '1',
      'h:dead-letter-reason': expect.stringContaining('[0] must be positive') as unknown,
    });
    expect(log.warnings.filter((line) => line.includes('one by one'))).toEqual([
      expect.stringMatching(/ 5 messages .*\[1\] must be positive; \[3\] must be positive$/),
    ]);
    expect(log.errors).toHaveLength(2);
  });

  it.each<[what: string, error: () => Error]>([
    ['an error that retry.unless names', () => new RangeError('useless')],
    ['RedisStreamsDeadLetterException', () => new RedisStreamsDeadLetterException('useless')],
  ])('becomes a dead letter at once, alone, when the handler fails for it with %s', async (_, error) => {
    const pattern = uniqueName('permanent');
    const calls: number[][] = [];
    await emitAll(pattern, [1, 2, 3, 4]);
    await nest.serve(
      onBatch(
        pattern,
        (numbers: number[]) => {
          calls.push([...numbers]);
          if (numbers.includes(3)) throw error();
        },
        { batch: { size: 4, timeout: 1_000 } },
      ),
      { retry: { delay: 60_000, unless: (thrown) => thrown instanceof RangeError } },
    );

    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    await nest.untilSettled(pattern);
    expect(calls).toEqual([[1, 2, 3, 4], [1], [2], [3], [4]]);
    expect(await deadPayloads(pattern)).toEqual([3]);
  });

  it('becomes a dead letter, alone, when the handler always fails for it, and the others succeed in their first retry', async () => {
    const pattern = uniqueName('poison');
    const calls: Array<{ numbers: number[]; counts: number[] }> = [];
    await emitAll(pattern, [1, 2, 3, 4, 5]);
    await nest.serve(
      onBatch(
        pattern,
        (numbers: number[], contexts) => {
          calls.push({ numbers: [...numbers], counts: contexts.map((context) => context.getDeliveryCount()) });
          if (numbers.includes(3)) throw new Error('the database refuses 3');
        },
        { batch: { size: 5, timeout: 1_000 }, retry: { attempts: 3, delay: 20 } },
      ),
    );

    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    await nest.untilSettled(pattern);
    expect(await deadPayloads(pattern)).toEqual([3]);
    const [first, ...again] = calls;
    expect(first).toEqual({ numbers: [1, 2, 3, 4, 5], counts: [1, 1, 1, 1, 1] });
    // After the first failure, each is a batch of its own.
    expect(again.every(({ numbers }) => numbers.length === 1)).toBe(true);
    const retries = again.map(({ numbers, counts }) => `${numbers[0]} (${counts[0]})`).sort();
    expect(retries).toEqual(['1 (2)', '2 (2)', '3 (2)', '3 (3)', '4 (2)', '5 (2)']);
  });

  it('new messages are handled in whole batches while others are retried alone', async () => {
    const pattern = uniqueName('beside');
    const calls: number[][] = [];
    let isDown = true;
    await emitAll(pattern, [1, 2, 3]);
    await nest.serve(
      onBatch(
        pattern,
        (numbers: number[]) => {
          calls.push([...numbers]);
          if (isDown) throw new Error('the database is down');
        },
        { batch: { size: 3, timeout: 200 }, retry: { attempts: 100, delay: 30, factor: 1 } },
      ),
    );
    await until('it has failed', () => calls.length > 0);
    isDown = false;
    await emitAll(pattern, [4, 5, 6, 7, 8, 9]);

    await until('all are handled', () => new Set(calls.slice(1).flat()).size === 9);
    await nest.untilSettled(pattern);
    const retried = calls.slice(1).filter((numbers) => numbers.some((number) => number <= 3));
    expect(retried.every(({ length }) => length === 1)).toBe(true);
    const fresh = calls.flat().filter((number) => number > 3);
    expect(fresh).toEqual([4, 5, 6, 7, 8, 9]);
  });

  it('without retries, the others are handled once more, and it alone becomes a dead letter', async () => {
    const pattern = uniqueName('no-retry');
    const calls: number[][] = [];
    await emitAll(pattern, [1, 2, 3]);
    await nest.serve(
      onBatch(
        pattern,
        (numbers: number[]) => {
          calls.push([...numbers]);
          if (numbers.includes(2)) throw new Error('no');
        },
        { batch: { size: 3, timeout: 1_000 }, retry: false },
      ),
    );

    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    await nest.untilSettled(pattern);
    expect(calls).toEqual([[1, 2, 3], [1], [2], [3]]);
    expect(await deadPayloads(pattern)).toEqual([2]);
  });

  it('in real-time mode a pipe refuses it alone, and the others are handled', async () => {
    const pattern = uniqueName('real-time');
    const seen: number[] = [];
    const handle = (numbers: number[]): unknown => seen.push(...numbers);
    const { log } = await nest.serve(
      onValidBatch(pattern, handle, { batch: { size: 3, timeout: 1_000 }, mode: 'real-time' }),
    );
    await emitAll(pattern, [1, -2, 3]);

    await until('the others are handled', () => seen.length === 2);
    expect(seen).toEqual([1, 3]);
    await until('it is reported', () => log.errors.length === 1);
    expect(log.errors[0]).toContain('must be positive');
  });

  it('becomes a dead letter before the handler is called, whether it cannot be decoded or is invalid', async () => {
    const pattern = uniqueName('mixed');
    const seen: number[] = [];
    for (const payload of ['1', '{', '-3', '4']) await addRaw(nest.redis, pattern, 'msg', payload);
    const handle = (numbers: number[]): unknown => seen.push(...numbers);
    await nest.serve(onValidBatch(pattern, handle, { batch: { size: 4, timeout: 1_000 } }));

    await until('both are dead letters', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 2);
    await nest.untilSettled(pattern);
    expect(seen).toEqual([1, 4]);
    expect((await nest.entries(`${pattern}.dead`)).map(({ fields }) => fields['msg'])).toEqual(['{', '-3']);
  });

  it('what the handler has settled before it failed, or changed in a payload, is not handled again', async () => {
    const pattern = uniqueName('changed');
    const calls: unknown[] = [];
    await emitAll(pattern, [{ n: 1 }, { n: 2 }, { n: 3 }]);
    await nest.serve(
      onBatch(
        pattern,
        (items: Array<{ n: number; touched?: boolean }>, contexts) => {
          calls.push(items.map((item) => ({ ...item })));
          if (items.length > 1) contexts[0]?.ack();
          for (const item of items) {
            item.touched = true;
            if (item.n === 2) throw new RedisStreamsDeadLetterException('useless');
          }
        },
        { batch: { size: 3, timeout: 1_000 } },
      ),
    );

    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    await nest.untilSettled(pattern);
    expect(calls).toEqual([[{ n: 1 }, { n: 2 }, { n: 3 }], [{ n: 2 }], [{ n: 3 }]]);
  });

  it('with manual acknowledgement the others are pending until they are acknowledged', async () => {
    const pattern = uniqueName('manual-invalid');
    const contexts: RedisStreamsContext[] = [];
    await emitAll(pattern, [1, 2, 3]);
    await nest.serve(
      onBatch(
        pattern,
        (numbers: number[], given) => {
          if (numbers.includes(2)) throw new BadRequestException('not 2');
          contexts.push(...given);
        },
        { batch: { size: 3, timeout: 1_000 }, ack: 'manual' },
      ),
    );
    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    await until('the others are handled', () => contexts.length === 2);
    await until('they are pending', async () => (await nest.pending(pattern)) === 2);
    for (const context of contexts) context.ack();
    await nest.untilSettled(pattern);
  });

  it('a failure after the handler has settled every message is reported, and changes nothing', async () => {
    const pattern = uniqueName('late');
    await emitAll(pattern, [1, 2]);
    const { log } = await nest.serve(
      onBatch(
        pattern,
        (_numbers, contexts) => {
          for (const context of contexts) context.ack();
          throw new BadRequestException('too late');
        },
        { batch: { size: 2, timeout: 1_000 } },
      ),
    );
    await until('it is reported', () => log.errors.length === 1);
    await nest.untilSettled(pattern);
    expect(log.errors[0]).toMatch(/settled before: ack.*too late/s);
    expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
  });

  it('closing while messages of a failed batch wait to be handled alone loses none of them', async () => {
    const pattern = uniqueName('closing');
    const gate = withResolvers<void>();
    let calls = 0;
    await emitAll(pattern, [1, 2, 3, 4]);
    const extras = { batch: { size: 4, timeout: 1_000 }, retry: { attempts: 3, delay: 0, jitter: 0 } };
    const first = await nest.serve(
      onBatch(
        pattern,
        async () => {
          calls += 1;
          if (calls === 1) throw new Error('the first batch');
          await gate.promise;
        },
        extras,
      ),
    );
    await until('one is handled alone', () => calls === 2);
    const closing = first.app.close();
    gate.resolve();
    await closing;
    expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);

    const seen: number[] = [];
    await nest.serve(
      onBatch(pattern, (numbers: number[]) => seen.push(...numbers), extras),
      { autoClaimInterval: 50, autoClaimIdle: 1_000 },
    );
    await nest.untilSettled(pattern);
    expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
    expect(calls - 1 + new Set(seen).size).toBe(4);
  });

  describe('when the others are handled alone', () => {
    /** The batch fails for good; alone, each message waits for `go`, and 2 fails. */
    async function failing(extras: Partial<HandlerExtras> = {}, options: Partial<ServerRedisStreamsOptions> = {}) {
      const pattern = uniqueName('alone');
      const alone: number[] = [];
      const gates: Array<() => void> = [];
      const handle = async (numbers: number[]): Promise<void> => {
        if (numbers.length > 1) throw new Error('the batch');
        alone.push(numbers[0] as number);
        await new Promise<void>((resolve) => gates.push(resolve));
        if (numbers[0] === 2) throw new Error('the second one');
      };
      const served = await nest.serve(onBatch(pattern, handle, { batch: { size: 5, timeout: 2_000 }, ...extras }), {
        retry: false,
        autoCommitInterval: 10,
        ...options,
      });
      const untilAlone = (count: number): Promise<void> =>
        until(`${count} were handled alone`, () => alone.length === count, 20_000);
      const go = (): void => gates.splice(0).forEach((open) => open());
      return { ...served, pattern, alone, untilAlone, go };
    }
    /** Time in which a handler that must not start would have started: no event tells that it has not. */
    const quiet = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 300));

    it('no handler starts after close(), and those that have not begun go back to the group', async () => {
      const { app, pattern, alone, untilAlone, go } = await failing();
      await emitMany(pattern, 5);
      await untilAlone(1);
      const closing = app.close();
      await quiet();
      go();
      await closing;
      await quiet();
      expect(alone).toEqual([0]);
      expect(await nest.pending(pattern)).toBe(4);
    });

    it('none starts while the pattern is paused, and the rest is handled after it', async () => {
      const { server, pattern, alone, untilAlone, go } = await failing();
      await emitMany(pattern, 5);
      await untilAlone(1);
      await server.pause(pattern);
      go();
      await quiet();
      expect(alone).toEqual([0]);
      await server.resume(pattern);
      for (let count = 2; count <= 5; count += 1) {
        await untilAlone(count);
        go();
      }
      await nest.untilSettled(pattern);
      expect([...alone].sort((one, other) => one - other)).toEqual([0, 1, 2, 3, 4]);
    });

    it('an owned shard is halted at the one that fails', async () => {
      const options = { shardOwnership: 'owned', leaseTime: 1_500, onPoison: 'halt' } as const;
      const { server, pattern, alone, untilAlone, go } = await failing({}, options);
      server.on('error', () => undefined);
      await emitMany(pattern, 5);
      for (let count = 1; count <= 3; count += 1) {
        await untilAlone(count);
        go();
      }
      await until('two are acknowledged', async () => (await nest.pending(pattern)) === 3);
      await quiet();
      expect(alone).toEqual([0, 1, 2]);
      expect(await nest.pending(pattern)).toBe(3);
    });

    it('those of a shard whose lease was lost are handled by its next owner, also if it is the same one', async () => {
      const pattern = uniqueName('lost');
      const seen: number[] = [];
      const begun = withResolvers<void>();
      const gate = withResolvers<void>();
      const handle = async (numbers: number[]): Promise<void> => {
        begun.resolve();
        await gate.promise;
        if (numbers.length > 1) throw new Error('the batch');
        seen.push(...numbers);
      };
      const { server } = await nest.serve(onBatch(pattern, handle, { batch: { size: 3, timeout: 1_000 } }), {
        retry: false,
        shardOwnership: 'owned',
        leaseTime: 500,
        autoCommitInterval: 10,
      });
      server.on('error', () => undefined);
      const revoked = new Promise<void>((resolve) => server.on('revoked', () => resolve()));
      await emitMany(pattern, 3);
      await begun.promise;
      const [lease] = await nest.redis.keys(`nrs:{${pattern}*:lease:*`);
      await nest.redis.set(lease as string, 'another', 'PX', 3_000);
      await revoked;
      gate.resolve();
      await until('all are handled', () => new Set(seen).size === 3, 20_000);
      await nest.untilSettled(pattern);
    });

    it('they count for the rate', async () => {
      const { pattern, alone, untilAlone, go } = await failing({ rateLimit: { max: 6, per: 5_000 } });
      await emitMany(pattern, 5);
      await untilAlone(1);
      go();
      await quiet();
      expect(alone).toEqual([0]);
    });

    it('one that expires before its turn is not handled', async () => {
      const { server, pattern, alone, untilAlone, go } = await failing();
      const expired: unknown[] = [];
      server.on('expired', ({ message }) => expired.push(message.json()));
      const at = new Date(Date.now() + 2_500);
      const records = [0, 1, 3].map((data) => new RedisStreamsRecordBuilder(data).build());
      const expiring = [4, 5].map((data) => new RedisStreamsRecordBuilder(data).setExpiresAt(at).build());
      await firstValueFrom(nest.client().emitBatch(pattern, [...records, ...expiring]));
      await untilAlone(1);
      await until('the others have expired', () => Date.now() > at.getTime() + 50);
      for (let count = 1; count <= 3; count += 1) {
        await untilAlone(count);
        go();
      }
      await until('it is reported', () => expired.length === 2);
      expect([alone, expired]).toEqual([
        [0, 1, 3],
        [4, 5],
      ]);
    });
  });

  it('the server for tests does the same', async () => {
    const strategy = new TestServerRedisStreams({ logger: new LogLines() });
    const calls: number[][] = [];
    const handle = (numbers: number[]): unknown => calls.push([...numbers]);
    const module = moduleOf({ controllers: [onValidBatch('numbers', handle, { batch: { size: 4 } })] });
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(module, { strategy, ...QUIET });
    await app.listen();
    const outcomes = await strategy.deliverBatch('numbers', [
      { data: 1 },
      { data: -2 },
      { data: 3, deliveryCount: 2 },
      { data: 4 },
    ]);

    expect(outcomes.map(({ settlement }) => settlement)).toEqual(['ack', 'dead-letter', 'ack', 'ack']);
    expect(calls).toEqual([[1], [4], [3]]);
    await app.close();
  });
});
