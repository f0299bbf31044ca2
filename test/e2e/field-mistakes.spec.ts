import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import { ClientRedisStreams, InvalidOptionError, Receipt, ServerRedisStreams } from '../../lib/index.js';
import type { ClientRedisStreamsOptions, RedisStreamsContext, ServerRedisStreamsOptions } from '../../lib/index.js';
import { ownConnectionLines } from '../support/connections.js';
import { onEvent } from '../support/controllers.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw, consumersOf, pendingOf } from '../support/streams.js';
import { until } from '../support/until.js';

/*
 * Mistakes of other packages for Nest and Redis Streams, one for each test. Tests of further mistakes are in the files of
 * their subjects:
 *
 * - a group that begins at `$` and loses earlier messages, falsy or mutated payloads: events.spec
 * - acknowledging before the Observable has completed, or after a failure: outcome.spec; a handler behind an interceptor
 *   that never runs: enhancers.spec
 * - retry by a second XADD, delivery counts that are lost in a crash, poison messages that loop without end: retry.spec;
 *   messages dropped silently, or with the reason masked by Nest's filter: dead-letter.spec
 * - a limit that is checked only before the read, a whole backlog in one read: concurrency.spec
 * - BLOCK 0 that hangs the shutdown, handlers abandoned at shutdown: lifecycle.spec
 * - replies for the wrong client, failures that are never answered, callbacks that leak: requests.spec, request-traffic.spec
 */
const nest = useNest();

it('reading survives a network error, a parse error and a failed acknowledgement, and the status is correct', async () => {
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
    // Now its acknowledgement is on its way and the next read is blocked.
    proxy.cut(round % 2 === 0 ? 'rst' : 'fin');
  }
  await nest.emit(pattern, 'last');

  await until('the last is handled', () => seen.has('last'));
  await nest.untilSettled(pattern);
  expect(await firstValueFrom(server.status)).toBe('connected');
});

it('a shutdown does not drop pending entries: a consumer that has any is not deleted', async () => {
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

it('claiming leaves messages alone that are running here, and goes beyond the first page of pending entries', async () => {
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
  // A second consumer reads the others and dies.
  await deadConsumerTakes(pattern, numbers(30, 300));

  await until('all messages of the dead consumer are handled', () => counts.size === 330, 15_000);
  // By now the first 30 have been running for longer than autoClaimIdle.
  await until('the claim idle is over twice', async () => (await oldestRun(pattern)) >= 600);
  expect([...counts.values()].every((count) => count === 1)).toBe(true);
  gate.resolve();
  await nest.untilSettled(pattern);
});

it('the blocking read has its own connection, and delays neither writes nor acknowledgements', async () => {
  const pattern = uniqueName('separate');
  const contexts: RedisStreamsContext[] = [];
  const { server } = await nest.serve(
    onEvent(pattern, (_data, context) => contexts.push(context), { ack: 'manual' }),
    { blockTimeout: 60_000 },
  );
  await nest.emit(pattern, 1);
  await until('it is handled', () => contexts.length === 1);
  const reads = async (): Promise<string[]> => ownConnectionLines(nest.redis, 'reader');
  await until('the next read is blocked', async () => (await reads()).some((line) => line.includes('cmd=xreadgroup')));

  const start = Date.now();
  contexts[0]?.ack();
  await contexts[0]?.commit();
  const producer = await server.unwrap().createProducer(uniqueName('other'));
  await producer.send('x');
  expect(Date.now() - start).toBeLessThan(10_000);
  expect(await nest.pending(pattern)).toBe(0);
});

it('emit settles when Redis has the message, without waiting for a consumer', async () => {
  const pattern = uniqueName('unserved');
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

/** A value that no option accepts. */
const SENSELESS = Symbol('senseless') as never;

it('every option of the server is checked: an invalid value of each is refused', () => {
  const names: Record<keyof Omit<ServerRedisStreamsOptions, 'logger'>, true> = {
    ack: true, autoClaimIdle: true, shardOwnership: true, leaseTime: true, onPoison: true, autoClaimInterval: true, autoCommit: true, autoCommitDelay: true,
    autoCommitInterval: true, autoStreamReset: true, batchSize: true, blockTimeout: true,
    concurrency: true, connectTimeout: true,
    connection: true, consumer: true, consumerExpiry: true, deadLetter: true, deserializer: true, group: true, keyPrefix: true, leaseRenewal: true,
    maxHandlerTime: true, maxPayload: true, messageField: true, mode: true, onDeadLetter: true, prefetch: true, replyPrefix: true, retention: true, retry: true,
    serializer: true, shards: true, shutdownTimeout: true, streams: true, telemetry: true, timeout: true,
          timestampFormat: true,
    wildcards: true,
  }; // prettier-ignore
  for (const name of Object.keys(names)) {
    expect([name, refusal(() => new ServerRedisStreams({ group: 'g', [name]: SENSELESS }))]).toEqual([name, name]);
  }
});

it('every option of the client is checked: an invalid value of each is refused', () => {
  const names: Record<keyof Omit<ClientRedisStreamsOptions, 'logger'>, true> = {
    blockTimeout: true, connectTimeout: true, connection: true, delivery: true, deserializer: true, keyPrefix: true, maxBatch: true,
    maxLen: true, maxPayload: true, maxQueued: true, maxQueuedBytes: true, waitReplicas: true, messageField: true, minAge: true, replyPrefix: true,
    requestTimeout: true, serializer: true, sharder: true, shutdownTimeout: true, streams: true,
    telemetry: true, timeout: true,
          timestampFormat: true,
  }; // prettier-ignore
  for (const name of Object.keys(names)) {
    expect([name, refusal(() => new ClientRedisStreams({ [name]: SENSELESS }))]).toEqual([name, name]);
  }
});

it('Nest is a peer dependency, so that an application never has a second copy of it', () => {
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

/** Appends messages that, in the same transaction, are read by a consumer that never handles them. */
async function deadConsumerTakes(pattern: string, payloads: readonly number[]): Promise<void> {
  const transaction = nest.redis.multi();
  for (const payload of payloads) transaction.xadd(pattern, '*', 'msg', String(payload));
  transaction.xreadgroup('GROUP', GROUP, 'dead', 'COUNT', payloads.length, 'STREAMS', pattern, '>');
  await transaction.exec();
  const taken = await pendingOf(nest.redis, pattern, GROUP);
  expect(taken.filter(({ consumer }) => consumer === 'dead')).toHaveLength(payloads.length);
}

/** Age of the oldest pending message of the stream, by the clock of this process. */
async function oldestRun(pattern: string): Promise<number> {
  const [oldest] = await pendingOf(nest.redis, pattern, GROUP);
  return oldest ? Date.now() - Number(oldest.id.split('-')[0]) : 0;
}
