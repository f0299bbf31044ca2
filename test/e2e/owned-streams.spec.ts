import { describe, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { KeyHashSharder, RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { RedisStreamsContext, ServerRedisStreams, ServerRedisStreamsOptions } from '../../lib/index.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { onEvent } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { consumersOf } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();
const LIMIT = 30_000;
const SHARDS = 4;
const OWNED = {
  shardOwnership: 'owned',
  leaseTime: 1_500,
  shards: true,
} as const satisfies Partial<ServerRedisStreamsOptions>;

/** What a server owns, by its events. */
function ownedBy(server: ServerRedisStreams): Set<string> {
  const owned = new Set<string>();
  server.on('assigned', ({ streamKey, shardId }) => owned.add(`${streamKey}:${shardId}`));
  server.on('revoked', ({ streamKey, shardId }) => owned.delete(`${streamKey}:${shardId}`));
  return owned;
}

const range = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
const shardsOf = (stream: string): string[] => range(SHARDS).map((shardId) => `${stream}:${shardId}`);

/** Names of consumers in the group, of all shards. */
async function namesOn(stream: string): Promise<string[]> {
  const names = await Promise.all(shardsOf(stream).map((shard) => consumersOf(nest.redis, shard, GROUP)));
  return names.flat();
}

async function emitSteps(pattern: string, from: number, to: number): Promise<void> {
  const client = nest.client({ sharder: new KeyHashSharder(SHARDS) });
  for (let n = from; n < to; n += 1) {
    for (const key of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) {
      await firstValueFrom(client.emit(pattern, new RedisStreamsRecordBuilder(`${key}${n}`).setKey(key).build()));
    }
  }
}

/** Steps of each key, by stream. */
class Steps {
  readonly #seen = new Map<string, number[]>();

  readonly note = (step: string, context: RedisStreamsContext): void => {
    const name = `${context.getStream()} ${step[0]}`;
    this.#seen.set(name, [...(this.#seen.get(name) ?? []), Number(step.slice(1))]);
  };

  get count(): number {
    return [...this.#seen.values()].flat().length;
  }

  all(): Array<[stream: string, steps: number[]]> {
    return [...this.#seen].map(([name, steps]) => [name.split(' ')[0] as string, steps]);
  }
}

/** @param counts of the steps of each key, by stream */
function expectInOrder(steps: Steps, counts: Record<string, number>): void {
  for (const [stream, seen] of steps.all()) expect(seen).toEqual(range(counts[stream] ?? 0));
}

describe('owned shards of streams that a server is given while it runs', () => {
  it('a wildcard: the shards of each stream are shared, also of one that appears later and is given more', async () => {
    const root = uniqueName('tenants');
    const [early, late] = [`${root}.early`, `${root}.late`];
    const steps = new Steps();
    const options = { ...OWNED, wildcards: { interval: 100 } };
    await emitSteps(early, 0, 1);
    const servers = [
      (await nest.serve(onEvent(`${root}.>`, steps.note), options)).server,
      (await nest.serve(onEvent(`${root}.>`, steps.note), options)).server,
    ];
    const owned = servers.map(ownedBy);
    const shared = (stream: string): Promise<void> =>
      until(
        `${stream} is shared`,
        () => owned.every((keys) => shardsOf(stream).filter((key) => keys.has(key)).length === SHARDS / 2),
        LIMIT,
      );
    await shared(early);
    await emitSteps(late, 0, 3);
    await shared(late);
    await emitSteps(early, 1, 3);
    await (await (await nest.connect()).createManager()).setShards(late, 6);
    await emitSteps(late, 3, 4);
    await until('all are handled', () => steps.count === 56, LIMIT);
    expectInOrder(steps, { [early]: 3, [late]: 4 });
    const newShards = range(6).map((n) => `${late}:${SHARDS + n}`);
    await until(
      'the new shards are shared',
      () => owned.every((keys) => newShards.filter((key) => keys.has(key)).length === 3),
      LIMIT,
    );
    for (const shard of [...shardsOf(early), ...shardsOf(late)]) await nest.untilSettled(shard);
    for (const server of servers) expect((await server.health()).isHealthy).toBe(true);
  });

  it('removeStream(): the other server has all shards of the stream, what runs is handled once, and the name is gone', async () => {
    const [pattern, stream] = [uniqueName('orders'), uniqueName('tenant')];
    const steps = new Steps();
    const gate = withResolvers<void>();
    let isRunning = false;
    const leaving = await nest.serve(
      onEvent(pattern, async (step: string, context: RedisStreamsContext) => {
        isRunning = true;
        await gate.promise;
        steps.note(step, context);
      }),
      OWNED,
    );
    await emitSteps(stream, 0, 2);
    await leaving.server.addStream(pattern, stream);
    const left = ownedBy(leaving.server);
    await until('it has all', () => shardsOf(stream).every((key) => left.has(key)), LIMIT);
    await until('it runs', () => isRunning, LIMIT);
    const [name] = await namesOn(stream);
    const staying = await nest.serve(onEvent(pattern, steps.note), OWNED);
    const owned = ownedBy(staying.server);
    await staying.server.addStream(pattern, stream);
    const removed = leaving.server.removeStream(pattern, stream);
    gate.resolve();
    await removed;
    await until('the other one has all', () => shardsOf(stream).every((key) => owned.has(key)), LIMIT);
    await emitSteps(stream, 2, 3);
    await until('all are handled', () => steps.count === 24, LIMIT);
    expectInOrder(steps, { [stream]: 3 });
    for (const shard of shardsOf(stream)) await nest.untilSettled(shard);
    expect(await namesOn(stream)).not.toContain(name);
    expect([...left].filter((key) => key.startsWith(stream))).toEqual([]);
  });

  it('a server that is closed while it hands shards over: what runs ends, is handled once, and the name is gone', async () => {
    const pattern = uniqueName('orders');
    const steps = new Steps();
    const gate = withResolvers<void>();
    let running = 0;
    const options = { ...OWNED, shards: SHARDS, concurrency: 8 };
    const closing = await nest.serve(
      onEvent(pattern, async (step: string, context: RedisStreamsContext) => {
        running += 1;
        await gate.promise;
        steps.note(step, context);
      }),
      options,
    );
    await emitSteps(pattern, 0, 1);
    await until('its handlers have all', () => running === 8, LIMIT);
    const [name] = await namesOn(pattern);
    const other = await nest.serve(onEvent(pattern, steps.note), options);
    const owned = ownedBy(other.server);
    const isLeaving = async (): Promise<boolean> => {
      const { loops } = await closing.server.health();
      return loops.flatMap(({ streams }) => streams).length < SHARDS;
    };
    await until('it reads a shard no more', isLeaving, LIMIT);
    const closed = closing.app.close();
    gate.resolve();
    await closed;
    await until('the other one has all', () => owned.size === SHARDS, LIMIT);
    for (const shard of shardsOf(pattern)) await nest.untilSettled(shard);
    expectInOrder(steps, { [pattern]: 1 });
    expect(await namesOn(pattern)).not.toContain(name);
    await emitSteps(pattern, 1, 2);
    await until('all are handled', () => steps.count === 16, LIMIT);
    expectInOrder(steps, { [pattern]: 2 });
    expect(running).toBe(8);
  });
});
