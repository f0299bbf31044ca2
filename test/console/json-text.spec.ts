import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { parseJson } from '../../packages/console/web/data/json.js';
import type { Json } from '../../packages/console/web/data/json.js';

function written(json: Json): string {
  switch (json.kind) {
    case 'object':
      return `{${json.members.map(([name, value]) => `${JSON.stringify(name)}:${written(value)}`).join(',')}}`;
    case 'array':
      return `[${json.items.map(written).join(',')}]`;
    case 'string':
      return JSON.stringify(json.text);
    case 'number':
    case 'word':
      return json.text;
  }
}

describe('JSON on a page', () => {
  it('keeps the text of its numbers, which are longer than a double in some payloads', () => {
    expect(parseJson('{"id": 12345678901234567890, "sum": 1.10, "e": [-0, 1E+2]}')).toEqual({
      kind: 'object',
      members: [
        ['id', { kind: 'number', text: '12345678901234567890' }],
        ['sum', { kind: 'number', text: '1.10' }],
        [
          'e',
          {
            kind: 'array',
            items: [
              { kind: 'number', text: '-0' },
              { kind: 'number', text: '1E+2' },
            ],
          },
        ],
      ],
    });
  });

  it('keeps members of the same name, and those that an object has by itself', () => {
    expect(parseJson('{"a":1,"a":2,"__proto__":3}')).toMatchObject({
      members: [
        ['a', { text: '1' }],
        ['a', { text: '2' }],
        ['__proto__', { text: '3' }],
      ],
    });
  });

  it('is the same for all JSON, however it is indented', () => {
    fc.assert(
      fc.property(fc.json(), fc.nat(3), (text, indent) => {
        const json = parseJson(JSON.stringify(JSON.parse(text), null, indent));
        expect(json && JSON.parse(written(json))).toEqual(JSON.parse(text));
      }),
    );
  });

  it.each(['', 'text', '{', '{"a":}', "{'a':1}", '[1,]', 'NaN', '1 2'])('is not what %j is', (text) => {
    expect(parseJson(text)).toBeNull();
  });

  it('is shown as text when it is nested too deep for a page, and read when it is long', () => {
    expect(parseJson('['.repeat(5_000) + ']'.repeat(5_000))).toBeNull();
    const long = 'x\\\\"'.repeat(400_000);
    expect(parseJson(JSON.stringify({ long }))).toEqual({
      kind: 'object',
      members: [['long', { kind: 'string', text: long }]],
    });
  });
});
