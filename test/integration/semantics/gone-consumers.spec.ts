import { describe, expect, it } from '@jest/globals';

import type { LoadBalancedOptions } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { addRaw, consumersOf, pendingOf, useStreams } from '../../support/streams.js';
import { stays, until } from '../../support/until.js';

const streams = useStreams();
const options = {
  mode: 'load-balanced',
  group: 'g',
  consumer: 'alive',
  autoCommit: 'rolling',
  mkStream: true,
  autoClaimInterval: false,
  consumerExpiry: 1_000,
} as const satisfies LoadBalancedOptions;

/** Before Redis 7.2 a consumer name exists only once its consumer has received an entry or read its pending entries. */
async function readAs(name: string, stream: string, from: '>' | '0'): Promise<void> {
  await streams.redis.xreadgroup('GROUP', 'g', name, 'COUNT', 1, 'STREAMS', stream, from);
}

const names = async (stream: string): Promise<string[]> => (await consumersOf(streams.redis, stream, 'g')).sort();

describe('the names of dead consumers', () => {
  it('are removed once nothing is pending for them, and never before', async () => {
    const stream = uniqueName('gone');
    await streams.redis.xgroup('CREATE', stream, 'g', '0', 'MKSTREAM');
    const id = await addRaw(streams.redis, stream, 'msg', 'owned by a dead consumer');
    await readAs('with-pending', stream, '>');
    await readAs('with-nothing', stream, '0');
    await readAs('alive', stream, '0');
    expect(await names(stream)).toEqual(['alive', 'with-nothing', 'with-pending']);
    await (await streams.connect()).createConsumer(stream, { ...options, autoClaimInterval: 100 });

    await until(
      'the name without pending entries is removed',
      async () => !(await names(stream)).includes('with-nothing'),
    );
    await readAs('later', stream, '0');
    await until('a later name is removed as well', async () => !(await names(stream)).includes('later'));
    expect(await names(stream)).toEqual(['alive', 'with-pending']);
    expect(await pendingOf(streams.redis, stream, 'g')).toMatchObject([{ id, consumer: 'with-pending' }]);

    await streams.redis.xack(stream, 'g', id);
    await until('the other name is removed too', async () => (await names(stream)).length === 1);
  });

  it('stay when removal is disabled, and live consumers keep their names', async () => {
    const stream = uniqueName('gone');
    const streamer = await streams.connect();
    await streamer.createConsumer(stream, { ...options, consumerExpiry: false });
    await streamer.createConsumer(stream, { ...options, consumer: 'other', consumerExpiry: 5_000 });
    await readAs('gone', stream, '0');
    await stays('the name is there', async () => (await names(stream)).includes('gone'), 2_500);
  });

  it('are not removed with an expiry that would affect live consumers: the option is refused', async () => {
    const streamer = await streams.connect();
    await expect(streamer.createConsumer('s', { ...options, consumerExpiry: 10 })).rejects.toThrow('consumerExpiry');
  });
});

describe('the name of a consumer that leaves', () => {
  it.each([
    ['a stream that is shared', {}],
    ['an owned stream', { shardOwnership: 'owned' }],
  ] as const)('%s, by unassign(), is removed from the group', async (_, ownership) => {
    const [stream, kept] = [uniqueName('left'), uniqueName('kept')];
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer([stream, kept], {
      ...options,
      ...ownership,
      autoCommitInterval: 20,
    });
    const signal = AbortSignal.timeout(10_000);
    for (const each of [stream, kept]) {
      await addRaw(streams.redis, each, 'msg', 'handled');
      consumer.ack(await consumer.next({ signal }));
    }
    await addRaw(streams.redis, kept, 'msg', 'in a handler while its stream is left');
    const message = await consumer.next({ signal });
    await consumer.commit();
    await consumer.unassign(stream);
    expect(await names(stream)).toEqual([]);
    const left = consumer.unassign(kept);
    await until('it is no longer read', () => consumer.streamShards.length === 0);
    consumer.ack(message);
    await Promise.all([consumer.end(), left]);
    expect(await names(kept)).toEqual([]);
    expect(await pendingOf(streams.redis, kept, 'g')).toEqual([]);
  });

  it('is removed from a shard that is being handed over when the consumer ends', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const shards = [`${stream}:0`, `${stream}:1`];
    const owned = {
      ...options,
      shardOwnership: 'owned',
      shards: 2,
      leaseTime: 1_000,
      autoCommitInterval: 5_000,
    } as const;
    const consumer = await streamer.createConsumer(stream, owned);
    await until('it owns both', () => consumer.streamShards.length === 2);
    for (const shard of shards) await addRaw(streams.redis, shard, 'msg', 'in a handler during the hand-over');
    const signal = AbortSignal.timeout(10_000);
    const messages = [await consumer.next({ signal }), await consumer.next({ signal })];
    const other = await streamer.createConsumer(stream, owned);
    await until('one is being handed over', () => consumer.streamShards.length === 1);
    for (const message of messages) consumer.ack(message);
    await consumer.end();
    for (const shard of shards) expect(await names(shard)).not.toContain(consumer.consumerId);
    await until('the other one owns both', () => other.streamShards.length === 2);
  });
});
