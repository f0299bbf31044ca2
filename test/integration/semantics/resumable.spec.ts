import { afterEach, describe, expect, it } from '@jest/globals';
import type { ResumableOptions, StreamMessage } from '../../../lib/index.js';
import { startConsumerProcess } from '../../support/consumer-process.js';
import type { ConsumerProcess } from '../../support/consumer-process.js';
import { uniqueName } from '../../support/redis.js';
import { consumersOf, numbers, pendingOf, sendNumbers, take, takeTexts, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();
const children: ConsumerProcess[] = [];
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.kill()));
});

describe('resumable', () => {
  const policies: Array<Partial<ResumableOptions>> = [
    { autoCommit: 'immediate' },
    { autoCommit: 'delayed', autoCommitDelay: 0 },
    { autoCommit: 'delayed', autoCommitDelay: 0, autoCommitInterval: 0 },
    { autoCommit: 'delayed' },
  ];
  it.each(policies)(
    'scenario 4: a new consumer resumes at the position of its group, nothing skipped or repeated (%j)',
    async (policy) => {
      const [stream, a, b] = [uniqueName('stream'), uniqueName('a'), uniqueName('b')];
      const streamer = await streams.connect();
      const producer = await streamer.createProducer(stream);
      const options = { ...policy, mode: 'resumable' } as const;
      await sendNumbers(producer, 0, 4);

      const half = await streamer.createConsumer(stream, { ...options, group: a, autoStreamReset: 'latest' });
      const full = await streamer.createConsumer(stream, { ...options, group: b, autoStreamReset: 'earliest' });
      expect(await takeTexts(full, 5)).toEqual(numbers(0, 4));
      await sendNumbers(producer, 5, 9);
      await full.end();

      expect(await takeTexts(half, 5)).toEqual(numbers(5, 9));
      const resumed = await streamer.createConsumer(stream, { ...options, group: b, autoStreamReset: 'earliest' });
      const messages = await take(resumed, 5);
      expect(messages.map((message) => message.text())).toEqual(numbers(5, 9));
      expect(messages.map(({ deliveryCount }) => deliveryCount)).toEqual([1, 1, 1, 1, 1]);
      await producer.send('last');
      expect(await takeTexts(resumed, 1)).toEqual(['last']);
      expect(await takeTexts(half, 1)).toEqual(['last']);
    },
  );

  it('scenario 5: with rolling, messages acked before SIGKILL stay acked and the rest is delivered again', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const options = {
      mode: 'resumable',
      group,
      autoStreamReset: 'earliest',
      autoCommit: 'rolling',
      autoCommitInterval: 100,
    } as const;
    await sendNumbers(producer, 0, 4);
    const child = await startConsumerProcess({
      connection: streams.url,
      streamKey: stream,
      options,
      read: 5,
      ack: 4,
      commit: false,
    });
    children.push(child);
    expect(child.read).toEqual(numbers(0, 4));
    // Killed before more is sent, because messages that the child buffers would count as delivered.
    await until(
      'the acks have reached the server',
      async () => (await pendingOf(streams.redis, stream, group)).length === 1,
    );
    await killAndLeave(child);
    await sendNumbers(producer, 5, 9);

    const consumer = await streamer.createConsumer(stream, options);
    const messages = await take(consumer, 6);
    expect(messages.map((message) => message.text())).toEqual(numbers(4, 9));
    expect(messages.map(({ deliveryCount }) => deliveryCount)).toEqual([2, 1, 1, 1, 1, 1]);
  });

  it('scenario 5: with disabled, messages committed before SIGKILL stay acked and the rest is delivered again', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const options = { mode: 'resumable', group, autoStreamReset: 'earliest', autoCommit: 'disabled' } as const;
    await sendNumbers(producer, 0, 4);
    const child = await startConsumerProcess({
      connection: streams.url,
      streamKey: stream,
      options,
      read: 5,
      ack: 4,
      commit: true,
    });
    children.push(child);
    await sendNumbers(producer, 5, 9);
    // The child has prefetched these messages: its buffer is lost with it.
    await until(
      'the child has buffered 5 to 9',
      async () => (await pendingOf(streams.redis, stream, group)).length === 6,
    );
    await child.kill();

    const consumer = await streamer.createConsumer(stream, options);
    expect(await takeTexts(consumer, 6)).toEqual(numbers(4, 9));
  });

  it('scenario 5: a consumer of a group that never committed receives the pending entries before any new message', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const options = { mode: 'resumable', group, autoStreamReset: 'earliest', autoCommit: 'disabled' } as const;
    await sendNumbers(producer, 0, 4);
    const child = await startConsumerProcess({
      connection: streams.url,
      streamKey: stream,
      options,
      read: 5,
      ack: 4,
      commit: false,
    });
    children.push(child);
    await killAndLeave(child);
    await sendNumbers(producer, 5, 9);

    const consumer = await streamer.createConsumer(stream, { ...options, batchSize: 2 });
    const messages = await take(consumer, 10);
    expect(messages.map((message) => message.text())).toEqual(numbers(0, 9));
    expect(messages.map(({ deliveryCount }) => deliveryCount)).toEqual([2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
  });

  it('scenario 5: rolling sends acks by itself, and at once with commit()', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(stream), 0, 4);
    const consumer = await streamer.createConsumer(stream, {
      mode: 'resumable',
      group,
      autoStreamReset: 'earliest',
      autoCommit: 'rolling',
      autoCommitInterval: 600_000,
    });
    const messages = await take(consumer, 5);
    for (const message of messages.slice(0, 4)) consumer.ack(message);
    await consumer.commit();
    expect(await pendingOf(streams.redis, stream, group)).toHaveLength(1);
    await consumer.end();

    const quick = { mode: 'resumable', group, autoCommit: 'rolling', autoCommitInterval: 50 } as const;
    const next = await streamer.createConsumer(stream, quick);
    for (const message of await take(next, 1)) next.ack(message);
    await until(
      'the ack has reached the server',
      async () => (await pendingOf(streams.redis, stream, group)).length === 0,
    );
  });

  it.each(['immediate', 'delayed'] as const)(
    'scenario 6: ack() and commit() are refused with %s',
    async (autoCommit) => {
      const stream = uniqueName('stream');
      const streamer = await streams.connect();
      await sendNumbers(await streamer.createProducer(stream), 0, 0);
      const options = {
        mode: 'resumable',
        group: uniqueName('group'),
        autoStreamReset: 'earliest',
        autoCommit,
      } as const;
      const consumer = await streamer.createConsumer(stream, options);
      const [message] = (await take(consumer, 1)) as [StreamMessage];

      const acking = consumer as unknown as { ack(message: StreamMessage): void; commit(): Promise<void> };
      await expect(acking.commit()).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_OPERATION' });
      expect(() => acking.ack(message)).toThrow(
        expect.objectContaining({
          code: 'ERR_UNSUPPORTED_OPERATION',
          message: expect.stringMatching(new RegExp(`ack\\(\\).*'${autoCommit}'.*'rolling' or 'disabled'`)),
        }),
      );
    },
  );

  it.each(['rolling', 'disabled'] as const)(
    'scenario 6: end() commits acked messages before the consumer leaves (%s)',
    async (autoCommit) => {
      const [stream, group] = [uniqueName('stream'), uniqueName('group')];
      const streamer = await streams.connect();
      await sendNumbers(await streamer.createProducer(stream), 0, 9);
      const options = { mode: 'resumable', group, autoStreamReset: 'earliest', autoCommit } as const;
      const consumer = await streamer.createConsumer(stream, options);
      for (const { streamKey, shardId, id } of await take(consumer, 10)) consumer.ackWith(streamKey, shardId, id);

      await consumer.end();

      expect(await pendingOf(streams.redis, stream, group)).toEqual([]);
      expect(await consumersOf(streams.redis, stream, group)).toEqual([]);
    },
  );

  it('a consumer that ends with entries pending keeps its name, under which they are delivered again', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(stream), 0, 1);
    const options = { mode: 'resumable', group, autoStreamReset: 'earliest', autoCommit: 'disabled' } as const;
    const consumer = await streamer.createConsumer(stream, options);
    await take(consumer, 1);
    await consumer.end();

    expect(consumer.groupId).toBe(group);
    expect(consumer.consumerId).toBe(group);
    expect(await consumersOf(streams.redis, stream, group)).toEqual([group]);
    const counts = (await pendingOf(streams.redis, stream, group)).map(({ deliveryCount }) => deliveryCount);
    expect(counts).toEqual([1, 0]);
  });

  it('delayed acks a message only after its delay, and end() acks all that was handed out', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(stream), 0, 2);
    const options = { mode: 'resumable', group, autoStreamReset: 'earliest' } as const;
    const consumer = await streamer.createConsumer(stream, { ...options, autoCommitDelay: 60_000 });
    await take(consumer, 2);
    expect(await pendingOf(streams.redis, stream, group)).toHaveLength(3);

    await consumer.end();
    expect(await pendingOf(streams.redis, stream, group)).toHaveLength(1);

    const quick = await streamer.createConsumer(stream, { ...options, autoCommitDelay: 50, autoCommitInterval: 10 });
    expect(await takeTexts(quick, 1)).toEqual(['2']);
    await until('the ack has been sent', async () => (await pendingOf(streams.redis, stream, group)).length === 0);
  });

  it('immediate does not deliver entries again that it took from the pending entries list of an earlier run', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(stream), 0, 2);
    const options = { mode: 'resumable', group, autoStreamReset: 'earliest' } as const;
    const before = await streamer.createConsumer(stream, { ...options, autoCommit: 'disabled' });
    await take(before, 3);
    await before.end();

    const consumer = await streamer.createConsumer(stream, { ...options, autoCommit: 'immediate' });
    expect(await takeTexts(consumer, 3)).toEqual(numbers(0, 2));
    await consumer.end();

    expect(await pendingOf(streams.redis, stream, group)).toEqual([]);
  });
});

/**
 * Kills a child and waits until the server has closed its connection; before that the server would deliver the next
 * messages to its last blocked read.
 */
async function killAndLeave(child: ConsumerProcess): Promise<void> {
  await child.kill();
  await until('the server has closed the connections of the child', async () => (await streams.readers()) === 0);
}
