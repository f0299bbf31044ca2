import { describe, expect, it } from '@jest/globals';

import type { LoadBalancedOptions, StreamMessage } from '../../lib/engine.js';
import { startConsumerProcess } from '../support/consumer-process.js';
import { uniqueName } from '../support/redis.js';
import { QUIET, useReference } from '../support/reference.js';
import type { ReferenceMessage } from '../support/reference.js';
import { numbers, pendingOf, sendNumbers, take, takeTexts, texts, useStreams } from '../support/streams.js';
import { until } from '../support/until.js';

const reference = useReference();
const streams = useStreams();

const CLAIM_IDLE = 1_000;
const group = 'workers';
const shared = { mode: 'load-balanced', group, autoStreamReset: 'earliest' } as const;
const claiming = { autoClaimIdle: CLAIM_IDLE, autoClaimInterval: 100 };
const byHand = { ...shared, autoCommit: 'disabled', batchSize: 5 } as const;

async function fill(first: number, last: number, stream = uniqueName('interop')): Promise<string> {
  await sendNumbers(await (await streams.connect()).createProducer(stream), first, last);
  return stream;
}

describe('a load-balanced group of both sides', () => {
  it('gives each message to one consumer, and each side receives some', async () => {
    const stream = uniqueName('interop');
    const options = { ...shared, autoCommit: 'rolling', batchSize: 1, mkStream: true } as const;
    const theirs = await reference.consume(stream, options);
    const mine = await (await streams.connect()).createConsumer(stream, { ...options, prefetch: 1 });
    await fill(0, 19, stream);

    // Both read one message after the other, until the last one is handled.
    const read: Array<[StreamMessage[], ReferenceMessage[]]> = [];
    let count = 0;
    while (count < 20) {
      const theirTurn = theirs.take(1, QUIET);
      const myTurn = mine.next({ signal: AbortSignal.timeout(QUIET) }).then(
        (message) => [message],
        () => [],
      );
      const round: [StreamMessage[], ReferenceMessage[]] = [await myTurn, await theirTurn];
      for (const message of round[0]) mine.ack(message);
      await theirs.ack(round[1]);
      read.push(round);
      count += round[0].length + round[1].length;
    }
    const myTexts = texts(read.flatMap(([messages]) => messages));
    const theirTexts = read.flatMap(([, messages]) => messages).map(({ text }) => text);
    expect([...myTexts, ...theirTexts].sort((a, b) => Number(a) - Number(b))).toEqual(numbers(0, 19));
    expect([myTexts.length > 0, theirTexts.length > 0]).toEqual([true, true]);
  });

  it('a consumer of this package claims the entries of a killed consumer of the reference, which then belong to it', async () => {
    const stream = await fill(0, 4);
    const theirs = await reference.consume(stream, { ...byHand, consumer: 'theirs' });
    expect(await theirs.takeTexts(5)).toEqual(numbers(0, 4));
    await theirs.kill();

    const options: LoadBalancedOptions & typeof byHand = { ...byHand, ...claiming, consumer: 'mine' };
    const mine = await (await streams.connect()).createConsumer(stream, options);
    const messages = await take(mine, 5);
    expect(texts(messages)).toEqual(numbers(0, 4));
    expect(messages.map(({ deliveryCount }) => deliveryCount)).toEqual([2, 2, 2, 2, 2]);
    expect((await pendingOf(streams.redis, stream, group)).map(({ consumer }) => consumer)).toEqual(
      Array(5).fill('mine'),
    );
    for (const message of messages) mine.ack(message);
    await mine.commit();
    expect(await pendingOf(streams.redis, stream, group)).toEqual([]);
  });

  it('a consumer of the reference claims the entries of a killed consumer of this package, under its name', async () => {
    const stream = await fill(0, 4);
    const options = { ...byHand, ...claiming, consumer: 'mine' };
    const killed = await startConsumerProcess({
      connection: streams.url,
      streamKey: stream,
      options,
      read: 5,
      ack: 2,
      commit: true,
    });
    expect(killed.read).toEqual(numbers(0, 4));
    await killed.kill();

    const theirs = await reference.consume(stream, { ...byHand, ...claiming, consumer: 'theirs' });
    const messages = await theirs.take(3);
    expect(messages.map(({ text }) => text)).toEqual(numbers(2, 4));
    // Therefore a process that starts again under this name receives the same messages: docs/sea-streamer.md.
    expect((await pendingOf(streams.redis, stream, group)).map(({ consumer }) => consumer)).toEqual(
      Array(3).fill('mine'),
    );
    await theirs.ack(messages);
    await theirs.commit();
    expect(await pendingOf(streams.redis, stream, group)).toEqual([]);
  });

  it('a consumer of this package keeps a message for longer than the idle time after which the reference claims', async () => {
    const stream = await fill(0, 0);
    const options = { ...byHand, autoClaimIdle: 3_000, autoClaimInterval: 100 };
    const mine = await (await streams.connect()).createConsumer(stream, { ...options, consumer: 'mine' });
    const messages = await take(mine, 1);
    const theirs = await reference.consume(stream, { ...options, consumer: 'theirs' });
    // More than twice the idle time.
    expect(await theirs.takeTexts(1, 7_000)).toEqual([]);
    for (const message of messages) mine.ack(message);
    await mine.commit();
    expect(await pendingOf(streams.redis, stream, group)).toEqual([]);
  });

  it('its default group has the same name on both sides where HOST_ID is set', async () => {
    const stream = await fill(0, 0);
    const before = process.env['HOST_ID'];
    process.env['HOST_ID'] = 'house';
    try {
      for (const mode of ['resumable', 'load-balanced'] as const) {
        const theirs = await reference.consume(stream, { mode });
        const mine = await (await streams.connect()).createConsumer(stream, { mode });
        expect(mine.groupId).toBe(theirs.group);
        // The consumer of a resumable group has the name of the group; the others have names that never repeat.
        expect(mine.consumerId === theirs.consumer).toBe(mode === 'resumable');
      }
    } finally {
      if (before === undefined) delete process.env['HOST_ID'];
      else process.env['HOST_ID'] = before;
    }
  });
});

describe('a group that has been moved', () => {
  it('by this package is continued by a consumer of the reference from its new position', async () => {
    const stream = await fill(0, 9);
    const streamer = await streams.connect();
    const options = { mode: 'resumable', group, autoStreamReset: 'earliest', autoCommit: 'disabled' } as const;
    const mine = await streamer.createConsumer(stream, options);
    const messages = await take(mine, 10);
    for (const message of messages) mine.ack(message);
    await mine.commit();
    await mine.rewind({ id: (messages[6] as StreamMessage).id });
    await mine.end();

    const theirs = await reference.consume(stream, options);
    expect(await theirs.takeTexts(3)).toEqual(numbers(7, 9));
  });

  it('is not moved by seek and rewind of the reference', async () => {
    const stream = await fill(0, 9);
    const options = { mode: 'resumable', group, autoStreamReset: 'earliest', autoCommit: 'disabled' } as const;
    const theirs = await reference.consume(stream, options);
    const messages = await theirs.take(10);
    await theirs.ack(messages.slice(0, 10));
    await theirs.commit();
    await theirs.rewind({ sequence: (messages[6] as ReferenceMessage).sequence });
    expect(await theirs.takeTexts(3)).toEqual(numbers(7, 9));
    await theirs.rewind('beginning');
    expect(await theirs.takeTexts(10)).toEqual(numbers(0, 9));
    await theirs.kill();

    const mine = await (await streams.connect()).createConsumer(stream, options);
    await fill(10, 10, stream);
    expect(await takeTexts(mine, 1)).toEqual(['10']);
    await until('it has one pending entry', async () => (await pendingOf(streams.redis, stream, group)).length === 1);
  });
});
