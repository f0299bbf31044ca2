import { describe, expect, it } from '@jest/globals';

import { uniqueName } from '../support/redis.js';
import { useReference } from '../support/reference.js';
import type { ReferenceMessage } from '../support/reference.js';
import { numbers, take, takeTexts, useStreams } from '../support/streams.js';
import { until } from '../support/until.js';

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
