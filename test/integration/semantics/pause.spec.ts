import { describe, expect, it } from '@jest/globals';
import type { RedisStreamer, StreamConsumer } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { consumersOf, numbers, pendingOf, sendNumbers, take, takeTexts, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();

const balanced = {
  mode: 'load-balanced',
  autoStreamReset: 'earliest',
  autoCommit: 'disabled',
  mkStream: true,
  autoClaimIdle: 600,
  autoClaimInterval: 50,
} as const;
const resumable = { mode: 'resumable', autoStreamReset: 'earliest', autoCommit: 'disabled', mkStream: true } as const;
const realTime = { mode: 'real-time', autoStreamReset: 'earliest' } as const;

async function stateOf(streamer: RedisStreamer): Promise<unknown> {
  const { isHealthy, loops } = await streamer.health();
  return { isHealthy, states: loops.map(({ state }) => state), by: loops.flatMap((loop) => pausedBy(loop)) };
}

function pausedBy({ streams: read }: { streams: ReadonlyArray<{ pausedBy: unknown }> }): unknown[] {
  return read.map((stream) => stream.pausedBy);
}

function buffered(streamer: RedisStreamer, count: number): Promise<void> {
  return until(`${count} messages are buffered`, async () => (await streamer.health()).loops[0]?.buffered === count);
}

/** Long enough for a message to arrive that must not. */
async function nothingComes(consumer: StreamConsumer): Promise<void> {
  await expect(consumer.next({ signal: AbortSignal.timeout(300) })).rejects.toMatchObject({ name: 'TimeoutError' });
}

describe('a paused consumer', () => {
  it.each([
    ['load-balanced', balanced, 1],
    ['resumable', { ...resumable, group: 'g' }, 1],
    ['real-time', realTime, 0],
  ] as const)('takes no entry that comes later, and continues where it stopped: %s', async (_, options, held) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect({ blockTimeout: 30_000 });
    const consumer = (await streamer.createConsumer(stream, options)) as unknown as StreamConsumer;
    const producer = await streamer.createProducer(stream);
    await sendNumbers(producer, 0, 0);
    expect(await takeTexts(consumer, 1)).toEqual(['0']);
    expect(consumer.isPaused).toBe(false);

    const paused = consumer.pause();
    expect(consumer.isPaused).toBe(true);
    await paused;
    await sendNumbers(producer, 1, 5);
    await nothingComes(consumer);
    const { groupId } = consumer;
    expect(groupId === undefined ? [] : await pendingOf(streams.redis, stream, groupId)).toHaveLength(held);
    expect(await stateOf(streamer)).toEqual({ isHealthy: true, states: ['paused'], by: ['consumer'] });

    await consumer.resume();
    expect(consumer.isPaused).toBe(false);
    expect(await takeTexts(consumer, 5)).toEqual(numbers(1, 5));
    expect(await stateOf(streamer)).toMatchObject({ isHealthy: true, by: [undefined] });
  });

  it('gives what it has read and not handed out back to its group, whose other consumers handle it as new', async () => {
    const stream = uniqueName('stream');
    const [one, two] = [await streams.connect(), await streams.connect()];
    const first = await one.createConsumer(stream, { ...balanced, group: 'g' });
    await sendNumbers(await one.createProducer(stream), 0, 9);
    await take(first as unknown as StreamConsumer, 2);
    await buffered(one, 8);

    await first.pause();
    expect((await one.health()).loops[0]?.buffered).toBe(0);
    const second = await two.createConsumer(stream, { ...balanced, group: 'g' });
    const taken = await take(second as unknown as StreamConsumer, 8);
    expect(taken.map((message) => message.text()).sort()).toEqual(numbers(2, 9));
    expect(taken.map(({ deliveryCount }) => deliveryCount)).toEqual(Array<number>(8).fill(1));
    await first.resume();
    await nothingComes(first as unknown as StreamConsumer);
  });

  it('has what it gave back first when it is resumed and no other consumer took it, once and in order', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { ...balanced, batchSize: 5, prefetch: 5 });
    const producer = await streamer.createProducer(stream);
    await sendNumbers(producer, 0, 19);
    await buffered(streamer, 5);
    await consumer.pause();
    await consumer.pause();
    await consumer.resume();
    await consumer.resume();

    const taken = await take(consumer as unknown as StreamConsumer, 20);
    expect(taken.map((message) => message.text())).toEqual(numbers(0, 19));
    expect(taken.map(({ deliveryCount }) => deliveryCount)).toEqual(Array<number>(20).fill(1));
    await nothingComes(consumer as unknown as StreamConsumer);
  });

  it.each([
    ['resumable', { ...resumable, group: 'g' }],
    ['resumable, without acknowledgements', { ...resumable, autoCommit: 'immediate', group: 'g' }],
    ['load-balanced, without acknowledgements', { ...balanced, autoCommit: 'immediate', group: 'g' }],
    ['load-balanced, without claims', { ...balanced, autoClaimInterval: false, group: 'g' }],
    ['real-time', realTime],
  ] as const)('keeps what it has read where no other consumer could claim it: %s', async (_, options) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = (await streamer.createConsumer(stream, {
      ...options,
      batchSize: 5,
      prefetch: 5,
    })) as unknown as StreamConsumer;
    const producer = await streamer.createProducer(stream);
    await sendNumbers(producer, 0, 9);
    await buffered(streamer, 5);
    await consumer.pause();
    await nothingComes(consumer);
    await consumer.resume();

    expect(await takeTexts(consumer, 10)).toEqual(numbers(0, 9));
    await nothingComes(consumer);
  });

  it('sends acknowledgements, keeps the leases of what was handed out, and keeps its name', async () => {
    const stream = uniqueName('stream');
    const [one, two] = [await streams.connect(), await streams.connect()];
    const first = await one.createConsumer(stream, { ...balanced, group: 'g', consumer: 'first' });
    const second = await two.createConsumer(stream, { ...balanced, group: 'g', consumer: 'second' });
    await second.pause();
    await sendNumbers(await one.createProducer(stream), 0, 1);
    const [acked, running] = await take(first as unknown as StreamConsumer, 2);
    await first.pause();
    await second.resume();

    first.ack(acked as never);
    await first.commit();
    expect(await pendingOf(streams.redis, stream, 'g')).toMatchObject([{ id: running?.id, consumer: 'first' }]);
    // Twice the claim idle time of the other consumer, which looks every 50 ms.
    await expect(second.next({ signal: AbortSignal.timeout(1_200) })).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(await consumersOf(streams.redis, stream, 'g')).toContain('first');
  });

  it('reads no stream that is assigned while it is paused, and can be moved', async () => {
    const [stream, other] = [uniqueName('stream'), uniqueName('stream')];
    const streamer = await streams.connect();
    const consumer = (await streamer.createConsumer(stream, {
      ...resumable,
      group: 'g',
      batchSize: 5,
      prefetch: 5,
    })) as unknown as StreamConsumer;
    await sendNumbers(await streamer.createProducer(stream), 0, 9);
    await sendNumbers(await streamer.createProducer(other), 100, 100);
    await buffered(streamer, 5);
    await consumer.pause();
    await consumer.assign(other);
    await consumer.unassign(other);
    await consumer.rewind('beginning');
    await nothingComes(consumer);

    await consumer.resume();
    expect(await takeTexts(consumer, 10)).toEqual(numbers(0, 9));
    await nothingComes(consumer);
  });

  it('ends in order, and its successor is given everything', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { ...resumable, group: 'g', batchSize: 5, prefetch: 5 });
    await sendNumbers(await streamer.createProducer(stream), 0, 9);
    await buffered(streamer, 5);
    await consumer.pause();
    await consumer.end();
    await expect(consumer.pause()).rejects.toMatchObject({ code: 'ERR_CONSUMER_ENDED' });
    await expect(consumer.resume()).rejects.toMatchObject({ code: 'ERR_CONSUMER_ENDED' });

    const successor = await streamer.createConsumer(stream, { ...resumable, group: 'g' });
    expect(await takeTexts(successor as unknown as StreamConsumer, 10)).toEqual(numbers(0, 9));
  });
});
