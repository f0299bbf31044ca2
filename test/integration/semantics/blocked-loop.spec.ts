import { describe, expect, it } from '@jest/globals';
import { uniqueName } from '../../support/redis.js';
import { useBlockingProcesses } from '../../support/blocking-process.js';
import { pendingOf, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

// First, so that the processes have ended when connections are counted.
const start = useBlockingProcesses();
const streams = useStreams();

const options = {
  mode: 'load-balanced',
  autoStreamReset: 'earliest',
  mkStream: true,
  autoClaimIdle: 1_000,
  autoClaimInterval: 100,
} as const;

/** A stream with messages, and two processes of a group: the first one reads it and is blocked, then the second one starts. */
async function blockFirst(given: Partial<typeof options> & object, block: number, messages = ['a']) {
  const [streamKey, group] = [uniqueName('stream'), uniqueName('group')];
  const streamer = await streams.connect();
  const producer = await streamer.createProducer(streamKey);
  for (const message of messages) await producer.send(message);
  const connection = streams.url;
  const common = { connection, streamKey, options: { ...options, group, ...given } };
  const first = start({ ...common, options: { ...common.options, consumer: 'first' }, block });
  await first.saw(`begins ${messages[0]}`);
  const second = start({ ...common, options: { ...common.options, consumer: 'second' }, block: 0 });
  await second.saw('ready');
  return { streamKey, group, producer, first, second };
}

describe('a handler that blocks the event loop', () => {
  it("leaseRenewal 'thread': its message stays with its process, and is handled once", async () => {
    const { streamKey, group, first, second } = await blockFirst({ leaseRenewal: 'thread' } as object, 4_000);
    await first.saw('ends a');
    await until('nothing is pending', async () => (await pendingOf(streams.redis, streamKey, group)).length === 0);
    expect(second.lines).toEqual(['ready']);
  });

  it("leaseRenewal 'loop': another process claims its message, and it is handled twice", async () => {
    const { first, second } = await blockFirst({}, 4_000);
    await first.saw('ends a');
    expect(second.lines).toEqual(['ready', 'begins a', 'ends a']);
  });
});
