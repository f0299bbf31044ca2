import { beforeEach, describe, expect, it } from '@jest/globals';

import { FaultBench, drain, sendMany } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { Ledger } from '../../support/ledger.js';
import { uniqueName } from '../../support/redis.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;
let proxy: FaultProxy;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  proxy = await bench.proxy(server);
});

const faults: ReadonlyArray<readonly [string, (round: number) => unknown]> = [
  ['reset', () => proxy.cut('rst')],
  ['closed', () => proxy.cut('fin')],
  ['reset for the reader only', () => proxy.cut('rst', 'reader')],
  ['reset for the writer only', () => proxy.cut('rst', 'writer')],
  ['torn in the middle of a reply', (round) => proxy.tearReply(7 + round)],
  ['torn in the middle of a read', (round) => proxy.tearReply(40 * round, 'reader')],
];

describe('while messages flow', () => {
  it.each(faults)('no confirmed message is lost when connections are %s, eight times', async (_name, fault) => {
    const stream = uniqueName('orders');
    const streamer = await bench.streamer(proxy.url);
    const ledger = new Ledger();
    const options = { mode: 'load-balanced', group: 'g', autoStreamReset: 'earliest', mkStream: true } as const;
    const consumers = await Promise.all(
      [1, 2].map(() => streamer.createConsumer(stream, { ...options, autoCommit: 'rolling', autoCommitInterval: 5 })),
    );
    for (const consumer of consumers) {
      void drain(consumer, (message) => {
        ledger.handledMessage(message);
        consumer.ack(message);
      });
    }
    const producer = await streamer.createProducer(stream, { maxBatch: 20 });

    const load = sendMany(producer, ledger, 2_000, { perTurn: 10 });
    for (let round = 1; round <= 8; round += 1) {
      const goal = Math.min(ledger.handled + 100, 1_900);
      await until(`${goal} messages are handled`, () => ledger.handled >= goal);
      await fault(round);
    }
    await load;
    const { lost } = await ledger.settled();

    expect({ lost, confirmed: ledger.confirmed, failures: ledger.failures }).toEqual({
      lost: [],
      confirmed: 2_000,
      failures: new Map(),
    });
    const admin = bench.admin(server.url);
    await until('nothing is pending', async () => (await admin.xpending(stream, 'g'))[0] === 0);
  });

  it('no message is lost or repeated when replies are delayed', async () => {
    const stream = uniqueName('slow');
    proxy.delay(15);
    const streamer = await bench.streamer(proxy.url);
    const ledger = new Ledger();
    const consumer = await streamer.createConsumer(stream, { mode: 'resumable', group: 'g', mkStream: true });
    void drain(consumer, (message) => ledger.handledMessage(message));

    await sendMany(await streamer.createProducer(stream), ledger, 300);
    const { lost, duplicates } = await ledger.settled();

    expect({ lost, duplicates: duplicates.size, order: ledger.order.length }).toEqual({
      lost: [],
      duplicates: 0,
      order: 300,
    });
  });

  it('a half-open connection is detected, and no confirmed message is lost', async () => {
    const stream = uniqueName('half-open');
    const streamer = await bench.streamer(proxy.url, { blockTimeout: 500 });
    const ledger = new Ledger();
    const consumer = await streamer.createConsumer(stream, { mode: 'resumable', group: 'g', mkStream: true });
    void drain(consumer, (message) => ledger.handledMessage(message));
    const producer = await streamer.createProducer(stream);
    await sendMany(producer, ledger, 100, { prefix: 'before' });

    proxy.stall();
    const load = sendMany(producer, ledger, 100, { prefix: 'during' });
    // The reader notices after 2.5 s. Should it wait for the control connection just then, that notices after 10 s.
    await until('the loss is detected', () => streamer.status === 'reconnecting', 20_000);
    proxy.unstall();
    await load;
    const { lost } = await ledger.settled();

    expect({ lost, confirmed: ledger.confirmed }).toEqual({ lost: [], confirmed: 200 });
    expect(streamer.status).toBe('connected');
  });
});
