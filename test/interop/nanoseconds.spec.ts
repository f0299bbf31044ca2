import { describe, expect, it } from '@jest/globals';

import { uniqueName } from '../support/redis.js';
import { useReference } from '../support/reference.js';
import type { ReferenceMessage } from '../support/reference.js';
import { numbers, take, takeTexts, useStreams } from '../support/streams.js';
import { until } from '../support/until.js';

const millisecondsOf = ({ nanoseconds }: ReferenceMessage): number => Number(BigInt(nanoseconds) / 1_000_000n);

const reference = useReference();
const streams = useStreams();

// The reference writes ids `<ns>-*`, which Redis has since 7.0.
describe('a stream whose ids have nanoseconds', () => {
  it('is read here in a group with the reference: messages, times and claims', async () => {
    const stream = uniqueName('interop');
    const sent = await (await reference.produce(undefined, 'ns')).send(stream, numbers(0, 9));
    const options = {
      mode: 'load-balanced',
      group: 'workers',
      autoStreamReset: 'earliest',
      autoCommit: 'disabled',
    } as const;
    const theirs = await reference.consume(stream, { ...options, batchSize: 5 }, 'ns');
    expect(await theirs.takeTexts(5)).toEqual(numbers(0, 4));
    await theirs.kill();

    const claiming = { autoClaimIdle: 1_000, autoClaimInterval: 100 };
    const mine = await (await streams.connect()).createConsumer(stream, { ...options, ...claiming });
    const messages = (await take(mine, 10)).sort((a, b) => Number(a.text()) - Number(b.text()));
    expect(messages.map((message) => [message.text(), message.timestamp.getTime(), message.id.split('-')[0]])).toEqual(
      sent.map(({ nanoseconds }, index) => [String(index), Number(BigInt(nanoseconds) / 1_000_000n), nanoseconds]),
    );
    for (const message of messages) mine.ack(message);
    await mine.commit();
    expect((await streams.redis.xpending(stream, 'workers'))[0]).toBe(0);
  });

  it('is written by both sides, and both read the same times and sequences', async () => {
    const stream = uniqueName('interop');
    const theirs = await reference.produce(undefined, 'ns');
    const streamer = await streams.connect({ timestampFormat: 'ns' });
    const producers = await Promise.all(
      (['at-least-once', 'exactly-once'] as const).map((delivery) => streamer.createProducer(stream, { delivery })),
    );
    const sent: Array<{ text: string; sequence: string; milliseconds: number }> = [];
    for (const round of numbers(0, 19)) {
      const text = `theirs ${round}`;
      const [receipt] = (await theirs.send(stream, [text])) as [ReferenceMessage];
      sent.push({ text, sequence: receipt.sequence, milliseconds: millisecondsOf(receipt) });
      for (const [index, producer] of producers.entries()) {
        const own = `ours ${index} ${round}`;
        const { sequence, timestamp } = await producer.send(own);
        sent.push({ text: own, sequence: String(sequence), milliseconds: timestamp.getTime() });
      }
    }
    const options = { mode: 'real-time', autoStreamReset: 'earliest' } as const;
    const read = await (await reference.consume(stream, options, 'ns')).take(sent.length);
    expect(
      read.map((message) => ({
        text: message.text,
        sequence: message.sequence,
        milliseconds: millisecondsOf(message),
      })),
    ).toEqual(sent);
    const messages = await take(await streamer.createConsumer(stream, options), sent.length);
    expect(
      messages.map((message) => ({
        text: message.text(),
        sequence: String(message.sequence),
        milliseconds: message.timestamp.getTime(),
      })),
    ).toEqual(sent);
  });

  it('takes more of our messages in a millisecond than a counter of the reference has', async () => {
    const stream = uniqueName('interop');
    const producer = await (await streams.connect({ timestampFormat: 'ns' })).createProducer(stream);
    // As if the clock of the last producer had been ahead: all of these get times behind its own.
    await streams.redis.xadd(stream, '9000000000000000000-0', 'msg', 'ahead');
    const count = 70_000;
    for (let index = 0; index < count; index += 1) producer.enqueue(String(index));
    await producer.flush();
    const consumer = await reference.consume(stream, { mode: 'real-time', autoStreamReset: 'earliest' }, 'ns');
    expect((await consumer.takeTexts(count + 1)).at(-1)).toBe(String(count - 1));
  });

  it('can be sought in by time and by id, and has no 64-bit sequences', async () => {
    const stream = uniqueName('interop');
    const producer = await reference.produce(undefined, 'ns');
    const [early] = (await producer.send(stream, ['early'])) as [ReferenceMessage];
    const earlyTime = Number(BigInt(early.nanoseconds) / 1_000_000n);
    // The reference takes the times of its clock.
    await until('the millisecond is over', () => Date.now() > earlyTime);
    await producer.send(stream, numbers(0, 4));
    const consumer = await (await streams.connect()).createConsumer(stream, { mode: 'real-time' });
    await consumer.seek(new Date(earlyTime));
    const [first] = await take(consumer, 5);
    expect(first?.text()).toBe('0');
    expect(() => first?.sequence).toThrow(expect.objectContaining({ code: 'ERR_SEQUENCE_OVERFLOW' }));
    await consumer.rewind({ id: `${early.nanoseconds}-0` });
    expect(await takeTexts(consumer, 5)).toEqual(numbers(0, 4));
    await consumer.seek(new Date());
    await producer.send(stream, ['new']);
    expect(await takeTexts(consumer, 1)).toEqual(['new']);
  });
});
