import { beforeEach, describe, expect, it } from '@jest/globals';

import type { RedisStreamer } from '../../../lib/engine/streamer.js';
import { UncertainSendError } from '../../../lib/errors.js';
import { FaultBench, drain, sendMany } from '../../support/fault-bench.js';
import { Ledger } from '../../support/ledger.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
});

const ledgerOf = async (streamer: RedisStreamer): Promise<Ledger> => {
  const ledger = new Ledger();
  const consumer = await streamer.createConsumer('s', {
    ...({ mode: 'load-balanced', group: 'g', mkStream: true } as const),
    ...({ autoCommit: 'rolling', autoCommitInterval: 0 } as const),
  });
  void drain(consumer, (message) => {
    ledger.handledMessage(message);
    consumer.ack(message);
  });
  return ledger;
};

describe('a suspended server', () => {
  it('is not detected when it resumes soon, and no message is repeated', async () => {
    const streamer = await bench.streamer(server.url, { blockTimeout: 500 });
    const ledger = await ledgerOf(streamer);
    const producer = await streamer.createProducer('s');
    await sendMany(producer, ledger, 50, { prefix: 'before' });
    server.pause();
    const load = sendMany(producer, ledger, 50, { prefix: 'during' });
    await new Promise((resolve) => setTimeout(resolve, 700));
    server.resume();
    await load;

    expect(await ledger.settled()).toEqual({ lost: [], duplicates: new Map() });
    expect([ledger.confirmed, streamer.connections.reconnects]).toEqual([100, 0]);
  });

  it('loses its connections when it stays suspended, and no confirmed message is lost when it resumes', async () => {
    const streamer = await bench.streamer(server.url, { blockTimeout: 300, timeout: 3_000 });
    const ledger = await ledgerOf(streamer);
    const producer = await streamer.createProducer('s', { maxBatch: 10 });
    await sendMany(producer, ledger, 100, { prefix: 'before' });
    server.pause();
    const load = sendMany(producer, ledger, 100, { prefix: 'during' });
    await until('reader and writer have dropped their connections', async () => {
      const [writer] = streamer.connections.ofRole('writer');
      return writer?.state === 'connecting' && streamer.status === 'reconnecting';
    });
    server.resume();
    await load;
    await until('all connections are back', () => streamer.status === 'connected');
    await sendMany(producer, ledger, 100, { prefix: 'after' });
    const { lost } = await ledger.settled();

    expect(lost).toEqual([]);
    // Sends that waited longer than the timeout have failed: the uncertain ones may be in the stream, the others must
    // not be.
    expect(ledger.confirmed + ledger.failures.size).toBe(300);
    expect(ledger.uncertain).toBeGreaterThan(0);
    const admin = bench.admin(server.url);
    const inStream = new Set((await admin.xrange('s', '-', '+')).map(([, fields]) => fields[1]));
    const failed = [...ledger.failures].filter(([, error]) => !(error instanceof UncertainSendError));
    expect(failed.filter(([payload]) => inStream.has(payload))).toEqual([]);
    await until('nothing is pending', async () => (await admin.xpending('s', 'g'))[0] === 0);
  });
});

describe('a server that pauses its clients', () => {
  it.each(['ALL', 'WRITE'])(
    '(%s) for less than the reply timeout of a read loses and repeats nothing',
    async (mode) => {
      const streamer = await bench.streamer(server.url, { blockTimeout: 500 });
      const ledger = await ledgerOf(streamer);
      const producer = await streamer.createProducer('s');
      await sendMany(producer, ledger, 50, { prefix: 'before' });
      // Redis 6.0 can only pause all clients; it does not know the mode.
      const admin = bench.admin(server.url);
      await admin.call('CLIENT', 'PAUSE', '1000', mode).catch(() => admin.call('CLIENT', 'PAUSE', '1000'));
      await sendMany(producer, ledger, 50, { prefix: 'during' });

      expect(await ledger.settled()).toEqual({ lost: [], duplicates: new Map() });
    },
  );

  it('for longer than the reply timeout of a read loses no confirmed message', async () => {
    const streamer = await bench.streamer(server.url, { blockTimeout: 200 });
    const ledger = await ledgerOf(streamer);
    const producer = await streamer.createProducer('s');
    await sendMany(producer, ledger, 50, { prefix: 'before' });
    await bench.admin(server.url).call('CLIENT', 'PAUSE', '3500');
    await sendMany(producer, ledger, 50, { prefix: 'during' });
    const { lost } = await ledger.settled();

    expect(lost).toEqual([]);
  });
});

describe('a server that is busy with a script', () => {
  it('refuses all other commands, and consumers and producers continue afterwards', async () => {
    const admin = bench.admin(server.url);
    await admin.config('SET', 'lua-time-limit', '50');
    const streamer = await bench.streamer(server.url, { blockTimeout: 300 });
    const ledger = await ledgerOf(streamer);
    const producer = await streamer.createProducer('s');
    const script = bench
      .admin(server.url)
      .eval('while true do end', 0)
      .catch((error: Error) => error.message);
    await until('the server replies BUSY', async () =>
      (await admin.ping().catch((error: Error) => error.message)).startsWith('BUSY'),
    );
    const load = sendMany(producer, ledger, 50);
    await until('the reader was refused', () => bench.log.some((line) => line.includes('BUSY')));
    await admin.script('KILL');
    await load;
    const { lost } = await ledger.settled();

    expect({ lost, confirmed: ledger.confirmed, failures: ledger.failures }).toEqual({
      lost: [],
      confirmed: 50,
      failures: new Map(),
    });
    expect(await script).toContain('killed');
  });
});
