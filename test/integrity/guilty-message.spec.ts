import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import { DEAD_LETTER_HEADERS } from '../../lib/index.js';
import type { HandlerExtras, ServerRedisStreamsOptions, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { NEEDED } from '../support/acl.js';
import { FaultBench } from '../support/fault-bench.js';
import { Fleet } from '../support/fleet.js';
import { useNestProcesses } from '../support/nest-process.js';
import { uniqueName } from '../support/redis.js';
import { useTally } from '../support/tally.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

jest.setTimeout(90_000);
const MESSAGES = 300;
const POISON = 60;
const ATTEMPTS = 5;

const tally = useTally();
const bench = new FaultBench();
const startService = useNestProcesses();
let redis: TestRedis;
let admin: RedisClient;
let pattern: string;
let producer: StreamProducer;

beforeEach(async () => {
  redis = await bench.lastingRedis();
  admin = redis.client();
  pattern = uniqueName('guilty');
  producer = await (await bench.streamer(redis.connection)).createProducer(pattern);
});

interface Way {
  readonly name: string;
  readonly options?: Partial<ServerRedisStreamsOptions>;
  readonly extras?: HandlerExtras;
  /** Each life of the service has another consumer name. */
  readonly isRenamed?: boolean;
  /** The service may not run scripts. */
  readonly isWithoutScripts?: boolean;
}

const RENAMED = { autoClaimIdle: 300, autoClaimInterval: 50 };
const WAYS: readonly Way[] = [
  { name: 'with the defaults' },
  { name: 'one message at a time', options: { prefetch: 1, concurrency: 1 } },
  { name: 'with a large buffer', options: { prefetch: 1_000, batchSize: 500 } },
  { name: 'in order of keys', extras: { ordered: true } },
  { name: 'in batches', extras: { batch: { size: 50, timeout: 20 } } },
  { name: 'acknowledged by the handler', extras: { ack: 'manual' } },
  { name: 'in resumable mode', options: { mode: 'resumable' } },
  { name: 'with delayed acknowledgements', options: { autoCommit: 'delayed', autoCommitDelay: 2_000 } },
  { name: 'with a new consumer name in every life', options: RENAMED, isRenamed: true },
  {
    name: 'in batches, with a new consumer name in every life',
    options: RENAMED,
    extras: { batch: { size: 50 } },
    isRenamed: true,
  },
  { name: 'without scripts', isWithoutScripts: true },
];

/** Sends the messages, and restarts the service whenever it has ended, until nothing is pending. */
async function serveToTheEnd({
  options,
  extras,
  isRenamed,
  isWithoutScripts,
}: Way): Promise<{ fleet: Fleet; deaths: number }> {
  const connection = isWithoutScripts
    ? await redis.connectionOfUser('narrow', NEEDED.replace('~app:*', '~*'))
    : redis.connection;
  const settings = { ...options, retry: { attempts: ATTEMPTS } };
  const fleet = new Fleet(bench, startService, {
    redis,
    pattern,
    extras,
    options: { ...settings, connection },
  });
  for (let n = 0; n < MESSAGES; n += 1) {
    await fleet.send(producer, n === POISON ? { n, exits: true } : { n, takes: 5 }, { key: String(n % 7) });
  }
  const nameOf = (life: number): string => (isRenamed ? `life-${life}` : 'lasting');
  for (let deaths = 0; ; deaths += 1) {
    const service = await fleet.start(nameOf(deaths));
    let hasEnded = false;
    void service.ended.then(() => (hasEnded = true));
    const isSettled = async (): Promise<boolean> => {
      const dead = await admin.xlen(`${pattern}.dead`);
      return fleet.ledger.handled + dead >= MESSAGES && (await fleet.pendingIds(nameOf(deaths))).length === 0;
    };
    await until('the service has ended, or every message is settled', async () => hasEnded || isSettled(), 40_000);
    if (!hasEnded) return { fleet, deaths };
  }
}

describe('a message that ends every process that handles it', () => {
  it.each(WAYS)(
    'is the only dead letter, and repeats no other message more than once for each crash ($name)',
    async (way) => {
      const { fleet, deaths } = await serveToTheEnd(way);

      const { confirmed: sends, handled } = fleet.ledger;
      const dead = await admin.xrange(`${pattern}.dead`, '-', '+');
      const { lost, duplicates } = fleet.ledger.account();
      tally({ faults: deaths, sends, handled, duplicates: fleet.ledger.repeated, lost: lost.length - 1 });
      expect(dead.map(([, fields]) => fields[fields.indexOf('msg') + 1])).toEqual([`{"n":${POISON},"exits":true}`]);
      expect(lost).toEqual([String(POISON)]);
      expect(deaths).toBeGreaterThan(0);
      expect(deaths).toBeLessThanOrEqual(ATTEMPTS + 1);
      expect([...duplicates].filter(([, times]) => times > 1)).toEqual([]);
      const fields = dead[0]?.[1] ?? [];
      expect(fields[fields.indexOf(`h:${DEAD_LETTER_HEADERS.reason}`) + 1]).toBe(
        'delivered 5 times, the last time to a process that ended or stood still before it was settled',
      );
    },
  );
});
