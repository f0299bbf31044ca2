import { expect, it } from '@jest/globals';

import { RedisStreamsRetryException } from '../../lib/index.js';
import type { RedisStreamsContext, RetryEvent } from '../../lib/index.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { onEvent } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { useNestProcesses } from '../support/nest-process.js';
import { uniqueName } from '../support/redis.js';
import { pendingOf } from '../support/streams.js';
import { until } from '../support/until.js';

// Before useNest(): it ends its processes before the check for remaining connections.
const startService = useNestProcesses();
const nest = useNest();

interface Handling {
  readonly at: number;
  readonly id: string;
  readonly count: number;
  readonly data: unknown;
}

/** Records each handling, and fails while the test wants it to. */
function recorder(shouldFail: (data: unknown, context: RedisStreamsContext) => boolean) {
  const handlings: Handling[] = [];
  const handle = (data: unknown, context: RedisStreamsContext): void => {
    handlings.push({ at: Date.now(), id: context.getMessageId(), count: context.getDeliveryCount(), data });
    if (shouldFail(data, context)) throw new Error(`failed at ${context.getDeliveryCount()}`);
  };
  return { handlings, handle };
}

it('retry.attempts counts every handling, including the first', async () => {
  const pattern = uniqueName('attempts');
  const { handlings, handle } = recorder(() => true);
  await nest.serve(onEvent(pattern, handle), { retry: { attempts: 3, delay: 10 } });
  await nest.emit(pattern, 1);

  await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
  expect(handlings.map(({ count }) => count)).toEqual([1, 2, 3]);
  await nest.untilSettled(pattern);
});

it('a message whose retry succeeds is acknowledged, and does not become a dead letter', async () => {
  const pattern = uniqueName('cured');
  const { handlings, handle } = recorder((_data, context) => context.getDeliveryCount() < 3);
  await nest.serve(onEvent(pattern, handle), { retry: { delay: 10 } });
  await nest.emit(pattern, 1);

  await until('it was handled three times', () => handlings.length === 3);
  await nest.untilSettled(pattern);
  expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
});

it('the delays between attempts grow by retry.factor up to retry.maxDelay, and are kept', async () => {
  const pattern = uniqueName('delays');
  const { handlings, handle } = recorder(() => true);
  const { server } = await nest.serve(onEvent(pattern, handle), {
    retry: { attempts: 4, delay: 100, factor: 2, maxDelay: 300, jitter: 0 },
  });
  const events: RetryEvent[] = [];
  server.on('retry', (event) => events.push(event));
  await nest.emit(pattern, 1);

  await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
  expect(events.map(({ delay }) => delay)).toEqual([100, 200, 300]);
  const waits = handlings.slice(1).map(({ at }, index) => at - (handlings[index] as Handling).at);
  for (const [index, wait] of waits.entries()) {
    expect(wait).toBeGreaterThanOrEqual([100, 200, 300][index] as number);
    expect(wait).toBeLessThan(([100, 200, 300][index] as number) + 1_000);
  }
});

it('other messages are handled while one waits for its retry', async () => {
  const pattern = uniqueName('others');
  const { handlings, handle } = recorder((data, context) => data === 0 && context.getDeliveryCount() === 1);
  await nest.serve(onEvent(pattern, handle), { concurrency: 1, retry: { delay: 400, jitter: 0 } });
  for (let n = 0; n < 100; n += 1) void nest.emit(pattern, n);

  await until('the failed one is handled again', () => handlings.filter(({ data }) => data === 0).length === 2);
  expect(handlings).toHaveLength(101);
  expect(handlings.at(-1)?.data).toBe(0);
});

it('a retry keeps the id and the entry: nothing is appended, and other groups do not see it', async () => {
  const pattern = uniqueName('same');
  const { handlings, handle } = recorder((_data, context) => context.getDeliveryCount() < 4);
  let others = 0;
  await nest.serve(onEvent(pattern, handle), { retry: { delay: 10 } });
  await nest.serve(
    onEvent(pattern, () => (others += 1)),
    { group: 'other-group' },
  );
  const { id } = await nest.emit(pattern, 1);

  await until('it succeeds', () => handlings.length === 4);
  await nest.untilSettled(pattern);
  expect(new Set(handlings.map((handling) => handling.id))).toEqual(new Set([id]));
  expect(await nest.redis.xlen(pattern)).toBe(1);
  expect(others).toBe(1);
});

it('the delivery count is the count of the server', async () => {
  const pattern = uniqueName('count');
  const gate = withResolvers<void>();
  const counts: number[] = [];
  await nest.serve(
    onEvent(pattern, async (_data, context) => {
      counts.push(context.getDeliveryCount());
      if (counts.length < 3) throw new Error('again');
      await gate.promise;
    }),
    { retry: { delay: 10 } },
  );
  await nest.emit(pattern, 1);

  await until('it is handled for the third time', () => counts.length === 3);
  expect(await pendingOf(nest.redis, pattern, GROUP)).toMatchObject([{ deliveryCount: 3 }]);
  expect(counts).toEqual([1, 2, 3]);
  gate.resolve();
  await nest.untilSettled(pattern);
});

it('an attempt that ended with the process is counted, and another instance continues', async () => {
  const pattern = uniqueName('crash');
  const options = { group: GROUP, autoClaimIdle: 300, autoClaimInterval: 50, retry: { attempts: 3 } };
  await nest.emit(pattern, { n: 1, exits: true });
  const first = await startService({ pattern, options: { ...options, connection: nest.url } });
  expect(await first.ended).toBe(7);

  const seen: number[] = [];
  await nest.serve(
    onEvent(pattern, (_data, context) => seen.push(context.getDeliveryCount())),
    options,
  );
  await until('the survivor handles it', () => seen.length === 1);
  expect(seen).toEqual([2]);
  await nest.untilSettled(pattern);
});

it('a message that ends every process becomes a dead letter after its last attempt, without a further delivery', async () => {
  const pattern = uniqueName('poison');
  const options = { group: GROUP, consumer: 'same-name', retry: { attempts: 2 } };
  await nest.emit(pattern, { n: 1, exits: true });
  await nest.emit(pattern, { n: 2 });
  const counts: unknown[] = [];
  for (let start = 0; start < 2; start += 1) {
    const service = await startService({ pattern, options: { ...options, connection: nest.url, concurrency: 1 } });
    expect(await service.ended).toBe(7);
    counts.push(...service.events.flatMap(({ deliveryCount }) => deliveryCount ?? []));
  }
  expect(counts).toEqual([1, 2]);

  const service = await startService({ pattern, options: { ...options, connection: nest.url } });
  await until('the poison is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) > 0);
  expect(service.events.some(({ started }) => started === 1)).toBe(false);
  const [dead] = await nest.entries(`${pattern}.dead`);
  expect(dead?.fields).toMatchObject({
    msg: '{"n":1,"exits":true}',
    'h:dead-letter-delivery-count': '3',
    'h:dead-letter-reason': expect.stringMatching(/2 times/),
  });
});

it('another instance takes over the retry when the instance that failed is gone', async () => {
  const pattern = uniqueName('handover');
  const options = { autoClaimIdle: 500, autoClaimInterval: 50, retry: { delay: 300, jitter: 0 } };
  const first = recorder(() => true);
  const failing = await nest.serve(onEvent(pattern, first.handle), options);
  await nest.emit(pattern, 1);
  await until('it failed', () => first.handlings.length === 1);
  await failing.app.close();

  const second = recorder(() => false);
  await nest.serve(onEvent(pattern, second.handle), options);
  await until('the other handles it', () => second.handlings.length === 1);
  expect(second.handlings[0]?.count).toBe(2);
  await nest.untilSettled(pattern);
});

it('no instance retries before the delay has passed, even if it is longer than autoClaimIdle', async () => {
  const pattern = uniqueName('patience');
  const options = { autoClaimIdle: 200, autoClaimInterval: 20, retry: { delay: 1_000, jitter: 0 } };
  const { handlings, handle } = recorder((_data, context) => context.getDeliveryCount() === 1);
  for (let instance = 0; instance < 2; instance += 1) await nest.serve(onEvent(pattern, handle), options);
  await nest.emit(pattern, 1);

  await until('it is handled again', () => handlings.length === 2);
  expect((handlings[1] as Handling).at - (handlings[0] as Handling).at).toBeGreaterThanOrEqual(1_000);
  await nest.untilSettled(pattern);
  expect(handlings.map(({ count }) => count)).toEqual([1, 2]);
});

it('a retry without delay is handled by one instance at a time', async () => {
  const pattern = uniqueName('once');
  const options = { autoClaimIdle: 100, autoClaimInterval: 10, retry: { attempts: 30, delay: 0, jitter: 0 } };
  const counts: number[] = [];
  const handle = async (_data: unknown, context: RedisStreamsContext): Promise<void> => {
    counts.push(context.getDeliveryCount());
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (context.getDeliveryCount() < 20) throw new Error('again');
  };
  for (let instance = 0; instance < 3; instance += 1) await nest.serve(onEvent(pattern, handle), options);
  await nest.emit(pattern, 1);

  await until('it succeeds', () => counts.includes(20));
  await nest.untilSettled(pattern);
  expect(counts).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
});

it('context.retry and RedisStreamsRetryException use the given delay, and count as attempts', async () => {
  const pattern = uniqueName('asked');
  const handlings: number[] = [];
  const { log } = await nest.serve(
    onEvent(pattern, (_data, context) => {
      handlings.push(Date.now());
      if (handlings.length === 1) throw new RedisStreamsRetryException(150);
      if (handlings.length === 2) context.retry({ delay: 100 });
      else throw new RedisStreamsRetryException(0);
    }),
    { retry: { attempts: 3, delay: 60_000 } },
  );
  await nest.emit(pattern, 1);

  await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
  const [first, second, third, ...more] = handlings as [number, number, number];
  expect(more).toEqual([]);
  expect(second - first).toBeGreaterThanOrEqual(149);
  expect(third - second).toBeGreaterThanOrEqual(99);
  expect(log.errors).toEqual([]);
  expect(log.details.join('\n')).toMatch(/threw RedisStreamsRetryException \(delivery 1, retry\)/);
});
