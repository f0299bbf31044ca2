import { expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import { RedisStreamsContext } from '../../lib/index.js';
import { onBatch, onEvent } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
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
