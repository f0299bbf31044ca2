import { expect, it } from '@jest/globals';
import { createContext, runInContext } from 'node:vm';
import { of, map } from 'rxjs';

import { JSON_DESERIALIZER, JSON_SERIALIZER, PacketCodec } from '../../lib/nest/packet-codec.js';
import { RedisStreamsRecord } from '../../lib/nest/redis-streams.record.js';

const codec = new PacketCodec(
  () => JSON_SERIALIZER,
  () => JSON_DESERIALIZER,
);

const encode = (data: unknown): unknown => (codec.encode({ pattern: 'orders', data }) as { payload: unknown }).payload;

class Tagged extends Map<string, string> {
  readonly tag = 'a';
}

it.each<[string, unknown, string]>([
  ['a promise', Promise.resolve(1), 'it is a promise: await it'],
  ['a promise with properties', Object.assign(Promise.resolve(1), { id: 5 }), 'it is a promise: await it'],
  ['an Observable', of(1), 'it is an Observable: send what it emits'],
  ['an Observable with a source', of(1).pipe(map(String)), 'it is an Observable: send what it emits'],
  ['a map', new Map([[1, 2]]), 'leaves nothing of the content of this Map'],
  ['a map with properties', new Tagged([['a', 'b']]), 'leaves nothing of the content of this Map'],
  [
    'a map of another realm',
    runInContext('new Map([[1, 2]])', createContext()),
    'leaves nothing of the content of this Map',
  ],
  ['a set', new Set([1]), 'leaves nothing of the content of this Set'],
  ['an error', new Error('a secret'), 'leaves nothing of the content of this Error'],
  ['a buffer', new ArrayBuffer(8), 'leaves nothing of the content of this ArrayBuffer'],
  ['a generator', (function* () { yield 1; })(), 'leaves nothing of the content of this Generator'], // prettier-ignore
  ['a regular expression', /a/, 'leaves nothing of the content of this RegExp'],
])('%s is not sent: JSON would lose it', (_, data, rule) => {
  for (const each of [data, new RedisStreamsRecord(data)]) {
    expect(() => encode(each)).toThrow(
      expect.objectContaining({ option: 'data', message: expect.stringContaining(rule) }),
    );
    expect(() => encode(each)).not.toThrow('secret');
  }
});

it.each<[string, unknown, string]>([
  ['an object without properties', {}, '{}'],
  ['one without a prototype', Object.create(null), '{}'],
  ['one of a class without properties', new (class Ping {})(), '{}'],
  ['a map with a toJSON of its own', new (class extends Map { toJSON() { return { size: this.size }; } })(), '{"size":0}'], // prettier-ignore
  ['an error with properties', Object.assign(new Error('a'), { code: 5 }), '{"code":5}'],
  ['a date', new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ['an array of another realm', runInContext('[1, 2]', createContext()), '[1,2]'],
  ['an array of numbers', new Uint8Array(1), '{"0":0}'],
  ['an empty array of numbers', new Uint8Array(), '{}'],
  ['null', null, 'null'],
])('%s is sent as JSON has it', (_, data, json) => {
  expect(encode(data)).toBe(json);
});
