import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';

import { LeaseServer } from '../../../bench/ownership/lease-server.js';
import { seededRandom, VirtualClock } from '../../../bench/ownership/virtual-clock.js';
import { redisStreamCommands } from '../../../lib/redis/commands/redis-stream-commands.js';
import { ServerFeatures } from '../../../lib/redis/commands/server-features.js';
import type { GroupShard, HeldLease, OwnershipCommands, ShardOwner } from '../../../lib/redis/commands/shard-owners.js';
import { RedisConnections } from '../../../lib/redis/connection/redis-connections.js';
import { redisUrl, uniqueName } from '../../support/redis.js';

/** Milliseconds. Times to live end in half a unit and whole units pass, so that an expiry is never closer than half a unit. */
const UNIT = 600_000;
const TIMES = { connectTimeout: 10_000, replyTimeout: 10_000, blockTimeout: 10_000 };
const GROUP = 'g';
const SHARDS = 5;
const CONSUMERS = ['ann', 'bob', 'cleo:7', 'dan'];
const STEPS = 1_000;

/** The scripts or the simulation. Their generations differ, so that a lease is compared by its place in `acquired`. */
interface Side {
  readonly commands: OwnershipCommands;
  /** The leases of all acquisitions that have succeeded. */
  readonly acquired: HeldLease[];
}

type Call = (side: Side) => Promise<unknown>;

describe('the server of the simulation of owned shards', () => {
  let connections: RedisConnections;
  let admin: Redis;

  beforeEach(async () => {
    const logger = { error: () => undefined, warn: () => undefined, log: () => undefined, debug: () => undefined };
    connections = new RedisConnections(redisUrl(), TIMES, logger);
    await connections.connect(10_000);
    admin = new Redis(redisUrl(), { protocol: 2 });
  });

  afterEach(async () => {
    await connections.close();
    admin.disconnect();
  });

  it.each([1, 2, 3])('answers as the scripts do when both get the calls of seed %i', async (seed) => {
    const options = { keyPrefix: '', timeout: 10_000, timestampFormat: 'ms' } as const;
    const clock = new VirtualClock();
    const server = new LeaseServer(clock, { delay: () => 0, isLost: () => false });
    const real: Side = {
      commands: redisStreamCommands(connections.control, new ServerFeatures(), options).ownership,
      acquired: [],
    };
    const simulated: Side = { commands: server.commandsOf(() => false), acquired: [] };
    const calls = new RandomCalls(uniqueName('stream'), seededRandom(seed));
    const seen = new Map<string, number>();
    for (let step = 0; step < STEPS; step += 1) {
      const { name, call } = calls.next(real.acquired.length);
      if (name === 'time passes') {
        await pass(admin, calls.stream, UNIT);
        await clock.pass(UNIT);
        continue;
      }
      const expected = await call(real);
      const simulating = call(simulated);
      await clock.pass(0);
      expect({ step, name, answer: await simulating }).toEqual({ step, name, answer: expected });
      const kind = `${name}: ${kindOf(expected)}`;
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
    }
    // Each answer that a call can have was compared.
    expect([...seen.keys()].toSorted()).toEqual([
      'acquire: given',
      'acquire: refused',
      'ask: given',
      'ask: refused',
      'join: given',
      'leave: refused',
      'owners: given',
      'release: refused',
      'renew: given',
      'renew: refused',
      'renew: wanted',
      'wanted: given',
      'withdraw: refused',
    ]);
  });
});

class RandomCalls {
  readonly stream: string;
  readonly #random: () => number;

  constructor(stream: string, random: () => number) {
    this.stream = stream;
    this.#random = random;
  }

  /** @param count how many acquisitions have succeeded */
  next(count: number): { name: string; call: Call } {
    const consumer = this.#pick(CONSUMERS);
    const shard = { streamKey: `${this.stream}:${this.#below(SHARDS)}`, group: GROUP };
    const ttl = (1 + this.#below(3)) * UNIT + UNIT / 2;
    const all = Array.from({ length: SHARDS }, (_, index) => ({ streamKey: `${this.stream}:${index}`, group: GROUP }));
    const owned = this.#below(SHARDS + 1);
    const report = { streamKey: this.stream, group: GROUP, consumer, ttl, shards: SHARDS, owned };
    const load = owned + this.#below(4);
    // Mostly one of the last leases, which may still be held.
    const held = Math.max(0, count - 1 - this.#below(2 * SHARDS));
    const heldBy = ({ acquired }: Side): HeldLease => acquired[held] as HeldLease;
    const calls: Record<string, Call> = {
      join: ({ commands }) => commands.join({ ...report, load }),
      leave: ({ commands }) => commands.leave(this.stream, GROUP, consumer),
      owners: async (side) => placesOf(await side.commands.owners(all), all, side),
      acquire: (side) => this.#acquire(side, shard, consumer, ttl),
      ask: ({ commands }) => commands.ask(shard, consumer, ttl),
      withdraw: ({ commands }) => commands.withdraw(shard, consumer),
      wanted: ({ commands }) => commands.wanted(all),
      'time passes': () => Promise.resolve(),
      ...(count > 0 && {
        renew: (side) => side.commands.renew(heldBy(side), ttl),
        release: (side) => side.commands.release(heldBy(side)),
      }),
    };
    const name = this.#pick([...Object.keys(calls), 'acquire', 'ask', ...(count > 0 ? ['renew', 'renew'] : [])]);
    return { name, call: calls[name] as Call };
  }

  /** Returns the place of the lease in place of its generation. */
  async #acquire({ commands, acquired }: Side, shard: GroupShard, consumer: string, ttl: number) {
    const generation = await commands.acquire(shard, consumer, ttl);
    return generation === undefined ? undefined : acquired.push({ ...shard, consumer, generation }) - 1;
  }

  #pick<T>(values: readonly T[]): T {
    return values[this.#below(values.length)] as T;
  }

  #below(limit: number): number {
    return Math.floor(limit * this.#random());
  }
}

/** The place of the lease in place of its generation, and whole units in place of the time that is left. */
function placesOf(
  owners: ReadonlyArray<ShardOwner | Error | undefined>,
  shards: readonly GroupShard[],
  { acquired }: Side,
): unknown[] {
  return owners.map((owner, index) => {
    if (owner === undefined || owner instanceof Error) return owner;
    const { consumer, generation, expiresIn } = owner;
    const { streamKey } = shards[index] as GroupShard;
    const place = acquired.findIndex((lease) => lease.streamKey === streamKey && lease.generation === generation);
    return { consumer, place, units: Math.floor(expiresIn / UNIT) };
  });
}

function kindOf(answer: unknown): string {
  if (answer === undefined || answer === false) return 'refused';
  const { wantedBy } = answer as { wantedBy?: string };
  return wantedBy === undefined ? 'given' : 'wanted';
}

/** Lets time pass for the keys of a stream. */
async function pass(admin: Redis, stream: string, time: number): Promise<void> {
  for (const key of await admin.keys(`nrs:{${stream}*`)) {
    const left = await admin.pttl(key);
    if (left >= 0) await admin.pexpire(key, Math.max(0, left - time));
    if (!key.includes(':members:')) continue;
    for (const member of await admin.zrange(key, 0, '-1')) await admin.zincrby(key, -time, member);
  }
}
