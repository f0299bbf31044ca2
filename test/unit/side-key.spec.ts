import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { InvalidOptionError } from '../../lib/errors.js';
import { sideKey } from '../../lib/redis/commands/side-key.js';
import { hashSlot, hashTagOf } from '../../lib/redis/connection/hash-slot.js';

function outcomeOf(make: () => string): unknown {
  try {
    return make();
  } catch (error) {
    return error;
  }
}

describe('the name of a key beside a stream', () => {
  it.each([
    ['', 'orders', 'nrs:{orders}:producer:orders:p1'],
    ['', 'orders:3', 'nrs:{orders:3}:producer:orders:3:p1'],
    ['app:', 'orders', 'app:nrs:{app:orders}:producer:app:orders:p1'],
    ['', '{shop}:orders', 'nrs:{shop}:producer:{shop}:orders:p1'],
    ['', 'a}b{shop}{c', 'nrs:{shop}:producer:a}b{shop}{c:p1'],
    ['{shop}:', 'orders', '{shop}:nrs:{shop}:producer:{shop}:orders:p1'],
  ])('under the prefix %j, of %j, is %j', (prefix, streamKey, name) => {
    expect(sideKey(prefix, 'producer', prefix + streamKey, 'p1')).toBe(name);
  });

  it.each([
    ['orders', ['17:eu'], 'nrs:{orders}:dedup:orders:17:eu'],
    ['orders', ['a:b', 'c:d'], 'nrs:{orders}:dedup:orders:a%3Ab:c:d'],
    ['{shop}:orders', ['eu:17'], 'nrs:{shop}:dedup:{shop}:orders:eu%3A17'],
    ['{shop}:orders', ['100%', 'ä b'], 'nrs:{shop}:dedup:{shop}:orders:100%25:ä b'],
  ])('of %j with the parts %j is %j', (key, parts, name) => {
    expect(sideKey('', 'dedup', key, ...parts)).toBe(name);
  });

  it('is never that of another key, or of other parts, whether or not the keys share a hash tag', () => {
    const text = fc.string({ unit: fc.constantFrom('a', ':', '%', '3', 'A'), minLength: 1, maxLength: 5 });
    const key = fc.oneof(
      text,
      text.map((rest) => `{t}${rest}`),
    );
    const names = fc.tuple(key, text, text);
    fc.assert(
      fc.property(names, names, (one, other) => {
        fc.pre(JSON.stringify(one) !== JSON.stringify(other));
        expect(sideKey('', 'handled', ...one)).not.toBe(sideKey('', 'handled', ...other));
      }),
      { numRuns: 5_000 },
    );
  });

  it.each(['{}orders', 'orders{', 'or}ders', '{}{orders}', '}{', '{orders'])(
    'is refused for %j, whose braces are no hash tag, with the name of the key and the feature',
    (key) => {
      const refused = expect.objectContaining({ code: 'ERR_INVALID_OPTION', option: 'streamKey', value: key });
      expect(() => sideKey('', 'producer', key, 'p1')).toThrow(refused);
      expect(() => sideKey('', 'producer', key)).toThrow(/hash tag.*exactly-once.*got "/);
      expect(() => sideKey('', 'handled', key, 'g', '1-0')).toThrow(/hash tag.*an inbox/);
    },
  );

  it('is refused when the prefix makes another hash tag of it', () => {
    expect(() => sideKey('a{', 'handled', 'a{b}c', 'g', '1-0')).toThrow(InvalidOptionError);
  });

  it('is in the slot of the key, and never looks like its shard, whatever the prefix, the key and the rest', () => {
    const text = fc.string({ unit: fc.constantFrom('{', '}', 'a', 'b', ':', '0'), maxLength: 6 });
    const name = text.filter((each) => each !== '');
    fc.assert(
      fc.property(text, name, text, (prefix, streamKey, part) => {
        const key = prefix + streamKey;
        const hasOddBraces = /[{}]/.test(key) && hashTagOf(key) === undefined;
        const side = outcomeOf(() => sideKey(prefix, 'handled', key, part));
        if (typeof side !== 'string')
          return side instanceof InvalidOptionError && (hasOddBraces || /[{}]/.test(prefix));
        return !hasOddBraces && hashSlot(side) === hashSlot(key) && !side.startsWith(`${key}:`);
      }),
      { numRuns: 5_000 },
    );
  });
});
