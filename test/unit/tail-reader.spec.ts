import { describe, expect, it } from '@jest/globals';

import { Partition } from '../../lib/engine/consuming/partition.js';
import { TailReader } from '../../lib/engine/consuming/reading/tail-reader.js';
import type { ReadRequest } from '../../lib/redis/commands/stream-commands.js';

const never = (): never => {
  throw new Error('not expected');
};

/** Reads that find four entries in the first stream, one after the other; whether each expected several. */
async function expectations(keys: readonly string[]): Promise<unknown[]> {
  const requests: ReadRequest[] = [];
  const reader = new TailReader({
    reading: {
      read: async (request) => {
        requests.push(request);
        const entries = [1, 2, 3, 4].map((at) => ({ id: `${requests.length}-${at}`, fields: [], deliveryCount: 1 }));
        return [{ streamKey: 'a', entries }];
      },
    },
    control: { streamInfo: never, range: never },
    autoStreamReset: 'earliest',
  });
  const partitions = keys.map((key) => new Partition(key, 0, key));
  for (let read = 0; read < 3; read += 1) await reader.read(partitions, { credit: 100, batchSize: 10, block: 1_000 });
  return requests.map(({ expectsSeveral }) => expectsSeveral);
}

describe('tail reader: a page of several entries', () => {
  it('makes the next read expect several', async () => {
    expect(await expectations(['a'])).toEqual([false, true, true]);
  });

  it('does not with several streams: the next read would repeat an entry of each', async () => {
    expect(await expectations(['a', 'b'])).toEqual([false, false, false]);
  });
});
