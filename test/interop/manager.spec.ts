import { describe, expect, it } from '@jest/globals';

import { uniqueName } from '../support/redis.js';
import { QUIET, useReference } from '../support/reference.js';
import type { ReferenceMessage } from '../support/reference.js';
import { numbers, sendNumbers, take, takeTexts, texts, useStreams } from '../support/streams.js';
import { until } from '../support/until.js';

const reference = useReference();
const streams = useStreams();

describe('seek, range and trim', () => {
  it('a consumer of this package seeks and rewinds in a stream of the reference, by its times and sequences', async () => {
    const stream = uniqueName('interop');
    const producer = await reference.produce();
    const [early] = (await producer.send(stream, ['early'])) as [ReferenceMessage];
    await untilLaterThan(early);
    await producer.send(stream, numbers(0, 4));
    const consumer = await (await streams.connect()).createConsumer(stream, { mode: 'real-time' });

    await consumer.seek(new Date(Number(BigInt(early.nanoseconds) / 1_000_000n)));
    expect(await takeTexts(consumer, 5)).toEqual(numbers(0, 4));
    await consumer.rewind('beginning');
    const [first] = await take(consumer, 6);
    expect(String(first?.sequence)).toBe(early.sequence);
    await consumer.rewind({ sequence: BigInt(early.sequence) });
    expect(await takeTexts(consumer, 5)).toEqual(numbers(0, 4));
    await consumer.seek(new Date());
    await producer.send(stream, ['new']);
    expect(await takeTexts(consumer, 1)).toEqual(['new']);
  });

  it('a consumer of the reference does the same in a stream of this package', async () => {
    const stream = uniqueName('interop');
    const producer = await (await streams.connect()).createProducer(stream);
    const early = await producer.send('early');
    await sendNumbers(producer, 0, 4);
    const consumer = await reference.consume(stream, { mode: 'real-time' });
    await consumer.rewind({ sequence: String(early.sequence) });
    expect(await consumer.takeTexts(5)).toEqual(numbers(0, 4));
    await consumer.seek(String(BigInt(early.timestamp.getTime() - 1) * 1_000_000n));
    expect(await consumer.takeTexts(6)).toEqual(['early', ...numbers(0, 4)]);
    await consumer.rewind('end');
    expect(await consumer.takeTexts(1, QUIET)).toEqual([]);
  });

  it('the managers of both sides list the same streams and ranges', async () => {
    const stream = uniqueName('interop');
    const streamer = await streams.connect();
    await sendNumbers(await streamer.createProducer(stream), 0, 9);
    await streams.redis.set(`${stream}.text`, 'no stream');
    const [theirs, mine] = [await reference.manage(), await streamer.createManager()];
    expect(await theirs.scan()).toEqual([stream]);
    expect((await mine.scan()).streams).toEqual([stream]);

    const all = await mine.range(stream, '-', '+');
    expect((await theirs.range(stream, '-', '+')).map(({ sequence }) => sequence)).toEqual(
      all.map(({ sequence }) => String(sequence)),
    );
    expect((await theirs.range(stream, '-', '+', 3)).map(({ text }) => text)).toEqual(texts(all.slice(0, 3)));
  });

  it('either side trims a stream of the other', async () => {
    const stream = uniqueName('interop');
    const [theirs, mine] = [await reference.produce(), await (await streams.connect()).createProducer(stream)];
    // Trimming is approximate: by whole nodes, of 100 entries unless the server is told otherwise.
    await theirs.send(stream, numbers(0, 349));
    expect(await mine.trimMaxLen(stream, 200)).toBe(100);
    await sendNumbers(mine, 350, 449);
    expect(await theirs.trimMaxLen(stream, 200)).toBe(100);
  });
});

/** The next entry gets an id of a later millisecond. */
async function untilLaterThan({ nanoseconds }: ReferenceMessage): Promise<void> {
  const over = BigInt(nanoseconds) / 1_000_000n + 1n;
  await until('the millisecond is over', async () => {
    const [seconds, microseconds] = (await streams.redis.time()).map(BigInt) as [bigint, bigint];
    return seconds * 1_000n + microseconds / 1_000n >= over;
  });
}
