import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Redis } from 'ioredis';

import type { RedisStreamer } from '../../../lib/index.js';
import { FaultBench, drain, sendMany } from '../../support/fault-bench.js';
import { Ledger } from '../../support/ledger.js';
import type { RedisServer } from '../../support/redis-server.js';
import { stays, until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;
let admin: Redis;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
});

const GROUP = { mode: 'load-balanced', group: 'g', mkStream: true } as const;

const ledgerOf = async (streamer: RedisStreamer): Promise<Ledger> => {
  const ledger = new Ledger();
  const consumer = await streamer.createConsumer('s', { ...GROUP, autoCommit: 'rolling', autoCommitInterval: 0 });
  void drain(consumer, (message) => {
    ledger.handledMessage(message);
    consumer.ack(message);
  });
  return ledger;
};

const refusalOf = (command: Promise<unknown>): Promise<string> =>
  command.then(
    () => '',
    (error: Error) => error.message,
  );

interface Refusal {
  /** A word that the log has by then. */
  readonly logged: string;
  begin(): Promise<unknown>;
  end(): Promise<unknown>;
}

const refusals: ReadonlyArray<readonly [word: string, refusal: Refusal]> = [
  [
    'MISCONF',
    {
      logged: 'MISCONF',
      async begin() {
        // Saving fails because a directory has the name of the dump file.
        mkdirSync(join(server.dir, 'dump.rdb'));
        await admin.config('SET', 'stop-writes-on-bgsave-error', 'yes');
        await admin.config('SET', 'save', '3600 1000000');
        await until('saving has failed', () => isSaved('err'));
      },
      async end() {
        rmdirSync(join(server.dir, 'dump.rdb'));
        await until('saving works', () => isSaved('ok'));
      },
    },
  ],
  [
    'MASTERDOWN',
    {
      logged: '',
      async begin() {
        await admin.config('SET', 'replica-serve-stale-data', 'no');
        await admin.config('SET', 'replica-read-only', 'no');
        await admin.call('REPLICAOF', '127.0.0.1', '1');
      },
      end: () => admin.call('REPLICAOF', 'NO', 'ONE'),
    },
  ],
];

const isSaved = async (status: string): Promise<boolean> => {
  await admin.call('BGSAVE').catch(() => undefined);
  return (await admin.info('persistence')).includes(`rdb_last_bgsave_status:${status}`);
};

describe('a server that refuses writes for a while', () => {
  it.each(refusals)(
    '(%s) delays sends and reads until it accepts writes again',
    async (word, { logged, begin, end }) => {
      const streamer = await bench.streamer(server.url, { blockTimeout: 300 });
      const ledger = await ledgerOf(streamer);
      const producer = await streamer.createProducer('s');
      await sendMany(producer, ledger, 20, { prefix: 'before' });
      await until('all messages sent before are handled', () => ledger.handled === 20);
      await begin();
      expect(await refusalOf(admin.xadd('s', '*', 'msg', 'x'))).toContain(word);
      const load = sendMany(producer, ledger, 20, { prefix: 'during' });
      await until('the reader is refused as well', async () => {
        const { loops } = await streamer.health({ timeout: 200 });
        return loops.some(({ state }) => state === 'recovering');
      });
      expect(bench.log.join()).toContain(logged);
      expect(ledger.confirmed).toBe(20);
      await end();
      await load;

      const account = await ledger.settled();
      expect({ ...account, failures: ledger.failures }).toEqual({
        lost: [],
        duplicates: new Map(),
        failures: new Map(),
      });
      expect(ledger.confirmed).toBe(40);
      await until('nothing is pending', async () => (await admin.xpending('s', 'g'))[0] === 0);
    },
  );

  it.each(['at-most-once', 'exactly-once'] as const)(
    '(NOREPLICAS) leaves no send uncertain: delivery %s waits as well',
    async (delivery) => {
      const streamer = await bench.streamer(server.url);
      const producer = await streamer.createProducer('s', { delivery });
      const ledger = new Ledger();
      await admin.config('SET', 'min-replicas-to-write', '1');
      const load = sendMany(producer, ledger, 20);
      // Redis 6.0 does not check for replicas before a script, which exactly-once needs.
      const isOld = (await admin.info('server')).includes('redis_version:6.0');
      if (isOld && delivery === 'exactly-once') await until('all are confirmed', () => ledger.confirmed === 20);
      // Long enough for several attempts.
      else await stays('none is confirmed', () => ledger.confirmed === 0, 500);
      await admin.config('SET', 'min-replicas-to-write', '0');
      await load;

      expect(ledger.failures).toEqual(new Map());
      expect((await admin.xrange('s', '-', '+')).map(([, [, payload]]) => payload)).toEqual(
        Array.from({ length: 20 }, (_, index) => `m-${index}`),
      );
    },
  );
});

describe('a read that is blocked', () => {
  it('ends at once when its master becomes a replica, whatever the block time', async () => {
    const streamer = await bench.streamer(server.url, { blockTimeout: 30_000 });
    const ledger = await ledgerOf(streamer);
    const statuses: string[] = [];
    streamer.on('status', (status) => statuses.push(status));
    await untilBlocked();
    await admin.call('REPLICAOF', '127.0.0.1', '1');
    await until('the reader has reconnected', () => statuses.includes('reconnecting'));
    await admin.call('REPLICAOF', 'NO', 'ONE');
    await admin.xadd('s', '*', 'msg', 'x');

    await until('the message is handled', () => ledger.handled === 1);
    await until('all connections are back', () => streamer.status === 'connected');
  });

  it('is repeated when an operator ends it with CLIENT UNBLOCK', async () => {
    const streamer = await bench.streamer(server.url, { blockTimeout: 30_000 });
    const ledger = await ledgerOf(streamer);
    for (const reason of ['ERROR', 'TIMEOUT', 'ERROR']) {
      await untilBlocked();
      const list = String(await admin.client('LIST'));
      const id = /id=(\d+) .*name=nestjs-redis-streams:reader /.exec(list)?.[1] as string;
      expect(await admin.call('CLIENT', 'UNBLOCK', id, reason)).toBe(1);
    }
    await untilBlocked();
    await admin.xadd('s', '*', 'msg', 'x');

    await until('the message is handled', () => ledger.handled === 1);
    expect(bench.log).toEqual([]);
    expect(streamer.status).toBe('connected');
  });

  const untilBlocked = (): Promise<void> =>
    until('the read is blocked', async () => /blocked_clients:1/.test(await admin.info('clients')));
});

describe('an acknowledgement for a deleted object', () => {
  it.each([
    ['entry', () => admin.xack('s', 'g', ...pendingIds)],
    ['group', () => admin.xgroup('DESTROY', 's', 'g')],
    ['stream', () => admin.del('s')],
  ])('causes no error, and is not repeated (%s)', async (_, remove) => {
    const streamer = await bench.streamer(server.url, { blockTimeout: 300 });
    const consumer = await streamer.createConsumer('s', { ...GROUP, autoCommit: 'disabled' });
    const producer = await streamer.createProducer('s');
    await Promise.all(['1', '2', '3'].map((payload) => producer.send(payload)));
    const messages = [await consumer.next(), await consumer.next(), await consumer.next()];
    pendingIds = messages.map(({ id }) => id);
    await remove();
    await admin.config('RESETSTAT');
    for (const message of messages) consumer.ack(message);
    await consumer.commit();
    await consumer.commit();

    const calls = /cmdstat_xack:calls=(\d+)/.exec(await admin.info('commandstats'))?.[1];
    expect(calls).toBe('1');
    await producer.send('next');
    // A group that is created again before the acknowledgements arrive has what is unsettled put back: delivered once more.
    let message = await consumer.next();
    while (pendingIds.includes(message.id)) message = await consumer.next();
    expect(message.text()).toBe('next');
  });

  let pendingIds: string[] = [];
});
