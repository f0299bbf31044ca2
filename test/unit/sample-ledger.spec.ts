import { describe, expect, it } from '@jest/globals';

import { Ledger } from '../../sample/06-cluster/driver/ledger.js';

/** A ledger in which these numbers of one customer are confirmed, and handled in this order, one in each microsecond. */
function ledgerOf(confirmed: readonly number[], handled: readonly number[]): Ledger {
  const ledger = new Ledger();
  for (const number of confirmed) ledger.confirm({ customer: 'ann', number }, 3);
  for (const [at, number] of handled.entries()) ledger.handle({ customer: 'ann', number, shard: 3, token: 1, at });
  return ledger;
}

describe('ledger of the cluster', () => {
  it('finds no fault when earlier orders are delivered again', () => {
    const ledger = ledgerOf([1, 2, 3, 4], [1, 2, 3]);
    ledger.begin('after billing-2 was killed');
    for (const number of [2, 3, 4]) ledger.handle({ customer: 'ann', number, shard: 3, token: 2, at: 10 + number });

    const duplicates = new Map([['after billing-2 was killed', 2]]);
    expect(ledger.result()).toMatchObject({ confirmed: 4, handled: 4, duplicates, outOfOrder: [], lost: [] });
    expect(ledger.lagOf(3)).toBe(0);
  });

  it('finds an order that is handled for the first time after a later one', () => {
    expect(ledgerOf([1, 2, 3], [1, 3, 2]).result()).toMatchObject({ outOfOrder: ['ann#2 after 3, '], lost: [] });
  });

  it('goes by the time of the handling, not of its report', () => {
    const ledger = ledgerOf([1, 2], []);
    ledger.handle({ customer: 'ann', number: 2, shard: 3, token: 2, at: 20 });
    ledger.handle({ customer: 'ann', number: 1, shard: 3, token: 1, at: 10 });

    expect(ledger.result().outOfOrder).toEqual([]);
  });

  it('finds what was confirmed and not handled, and not what was never confirmed', () => {
    const ledger = ledgerOf([1, 2], [1]);
    ledger.fail('ERR_REPLICAS_MISSING', 3);
    ledger.fail('ERR_SEND_UNCERTAIN', undefined);

    const unconfirmed = new Map([
      ['ERR_REPLICAS_MISSING', 1],
      ['ERR_SEND_UNCERTAIN', 1],
    ]);
    expect(ledger.result()).toMatchObject({ confirmed: 2, unconfirmed, lost: ['ann#2'] });
    expect(ledger.sent).toBe(4);
    expect(ledger.lagOf(3)).toBe(2);
  });
});
