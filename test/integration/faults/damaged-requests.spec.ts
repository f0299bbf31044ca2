import { beforeEach, describe, expect, it } from '@jest/globals';

import { SendFailedError } from '../../../lib/errors.js';
import { FaultBench, drain, sendMany } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { Ledger } from '../../support/ledger.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;
let proxy: FaultProxy;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  proxy = await bench.proxy(server);
});

/** Redis answers what it cannot read with `ERR Protocol error`, and closes the connection. */
describe('a request that the server cannot read', () => {
  it('costs a consumer its connection and nothing else when it is a read or an acknowledgement', async () => {
    const streamer = await bench.streamer(proxy.url, { blockTimeout: 200 });
    const ledger = new Ledger();
    const consumer = await streamer.createConsumer('s', {
      mode: 'resumable',
      group: 'g',
      autoCommit: 'rolling',
      autoCommitInterval: 5,
      autoStreamReset: 'earliest',
      mkStream: true,
    });
    const reading = drain(consumer, (message) => {
      ledger.handledMessage(message);
      consumer.ack(message);
    });
    const producer = await (await bench.streamer(server.url)).createProducer('s');
    for (const [round, role] of (['reader', 'control', 'reader', 'control'] as const).entries()) {
      const { accepted } = proxy;
      proxy.corruptRequest(role);
      await sendMany(producer, ledger, 50, { prefix: `m${round}` });
      await until(`the ${role} has reconnected`, () => proxy.accepted > accepted);
    }

    expect(await ledger.settled()).toEqual({ lost: [], duplicates: new Map() });
    const admin = bench.admin(server.url);
    await until('nothing is pending', async () => (await admin.xpending('s', 'g'))[0] === 0);
    await consumer.end();
    await reading;
    // The damaged request may be one of the next handshake; that is a failed attempt to connect, and is logged as one.
    const isRefusal = (line: string): boolean => line.includes('Protocol error') && !line.includes('cannot be reached');
    expect(bench.log.filter(isRefusal)).toEqual([]);
  });

  it('fails the send, at once and as not stored, when it is an append', async () => {
    const streamer = await bench.streamer(proxy.url);
    const producer = await streamer.createProducer('s');
    await producer.send('first');
    proxy.corruptRequest('writer');

    await expect(producer.send('second')).rejects.toThrow(SendFailedError);
    await producer.send('third');
    const entries = await bench.admin(server.url).xrange('s', '-', '+');
    expect(entries.map(([, fields]) => fields[1])).toEqual(['first', 'third']);
  });
});
