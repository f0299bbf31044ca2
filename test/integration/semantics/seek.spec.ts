import { describe, expect, it } from '@jest/globals';
import type { AcknowledgingConsumer, BasicConsumer, Receipt, RedisStreamer } from '../../../lib/index.js';
import { countCommands } from '../../support/connections.js';
import { uniqueName } from '../../support/redis.js';
import { numbers, pendingOf, sendNumbers, take, takeTexts, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();

const modes = ['real-time', 'resumable'] as const;
const cases = modes.flatMap((mode) => [1, 5, 25].map((batchSize) => ({ mode, batchSize })));

async function createConsumer(
  streamer: RedisStreamer,
  stream: string,
  mode: (typeof modes)[number],
  batchSize: number,
): Promise<BasicConsumer> {
  const reading = { autoStreamReset: 'earliest', batchSize } as const;
  return mode === 'real-time'
    ? streamer.createConsumer(stream, { mode, ...reading })
    : streamer.createConsumer(stream, {
        mode,
        ...reading,
        group: uniqueName('group'),
        autoCommit: 'disabled',
        mkStream: true,
      });
}

const ids = async (stream: string): Promise<string[]> =>
  (await streams.redis.xrange(stream, '-', '+')).map(([id]) => id);

/** How many entries a group was given: up to its last-delivered-id. */
async function deliveredOf(stream: string, group: string): Promise<number> {
  const groups = (await streams.redis.xinfo('GROUPS', stream)) as string[][];
  const last = groups.find((each) => each[1] === group)?.[7] as string;
  return (await streams.redis.xrange(stream, '-', last)).length;
}

describe('seek and rewind', () => {
  it.each(cases)(
    'scenario 11: move to the beginning, an id, a time and the end ($mode, batch size $batchSize)',
    async (given) => {
      const stream = uniqueName('stream');
      const streamer = await streams.connect();
      const producer = await streamer.createProducer(stream);
      await sendNumbers(producer, 0, 28);
      const receipt = await producer.send('29');
      // 30 and later have a later millisecond, so that the time of 29 separates them.
      await producer.send('30', { timestamp: new Date(receipt.timestamp.getTime() + 1) });
      for (const text of numbers(31, 99)) await producer.send(text);
      const consumer = await createConsumer(streamer, stream, given.mode, given.batchSize);

      expect(await takeTexts(consumer, 10)).toEqual(numbers(0, 9));
      await consumer.rewind('beginning');
      expect(await takeTexts(consumer, 10)).toEqual(numbers(0, 9));
      await consumer.rewind({ id: receipt.id });
      expect(await takeTexts(consumer, 10)).toEqual(numbers(30, 39));
      await consumer.rewind({ sequence: receipt.sequence });
      expect(await takeTexts(consumer, 10)).toEqual(numbers(30, 39));
      await consumer.seek(receipt.timestamp);
      expect(await takeTexts(consumer, 10)).toEqual(numbers(30, 39));
      await consumer.rewind('end');
      await sendNumbers(producer, 100, 109);
      expect(await takeTexts(consumer, 10)).toEqual(numbers(100, 109));
    },
  );

  it.each(modes)('scenario 11: messages sent while the consumer moves are delivered in order (%s)', async (mode) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const consumer = await createConsumer(streamer, stream, mode, 5);
    let sent = 0;

    for (let round = 0; round < 30; round += 1) {
      // The consumer is at the end and its read is blocked; a message ends that read in the middle of the move.
      const receipts: Array<Promise<Receipt>> = [];
      const moving = consumer.rewind('beginning');
      for (let index = 0; index < 5; index += 1) {
        receipts.push(producer.send(String(sent)));
        sent += 1;
        await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all([moving, ...receipts]);
      expect(await takeTexts(consumer, sent)).toEqual(numbers(0, sent - 1));
    }
  });

  it.each(modes)(
    'scenario 11: rewind to the end skips no message that other clients send afterwards (%s)',
    async (mode) => {
      const stream = uniqueName('stream');
      const streamer = await streams.connect();
      const producer = await streamer.createProducer(stream);
      const consumer = await createConsumer(streamer, stream, mode, 5);

      for (let round = 0; round < 30; round += 1) {
        await sendNumbers(producer, 0, 2);
        const moved = consumer.rewind('end');
        const during = numbers(0, 4).map((text) => producer.send(`during ${text}`));
        await Promise.all([moved, ...during]);
        await producer.send('after');
        // It is not defined how many of the messages sent during the move come after the end, but they are a tail
        // without gaps.
        const seen: string[] = [];
        while (seen.at(-1) !== 'after') seen.push(...(await takeTexts(consumer, 1)));
        const whole = [...numbers(0, 4).map((text) => `during ${text}`), 'after'];
        expect(seen).toEqual(whole.slice(-seen.length));
      }
    },
  );

  it('scenario 11: in resumable mode a move applies to the group: a later consumer continues from there', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(stream), 0, 9);
    const options = { mode: 'resumable', group, autoStreamReset: 'earliest', autoCommit: 'disabled' } as const;
    const first = await streamer.createConsumer(stream, options);
    const messages = await take(first, 10);
    for (const message of messages) first.ack(message);
    await first.commit();
    await first.rewind({ id: messages[6]?.id as string });
    await first.end();

    const second = await streamer.createConsumer(stream, options);
    expect(await takeTexts(second, 3)).toEqual(numbers(7, 9));
  });

  it.each([
    ['disabled', [7, 9], 4],
    ['immediate', [7, 9], 0],
  ] as const)(
    "with position 'consumer' a move leaves the group: pending entries and its position stay (%s)",
    async (autoCommit, [first, last], pending) => {
      const [stream, group] = [uniqueName('stream'), uniqueName('group')];
      const streamer = await streams.connect();
      const producer = await streamer.createProducer(stream);
      await sendNumbers(producer, 0, 9);
      const options = { mode: 'resumable', group, autoStreamReset: 'earliest', autoCommit, batchSize: 4 } as const;
      const consumer = await streamer.createConsumer(stream, { ...options, position: 'consumer', prefetch: 4 });
      const messages = await take(consumer, 4);
      await until('the group is at the eighth message', async () => (await deliveredOf(stream, group)) === 8);
      const [before] = (await streams.redis.xinfo('GROUPS', stream)) as unknown[][];

      await consumer.rewind('beginning');
      expect(await takeTexts(consumer, 10)).toEqual(numbers(0, 9));
      await consumer.rewind({ id: (await ids(stream))[6] as string });
      expect(await takeTexts(consumer, 3)).toEqual(numbers(first, last));
      await sendNumbers(producer, 10, 11);
      expect(await takeTexts(consumer, 2)).toEqual(numbers(10, 11));
      if (autoCommit === 'disabled') {
        // What the group has delivered before is still acknowledged.
        const acking = consumer as AcknowledgingConsumer;
        for (const message of messages) acking.ack(message);
        await acking.commit();
      }
      await consumer.end();
      const [after] = (await streams.redis.xinfo('GROUPS', stream)) as unknown[][];
      expect(after?.[7]).toEqual(before?.[7]);
      expect(await pendingOf(streams.redis, stream, group)).toHaveLength(pending);

      const next = await streamer.createConsumer(stream, options);
      expect(await takeTexts(next, 4 + pending)).toEqual(numbers(8 - pending, 11));
    },
  );

  it('acks of messages that were delivered before a move stay valid', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(stream), 0, 9);
    const options = {
      mode: 'resumable',
      group,
      autoStreamReset: 'earliest',
      autoCommit: 'disabled',
      batchSize: 5,
    } as const;
    const consumer = await streamer.createConsumer(stream, { ...options, prefetch: 5 });
    const before = await take(consumer, 5);
    await consumer.rewind('end');
    for (const message of before) consumer.ack(message);
    await consumer.commit();
    await consumer.end();

    const pending = (await pendingOf(streams.redis, stream, group)).map(({ id }) => id);
    expect(pending.filter((id) => before.some((message) => message.id === id))).toEqual([]);
  });

  const futures: ReadonlyArray<readonly [string, (consumer: BasicConsumer) => Promise<void>]> = [
    ['the present time', (consumer) => consumer.seek(new Date())],
    ['a time to come', (consumer) => consumer.seek(new Date(Date.now() + 3_600_000))],
    ['an id that no entry has yet', (consumer) => consumer.rewind({ id: '18446744073709551614-5' })],
  ];
  it.each(modes.flatMap((mode) => futures.map(([target, move]) => [mode, target, move] as const)))(
    'a point past the last message means from there on: nothing old is delivered, and all that comes is (%s, %s)',
    async (mode, _, move) => {
      const stream = uniqueName('stream');
      const streamer = await streams.connect({ blockTimeout: 100 });
      const producer = await streamer.createProducer(stream);
      await sendNumbers(producer, 0, 9);
      const consumer = await createConsumer(streamer, stream, mode, 5);
      await takeTexts(consumer, 10);
      await move(consumer);
      const received: string[] = [];
      const next = consumer.next().then((message) => received.push(message.text()));
      using reads = await countCommands(streams.redis, 'xread', 'xreadgroup');
      await until('several reads have ended on the quiet stream', () => reads.count > 3);
      expect(received).toEqual([]);

      await sendNumbers(producer, 10, 14);
      await next;
      expect([...received, ...(await takeTexts(consumer, 4))]).toEqual(numbers(10, 14));
    },
  );

  it('a group that is moved past the last message by the manager reads all that comes', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    await sendNumbers(producer, 0, 9);
    await streams.redis.xgroup('CREATE', stream, group, '0');
    const manager = await streamer.createManager();
    await manager.setGroupPosition(stream, group, new Date(Date.now() + 3_600_000));
    const consumer = await streamer.createConsumer(stream, { mode: 'load-balanced', group });
    await sendNumbers(producer, 10, 14);
    expect(await takeTexts(consumer, 5)).toEqual(numbers(10, 14));
  });

  it('are refused in load-balanced mode with an error that names the alternative', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { mode: 'load-balanced', mkStream: true });

    await expect(consumer.seek(new Date())).rejects.toThrow('StreamManager.setGroupPosition');
    await expect(consumer.rewind('end')).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_OPERATION' });
  });
});
