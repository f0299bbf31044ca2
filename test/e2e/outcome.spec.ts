import { expect, it } from '@jest/globals';
import { RpcException } from '@nestjs/microservices';
import { EMPTY, Subject, concat, defer, of, throwError } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import { RedisStreamsContext } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { pendingOf } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

/** The retry of a failed message happens only after the end of these tests. */
const NO_RETRY_YET = { retry: { delay: 60_000 } } as const;

it('a message is acknowledged after its handler has ended, not before', async () => {
  const pattern = uniqueName('promise');
  const gate = withResolvers<void>();
  let started = false;
  await nest.serve(
    onEvent(pattern, async () => {
      started = true;
      await gate.promise;
    }),
  );
  await nest.emit(pattern, 1);

  await until('the handler runs', () => started);
  await untilOthersAreAcknowledged(pattern);
  expect(await nest.pending(pattern)).toBe(1);
  gate.resolve();
  await nest.untilSettled(pattern);
});

it('a message is acknowledged when the Observable of its handler completes, not when it emits', async () => {
  const pattern = uniqueName('observable');
  const values = new Subject<number>();
  await nest.serve(onEvent(pattern, () => values));
  await nest.emit(pattern, 1);

  await until('the Observable is subscribed', () => values.observed);
  values.next(1);
  await untilOthersAreAcknowledged(pattern);
  expect(await nest.pending(pattern)).toBe(1);
  values.complete();
  await nest.untilSettled(pattern);
});

it('an Observable that completes without a value is a success', async () => {
  const pattern = uniqueName('empty');
  let handled = 0;
  const { log } = await nest.serve(onEvent(pattern, () => ((handled += 1), EMPTY)));
  await nest.emit(pattern, 1);

  await until('it is handled', () => handled === 1);
  await nest.untilSettled(pattern);
  expect(log.errors).toEqual([]);
});

it.each<[string, () => unknown]>([
  ['throws', () => { throw new Error('the real reason'); }], // prettier-ignore
  ['rejects', async () => { throw new Error('the real reason'); }], // prettier-ignore
  ['returns an Observable that errors', () => throwError(() => new Error('the real reason'))],
  ['returns an Observable that errors after a value', () => concat(of(1), throwError(() => new Error('the real reason')))], // prettier-ignore
  ['returns an Observable that errors later', () => defer(async () => { throw new Error('the real reason'); })], // prettier-ignore
  ['throws an RpcException', () => { throw new RpcException('the real reason'); }], // prettier-ignore
])('a handler that %s does not acknowledge, and the log has the original error', async (_how, fail) => {
  const pattern = uniqueName('failing');
  const { log, server } = await nest.serve(onEvent(pattern, fail), NO_RETRY_YET);
  const errors: Error[] = [];
  server.on('error', (error) => errors.push(error));
  await nest.emit(pattern, 1);

  await until('the failure is reported', () => errors.length === 1);
  expect(errors[0]?.message).toBe('the real reason');
  expect(log.errors.join('\n')).toMatch(/the real reason/);
  expect(log.errors.join('\n')).toMatch(/at /);
  expect(log.errors.join('\n')).not.toMatch(/Internal server error/);
  await untilOthersAreAcknowledged(pattern);
  expect(await nest.pending(pattern)).toBe(1);
});

it('with manual acknowledgement a message is pending until its context acknowledges it, however late', async () => {
  const pattern = uniqueName('manual');
  const contexts: RedisStreamsContext[] = [];
  await nest.serve(
    onEvent(pattern, (_data, context) => contexts.push(context), { ack: 'manual' }),
    { concurrency: 1 },
  );
  await nest.emit(pattern, 1);
  await nest.emit(pattern, 2);

  await until('both are handled', () => contexts.length === 2);
  await untilOthersAreAcknowledged(pattern);
  expect(await nest.pending(pattern)).toBe(2);
  contexts[0]?.ack();
  await contexts[0]?.commit();
  expect((await pendingOf(nest.redis, pattern, GROUP)).map(({ id }) => id)).toEqual([contexts[1]?.getMessageId()]);
});

it('the first settlement wins, and a second one is reported', async () => {
  const pattern = uniqueName('twice');
  let settled = false;
  const { log } = await nest.serve(
    onEvent(pattern, (_data, context) => {
      context.ack();
      context.retry();
      context.deadLetter('too late');
      context.ack();
      settled = true;
    }),
  );
  await nest.emit(pattern, 1);

  await until('the handler has run', () => settled);
  await nest.untilSettled(pattern);
  expect(log.warnings).toHaveLength(3);
  expect(log.warnings.join('\n')).toMatch(/retry\(\) ignored for .*settled before/);
  expect(log.warnings.join('\n')).toMatch(/deadLetter\(\) ignored for .*settled before/);
  expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
});

it('a message that was acknowledged before its handler failed stays acknowledged, and the failure is logged', async () => {
  const pattern = uniqueName('acked');
  const { log } = await nest.serve(
    onEvent(pattern, (_data, context) => {
      context.ack();
      throw new Error('afterwards');
    }),
    NO_RETRY_YET,
  );
  await nest.emit(pattern, 1);

  await until('the failure is in the log', () => log.errors.length === 1);
  expect(log.errors[0]).toMatch(/settled before: ack.*afterwards/s);
  await nest.untilSettled(pattern);
});

it('the context returns every property of the message', async () => {
  const pattern = uniqueName('context');
  const contexts: RedisStreamsContext[] = [];
  await nest.serve(
    onEvent(pattern, (_data, context) => contexts.push(context)),
    { consumer: 'worker-1' },
  );
  const receipt = await nest.emit(pattern, { n: 1 });

  await until('it is handled', () => contexts.length === 1);
  const [context] = contexts as [RedisStreamsContext];
  expect(context).toBeInstanceOf(RedisStreamsContext);
  expect(context.getArgs()).toEqual([context.getMessage(), pattern]);
  expect({
    stream: context.getStream(),
    shard: context.getShard(),
    id: context.getMessageId(),
    timestamp: context.getTimestamp(),
    pattern: context.getPattern(),
    group: context.getConsumerGroup(),
    consumer: context.getConsumer(),
    deliveryCount: context.getDeliveryCount(),
    header: context.getHeader('absent'),
    text: context.getMessage().text(),
  }).toEqual({
    stream: pattern,
    shard: 0,
    id: receipt.id,
    timestamp: receipt.timestamp,
    pattern,
    group: GROUP,
    consumer: 'worker-1',
    deliveryCount: 1,
    header: undefined,
    text: '{"n":1}',
  });
});

/** Waits until a message of another server is acknowledged: by then, ours would have been acknowledged as well. */
async function untilOthersAreAcknowledged(pattern: string): Promise<void> {
  const other = `${pattern}-other`;
  let handled = 0;
  await nest.serve(onEvent(other, () => (handled += 1)));
  await nest.emit(other, 1);
  await until('another message is handled', () => handled === 1);
  await nest.untilSettled(other);
}
