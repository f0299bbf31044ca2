import { describe, expect, it } from '@jest/globals';

import { report } from '../../sample/01-shop/driver/report.js';
import { Tallies } from '../../sample/01-shop/driver/tally.js';

const group = (name: string, pending: number) => ({ name, pending, lastDeliveredId: '0-0', lag: 0, consumers: [] });
const GROUPS = [group('orders-service', 0), group('payments-service', 0)];

/** All services have handled all of these orders. */
function handledBy(names: readonly string[], orders: readonly string[]): Tallies {
  const tallies = new Tallies();
  for (const name of names) {
    for (const order of orders) tallies.add(name, { event: 'handled', order, delivery: 1, latency: 3 });
  }
  return tallies;
}

describe('report of the shop', () => {
  const accepted = new Set(['a', 'b', 'c']);

  it('finds nothing lost when every service has handled every order, by whichever instance and however often', () => {
    const tallies = handledBy(['orders-1', 'payments', 'dashboard'], ['a', 'b', 'c']);
    tallies.add('orders-2', { event: 'handled', order: 'a', delivery: 2, latency: 900 });

    const outcome = report({ accepted }, tallies, GROUPS);
    expect(outcome).toMatchObject({ lost: 0, pending: 0 });
    expect(outcome.table).toMatch(/^orders {2,}3 {2,}3 {2,}1 {2,}0 {2,}0 {2,}3 ms/m);
  });

  it('counts an order that one service has missed as lost', () => {
    const tallies = handledBy(['orders-1', 'orders-2', 'dashboard'], ['a', 'b', 'c']);
    tallies.add('payments', { event: 'handled', order: 'a', delivery: 1, latency: 3 });

    expect(report({ accepted }, tallies, GROUPS)).toMatchObject({ lost: 2, pending: 0 });
  });

  it('counts what is pending in each group, and everything as pending in a group that is gone', () => {
    const tallies = handledBy(['orders-1', 'payments', 'dashboard'], ['a', 'b', 'c']);

    expect(report({ accepted }, tallies, [group('orders-service', 2)])).toMatchObject({ lost: 0, pending: 5 });
  });
});
