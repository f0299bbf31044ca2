import { expect, it } from '@jest/globals';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { ThreadedRenewal } from '../../lib/engine/consuming/recovery/threaded-renewal.js';
import { compareEntryIds } from '../../lib/redis/commands/entry-id.js';
import type { RenewalClient, ThreadEntries, ThreadLease } from '../../lib/redis/connection/renewal-thread.js';
import { RENEW_LEASES } from '../../lib/redis/scripts/renew-leases.js';

function setUp(partition: Partition) {
  const added: Array<[string, readonly string[]]> = [];
  const told: ThreadLease[][] = [];
  const client = {
    setLeases: (leases: ThreadLease[]) => told.push(leases),
    addEntries: (key: string, ids: readonly string[]) => added.push([key, ids]),
    close: async () => undefined,
  };
  const renewal = new ThreadedRenewal({
    client: client as unknown as RenewalClient,
    pending: {
      leaseOf: (key: string, entries: ThreadEntries) => ({ key, script: RENEW_LEASES, args: [], entries }),
    },
    group: 'g',
    consumer: 'c',
    claimIdle: 300,
    maxHandlerTime: 1_000,
    partitions: { owning: [partition] },
    retries: { retriesOf: () => undefined },
  });
  return { renewal, added, told };
}

it('tells the thread which entries are in hand, for how long they may be in a handler, and from which id on entries are new', () => {
  const partition = new Partition('s', 0, 's');
  partition.position = '7-3';
  for (const [id, state] of [
    ['1-0', 'running'],
    ['2-0', 'buffered'],
    ['3-0', 'overdue'],
    ['4-0', 'settled'],
  ] as const)
    partition.owned.set(id, state);
  const { renewal, told } = setUp(partition);
  renewal.sendLeases();
  expect(told[0]?.[0]?.entries).toEqual({
    group: 'g',
    consumer: 'c',
    ids: ['1-0', '2-0', '4-0'],
    left: [1_000, undefined, undefined],
    after: '7-4',
  });
});

it.each(['9-1', '10-0', '10-1', '10-2', '10-9', '10-10', '10-11', '11-0', '100-0', '1700000000000-0'])(
  'tells the thread of arriving entries only up to the last id that it named before: %s',
  (told) => {
    const partition = new Partition('s', 0, 's');
    partition.position = told;
    const { renewal, added } = setUp(partition);
    renewal.sendLeases();
    const ids = ['1-0', '9-9', '10-0', '10-2', '10-10', '10-11', '11-0', '99-99', '1700000000000-1'];
    renewal.arrived(
      partition,
      ids.map((id) => ({ id, fields: [], deliveryCount: 1 })),
    );
    const earlier = ids.filter((id) => compareEntryIds(id, told) <= 0);
    expect(added).toEqual([['s', earlier]]);
  },
);
