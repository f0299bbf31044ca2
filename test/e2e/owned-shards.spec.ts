import { describe, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { KeyHashSharder, RedisStreamsDeadLetterException, RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { RedisStreamsContext, ServerRedisStreams, ServerRedisStreamsOptions } from '../../lib/index.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { countCommands } from '../support/connections.js';
import { onBatch, onEvent } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();
const LIMIT = 30_000;
const OWNED = { shardOwnership: 'owned', leaseTime: 1_500 } as const satisfies Partial<ServerRedisStreamsOptions>;

interface Step {
  key: string;
  n: number;
}

/** Emits `count` messages of each key in turn. */
async function emitSteps(pattern: string, keys: readonly string[], count: number, shards?: number): Promise<void> {
  const client = nest.client(shards === undefined ? {} : { sharder: new KeyHashSharder(shards) });
  for (let n = 0; n < count; n += 1) {
    for (const key of keys) {
      await firstValueFrom(client.emit(pattern, new RedisStreamsRecordBuilder({ key, n }).setKey(key).build()));
    }
  }
}

/** What a server owns, by its events. */
function ownedBy(server: ServerRedisStreams): Set<string> {
  const owned = new Set<string>();
  server.on('assigned', ({ streamKey, shardId }) => owned.add(`${streamKey}:${shardId}`));
  server.on('revoked', ({ streamKey, shardId }) => owned.delete(`${streamKey}:${shardId}`));
  return owned;
}

async function ownersOf(pattern: string): Promise<Array<string | undefined>> {
  const manager = await (await nest.connect()).createManager();
  return (await manager.owners(pattern, GROUP)).map(({ owner }) => owner);
}

const range = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

describe('owned shards of a server', () => {
  it('keys stay in order over two servers, with concurrency 16, when one of them joins late', async () => {
    const pattern = uniqueName('keys');
    const keys = range(8).map((n) => `k${n}`);
    const done = new Map<string, number[]>(keys.map((key) => [key, []]));
    const tokens = new Map<number, bigint>();
    let isFalling = false;
    const handle = async ({ key, n }: Step, context: RedisStreamsContext): Promise<void> => {
      const token = context.getFencingToken() as bigint;
      if (token < (tokens.get(context.getShard()) ?? 0n)) isFalling = true;
      tokens.set(context.getShard(), token);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
      done.get(key)?.push(n);
    };
    const options = { ...OWNED, shards: 4, concurrency: 16 };
    await nest.serve(onEvent(pattern, handle), options);
    const emitting = emitSteps(pattern, keys, 20, 4);
    const late = await nest.serve(onEvent(pattern, handle), options);
    const owned = ownedBy(late.server);
    await until('the late one has a half', () => owned.size === 2, LIMIT);
    await emitting;
    await until('all are handled', () => [...done.values()].flat().length >= 8 * 20, LIMIT);
    for (const key of keys) expect(done.get(key)).toEqual(range(20));
    expect(isFalling).toBe(false);
    expect(new Set(await ownersOf(pattern)).size).toBe(2);
  });

  it('a stream without shards has one active server; the signal of its handler is aborted when the lease is lost', async () => {
    const pattern = uniqueName('single');
    const aborted = withResolvers<unknown>();
    const isBegun = withResolvers<void>();
    let isOver = false;
    const handle = async (_: Step, context: RedisStreamsContext): Promise<void> => {
      const signal = context.getSignal();
      isBegun.resolve();
      if (isOver) return;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      isOver = true;
      aborted.resolve(signal.reason);
    };
    const { server } = await nest.serve(onEvent(pattern, handle), OWNED);
    const errors: string[] = [];
    server.on('error', (error) => errors.push('code' in error ? String(error.code) : error.message));
    await emitSteps(pattern, ['a'], 1);
    await isBegun.promise;
    const [lease] = await nest.redis.keys(`nrs:*:lease:${pattern}:*`);
    await nest.redis.set(lease as string, 'another:99999999999999', 'PX', 3_000);
    expect(await aborted.promise).toMatchObject({ code: 'ERR_HANDLING_ABORTED' });
    expect(errors).toContain('ERR_SHARD_LEASE_LOST');
    await nest.untilSettled(pattern);
  });

  it('a handler that runs on past maxHandlerTime is not started again when its server gets the shard back', async () => {
    const pattern = uniqueName('overdue');
    const release = withResolvers<void>();
    let started = 0;
    const handle = async (): Promise<void> => {
      started += 1;
      await release.promise;
    };
    const { server, log } = await nest.serve(onEvent(pattern, handle), { ...OWNED, maxHandlerTime: 200 });
    const events: string[] = [];
    server.on('revoked', () => events.push('revoked'));
    server.on('assigned', () => events.push('assigned'));
    await emitSteps(pattern, ['a'], 1);
    await until('it is handled', () => started === 1, LIMIT);
    await until('its time is over', () => log.warnings.some((line) => line.includes('maxHandlerTime')), LIMIT);
    const [lease] = await nest.redis.keys(`nrs:*:lease:${pattern}:*`);
    await nest.redis.set(lease as string, 'another:99999999999999', 'PX', 1_000);
    await until('the shard is lost and back', () => events.join().endsWith('revoked,assigned'), LIMIT);
    await emitSteps(pattern, ['b'], 1);
    await until('the next message is handled', () => started === 2, LIMIT);
    release.resolve();
    await nest.untilSettled(pattern);
    expect(started).toBe(2);
  });

  it('the keys of messages that failed during a hand-over are free when their shard comes back', async () => {
    const pattern = uniqueName('back');
    const keys = range(8).map((n) => `k${n}`);
    const gate = withResolvers<void>();
    const done: string[] = [];
    let [started, mustFail] = [0, true];
    const handle = async ({ key, n }: Step): Promise<void> => {
      started += 1;
      if (mustFail) await gate.promise;
      if (mustFail) throw new Error('it fails during the hand-over');
      done.push(`${key}${n}`);
    };
    const options = { ...OWNED, shards: 2, concurrency: 16 };
    const first = await nest.serve(onEvent(pattern, handle), options);
    await emitSteps(pattern, keys, 1, 2);
    await until('all are in handlers', () => started === keys.length, LIMIT);
    const second = await nest.serve(onEvent(pattern, handle), options);
    const reads = async (): Promise<number> =>
      (await first.server.health()).loops.flatMap(({ streams }) => streams).length;
    await until('a shard is handed over', async () => (await reads()) === 1, LIMIT);
    gate.resolve();
    await until('the first attempts have failed', () => first.log.errors.length >= keys.length, LIMIT);
    mustFail = false;
    await until('all are handled', () => new Set(done).size === keys.length, LIMIT);
    await second.app.close();
    await until('the shard is back', async () => (await reads()) === 2, LIMIT);
    await emitSteps(pattern, keys, 2, 2);
    await until('the next ones are handled', () => keys.every((key) => done.includes(`${key}1`)), LIMIT);
  });

  it("onPoison 'halt': nothing more of the shard is handled, and the next owner tries the message once more", async () => {
    const pattern = uniqueName('halt');
    const seen: string[] = [];
    let isRepaired = false;
    const handle = ({ key, n }: Step): void => {
      seen.push(`${key}${n}`);
      if (key === 'a' && n === 1 && !isRepaired) throw new RedisStreamsDeadLetterException('poison');
    };
    const options = { ...OWNED, onPoison: 'halt', concurrency: 1 } as const;
    const { app, server } = await nest.serve(onEvent(pattern, handle), options);
    const errors: string[] = [];
    server.on('error', (error) => errors.push('code' in error ? String(error.code) : error.message));
    await emitSteps(pattern, ['a', 'b'], 4);
    await until('the shard is halted', () => errors.includes('ERR_SHARD_HALTED'), LIMIT);
    expect(seen.at(-1)).toBe('a1');
    isRepaired = true;
    // A second server asks for no shard of a group that has one; the end of the first one hands it over.
    await app.close();
    await nest.serve(onEvent(pattern, handle), options);
    await until('the rest is handled', () => seen.length === 9, LIMIT);
    expect(seen).toEqual(['a0', 'b0', 'a1', 'a1', 'b1', 'a2', 'b2', 'a3', 'b3']);
  });

  it("onPoison 'halt': a message whose attempts are used up is tried once by each later owner, and is logged", async () => {
    const pattern = uniqueName('used-up');
    const tries: string[] = [];
    const fail = (name: string) => (): never => {
      tries.push(name);
      throw new Error('poison');
    };
    const options = { ...OWNED, onPoison: 'halt', retry: { attempts: 2, delay: 10 } } as const;
    const first = await nest.serve(onEvent(pattern, fail('first')), options);
    await emitSteps(pattern, ['a'], 1);
    const isHalted = ({ log }: typeof first): boolean => log.errors.some((line) => line.includes('is halted at'));
    await until('the shard is halted', () => isHalted(first), LIMIT);
    const outcomes = (): string[] =>
      first.log.errors.flatMap((line) => /^Handling .* failed \(([^)]*)\)/.exec(line)?.[1] ?? []);
    await until('both failures are logged', () => outcomes().length === 2, LIMIT);
    expect(outcomes()).toEqual(['delivery 1, retry', 'delivery 2, its shard is halted']);
    await first.app.close();
    const second = await nest.serve(onEvent(pattern, fail('second')), options);
    await until('it is halted again', () => isHalted(second), LIMIT);
    await second.app.close();
    await nest.serve(
      onEvent(pattern, () => void tries.push('repaired')),
      options,
    );
    await until('it is handled', () => tries.length === 4, LIMIT);
    expect(tries).toEqual(['first', 'first', 'second', 'repaired']);
  });

  it('a halted shard that another server needs is handed over at once, and tried again by the same server later', async () => {
    const pattern = uniqueName('halt-move');
    const tries: string[] = [];
    const fail = (name: string) => (): never => {
      tries.push(name);
      throw new RedisStreamsDeadLetterException('poison');
    };
    const options = { ...OWNED, onPoison: 'halt', shards: 2, concurrency: 1 } as const;
    const first = await nest.serve(onEvent(pattern, fail('first')), options);
    await emitSteps(pattern, ['a', 'b', 'c', 'd', 'e', 'f'], 1, 2);
    await until('both are halted', () => tries.length === 2, LIMIT);
    const second = await nest.serve(onEvent(pattern, fail('second')), options);
    await until('the second one has tried one', () => tries.length === 3, LIMIT);
    await second.app.close();
    await until('the first one tries it again', () => tries.length === 4, LIMIT);
    expect(tries).toEqual(['first', 'first', 'second', 'first']);
    await first.app.close();
  });

  it('new shards wait for a halted one, and the owner of that warns of it once', async () => {
    const pattern = uniqueName('halt-layout');
    const seen: string[] = [];
    const handle = ({ key, n }: Step): void => {
      seen.push(`${key}${n}`);
      if (n === 0) throw new RedisStreamsDeadLetterException('poison');
    };
    const options = { ...OWNED, onPoison: 'halt', shards: 1 } as const;
    const { server, log } = await nest.serve(onEvent(pattern, handle), options);
    const owned = ownedBy(server);
    const warnings = (): string[] => log.warnings.filter((line) => line.includes('is halted'));
    await emitSteps(pattern, ['a'], 2, 1);
    await until('the shard is halted', () => log.errors.some((line) => line.includes('is halted at')), LIMIT);
    const manager = await (await nest.connect()).createManager();
    await manager.setShards(pattern, 2);
    await until('it warns', () => warnings().length > 0, LIMIT);
    expect(warnings()[0]).toContain(`the new shards of '${pattern}' wait for it`);
    await manager.setShards(pattern, 3);
    using looks = await countCommands(nest.redis, 'xinfo');
    await until('it has looked again', () => looks.count > 10, LIMIT);
    expect(warnings()).toHaveLength(1);
    expect([...owned]).toEqual([`${pattern}:0`]);
    expect(seen).toEqual(['a0']);
  });

  it('the only shards of several streams are spread over the servers', async () => {
    const patterns = range(6).map(() => uniqueName('stream'));
    const controllers = (): ReturnType<typeof onEvent>[] =>
      patterns.map((pattern) => onEvent(pattern, () => undefined));
    const options = OWNED;
    const servers = [await nest.serve(controllers(), options), await nest.serve(controllers(), options)];
    let moves = 0;
    for (const { server } of servers) server.on('revoked', () => (moves += 1));
    const manager = await (await nest.connect()).createManager();
    await until(
      'each has three',
      async () => {
        const owners = await Promise.all(patterns.map((pattern) => manager.owners(pattern, GROUP)));
        const names = owners.map(([single]) => single?.owner);
        return new Set(names).size === 2 && names.every((name) => names.filter((other) => other === name).length === 3);
      },
      LIMIT,
    );
    // Three are needed. Members that decide by what others have reported before may ask for one or two that come back.
    expect(moves).toBeLessThanOrEqual(5);
  });

  it('batches, and handlers that acknowledge by hand', async () => {
    const batches = uniqueName('batches');
    const manual = uniqueName('manual');
    const inBatches: number[] = [];
    const byHand: number[] = [];
    const onSteps = (steps: Step[]): void => void inBatches.push(...steps.map(({ n }) => n));
    const onStep = ({ n }: Step, context: RedisStreamsContext): void => {
      byHand.push(n);
      context.ack();
    };
    const controllers = [onBatch(batches, onSteps, { batch: { size: 4 } }), onEvent(manual, onStep, { ack: 'manual' })];
    await nest.serve(controllers, OWNED);
    await emitSteps(batches, ['a'], 10);
    await emitSteps(manual, ['a'], 10);
    await until('all are handled', () => inBatches.length === 10 && byHand.length === 10, LIMIT);
    expect(inBatches).toEqual(range(10));
    expect(byHand).toEqual(range(10));
    await nest.untilSettled(manual);
  });
});
