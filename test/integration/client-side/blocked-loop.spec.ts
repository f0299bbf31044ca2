import { describe, expect, it } from '@jest/globals';
import type { LoadBalancedOptions } from '../../../lib/index.js';
import { ownConnectionLines } from '../../support/connections.js';
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

const THREAD = { leaseRenewal: 'thread' } as const;

const isReading = async (): Promise<boolean> =>
  (await ownConnectionLines(streams.redis, 'reader')).some((line) => / flags=\w*b/.test(line));

/** A stream with a message, and two processes of a group: the first one reads it and is blocked, then the second one starts. */
async function blockFirst(given: Pick<LoadBalancedOptions, 'leaseRenewal' | 'maxHandlerTime'>, block: number) {
  const [streamKey, group] = [uniqueName('stream'), uniqueName('group')];
  const streamer = await streams.connect();
  const producer = await streamer.createProducer(streamKey);
  await producer.send('a');
  const connection = streams.url;
  const common = { connection, streamKey, options: { ...options, group, ...given } };
  const first = start({ ...common, options: { ...common.options, consumer: 'first' }, block, isHeld: true });
  await first.saw('holds a');
  const second = start({ ...common, options: { ...common.options, consumer: 'second' }, block: 0 });
  await second.saw('ready');
  first.proceed();
  await first.saw('begins a');
  return { streamKey, group, first, second };
}

describe('a handler that blocks the event loop', () => {
  it("leaseRenewal 'thread': its message stays with its process, and is handled once", async () => {
    const { streamKey, group, first, second } = await blockFirst(THREAD, 4_000);
    await first.saw('ends a');
    await until('nothing is pending', async () => (await pendingOf(streams.redis, streamKey, group)).length === 0);
    expect(second.lines).toEqual(['ready']);
  });

  it("leaseRenewal 'thread': a message that it has claimed a moment before stays with its process", async () => {
    const [streamKey, group] = [uniqueName('stream'), uniqueName('group')];
    await streams.redis.xgroup('CREATE', streamKey, group, '$', 'MKSTREAM');
    await streams.redis.xadd(streamKey, '*', 'msg', 'a');
    await streams.redis.xreadgroup('GROUP', group, 'dead', 'STREAMS', streamKey, '>');
    const common = { connection: streams.url, streamKey, options: { ...options, ...THREAD, group } };
    const first = start({ ...common, options: { ...common.options, consumer: 'first' }, block: 4_000 });
    await first.saw('begins a');
    const second = start({ ...common, options: { ...common.options, consumer: 'second' }, block: 0 });
    await first.saw('ends a');
    expect(second.lines).toEqual(['ready']);
  });

  it("leaseRenewal 'thread': a message that the server gives to its read while it blocks stays with its process", async () => {
    const [streamKey, group] = [uniqueName('stream'), uniqueName('group')];
    await streams.redis.xadd(streamKey, '*', 'msg', 'a');
    const common = { connection: streams.url, streamKey, options: { ...options, ...THREAD, group } };
    const first = start({ ...common, options: { ...common.options, consumer: 'first' }, block: 3_000, isHeld: true });
    await first.saw('holds a');
    await until('its next read waits', isReading);
    first.proceed();
    await first.saw('begins a');
    await streams.redis.xadd(streamKey, '*', 'msg', 'b');
    const second = start({ ...common, options: { ...common.options, consumer: 'second' }, block: 0 });
    await first.saw('holds b');
    first.proceed();
    await first.saw('ends b');
    expect(second.lines).toEqual(['ready']);
  });

  it('maxHandlerTime: past it another process claims the message of one that is still blocked', async () => {
    const { first, second } = await blockFirst({ ...THREAD, maxHandlerTime: 1_500 }, 600_000);
    await second.saw('ends a');
    expect(first.lines).toEqual(['ready', 'holds a', 'begins a']);
  });

  it("leaseRenewal 'thread': the messages of a process that is killed are claimed after the claim idle", async () => {
    const { first, second } = await blockFirst(THREAD, 600_000);
    first.kill('SIGKILL');
    await second.saw('ends a');
    expect(first.lines).not.toContain('ends a');
  });

  it("leaseRenewal 'thread': the thread does not keep a process alive that has disconnected", async () => {
    const [streamKey, group] = [uniqueName('stream'), uniqueName('group')];
    await streams.redis.xadd(streamKey, '*', 'msg', 'a');
    const input = { connection: streams.url, streamKey, options: { ...options, ...THREAD, group }, block: 0, reads: 1 };
    const child = start(input);
    expect(await child.exited).toBe(0);
    expect(child.lines).toEqual(['ready', 'begins a', 'ends a', 'closed']);
  });

  it("leaseRenewal 'thread' is refused where Node.js permits no threads", async () => {
    const [major] = process.versions.node.split('.').map(Number) as [number];
    const flags = [major < 23 ? '--experimental-permission' : '--permission', '--allow-fs-read=*', '--no-warnings'];
    // In later versions the network has a permission of its own.
    if (process.allowedNodeEnvironmentFlags.has('--allow-net')) flags.push('--allow-net');
    const input = { connection: streams.url, streamKey: 'none', options: { ...options, ...THREAD }, block: 0 };
    const child = start(input, flags);
    expect(await child.exited).toBe(1);
    expect(child.lines).toEqual([expect.stringMatching(/^failed .*leaseRenewal.*--allow-worker/)]);
  });

  it("leaseRenewal 'loop': another process claims its message, and it is handled twice", async () => {
    const { first, second } = await blockFirst({}, 4_000);
    await first.saw('ends a');
    expect(second.lines).toEqual(['ready', 'begins a', 'ends a']);
  });

  async function blockOwner(leaseRenewal: 'loop' | 'thread') {
    const [streamKey, group] = [uniqueName('stream'), uniqueName('group')];
    await streams.redis.xadd(streamKey, '*', 'msg', 'a');
    const owned = { shardOwnership: 'owned', leaseTime: 1_000, leaseRenewal } as const;
    const common = { connection: streams.url, streamKey, options: { ...options, ...owned, group } };
    const first = start({ ...common, block: 4_000, isHeld: true });
    await first.saw('holds a');
    const second = start({ ...common, block: 0 });
    await second.saw('ready');
    first.proceed();
    await first.saw('begins a');
    await streams.redis.xadd(streamKey, '*', 'msg', 'b');
    return { first, second };
  }

  it("leaseRenewal 'thread': an owned shard stays with its process", async () => {
    const { first, second } = await blockOwner('thread');
    await first.saw('holds b');
    first.proceed();
    await first.saw('ends b');
    expect(second.lines).toEqual(['ready']);
  });

  it("leaseRenewal 'loop': another process gets its shard, and its acknowledgement is refused", async () => {
    const { first, second } = await blockOwner('loop');
    await second.saw('ends b');
    expect(second.lines).toEqual(['ready', 'begins a', 'ends a', 'begins b', 'ends b']);
    await first.exited;
    expect(first.lines.at(-1)).toMatch(/^failed .*1 acknowledgement is refused/);
    expect(first.lines).not.toContain('begins b');
  });
});
