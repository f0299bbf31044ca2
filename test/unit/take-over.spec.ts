import { describe, expect, it } from '@jest/globals';

import { ShardLease } from '../../lib/engine/consuming/ownership/shard-lease.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { TakeOver } from '../../lib/engine/consuming/recovery/take-over.js';
import { monotonicNow } from '../../lib/shared/clock.js';
import type { TakenOver } from '../../lib/redis/commands/shard-owners.js';

const HELD = { streamKey: 's', group: 'g', consumer: 'c', generation: 1n };
const REQUEST = { minIdle: 100, count: 10, after: undefined };
const NOTHING = { entries: [], next: undefined };

function partitionWithLease(sentAt: number): Partition {
  return new Partition('s', 0, 's', new ShardLease(HELD, sentAt, 1_000, () => -Infinity));
}

describe('the take-over of idle entries of an owned shard', () => {
  it('takes nothing, and ends the lease, when the server says that it is lost', async () => {
    const partition = partitionWithLease(monotonicNow());
    const claims = { inherit: () => Promise.reject(new Error('claimed without the lease')) };
    const takeOver = new TakeOver({ takeOver: () => Promise.resolve(undefined) }, claims);
    expect(await takeOver.claimIdle(partition, REQUEST)).toEqual(NOTHING);
    expect(partition.lease?.isEnded).toBe(true);
  });

  it('asks for nothing while the lease is not valid, which a renewal may still make it', async () => {
    const partition = partitionWithLease(-Infinity);
    const takeOver = new TakeOver(
      { takeOver: () => Promise.reject(new Error('asked')) },
      { inherit: () => Promise.resolve([]) },
    );
    expect(await takeOver.claimIdle(partition, REQUEST)).toEqual(NOTHING);
    expect(partition.lease?.isEnded).toBe(false);
  });

  it('leaves the entries that this process has', async () => {
    const partition = partitionWithLease(monotonicNow());
    partition.owned.set('1-0', 'running');
    const found: TakenOver = {
      taken: [
        { id: '1-0', deliveryCount: 1 },
        { id: '2-0', deliveryCount: 1 },
      ],
      next: '2-0',
    };
    const takeOver = new TakeOver(
      { takeOver: () => Promise.resolve(found) },
      { inherit: (_, taken) => Promise.resolve(taken.map((entry) => ({ ...entry, fields: [] }))) },
    );
    const { entries, next } = await takeOver.claimIdle(partition, REQUEST);
    expect(entries.map(({ id }) => id)).toEqual(['2-0']);
    expect(next).toBe('2-0');
  });
});
