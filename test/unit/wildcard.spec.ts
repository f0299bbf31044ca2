import { describe, expect, it } from '@jest/globals';

import { Wildcard, hasWildcard, wildcardRule } from '../../lib/nest/wildcard.js';

describe('a wildcard', () => {
  it.each([
    ['orders.*', 'orders.created', true],
    ['orders.*', 'orders', false],
    ['orders.*', 'orders.', false],
    ['orders.*', 'orders.eu.created', false],
    ['orders.*', 'orders-created', false],
    ['orders.*', 'my.orders.created', false],
    ['orders.*', 'Orders.created', false],
    ['orders.>', 'orders.created', true],
    ['orders.>', 'orders.eu.created', true],
    ['orders.>', 'orders', false],
    ['orders.>', 'orders.', false],
    ['*.created', 'orders.created', true],
    ['*.created', '.created', false],
    ['*.created', 'orders.eu.created', false],
    ['*.*', 'orders.created', true],
    ['*.*', 'orders', false],
    ['*', 'orders', true],
    ['*', 'orders.created', false],
    ['>', 'orders', true],
    ['>', 'orders.created', true],
    ['orders.*.>', 'orders.eu', false],
    ['orders.*.>', 'orders.eu.created', true],
    ['{orders}.*', '{orders}.created', true],
    ['a+b.*', 'a+b.c', true],
    ['a+b.*', 'aab.c', false],
    ['ünï.*', 'ünï.çø∂é', true],
    ['orders.*', 'orders.*', true],
  ])('%s and the stream %s: %p', (pattern, streamKey, expected) => {
    expect(wildcardRule(pattern)).toBeUndefined();
    expect(new Wildcard(pattern).matches(streamKey)).toBe(expected);
  });

  it.each([
    'ord*',
    '*orders',
    'orders.c*d',
    'orders.>.x',
    '>.x',
    'orders>',
    'orders.**',
    'orders..*',
    '.*',
    'orders.>>',
  ])('%s is none', (pattern) => {
    expect(hasWildcard(pattern)).toBe(true);
    expect(wildcardRule(pattern)).toMatch(/whole word/);
  });

  it('is less specific the earlier it has a word for any, and a word for the rest', () => {
    const texts = [
      '>',
      '*.>',
      '*',
      '*.created',
      'orders.>',
      'orders.*',
      'orders.*.created',
      'orders.eu.>',
      'orders.eu.*',
    ];
    const sorted = texts.map((text) => new Wildcard(text)).sort((one, other) => one.compare(other));
    expect(sorted.map(({ text }) => text)).toEqual([
      'orders.eu.*',
      'orders.eu.>',
      'orders.*',
      'orders.*.created',
      'orders.>',
      '*',
      '*.created',
      '*.>',
      '>',
    ]);
  });
});
