import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import { ClientRedisStreams, InvalidOptionError, Receipt, ServerRedisStreams } from '../../lib/index.js';
import type { ClientRedisStreamsOptions, RedisStreamsContext, ServerRedisStreamsOptions } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw, consumersOf, pendingOf } from '../support/streams.js';
import { until } from '../support/until.js';

/*
 * What other packages for Nest and Redis Streams get wrong. Each of these tests is about one such mistake; the
 * others are where their subject is:
 *
 * - a group that begins at `$` and loses what was sent before, falsy or mutated payloads: events.spec
 * - acknowledging before the Observable has ended, or what failed: outcome.spec; a handler behind an interceptor that never
 *   runs: enhancers.spec
 * - retry by a second XADD, delivery counts that a crash forgets, poison that loops for ever: retry.spec; messages given up
 *   in silence, or with the reason masked by Nest's filter: dead-letter.spec
 * - a limit that is only looked at before the read, a whole backlog in one read: concurrency.spec
 * - BLOCK 0 that hangs the shutdown, handlers abandoned at shutdown: lifecycle.spec
 * - replies for the wrong client, failures that are never answered, callbacks that leak: requests.spec, request-traffic.spec
 */
const nest = useNest();

it('neither a network error, a parse error nor a failed acknowledgement ends the reading, and the status is true', async () => {
  const pattern = uniqueName('goes-on');
  const proxy = await FaultProxy.start(Number(new URL(nest.url).port));
  nest.closeLater({ close: async () => proxy.stop() });
  const seen = new Set<unknown>();
  const { server } = await nest.serve(
    onEvent(pattern, (data) => seen.add(data)),
    { connection: proxy.url + new URL(nest.url).pathname, autoCommitInterval: 50 },
  );
  for (let round = 0; round < 3; round += 1) {
    await addRaw(nest.redis, pattern, 'msg', 'no JSON');
    await nest.emit(pattern, round);
    await until('it is handled', () => seen.has(round));
    // Its acknowledgement is on its way, and the next read is blocked.
    proxy.cut(round % 2 === 0 ? 'rst' : 'fin');
  }
  await nest.emit(pattern, 'last');

  await until('the last is handled', () => seen.has('last'));
  await nest.untilSettled(pattern);
  expect(await firstValueFrom(server.status)).toBe('connected');
});

it('a shutdown does not drop what is pending: a consumer is not deleted with its entries', async () => {
  const pattern = uniqueName('kept');
  const contexts: RedisStreamsContext[] = [];
  const handler = onEvent(pattern, (_data, context) => contexts.push(context), { ack: 'manual' });
  const first = await nest.serve(handler, { consumer: 'first' });
  const { id } = await nest.emit(pattern, 1);
  await until('it is handled', () => contexts.length === 1);
  await first.app.close();
  expect(await consumersOf(nest.redis, pattern, GROUP)).toEqual(['first']);

  await nest.serve(handler, { consumer: 'second', autoClaimIdle: 100, autoClaimInterval: 20 });
  await until('the next server has it', () => contexts.length === 2);
  expect(contexts[1]?.getMessageId()).toBe(id);
  contexts[1]?.ack();
  await nest.untilSettled(pattern);
});

it('reclaiming takes no running message of its own, and reaches those behind the first page', async () => {
  const pattern = uniqueName('claimed');
  const gate = withResolvers<void>();
  const counts = new Map<number, number>();
  const numbers = (first: number, count: number): number[] => Array.from({ length: count }, (_, n) => first + n);
  const client = nest.client();
  await nest.serve(
    onEvent(pattern, async (n: number) => {
      counts.set(n, (counts.get(n) ?? 0) + 1);
      if (n < 30) await gate.promise;
    }),
    { concurrency: 40, autoClaimIdle: 300, autoClaimInterval: 50, batchSize: 10 },
  );
  await firstValueFrom(client.emitBatch(pattern, numbers(0, 30)));
  await until('the first 30 are running', () => counts.size === 30);
  // Another consumer is faster than ours, and dies.
  await deadConsumerTakes(pattern, numbers(30, 300));

  await until('all of the dead consumer are handled', () => counts.size === 330, 15_000);
  // They have been running for longer than the claim idle by now.
  await until('the claim idle is over twice', async () => (await oldestRun(pattern)) >= 600);
  expect([...counts.values()].every((count) => count === 1)).toBe(true);
  gate.resolve();
  await nest.untilSettled(pattern);
});

it('the blocking read has a connection of its own, and delays neither writes nor acknowledgements', async () => {
  const pattern = uniqueName('separate');
  const contexts: RedisStreamsContext[] = [];
  const { server } = await nest.serve(
    onEvent(pattern, (_data, context) => contexts.push(context), { ack: 'manual' }),
    { blockTimeout: 60_000 },
  );
  await nest.emit(pattern, 1);
  await until('it is handled', () => contexts.length === 1);
  await until('the next read is blocked', async () => /cmd=xreadgroup/.test(String(await nest.redis.client('LIST'))));

  const start = Date.now();
  contexts[0]?.ack();
  await contexts[0]?.commit();
  const producer = await server.unwrap().createProducer(uniqueName('other'));
  await producer.send('x');
  expect(Date.now() - start).toBeLessThan(1_000);
  expect(await nest.pending(pattern)).toBe(0);
});

it('emit settles when Redis has the message, and waits for no reply', async () => {
  const pattern = uniqueName('nobody');
  const seen: unknown[] = [];
  const over = withResolvers<void>();
  nest
    .client()
    .emit(pattern, 1)
    .subscribe({ next: (value) => seen.push(value), complete: over.resolve });
  await over.promise;

  expect(seen).toEqual([expect.any(Receipt)]);
  expect(await nest.redis.keys('*')).toEqual([pattern]);
});

/** Something that no option takes. */
const SENSELESS = Symbol('senseless') as never;

it('no option of the server does nothing: a senseless value of each is refused', () => {
  const names: Record<keyof Omit<ServerRedisStreamsOptions, 'logger'>, true> = {
    ack: true, autoClaimIdle: true, autoClaimInterval: true, autoCommit: true, autoCommitDelay: true,
    autoCommitInterval: true, autoStreamReset: true, batchSize: true, blockTimeout: true, concurrency: true,
    connection: true, consumer: true, consumerExpiry: true, deadLetter: true, deserializer: true, group: true, keyPrefix: true,
    messageField: true, mode: true, onDeadLetter: true, prefetch: true, replyPrefix: true, retention: true, retry: true,
    serializer: true, shards: true, shutdownTimeout: true, timeout: true,
  }; // prettier-ignore
  for (const name of Object.keys(names)) {
    expect([name, refusal(() => new ServerRedisStreams({ group: 'g', [name]: SENSELESS }))]).toEqual([name, name]);
  }
});

it('no option of the client does nothing: a senseless value of each is refused', () => {
  const names: Record<keyof Omit<ClientRedisStreamsOptions, 'logger'>, true> = {
    blockTimeout: true, connection: true, delivery: true, deserializer: true, keyPrefix: true, maxBatch: true,
    maxLen: true, maxQueued: true, maxQueuedBytes: true, messageField: true, minAge: true, replyPrefix: true,
    requestTimeout: true, serializer: true, sharder: true, timeout: true,
  }; // prettier-ignore
  for (const name of Object.keys(names)) {
    expect([name, refusal(() => new ClientRedisStreams({ [name]: SENSELESS }))]).toEqual([name, name]);
  }
});

it('Nest is a peer and no dependency, so that no second one stands beside that of the user', () => {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    dependencies?: Record<string, string>;
    peerDependencies: Record<string, string>;
  };

  expect(Object.keys(manifest.dependencies ?? {})).toEqual([]);
  expect(manifest.peerDependencies).toMatchObject({
    '@nestjs/common': '^11.0.0 || ^12.0.0',
    '@nestjs/core': '^11.0.0 || ^12.0.0',
    '@nestjs/microservices': '^11.0.0 || ^12.0.0',
  });
});

function refusal(create: () => unknown): string | undefined {
  try {
    create();
    return undefined;
  } catch (error) {
    return error instanceof InvalidOptionError ? error.option : String(error);
  }
}

/** Appends messages that are, in the same transaction, read by a consumer which never does anything with them. */
async function deadConsumerTakes(pattern: string, payloads: readonly number[]): Promise<void> {
  const transaction = nest.redis.multi();
  for (const payload of payloads) transaction.xadd(pattern, '*', 'msg', String(payload));
  transaction.xreadgroup('GROUP', GROUP, 'dead', 'COUNT', payloads.length, 'STREAMS', pattern, '>');
  await transaction.exec();
  const taken = await pendingOf(nest.redis, pattern, GROUP);
  expect(taken.filter(({ consumer }) => consumer === 'dead')).toHaveLength(payloads.length);
}

/** For how long the oldest pending message of the stream has been there, by this process's clock. */
async function oldestRun(pattern: string): Promise<number> {
  const [oldest] = await pendingOf(nest.redis, pattern, GROUP);
  return oldest ? Date.now() - Number(oldest.id.split('-')[0]) : 0;
}
