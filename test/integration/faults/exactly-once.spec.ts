import { beforeEach, describe, expect, it } from '@jest/globals';

import { appendCall, revokeCall } from '../../../lib/redis/scripts/append-batch.js';
import type { AppendCall } from '../../../lib/redis/scripts/append-batch.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { uniqueName } from '../../support/redis.js';
import type { RedisServer } from '../../support/redis-server.js';

const bench = new FaultBench();
let server: RedisServer;
let proxy: FaultProxy;
let stream: string;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  proxy = await bench.proxy(server);
  stream = uniqueName('exactly-once');
});

async function payloads(): Promise<Array<string | undefined>> {
  const entries = await bench.admin(server.url).xrange(stream, '-', '+');
  return entries.map(([, fields]) => fields[1]);
}

function appendOf(payload: string, memory: string, batch: number): AppendCall {
  const requests = [{ id: '*', fields: ['msg', payload] }];
  const copy = { key: stream, memory, requests, limit: [], wantsIds: true };
  return appendCall({ ...copy, batch, oldest: batch, remember: 9_000 }) as AppendCall;
}

/** The scripts were loaded by a producer. */
async function call({ script, keys, args }: AppendCall): Promise<unknown> {
  const plain = args.map((argument) => (typeof argument === 'object' ? Buffer.from(argument) : argument));
  return bench.admin(server.url).evalsha(script.sha, keys.length, ...keys, ...plain);
}

describe('delivery exactly-once', () => {
  it('does not append a message again when only its reply was lost, and returns the original receipt', async () => {
    const producer = await (await bench.streamer(proxy.url)).createProducer(stream, { delivery: 'exactly-once' });
    await producer.send('first');

    const torn = proxy.tearReply(0, 'writer');
    const receipt = await producer.send('second', { headers: { kind: 'test' } });
    await torn;
    const third = await producer.send('third');

    const entries = await bench.admin(server.url).xrange(stream, '-', '+');
    expect(entries.map(([, fields]) => fields[1])).toEqual(['first', 'second', 'third']);
    expect([receipt.id, third.id]).toEqual([entries[1]?.[0], entries[2]?.[0]]);
  });

  it('appends each of 20,000 messages once and in order across 20 cuts, and refuses none', async () => {
    const messages = Array.from({ length: 20_000 }, (_, index) => String(index));
    const producer = await (await bench.streamer(proxy.url)).createProducer(stream, { delivery: 'exactly-once' });
    await producer.send('before');
    for (let cut = 0; cut < 20; cut += 1) {
      // Torn at a different place each time: before, between and after the replies.
      const torn = proxy.tearReply(cut * 7, 'writer');
      for (const message of messages.slice(cut * 1_000, (cut + 1) * 1_000)) producer.enqueue(message);
      await torn;
      await producer.flush();
    }

    expect(await payloads()).toEqual(['before', ...messages]);
  });

  it('remembers its batches for hours, so that a jump of the clock of the server makes it forget none', async () => {
    const producer = await (await bench.streamer(server.url)).createProducer(stream, { delivery: 'exactly-once' });
    await producer.send('first');
    const admin = bench.admin(server.url);
    const [memory] = await admin.keys(`nrs:{${stream}}:producer:${stream}:*`);
    expect(await admin.pttl(memory as string)).toBeGreaterThan(12 * 3_600_000);
  });

  it('does not append a late copy of a batch that the producer has repeated and settled', async () => {
    const producer = await (await bench.streamer(server.url)).createProducer(stream, { delivery: 'exactly-once' });
    for (const payload of ['first', 'second', 'third']) await producer.send(payload);

    const admin = bench.admin(server.url);
    const [memory] = await admin.keys(`nrs:{${stream}}:producer:${stream}:*`);
    for (const batch of [1, 2])
      await expect(call(appendOf('first', memory as string, batch))).rejects.toThrow('revoked');

    expect(await payloads()).toEqual(['first', 'second', 'third']);
  });

  it('does not append a late copy of a batch that was revoked, and does not revoke one that was appended', async () => {
    const producer = await (await bench.streamer(server.url)).createProducer(stream, { delivery: 'exactly-once' });
    await producer.send('first');

    const memory = 'memory';
    const revoke = (batch: number): Promise<unknown> =>
      call(revokeCall({ key: stream, memory, batch, revokesBelow: 4, remember: 9_000 }));
    const appended = await call(appendOf('second', memory, 1));
    expect(await revoke(1)).toEqual(appended);
    expect([await revoke(2), await revoke(2)]).toEqual([null, null]);
    // Batch 3 was in flight behind it: appended now, it would be stored before what is sent again of batch 2.
    for (const batch of [2, 3]) await expect(call(appendOf('late', memory, batch))).rejects.toThrow('revoked');
    await call(appendOf('third', memory, 4));
    expect(await call(appendOf('second', memory, 1)).catch(() => 'refused')).toBe('refused');

    expect(await payloads()).toEqual(['first', 'second', 'third']);
  });

  it('appends each message once and in order when the replies to its batch are lost again and again', async () => {
    const producer = await (await bench.streamer(proxy.url)).createProducer(stream, { delivery: 'exactly-once' });
    await producer.send('first');
    const messages = Array.from({ length: 20 }, (_, index) => String(index));
    let torn = proxy.tearReply(0, 'writer');
    const sent = Promise.all(messages.map((message) => producer.send(message)));
    for (let cut = 1; cut < 6; cut += 1) {
      await torn;
      torn = proxy.tearReply(0, 'writer');
    }
    await torn;
    const receipts = await sent;

    expect(await payloads()).toEqual(['first', ...messages]);
    const [, ...ids] = (await bench.admin(server.url).xrange(stream, '-', '+')).map(([id]) => id);
    expect(receipts.map(({ id }) => id)).toEqual(ids);
  });

  it('keeps a small record next to the stream that expires', async () => {
    const streamer = await bench.streamer(proxy.url, { timeout: 5_000 });
    const producer = await streamer.createProducer(stream, { delivery: 'exactly-once', maxBatch: 10 });
    for (let sent = 0; sent < 2_000; sent += 1) producer.enqueue('message');
    await producer.flush();

    const admin = bench.admin(server.url);
    const [memory] = await admin.keys(`nrs:{${stream}}:producer:${stream}:*`);
    expect(await admin.hlen(memory as string)).toBeLessThanOrEqual(32);
    const ttl = await admin.pttl(memory as string);
    expect(ttl).toBeGreaterThan(0);
    expect(ttl).toBeLessThanOrEqual(24 * 3_600_000);
  });

  it('fails with a clear error when the server does not permit scripts', async () => {
    const admin = bench.admin(server.url);
    await admin.call('ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '+@all', '-@scripting');
    const streamer = await bench.streamer(server.url.replace('//', '//plain:secret@'));
    const producer = await streamer.createProducer(stream, { delivery: 'exactly-once' });

    await expect(producer.send('message')).rejects.toMatchObject({ message: expect.stringContaining('exactly-once') });
    expect(await payloads()).toEqual([]);
  });
});
