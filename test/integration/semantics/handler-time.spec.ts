import { expect, it } from '@jest/globals';
import { uniqueName } from '../../support/redis.js';
import { pendingOf, sendNumbers, take, takeTexts, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();

const options = {
  mode: 'load-balanced',
  autoStreamReset: 'earliest',
  autoCommit: 'disabled',
  mkStream: true,
  autoClaimIdle: 300,
} as const;

it('maxHandlerTime: another consumer claims a message that was not acknowledged in time, also while its consumer claims too', async () => {
  const [stream, group] = [uniqueName('stream'), uniqueName('group')];
  const streamer = await streams.connect();
  await sendNumbers(await streamer.createProducer(stream), 0, 1);
  // It claims far more often than the other one. Its claims must not make the idle time of the entry begin again.
  const slow = { ...options, group, consumer: 'slow', maxHandlerTime: 600, autoClaimInterval: 10 };
  const [message] = await take(await streamer.createConsumer(stream, slow), 1);
  const other = await streamer.createConsumer(stream, {
    ...options,
    group,
    consumer: 'other',
    autoClaimInterval: 400,
  });

  expect(await takeTexts(other, 1)).toEqual(['0']);
  const [entry] = await pendingOf(streams.redis, stream, group);
  expect(entry).toMatchObject({ id: message?.id, consumer: 'other', deliveryCount: 2 });
});

it('maxHandlerTime: the lease of a message is renewed until then', async () => {
  const [stream, group] = [uniqueName('stream'), uniqueName('group')];
  const streamer = await streams.connect();
  await sendNumbers(await streamer.createProducer(stream), 0, 1);
  const slow = { ...options, group, consumer: 'slow', maxHandlerTime: 60_000, autoClaimInterval: 50 };
  await take(await streamer.createConsumer(stream, slow), 1);
  await streamer.createConsumer(stream, { ...options, group, consumer: 'other', autoClaimInterval: 50 });

  const from = Date.now();
  await until('the claim idle is over several times', () => Date.now() - from > 5 * options.autoClaimIdle);
  const [entry] = await pendingOf(streams.redis, stream, group);
  expect(entry).toMatchObject({ consumer: 'slow', deliveryCount: 1 });
});
