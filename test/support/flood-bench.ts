import { beforeEach, expect } from '@jest/globals';
import type { RedisStreamer, ServerRedisStreamsOptions, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { FaultBench } from './fault-bench.js';
import { Ledger } from './ledger.js';
import { uniqueName } from './redis.js';
import { useTally } from './tally.js';
import type { TestRedis } from './test-redis.js';

/** The group of all consumers in these tests, unless a test sets another one. */
export const GROUP = 'g';

/** Options of a consumer with rolling commits that starts at the beginning of its streams and creates missing ones. */
export const ROLLING = {
  mode: 'load-balanced',
  group: GROUP,
  autoStreamReset: 'earliest',
  mkStream: true,
  autoCommit: 'rolling',
} as const;

/**
 * The fixture of tests with many messages; each test gets a new server without persistence, a producer and a ledger.
 */
export class FloodBench {
  readonly faults = new FaultBench();
  readonly #tally = useTally();
  redis!: TestRedis;
  admin!: RedisClient;
  streamer!: RedisStreamer;
  producer!: StreamProducer;
  ledger!: Ledger;

  constructor() {
    beforeEach(async () => {
      this.redis = await this.faults.lastingRedis({ isDurable: false });
      this.admin = this.redis.client();
      this.streamer = await this.faults.streamer(this.redis.connection);
      this.producer = await this.streamer.createGenericProducer();
      this.ledger = new Ledger();
    });
  }

  /** Options of a service whose messages are text, not JSON. */
  get service(): ServerRedisStreamsOptions {
    const deserializer = { deserialize: (payload: Buffer): string => payload.toString() };
    return { connection: this.redis.connection, group: GROUP, deserializer };
  }

  /** Returns at least two unique stream names. */
  streams(count: number): [first: string, second: string, ...others: string[]] {
    const others = Array.from({ length: count - 2 }, (_, index) => uniqueName(`s${index + 2}`));
    return [uniqueName('s0'), uniqueName('s1'), ...others];
  }

  /** The same, in one slot, so that a script may use several of them in a cluster too. */
  streamsOfOneSlot(count: number): [first: string, second: string, ...others: string[]] {
    const tag = uniqueName('slot');
    const [first, second, ...others] = this.streams(count);
    const inSlot = (stream: string): string => `{${tag}}${stream}`;
    return [inSlot(first), inSlot(second), ...others.map(inSlot)];
  }

  /** The number of pending entries of the group in all the streams together. */
  async pendingIn(streams: readonly string[]): Promise<number> {
    const counts = await Promise.all(
      streams.map(async (stream) => Number((await this.admin.xpending(stream, GROUP))[0])),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Asserts for each ledger that every send was confirmed and every message is handled exactly once. */
  async expectHandledOnce(faults = 0, ledgers: readonly Ledger[] = [this.ledger]): Promise<void> {
    const sums = { sends: 0, handled: 0, duplicates: 0, lost: 0 };
    for (const ledger of ledgers) {
      const { lost } = await ledger.settled(30_000);
      const { confirmed, handled, repeated } = ledger;
      sums.sends += confirmed;
      sums.handled += handled;
      sums.duplicates += repeated;
      sums.lost += lost.length;
      this.#tally({ faults, ...sums });
      expectAllOnce(ledger, lost);
    }
  }
}

function expectAllOnce({ repeated, failures }: Ledger, lost: readonly string[]): void {
  expect({ lost, repeated, failures: failures.size }).toEqual({ lost: [], repeated: 0, failures: 0 });
}
