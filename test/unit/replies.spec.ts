import { describe, expect, it } from '@jest/globals';
import {
  collectClaims,
  parseConsumers,
  parseGroups,
  parsePending,
  parseStreamInfo,
} from '../../lib/redis/commands/replies.js';
import { entriesOf, pagesOf } from '../../lib/redis/wire/stream-entry.js';

const b = (text: string): Buffer => Buffer.from(text);

describe('replies of Redis', () => {
  it('of XREAD become one page for each stream, and none when nothing came', () => {
    const reply = [
      [b('app:a'), [[b('1-0'), [b('msg'), b('x')]]]],
      [b('app:b'), null],
    ];
    expect(pagesOf(reply, (key) => key.slice(4))).toEqual([
      { streamKey: 'a', entries: [{ id: '1-0', fields: [b('msg'), b('x')], deliveryCount: 1 }] },
      { streamKey: 'b', entries: [] },
    ]);
    expect(pagesOf(null, (key) => key)).toEqual([]);
  });

  it('count deliveries, this one included, where the server reports them', () => {
    const entries = entriesOf([
      [b('1-0'), [], b('5000'), b('2')],
      [b('2-0'), [], 0, 0],
      [b('3-0'), []],
    ]);
    expect(entries.map(({ deliveryCount }) => deliveryCount)).toEqual([3, 1, 1]);
  });

  it('keep an entry without fields apart from one that was deleted', () => {
    expect(entriesOf([[b('1-0'), null], null])).toEqual([{ id: '1-0', fields: null, deliveryCount: 1 }]);
    expect(entriesOf(null)).toEqual([]);
  });

  it('of XPENDING and XINFO become objects', () => {
    expect(parsePending([['1-0', 'c', '7', 2]])).toEqual([{ id: '1-0', consumer: 'c', idle: 7, deliveryCount: 2 }]);
    const info = ['length', 3, 'last-generated-id', '9-1'];
    expect(parseStreamInfo([...info, 'first-entry', null, 'last-entry', null])).toEqual({
      length: 3,
      lastGeneratedId: '9-1',
    });
    expect(parseStreamInfo([...info, 'entries-added', 7])).toMatchObject({ entriesAdded: 7 });
    expect(parseStreamInfo([...info, 'first-entry', ['2-0', []], 'last-entry', ['8-0', []]])).toMatchObject({
      firstId: '2-0',
      lastId: '8-0',
    });
    const old = ['name', 'g', 'consumers', 1, 'pending', 2, 'last-delivered-id', '5-0'];
    expect(parseGroups([old, [...old, 'entries-read', 5, 'lag', 4], [...old, 'lag', null]])).toEqual(
      [undefined, 4, undefined].map((lag) => ({ name: 'g', consumers: 1, pending: 2, lastDeliveredId: '5-0', lag })),
    );
    const consumer = ['name', 'c', 'pending', 1, 'idle', 9];
    expect(parseConsumers([consumer, [...consumer, 'inactive', 12], [...consumer, 'inactive', -1]])).toEqual(
      [undefined, 12, undefined].map((inactive) => ({ name: 'c', pending: 1, idle: 9, inactive })),
    );
  });

  it('to claims separate entries that are ours, entries of others, and deleted ones', () => {
    const pending = ['1-0', '2-0', '3-0', '4-0'].map((id) => ({ id, consumer: 'c', idle: 0, deliveryCount: 1 }));
    const replies = [[[b('1-0'), [b('msg'), b('x')]]], [], 0, [null]];

    expect(collectClaims(pending, [7, 7, 7, 7], replies)).toEqual({
      entries: [{ id: '1-0', fields: [b('msg'), b('x')], deliveryCount: 7 }],
      deleted: ['3-0', '4-0'],
    });
    expect(() => collectClaims(pending, [1], [new Error('lost')])).toThrow('lost');
  });
});
