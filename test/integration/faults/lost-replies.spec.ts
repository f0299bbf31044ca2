import { beforeEach, describe, expect, it } from '@jest/globals';

import { RedisStreamsError, UncertainSendError } from '../../../lib/errors.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { Ledger } from '../../support/ledger.js';
import { uniqueName } from '../../support/redis.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;
let proxy: FaultProxy;
let stream: string;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  proxy = await bench.proxy(server);
  stream = uniqueName('lost-replies');
});

describe('a send whose reply is lost', () => {
  it('is repeated by default, so the message is in the stream twice and never missing', async () => {
    const producer = await (await bench.streamer(proxy.url)).createProducer(stream);
    await producer.send('first');

    const torn = proxy.tearReply(0, 'writer');
    const receipt = await producer.send('second');
    await torn;

    const entries = await bench.admin(server.url).xrange(stream, '-', '+');
    expect(entries.map(([, fields]) => fields[1])).toEqual(['first', 'second', 'second']);
    expect(receipt.id).toBe(entries[2]?.[0]);
  });

  it('is reported as uncertain with delivery at-most-once, and later sends succeed', async () => {
    const streamer = await bench.streamer(proxy.url);
    const producer = await streamer.createProducer(stream, { delivery: 'at-most-once' });
    await producer.send('first');

    const torn = proxy.tearReply(0, 'writer');
    const error: unknown = await producer.send('second').catch((failure: unknown) => failure);
    await torn;
    await producer.send('third');

    expect(error).toBeInstanceOf(UncertainSendError);
    expect(error).toMatchObject({ code: 'ERR_SEND_UNCERTAIN', streamKey: stream, retryable: true });
    const entries = await bench.admin(server.url).xrange(stream, '-', '+');
    expect(entries.map(([, fields]) => fields[1])).toEqual(['first', 'second', 'third']);
  });

  it('never duplicates a message with delivery at-most-once', async () => {
    const streamer = await bench.streamer(proxy.url);
    const producer = await streamer.createProducer(stream, { delivery: 'at-most-once', maxBatch: 5 });
    const ledger = new Ledger();
    for (let round = 0; round < 10; round += 1) {
      const torn = proxy.tearReply(9 * round, 'writer');
      const sends = Array.from({ length: 50 }, (_, index) => `${round}-${index}`);
      await Promise.all(sends.map((payload) => ledger.sent(payload, producer.send(payload))));
      await torn;
    }

    const entries = await bench.admin(server.url).xrange(stream, '-', '+');
    const payloads = entries.map(([, fields]) => fields[1]);
    expect(new Set(payloads).size).toBe(payloads.length);
    expect(ledger.failures.size).toBe(ledger.uncertain);
    expect(ledger.confirmed + ledger.uncertain).toBe(500);
    expect(ledger.uncertain).toBeGreaterThan(0);
  });

  it('keeps the order of all messages when everything is repeated', async () => {
    const producer = await (await bench.streamer(proxy.url)).createProducer(stream, { maxBatch: 10 });
    const receipts = Array.from({ length: 200 }, (_, index) => producer.send(String(index)));
    for (let round = 0; round < 5; round += 1) await proxy.tearReply(30, 'writer');
    const sequences = (await Promise.all(receipts)).map(({ sequence }) => sequence);

    expect(sequences).toEqual([...sequences].sort((a, b) => (a < b ? -1 : 1)));
    expect(new Set(sequences).size).toBe(200);
  });
});

describe('a read whose reply is lost', () => {
  it.each(['resumable', 'load-balanced'] as const)('is recovered with delivery count 1 (%s)', async (mode) => {
    const streamer = await bench.streamer(proxy.url);
    const consumer = await streamer.createConsumer(stream, { mode, group: 'g', mkStream: true, autoCommit: 'rolling' });
    const torn = proxy.tearReply(20, 'reader');
    const admin = bench.admin(server.url);
    for (const payload of ['a', 'b', 'c']) await admin.xadd(stream, '*', 'msg', payload);
    await torn;

    const messages = [await consumer.next(), await consumer.next(), await consumer.next()];

    expect(messages.map((message) => [message.text(), message.deliveryCount])).toEqual([
      ['a', 1],
      ['b', 1],
      ['c', 1],
    ]);
    const pending = (await admin.xpending(stream, 'g', '-', '+', 10)) as Array<[string, string, number, number]>;
    expect(pending.map(([, , , count]) => count)).toEqual([1, 1, 1]);
  });

  it('is recovered when the server still serves the old connection, which only the client knows to be dead', async () => {
    const streamer = await bench.streamer(proxy.url, { blockTimeout: 1_000 });
    const consumer = await streamer.createConsumer(stream, { mode: 'resumable', group: 'g', mkStream: true });
    const admin = bench.admin(server.url);
    const blocked = async (): Promise<number> =>
      Number(/blocked_clients:(\d+)/.exec(await admin.info('clients'))?.[1] ?? 0);
    await until('the read is blocked', async () => (await blocked()) === 1);

    proxy.abandon('reader');
    await until('old and new read are both blocked', async () => (await blocked()) === 2);
    // The server serves the connection that blocked first, which is the dead one.
    await admin.xadd(stream, '*', 'msg', 'to a ghost');

    const message = await consumer.next({ signal: AbortSignal.timeout(5_000) });
    expect([message.text(), message.deliveryCount]).toEqual(['to a ghost', 1]);
  });

  it.each(['resumable', 'load-balanced'] as const)(
    'is recovered in order when the next read was sent while it arrived (%s)',
    async (mode) => {
      const admin = bench.admin(server.url);
      const sent = Array.from({ length: 500 }, (_, index) => String(index).padEnd(4_000));
      for (const payload of sent) await admin.xadd(stream, '*', 'msg', payload);
      // A page has 400 KB, and there are places for three of them.
      const options = {
        mode,
        batchSize: 100,
        prefetch: 300,
        autoStreamReset: 'earliest',
        autoCommit: 'disabled',
      } as const;
      for (const [round, bytes] of [20, 3_000, 70_000, 250_000, 402_000].entries()) {
        const streamer = await bench.streamer(proxy.url);
        const torn = proxy.tearReply(bytes, 'reader', round % 2);
        const consumer = await streamer.createConsumer(stream, { ...options, group: `g${round}` });
        const messages = [];
        while (messages.length < sent.length)
          messages.push(await consumer.next({ signal: AbortSignal.timeout(10_000) }));
        await torn;
        expect(messages.map((message) => message.text())).toEqual(sent);
        expect(new Set(messages.map(({ deliveryCount }) => deliveryCount))).toEqual(new Set([1]));
        await streamer.disconnect();
      }
    },
  );

  it('does not redeliver messages that are in flight in handlers', async () => {
    const streamer = await bench.streamer(proxy.url);
    const options = { mode: 'load-balanced', group: 'g', mkStream: true, autoCommit: 'rolling' } as const;
    const consumer = await streamer.createConsumer(stream, options);
    const producer = await streamer.createProducer(stream);
    await producer.send('in hand');
    const inFlight = await consumer.next();

    for (let round = 0; round < 3; round += 1) {
      const before = proxy.accepted;
      proxy.cut('rst', 'reader');
      await until('the reader is back', () => proxy.accepted > before && streamer.status === 'connected');
      await producer.send(`after ${round}`);
      expect((await consumer.next()).text()).toBe(`after ${round}`);
    }

    const [pending] = (await bench.admin(server.url).xpending(stream, 'g', '-', '+', 10)) as Array<
      [string, string, number, number]
    >;
    expect([pending?.[0], pending?.[3]]).toEqual([inFlight.id, 1]);
  });
});

describe('an acknowledgement whose reply is lost', () => {
  it.each([0, 1])('is sent again (%s bytes of the reply came)', async (bytes) => {
    const streamer = await bench.streamer(proxy.url);
    const options = { mode: 'load-balanced', group: 'g', mkStream: true, autoCommit: 'disabled' } as const;
    const consumer = await streamer.createConsumer(stream, options);
    await (await streamer.createProducer(stream)).send('x');
    consumer.ack(await consumer.next());

    const torn = proxy.tearReply(bytes, 'control');
    await consumer.commit();
    await torn;

    expect((await bench.admin(server.url).xpending(stream, 'g'))[0]).toBe(0);
  });

  it('is sent after an outage', async () => {
    const streamer = await bench.streamer(proxy.url);
    const ledger = new Ledger();
    const options = {
      mode: 'load-balanced',
      group: 'g',
      mkStream: true,
      autoCommit: 'rolling',
      autoCommitInterval: 0,
    } as const;
    const consumer = await streamer.createConsumer(stream, options);
    const producer = await streamer.createProducer(stream);
    await Promise.all(
      Array.from({ length: 20 }, (_, index) => ledger.sent(String(index), producer.send(String(index)))),
    );
    await until('ten messages are handed out', async () => {
      ledger.handledMessage(await consumer.next());
      return ledger.handled === 10;
    });
    proxy.refuse();
    proxy.cut('rst');
    void drain(consumer, (message) => {
      ledger.handledMessage(message);
      consumer.ack(message);
    });
    await until('all messages are handled', () => ledger.handled === 20);
    await proxy.accept();

    const admin = bench.admin(server.url);
    await until(
      'only the messages that were never acknowledged are pending',
      async () => (await admin.xpending(stream, 'g'))[0] === 10,
    );
    expect(ledger.account()).toEqual({ lost: [], duplicates: new Map() });
  });
});

describe('reading the pending entries of an earlier process', () => {
  it('loses nothing when the connection is torn at any point', async () => {
    const admin = bench.admin(server.url);
    const keys = ['a', 'b', 'c'];
    const options = { mode: 'resumable', mkStream: true, autoStreamReset: 'earliest', autoCommit: 'rolling' } as const;
    for (const key of keys)
      for (let index = 0; index < 4; index += 1) await admin.xadd(key, '*', 'msg', `${key}${index}`);
    for (let skip = 0; skip < 14; skip += 1) {
      const group = `g${skip}`;
      for (const key of keys) {
        await admin.xgroup('CREATE', key, group, '0');
        await admin.xreadgroup('GROUP', group, group, 'STREAMS', key, '>');
      }
      const streamer = await bench.streamer(proxy.url);
      const opened = await streamer.createConsumer(['d'], { ...options, group });
      const torn = proxy.tearReply(3, 'control', skip);
      for (const key of keys) await retried(() => opened.assign(key));
      const texts = new Set<string>();
      while (texts.size < 12) texts.add((await opened.next({ signal: AbortSignal.timeout(5_000) })).text());
      expect([...texts].sort()).toEqual(keys.flatMap((key) => [0, 1, 2, 3].map((index) => `${key}${index}`)));
      await streamer.disconnect();
      void torn;
    }
  });
});

/** Calls a function once more if it fails, because the package does not repeat this call by itself. */
async function retried(ask: () => Promise<unknown>): Promise<void> {
  await ask().catch((error: unknown) => {
    if (!(error instanceof RedisStreamsError && error.retryable)) throw error;
    return ask();
  });
}
