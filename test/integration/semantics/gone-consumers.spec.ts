import { describe, expect, it } from '@jest/globals';

import type { LoadBalancedOptions } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { addRaw, consumersOf, pendingOf, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

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
    await new Promise((resolve) => setTimeout(resolve, 1_500));
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
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(await names(stream)).toContain('gone');
  });

  it('are not removed with an expiry that would affect live consumers: the option is refused', async () => {
    const streamer = await streams.connect();
    await expect(streamer.createConsumer('s', { ...options, consumerExpiry: 10 })).rejects.toThrow('consumerExpiry');
  });
});
