import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import type { StreamRow } from '../../packages/console/src/api.js';
import { streamsUpdate } from '../../packages/console/src/live/streams-view.js';
import type { StreamsView } from '../../packages/console/src/live/streams-view.js';
import { LagHistory } from '../../packages/console/src/live/lag-history.js';
import { userNameOf } from '../../packages/console/src/security/user-name.js';

describe('the history of lag', () => {
  it('has the last samples of many groups, and always of those that are looked at', () => {
    const history = new LagHistory(1);
    const group = (name: string) => ({ name, lag: 1, lagSeconds: 2, pending: 3, consumers: 1, isPaused: false });
    for (let n = 0; n < 1_100; n += 1) history.add('s', group(`g${n}`), n);
    expect([history.of('s', 'g999').length, history.of('s', 'g1000').length]).toEqual([1, 0]);
    history.keep('s', group('g1000'), 5);
    expect([history.of('s', 'g1000').length, history.of('s', 'g0').length]).toEqual([1, 0]);
    for (let at = 1; at <= 200; at += 1) history.add('s', group('g1000'), at);
    const samples = history.of('s', 'g1000');
    expect([samples.length, samples[0]?.at, samples.at(-1)?.at]).toEqual([180, 21, 200]);
    history.clear();
    expect(history.of('s', 'g1000')).toEqual([]);
  });

  it('is in order, with a distance between the samples, whatever the views that have the group', () => {
    const history = new LagHistory(1_000);
    const add = (...times: number[]): number[] => {
      for (const at of times)
        history.add('s', { name: 'g', lag: at, lagSeconds: 2, pending: 3, consumers: 1, isPaused: false }, at);
      return history.of('s', 'g').map(({ at }) => at);
    };
    expect(add(10_000, 10_010, 12_000, 12_010, 14_000, 14_010)).toEqual([10_000, 12_000, 14_000, 14_010]);
    // Less than the distance apart, all of them.
    expect(add(14_600, 15_200, 15_800, 16_400)).toEqual([10_000, 12_000, 14_000, 15_200, 16_400]);
    expect(add(16_400, 16_390)).toEqual([10_000, 12_000, 14_000, 15_200, 16_400]);
    expect(add(13_000)).toEqual([10_000, 12_000, 13_000]);
  });
});

describe('the list of streams', () => {
  const row = (stream: string, values: Partial<StreamRow> = {}): StreamRow => ({
    stream, length: 0, memory: null, rate: null, shards: 1, groups: [], deadLetters: 0, failure: null, ...values,
  }); // prettier-ignore
  const group = { name: 'g', lag: null, lagSeconds: null, pending: 0, consumers: 0, isPaused: null };
  const list = (rows: StreamRow[], view: Partial<StreamsView> = {}) =>
    streamsUpdate({ rows, isComplete: true, at: 1 }, { page: 'streams', ...view }, 2_000);

  it('is searched by name whatever its case, in pages of 50', () => {
    const rows = Array.from({ length: 120 }, (_, n) => row(`Orders-${String(n).padStart(3, '0')}`));
    const update = list([...rows, row('payments')], { search: 'oRDers', offset: 100 });
    expect([update.matching, update.total, update.rows.length, update.rows[0]?.stream]).toEqual([
      120,
      121,
      20,
      'Orders-100',
    ]);
  });

  it('is sorted by each figure in either direction, with what is not known at the end', () => {
    const rows = [
      row('a', {
        length: 5,
        groups: [
          { ...group, lag: 3 },
          { ...group, lag: 9 },
        ],
        deadLetters: 1,
      }),
      row('b', { length: 7, memory: 10, rate: 0.5, groups: [{ ...group, lag: 4, lagSeconds: 1.5 }] }),
      row('c', { length: 7, memory: 20, groups: [group] }),
    ];
    const order = (sort: StreamsView['sort'], isDescending = false) =>
      list(rows, { ...(sort && { sort }), isDescending })
        .rows.map(({ stream }) => stream)
        .join('');
    expect([order('name'), order('name', true)]).toEqual(['abc', 'cba']);
    expect([order('length'), order('length', true)]).toEqual(['abc', 'bca']);
    expect([order('memory'), order('memory', true)]).toEqual(['bca', 'cba']);
    expect([order('rate'), order('rate', true)]).toEqual(['bac', 'bac']);
    expect([order('lag'), order('lag', true)]).toEqual(['bac', 'abc']);
    expect([order('lagSeconds'), order('lagSeconds', true)]).toEqual(['bac', 'bac']);
    expect([order('deadLetters'), order('deadLetters', true)]).toEqual(['bca', 'abc']);
  });
});

describe('the name of a user', () => {
  it.each([
    [{ username: 'ada', name: 'x' }, 'ada'],
    [{ name: 'Ada', email: 'x' }, 'Ada'],
    [{ username: '', email: 'ada@example.test', id: 1 }, 'ada@example.test'],
    [{ id: 7, sub: 'x' }, '7'],
    [{ sub: 'auth0|1' }, 'auth0|1'],
    ['ada', 'ada'],
    [{ username: { toString: (): string => 'no' } }, null],
    [undefined, null],
    [null, null],
    [{ username: 'x'.repeat(1_000) }, 'x'.repeat(200)],
  ])('of %j is %j', (user, name) => {
    expect(userNameOf({ user })).toBe(name);
  });
});

it('the package needs the library of its own version', () => {
  const manifest = (folder: string): { version: string; peerDependencies: Record<string, string> } =>
    JSON.parse(readFileSync(new URL(`../../${folder}package.json`, import.meta.url), 'utf8'));
  const [packageJson, library] = [manifest('packages/console/'), manifest('')];
  expect(packageJson.version).toBe(library.version);
  expect(packageJson.peerDependencies['nestjs-redis-streams']).toBe(`^${library.version}`);
});
