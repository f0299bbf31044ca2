import { expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import { RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { RedisStreamsContext, RedisStreamsRecord } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

interface Step {
  key: string;
  n: number;
}

function record(key: string, n: number): RedisStreamsRecord<Step> {
  return new RedisStreamsRecordBuilder({ key, n }).setKey(key).build();
}

/** `count` messages of each key, alternating between keys. */
async function emitSteps(pattern: string, keys: readonly string[], count: number): Promise<void> {
  const records = Array.from({ length: count }, (_, n) => keys.map((key) => record(key, n))).flat();
  await firstValueFrom(nest.client().emitBatch(pattern, records));
}

const range = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

it('messages with the same key are handled one after the other, in order, while other keys run concurrently', async () => {
  const pattern = uniqueName('keys');
  const keys = ['a', 'b', 'c', 'd'];
  const done = new Map<string, number[]>(keys.map((key) => [key, []]));
  const running = new Map<string, number>();
  let most = 0;
  let overlaps = 0;
  await emitSteps(pattern, keys, 50);
  await nest.serve(
    onEvent(
      pattern,
      async ({ key, n }: Step) => {
        if (running.has(key)) overlaps += 1;
        running.set(key, n);
        most = Math.max(most, running.size);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
        running.delete(key);
        done.get(key)?.push(n);
      },
      { ordered: true },
    ),
  );

  await until('all are handled', () => [...done.values()].flat().length === 200);
  for (const key of keys) expect(done.get(key)).toEqual(range(50));
  expect(overlaps).toBe(0);
  expect(most).toBeGreaterThan(1);
  await nest.untilSettled(pattern);
});

it('concurrency limits all keys together', async () => {
  const pattern = uniqueName('limit');
  const gate = withResolvers<void>();
  let running = 0;
  await emitSteps(pattern, ['a', 'b', 'c', 'd', 'e'], 3);
  await nest.serve(
    onEvent(
      pattern,
      async () => {
        running += 1;
        await gate.promise;
      },
      { ordered: true, concurrency: 3 },
    ),
  );

  await until('the limit is reached', () => running === 3);
  await until('everything was read', async () => (await nest.pending(pattern)) === 15);
  expect(running).toBe(3);
  gate.resolve();
  await nest.untilSettled(pattern);
});

it('messages without a key do not wait for each other or for keys', async () => {
  const pattern = uniqueName('keyless');
  const gate = withResolvers<void>();
  let running = 0;
  await nest.serve(
    onEvent(
      pattern,
      async () => {
        running += 1;
        await gate.promise;
      },
      { ordered: true, concurrency: 4 },
    ),
  );
  for (let n = 0; n < 4; n += 1) await nest.emit(pattern, n);

  await until('all run at once', () => running === 4);
  gate.resolve();
  await nest.untilSettled(pattern);
});

it('a failing message delays only its own key, until it succeeds', async () => {
  const pattern = uniqueName('failing');
  const order: string[] = [];
  await nest.serve(
    onEvent(
      pattern,
      ({ key, n }: Step, context: RedisStreamsContext) => {
        order.push(`${key}${n}`);
        if (key === 'a' && n === 0 && context.getDeliveryCount() < 3) throw new Error('not yet');
      },
      { ordered: true },
    ),
    { retry: { delay: 100, factor: 1, jitter: 0 } },
  );
  await emitSteps(pattern, ['a', 'b'], 3);

  await until('all are handled', () => order.length === 8);
  expect(order.filter((step) => step.startsWith('a'))).toEqual(['a0', 'a0', 'a0', 'a1', 'a2']);
  expect(order.slice(0, 4)).toEqual(['a0', 'b0', 'b1', 'b2']);
  await nest.untilSettled(pattern);
});

it('the next message of a key is handled once the failed one is a dead letter', async () => {
  const pattern = uniqueName('given-up');
  const order: number[] = [];
  await nest.serve(
    onEvent(
      pattern,
      ({ n }: Step) => {
        order.push(n);
        if (n === 0) throw new Error('never');
      },
      { ordered: true, retry: { attempts: 2, delay: 20 } },
    ),
  );
  await emitSteps(pattern, ['a'], 3);

  await until('all are handled', () => order.length === 4);
  expect(order).toEqual([0, 0, 1, 2]);
  expect(await nest.redis.xlen(`${pattern}.dead`)).toBe(1);
});

it('a long queue behind a failing message stops neither its retry nor other keys', async () => {
  const pattern = uniqueName('queue');
  const order: string[] = [];
  await nest.serve(
    onEvent(
      pattern,
      ({ key, n }: Step, context: RedisStreamsContext) => {
        order.push(`${key}${n}`);
        if (key === 'a' && n === 0 && context.getDeliveryCount() === 1) throw new Error('not yet');
      },
      { ordered: true },
    ),
    { concurrency: 2, prefetch: 4, retry: { delay: 4_000, jitter: 0 } },
  );
  await emitSteps(pattern, ['a'], 300);
  await nest.emit(pattern, record('b', 0));

  await until('the other key is handled', () => order.includes('b0'), 3_500);
  expect(order).toEqual(['a0', 'b0']);
  await until('all are handled', () => order.length === 302);
  expect(order.slice(2)).toEqual(range(300).map((n) => `a${n}`));
  await nest.untilSettled(pattern);
});

it('a key queue that is longer than the limit in memory still gets its retry, and is handled in order', async () => {
  const pattern = uniqueName('flood');
  const order: number[] = [];
  await nest.serve(
    onEvent(
      pattern,
      ({ n }: Step, context: RedisStreamsContext) => {
        order.push(n);
        if (n === 0 && context.getDeliveryCount() < 3) throw new Error('not yet');
      },
      { ordered: true },
    ),
    { retry: { delay: 300, factor: 1, jitter: 0 }, batchSize: 500 },
  );
  await emitSteps(pattern, ['a'], 3_000);

  await until('all are handled', () => order.length === 3_002);
  expect(order.slice(2)).toEqual(range(3_000));
  await nest.untilSettled(pattern);
});

it('closing while messages wait in key queues loses none, and keeps their order', async () => {
  const pattern = uniqueName('parked');
  const gate = withResolvers<void>();
  const order: number[] = [];
  const handle = async ({ n }: Step): Promise<void> => {
    order.push(n);
    if (n === 0) await gate.promise;
  };
  const options = { autoClaimInterval: 50, autoClaimIdle: 5_000 };
  const first = await nest.serve(onEvent(pattern, handle, { ordered: true }), options);
  await emitSteps(pattern, ['a'], 20);
  await until('the server has read all', async () => (await nest.pending(pattern)) === 20);
  const closing = first.app.close();
  gate.resolve();
  await closing;
  expect(order).toEqual([0]);
  expect(await nest.pending(pattern)).toBe(19);

  await nest.serve(onEvent(pattern, handle, { ordered: true }), options);
  await until('the next server handles the rest', () => order.length === 20);
  expect(order).toEqual(range(20));
});

it.each([true, false])(
  'no message is in two handlers at the same time when its group is moved back (ordered: %s)',
  async (ordered) => {
    const pattern = uniqueName('replay');
    const gate = withResolvers<void>();
    const running = new Set<number>();
    const begun: number[] = [];
    let overlaps = 0;
    const handle = async ({ n }: Step): Promise<void> => {
      if (running.has(n) || (ordered && running.size > 0)) overlaps += 1;
      running.add(n);
      begun.push(n);
      if (n === 2) await gate.promise;
      running.delete(n);
    };
    await emitSteps(pattern, ['a'], 6);
    await nest.serve(onEvent(pattern, handle, { ordered }), { autoCommitInterval: 10 });
    await until('the third is in its handler', () => running.has(2));
    const settled = ordered ? 2 : 5;
    await until('those before it are settled', async () => {
      // The first page may be smaller than the stream.
      return begun.length === settled + 1 && (await nest.redis.xpending(pattern, GROUP))[0] === 6 - settled;
    });
    const last = (await nest.redis.xrevrange(pattern, '+', '-', 'COUNT', 1))[0]?.[0];
    await nest.redis.xgroup('SETID', pattern, GROUP, '0');
    await until('the group has been read again', async () => {
      const [group] = (await nest.redis.xinfo('GROUPS', pattern)) as unknown[][];
      const isRead = group?.[group.indexOf('last-delivered-id') + 1] === last;
      // Without the order the others are handled again at once; their pages may come one after the other.
      return isRead && (ordered || begun.length === 6 + settled);
    });
    // What was read arrives before the answer to this.
    await nest.redis.ping();
    gate.resolve();

    await until('what was settled is handled again', () => begun.length === 6 + settled);
    await nest.untilSettled(pattern);
    expect(overlaps).toBe(0);
    expect(begun.filter((n) => n === 2)).toHaveLength(1);
    expect(ordered ? begun : begun.sort((a, b) => a - b)).toEqual(
      ordered ? [0, 1, 2, 3, 4, 5, 0, 1] : [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5],
    );
  },
);
