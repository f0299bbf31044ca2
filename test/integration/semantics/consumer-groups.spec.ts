import { describe, expect, it } from '@jest/globals';
import { uniqueName } from '../../support/redis.js';
import { numbers, sendNumbers, takeTexts, useStreams } from '../../support/streams.js';

const streams = useStreams();

describe('consumer groups', () => {
  it.each(['resumable', 'load-balanced'] as const)(
    'scenario 14: without mkStream the first next() on a missing stream names the stream and the option (%s)',
    async (mode) => {
      const stream = uniqueName('stream');
      const streamer = await streams.connect();
      const consumer = await streamer.createConsumer(stream, { mode, group: uniqueName('group'), mkStream: false });

      for (let call = 0; call < 2; call += 1) {
        const next = consumer.next();
        await expect(next).rejects.toMatchObject({ code: 'ERR_STREAM_MISSING', streamKey: stream });
        await expect(next).rejects.toThrow('mkStream');
      }
      expect(await streams.redis.exists(stream)).toBe(0);
    },
  );

  it('scenario 14: the consumer reads its other streams when one stream is missing', async () => {
    const [missing, present] = [uniqueName('missing'), uniqueName('present')];
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(present);
    await producer.send('before');
    const options = { mode: 'resumable', group: uniqueName('group'), autoStreamReset: 'earliest' } as const;
    const consumer = await streamer.createConsumer([missing, present], options);

    await expect(consumer.next()).rejects.toMatchObject({ code: 'ERR_STREAM_MISSING', streamKey: missing });
    expect(await takeTexts(consumer, 1)).toEqual(['before']);
    await producer.send('after');
    expect(await takeTexts(consumer, 1)).toEqual(['after']);
  });

  it.each(['earliest', 'latest'] as const)(
    'scenario 14: with mkStream the consumer waits, and receives messages sent afterwards (%s)',
    async (autoStreamReset) => {
      const [stream, group] = [uniqueName('stream'), uniqueName('group')];
      const streamer = await streams.connect();
      const consumer = await streamer.createConsumer(stream, {
        mode: 'resumable',
        group,
        autoStreamReset,
        mkStream: true,
      });
      const waiting = consumer.next();

      await sendNumbers(await streamer.createProducer(stream), 0, 4);

      expect((await waiting).text()).toBe('0');
      expect(await takeTexts(consumer, 4)).toEqual(numbers(1, 4));
    },
  );

  it('createConsumer() resolves when the start position is fixed: latest receives messages sent right afterwards', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    await producer.send('old');
    const consumer = await streamer.createConsumer(stream, { mode: 'load-balanced', group: uniqueName('group') });
    await producer.send('new');

    expect(await takeTexts(consumer, 1)).toEqual(['new']);
  });

  it('a consumer continues after its group was destroyed, without a gap and without a repetition', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    await sendNumbers(producer, 0, 4);
    const options = { mode: 'resumable', group, autoStreamReset: 'earliest' } as const;
    const consumer = await streamer.createConsumer(stream, options);
    expect(await takeTexts(consumer, 5)).toEqual(numbers(0, 4));

    await streams.redis.xgroup('DESTROY', stream, group);
    await sendNumbers(producer, 5, 9);

    expect(await takeTexts(consumer, 5)).toEqual(numbers(5, 9));
  });

  it('a consumer reads a stream from its beginning when it was deleted and created again', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const consumer = await streamer.createConsumer(stream, { mode: 'resumable', group, mkStream: true });
    await sendNumbers(producer, 0, 4);
    expect(await takeTexts(consumer, 5)).toEqual(numbers(0, 4));

    await streams.redis.del(stream);
    await sendNumbers(producer, 5, 9);

    expect(await takeTexts(consumer, 5)).toEqual(numbers(5, 9));
  });
});
