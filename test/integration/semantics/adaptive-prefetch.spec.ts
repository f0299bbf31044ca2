import { setTimeout as pause } from 'node:timers/promises';

import { expect, it } from '@jest/globals';
import { KeyHashSharder } from '../../../lib/index.js';
import type { StreamConsumer } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { uniqueName } from '../../support/redis.js';
import { pendingOf, take, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const streams = useStreams();

const OPTIONS = {
  mode: 'load-balanced',
  group: 'g',
  autoStreamReset: 'earliest',
  autoCommit: 'disabled',
  mkStream: true,
} as const;
const LEAST = 20;

/** A consumer of a stream with so many messages, and the number of messages that it keeps. */
async function consumerOf(count: number): Promise<{ consumer: StreamConsumer; buffered: () => Promise<number> }> {
  const stream = uniqueName('stream');
  const streamer = await streams.connect();
  const producer = await streamer.createProducer(stream);
  for (let sent = 0; sent < count; sent += 1) producer.enqueue('.');
  await producer.flush();
  const consumer = await streamer.createConsumer(stream, OPTIONS);
  let taken = 0;
  const next = consumer.next.bind(consumer);
  consumer.next = async (options) => {
    const message = await next(options);
    taken += 1;
    return message;
  };
  const buffered = async (): Promise<number> => (await pendingOf(streams.redis, stream, OPTIONS.group)).length - taken;
  return { consumer, buffered };
}

it('prefetch: an application that takes messages at once gets many times the least number with a read', async () => {
  const { consumer, buffered } = await consumerOf(5_000);
  await take(consumer, 3_000);
  await until('the buffer is large', async () => (await buffered()) >= 5 * LEAST);
});

it('prefetch: an application that works slowly keeps few messages from the other consumers', async () => {
  const { consumer, buffered } = await consumerOf(500);
  await until('the first page is there', async () => (await buffered()) === LEAST);
  for (let taken = 0; taken < 40; taken += 1) {
    await consumer.next();
    // The work for the message.
    await pause(5);
    expect(await buffered()).toBeLessThanOrEqual(LEAST);
  }
});

it('prefetch: messages that are collected in batches count with the work for the batch', async () => {
  const { consumer, buffered } = await consumerOf(2_000);
  for (let batch = 0; batch < 4; batch += 1) {
    await take(consumer, 100);
    // The work for the batch.
    await pause(500);
  }
  await until('what was read ahead at first is used up', async () => {
    await consumer.next();
    return (await buffered()) <= LEAST;
  });
});

it('prefetch: an owner of many shards waits for entries of all of them with one read', async () => {
  const shards = 48;
  const server = await bench.server();
  const admin = bench.admin(server.url);
  const streamer = await bench.streamer(server.url);
  const producer = await streamer.createProducer('orders', { sharder: new KeyHashSharder(shards) });
  const consumer = await streamer.createConsumer('orders', { ...OPTIONS, shards, shardOwnership: 'owned' });
  const assigned = new Set<number>();
  consumer.on('assigned', ({ shardId }) => assigned.add(shardId));
  await until('it owns all', () => assigned.size === shards);
  await producer.send('.');
  await consumer.next();
  const reads = async (): Promise<number> =>
    Number(/cmdstat_xread:calls=(\d+)/.exec(await admin.info('commandstats'))?.[1] ?? 0);
  let before = -1;
  await until('the reads that follow the first message end', async () => {
    const last = before;
    // Three times as long as a read blocks that asks for a part of the shards.
    await pause(300);
    before = await reads();
    return last === before;
  });
});
