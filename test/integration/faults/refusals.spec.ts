import type { Redis } from 'ioredis';
import { beforeEach, describe, expect, it } from '@jest/globals';

import type { RedisStreamer } from '../../../lib/engine/streamer.js';
import { FaultBench, drain, sendMany } from '../../support/fault-bench.js';
import { Ledger } from '../../support/ledger.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

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

describe('a server out of memory', () => {
  const fill = async (): Promise<void> => {
    await admin.config('SET', 'maxmemory-policy', 'noeviction');
    await admin.config('SET', 'maxmemory', '1');
  };

  it('refuses sends with a clear error at once, while consumers continue with the stored messages', async () => {
    const streamer = await bench.streamer(server.url);
    const producer = await streamer.createProducer('s');
    const options = { ...GROUP, autoCommit: 'rolling', autoCommitInterval: 0, batchSize: 5, prefetch: 5 } as const;
    const consumer = await streamer.createConsumer('s', options);
    await Promise.all(Array.from({ length: 50 }, (_, index) => producer.send(String(index))));
    await fill();

    const error: unknown = await producer.send('too much').catch((failure: unknown) => failure);
    expect(error).toMatchObject({ code: 'ERR_SEND_FAILED', retryable: true });
    expect((error as Error).message).toContain('OOM');
    for (let index = 0; index < 50; index += 1) {
      const message = await consumer.next();
      expect(message.text()).toBe(String(index));
      consumer.ack(message);
    }
    await until('all acks have arrived', async () => (await admin.xpending('s', 'g'))[0] === 0);
    await admin.config('SET', 'maxmemory', '0');
    await producer.send('again');
    expect((await consumer.next()).text()).toBe('again');
  });

  it('that also lost the group is reported, and consumers continue when it has memory again', async () => {
    const streamer = await bench.streamer(server.url, { blockTimeout: 200 });
    const ledger = await ledgerOf(streamer);
    await fill();
    await admin.del('s');
    await until('the refusal is reported', () => bench.log.some((line) => line.includes('OOM')));
    await admin.config('SET', 'maxmemory', '0');
    await sendMany(await streamer.createProducer('s'), ledger, 10);

    expect(await ledger.settled()).toEqual({ lost: [], duplicates: new Map() });
  });

  it('does not prevent the recovery of entries whose read reply was lost', async () => {
    const proxy = await bench.proxy(server);
    const streamer = await bench.streamer(proxy.url);
    const ledger = await ledgerOf(streamer);
    const torn = proxy.tearReply(0, 'reader');
    await admin.xadd('s', '*', 'msg', 'x');
    await fill();
    await torn;

    await until('the message is handled', () => ledger.handled === 1);
  });
});

describe('a server that has become a replica', () => {
  it('makes the writer reconnect, and sends succeed when it is a master again', async () => {
    const streamer = await bench.streamer(server.url, { blockTimeout: 500 });
    const ledger = await ledgerOf(streamer);
    const producer = await streamer.createProducer('s');
    await sendMany(producer, ledger, 20, { prefix: 'before' });
    await admin.call('REPLICAOF', '127.0.0.1', '1');
    const load = sendMany(producer, ledger, 20, { prefix: 'during' });
    const [writer] = streamer.connections.ofRole('writer');
    await until('the writer has reconnected', () => (writer?.epoch ?? 0) > 1);
    await admin.call('REPLICAOF', 'NO', 'ONE');
    await load;

    const { lost } = await ledger.settled();
    expect({ lost, confirmed: ledger.confirmed, failures: ledger.failures }).toEqual({
      lost: [],
      confirmed: 40,
      failures: new Map(),
    });
  });
});

describe('a server that cannot persist', () => {
  it('(NOREPLICAS) delays sends until it can', async () => {
    const streamer = await bench.streamer(server.url);
    const ledger = await ledgerOf(streamer);
    const producer = await streamer.createProducer('s');
    await admin.config('SET', 'min-replicas-to-write', '1');
    const load = sendMany(producer, ledger, 20);
    await until(
      'a write was refused',
      async () => (await admin.info('errorstats')).includes('NOREPLICAS') || noErrorStats(admin),
    );
    await admin.config('SET', 'min-replicas-to-write', '0');
    await load;

    const { lost } = await ledger.settled();
    expect({ lost, confirmed: ledger.confirmed }).toEqual({ lost: [], confirmed: 20 });
  });
});

/** Redis 6.0 has no error statistics. */
const noErrorStats = async (client: Redis): Promise<boolean> =>
  !/redis_version:(?!6\.0)/.test(await client.info('server'));

describe('connections that the server ends', () => {
  it('with CLIENT KILL, repeatedly, lose nothing', async () => {
    const streamer = await bench.streamer(server.url);
    const ledger = await ledgerOf(streamer);
    const producer = await streamer.createProducer('s', { maxBatch: 20 });
    const load = sendMany(producer, ledger, 1_000, { perTurn: 10 });
    for (let round = 1; round <= 8; round += 1) {
      const goal = round * 100;
      await until(`${goal} messages are handled`, () => ledger.handled >= goal);
      await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    }
    await load;

    const { lost } = await ledger.settled();
    expect({ lost, confirmed: ledger.confirmed }).toEqual({ lost: [], confirmed: 1_000 });
  });

  it('because of maxclients are made again when there is room', async () => {
    const streamer = await bench.streamer(server.url);
    const ledger = await ledgerOf(streamer);
    await admin.config('SET', 'maxclients', '1');
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await until('the refusal is reported', () => bench.log.some((line) => line.includes('cannot be reached')));
    const load = sendMany(await streamer.createProducer('s'), ledger, 20);
    await admin.config('SET', 'maxclients', '100');
    await load;

    const { lost } = await ledger.settled();
    expect({ lost, confirmed: ledger.confirmed }).toEqual({ lost: [], confirmed: 20 });
  });
});
