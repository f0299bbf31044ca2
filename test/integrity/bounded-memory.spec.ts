import { beforeEach, describe, expect, it } from '@jest/globals';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';

import { fillBacklog, beginningsOf } from '../support/backlog.js';
import { FaultBench } from '../support/fault-bench.js';
import { GROUP, ROLLING } from '../support/flood-bench.js';
import { useMemoryProcesses } from '../support/memory-process.js';
import type { MemoryReport, ProduceInput } from '../support/memory-process.js';
import { uniqueName } from '../support/redis.js';
import type { RedisServer } from '../support/redis-server.js';
import { pendingOf } from '../support/streams.js';
import { useTally } from '../support/tally.js';
import { rounds } from '../support/test-redis.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

const LIMIT = 90_000;
/** Tolerance in MiB for memory that is no longer needed: uncollected garbage and parts of replies. */
const GARBAGE = 80;

const tally = useTally();
const startProcess = useMemoryProcesses();
const bench = new FaultBench();
let redis: TestRedis;
let server: RedisServer;
let admin: RedisClient;
let stream: string;

beforeEach(async () => {
  redis = await bench.redis({ isDurable: false });
  admin = redis.client();
  stream = uniqueName('memory');
  server = await redis.masterOf(stream);
});

/** The growth of the process between two reports, in MiB. */
function growth(from: MemoryReport, to: MemoryReport): { atMost: number; lasting: number } {
  return { atMost: to.peaks.rss - from.peaks.rss, lasting: to.live - from.live };
}

describe('a process with 128 MiB of heap', () => {
  it(
    'does not grow with a backlog of many more messages than it has room for, with slow handlers or with a fast consumer',
    async () => {
      const backlog = rounds(2_000_000);
      await fillBacklog(admin, stream, backlog, 256);
      const place = { connection: redis.connection, stream };
      const slow = await startProcess({ work: 'serve', ...place, takes: 20, backlog });
      const fast = await startProcess({
        work: 'consume',
        ...place,
        options: { ...ROLLING, batchSize: 500, prefetch: 1_000 },
        read: backlog,
      });
      const read = await fast.report('done', LIMIT);
      slow.send('close');
      const handled = await slow.report('done', 15_000);

      const { different = 0, repeated = 0 } = read.counts;
      const { handled: ofSlow = 0, repeated: ofSlowRepeated = 0 } = handled.counts;
      tally({
        faults: 0,
        sends: backlog,
        handled: different + ofSlow,
        duplicates: repeated + ofSlowRepeated,
        lost: backlog - different,
      });
      expect({ different, repeated, ofSlowRepeated }).toEqual({ different: backlog, repeated: 0, ofSlowRepeated: 0 });
      expect(ofSlow).toBeGreaterThan(1_000);
      for (const [begun, done] of [
        [await fast.report('begun', 0), read],
        [await slow.report('begun', 0), handled],
      ] as const) {
        // The messages of both have eight times this size in total.
        expect(growth(begun, done).atMost).toBeLessThan(GARBAGE);
        expect(growth(begun, done).lasting).toBeLessThan(8);
      }
      await until('nothing is pending', async () => (await pendingOf(admin, stream, GROUP)).length === 0);
    },
    LIMIT,
  );

  it.each([
    [1, 2],
    [10, 20],
    [64, 128],
  ])(
    'reads messages of 1 MB, %i at a time, and buffers no more than %i of them',
    async (batchSize, prefetch) => {
      const count = rounds(1_000);
      await fillBacklog(admin, stream, count, 1_000_000);
      const consumer = await startProcess({
        work: 'consume',
        connection: redis.connection,
        stream,
        options: { ...ROLLING, batchSize, prefetch },
        read: count,
        pauseEvery: count / 4,
      });
      const done = await consumer.report('done', LIMIT);

      const { different = 0, repeated = 0 } = done.counts;
      tally({ faults: 0, sends: count, handled: different, duplicates: repeated, lost: count - different });
      expect(different).toBe(count);
      expect(done.peaks.arrayBuffers).toBeLessThan(prefetch + GARBAGE);
    },
    LIMIT,
  );
});

type Sends = Pick<ProduceInput, 'by' | 'text' | 'size' | 'refusals'>;

/**
 * The default limit of the queue plus the messages in flight, of which the client has a second copy until they are
 * written.
 */
const QUEUE = 64 + 24;

const sends: ReadonlyArray<readonly [title: string, queued: number, sends: Sends]> = [
  ['100,000 of 100 bytes, enqueued', 100_000, { by: 'enqueue', text: 'narrow', size: 100, refusals: 300_000 }],
  ['100,000 of 100 bytes, sent', 100_000, { by: 'send', text: 'narrow', size: 100, refusals: 100_000 }],
  ['64 MiB in texts of 10 kB, sent', 6_710, { by: 'send', text: 'narrow', size: 10_000, refusals: 10_000 }],
  ['64 MiB in wide texts of 10 kB, enqueued', 3_355, { by: 'enqueue', text: 'wide', size: 10_000, refusals: 120_000 }],
  ['64 MiB in texts of 1 MB, sent', 67, { by: 'send', text: 'narrow', size: 1_000_000, refusals: 1_000 }],
  ['64 MiB in Buffers of 1 MB, enqueued', 67, { by: 'enqueue', size: 1_000_000, refusals: 1_000 }],
];

describe('a producer with 128 MiB of heap whose server is suspended', () => {
  it.each(sends)(
    'queues %s, refuses the rest, and loses no accepted message',
    async (_title, queued, plan) => {
      const producer = await startProcess({ work: 'produce', connection: redis.connection, stream, ...plan });
      const begun = await producer.report('begun', 15_000);
      server.pause();
      producer.send('go');
      await producer.report('full', 30_000);
      server.resume();
      producer.send('flush');
      const done = await producer.report('done', 30_000);

      const { accepted = 0, refused = 0, failed = 0, confirmed, kept, counted } = done.counts;
      const numbers = (await beginningsOf(admin, stream, 15)).map((beginning) =>
        Number.parseInt(beginning.slice(5), 10),
      );
      const stored = new Set(numbers);
      const missing = Array.from({ length: accepted }, (_, n) => n).filter((n) => !stored.has(n));
      // The first message is sent before the server is suspended, and its number again afterwards.
      const duplicates = numbers.length - 1 - stored.size;
      tally({ faults: 1, sends: accepted, handled: stored.size, duplicates, lost: missing.length });
      expect({ accepted, failed, missing }).toEqual({ accepted: queued, failed: 0, missing: [] });
      expect(refused).toBeGreaterThanOrEqual(plan.refusals);
      const bySend = plan.by === 'send';
      expect(bySend ? { confirmed } : { kept, counted }).toEqual(
        bySend ? { confirmed: accepted } : { kept: 10, counted: refused },
      );
      const { heapUsed, external } = done.peaks;
      expect(heapUsed + external - begun.live).toBeLessThan(QUEUE + GARBAGE);
      expect(growth(begun, done).lasting).toBeLessThan(16);
    },
    LIMIT,
  );
});
