import { describe, expect, it } from '@jest/globals';
import type { RedisStreamsConsoleOptions } from '../../packages/console/src/index.js';
import { StreamPolicy } from '../../packages/console/src/stream-policy.js';

describe('the streams of a keyspace', () => {
  const among = (keys: string[], streams?: RedisStreamsConsoleOptions['streams']): string[] =>
    new StreamPolicy({ streams }).streamsAmong(new Set(keys));

  it('have their shards and dead letters in them, and leave out what the library keeps beside them', () => {
    expect(among(['orders:1', 'orders:0', 'orders:20', 'orders.dead', 'a', 'nrs:{a}:delayed:a', 'reply:1'])).toEqual([
      'a',
      'orders',
    ]);
    // As info() does, up to a gap of 32 numbers.
    expect(among(['orders:0', 'orders:39', 'orders:80'])).toEqual(['orders', 'orders:80']);
    expect(among(['user:1234', 'x:01', 'x:', ':1', 'lonely.dead'])).toEqual([
      ':1',
      'lonely.dead',
      'user:1234',
      'x:',
      'x:01',
    ]);
  });

  it('with very many numbers are streams of their own', () => {
    const users = Array.from({ length: 5_000 }, (_, n) => `user:${n}`);
    expect(among(users)).toHaveLength(5_000);
    expect(among(users.slice(0, 4_096))).toEqual(['user']);
  });

  it('are those that the option allows', () => {
    expect(among(['a', 'a.dead', 'b', 'b:0'], (key) => key === 'b')).toEqual(['b']);
    const policy = new StreamPolicy({ streams: ['a', 'b:7'] });
    for (const key of ['a', 'a.dead', 'a:0', 'a:0.dead', 'b:7', 'b:7.dead'])
      expect([key, policy.allows(key)]).toEqual([key, true]);
    for (const key of ['b', 'b.dead', 'b:0', 'ab', 'a.b', 'a:x'])
      expect([key, policy.allows(key)]).toEqual([key, false]);
    // A function of the application may return anything.
    expect(new StreamPolicy({ streams: (() => 'no') as never }).allows('a')).toBe(false);
  });

  it('are told from their shards and dead letters in one pass over a key, however long it is', () => {
    const key = `a${':0.dead:1'.repeat(200_000)}`;
    const seen: string[] = [];
    const policy = new StreamPolicy({ streams: (stream) => seen.push(stream) > 0 });
    expect([policy.allows(key), seen]).toEqual([true, ['a']]);
    const isAllowed = ['a', 'b'].map((name) => new StreamPolicy({ streams: [name] }).allows(key));
    expect(isAllowed).toEqual([true, false]);
    expect(new StreamPolicy({ streams: ['a', `a${':0.dead:1'.repeat(10)}`] }).allows(`${key}x`)).toBe(false);
  });

  it('are those that can be opened, whatever the function is', () => {
    const functions: Array<(key: string, full: string) => boolean> = [
      (key) => key !== 'payments',
      (_, key) => key.startsWith('users:'),
      (_, key) => key.endsWith('.dead'),
      (_, key) => !key.endsWith('.dead'),
      (key) => key === 'orders',
      (_, key) => /:\d+$/.test(key),
      () => true,
    ];
    for (const streams of functions) {
      const policy = new StreamPolicy({ streams });
      const listed = policy.streamsAmong(new Set(KEYS));
      expect([String(streams), listed.filter((key) => !policy.allows(key))]).toEqual([String(streams), []]);
      // What is not listed is a part of something that is.
      const hidden = KEYS.filter((key) => policy.allows(key) && !listed.some((stream) => isPartOf(key, stream)));
      expect([String(streams), hidden]).toEqual([String(streams), []]);
    }
  });
});

const KEYS = ['orders', 'orders.dead', 'payments', 'payments.dead', 'payments:0', 'payments:1', 'payments:0.dead',
  'payments.dead:0', 'users:0', 'users:1', 'users:42', 'users:42.dead', 'lonely.dead', 'stock:0', 'stock:1']; // prettier-ignore

function isPartOf(key: string, stream: string): boolean {
  return key.startsWith(stream) && /^(?::\d+|\.dead)*$/.test(key.slice(stream.length));
}

describe('the option streams', () => {
  const OF_PAYMENTS = [
    'payments',
    'payments:0',
    'payments.dead',
    'payments:0.dead',
    'payments.dead:0',
    'payments.dead.dead',
  ];

  it.each<[string, (key: string) => boolean]>([
    ['a name', (key) => key !== 'payments'],
    ['names of many', (key) => !new Set(['logs', 'payments']).has(key)],
    ['a name among those with a prefix', (key) => key.startsWith('pay') && key !== 'payments'],
    ['an ending', (key) => !key.endsWith('payments')],
    ['a name among those of a pattern', (key) => /^[a-z.:\d]+$/.test(key) && key !== 'payments'],
    ['a beginning', (key) => !key.startsWith('payments')],
  ])('as a function that denies %s denies its shards and dead letters, also of one another', (_what, streams) => {
    const policy = new StreamPolicy({ streams });
    for (const key of OF_PAYMENTS) {
      expect([key, policy.allows(key)]).toEqual([key, false]);
      expect(() => policy.require(key)).toThrow(`The console shows no stream '${key}'`);
    }
    expect(policy.streamsAmong(new Set(OF_PAYMENTS))).toEqual([]);
    expect(policy.allows('pay')).toBe(streams('pay'));
  });

  it.each<[string, (stream: string, key: string) => boolean]>([
    ['a beginning', (_, key) => key.startsWith('users:')],
    ['a pattern', (_, key) => /^users:\d+(?:\.dead)?$/.test(key)],
    ['names', (_, key) => ['users:7', 'users:42', 'users:42.dead'].includes(key)],
  ])('as a function that decides by the key allows numbered streams by %s', (_what, streams) => {
    const policy = new StreamPolicy({ streams });
    for (const key of ['users:42', 'users:42.dead', 'users:7']) expect([key, policy.allows(key)]).toEqual([key, true]);
    for (const key of ['users', 'users.dead', 'others:42']) expect([key, policy.allows(key)]).toEqual([key, false]);
    expect(policy.streamsAmong(new Set(['users:7', 'users:42', 'others:1']))).toEqual(['users:42', 'users:7']);
  });

  it('as a function is called with the name of the stream, and the key', () => {
    const asked: string[][] = [];
    const policy = new StreamPolicy({ streams: (stream, key) => asked.push([stream, key]) > 0 });
    for (const key of ['a', 'a:0', 'a.dead', 'a:0.dead', 'a.dead:0', ':1', '.dead']) policy.allows(key);
    expect(asked.map(([stream]) => stream)).toEqual(['a', 'a', 'a', 'a', 'a', ':1', '.dead']);
    expect(asked[3]).toEqual(['a', 'a:0.dead']);
  });

  it.each<[string, undefined | ((key: string) => boolean)]>([
    ['without the option', undefined],
    ['for a function that allows everything', () => true],
  ])('hides what the library keeps for itself, %s', (_when, streams) => {
    const policy = new StreamPolicy({ streams });
    for (const key of ['reply:1', 'reply:1.dead', 'reply:1:0', 'nrs:{a}:delayed:a'])
      expect([key, policy.allows(key)]).toEqual([key, false]);
  });

  it('shows a stream of answers that it names', () => {
    const policy = new StreamPolicy({ streams: ['reply:1'] });
    expect(['reply:1', 'reply:1.dead', 'reply:2'].map((key) => policy.allows(key))).toEqual([true, true, false]);
  });
});
