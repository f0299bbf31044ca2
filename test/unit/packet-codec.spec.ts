import { expect, it } from '@jest/globals';
import { createContext, runInContext } from 'node:vm';
import { NotFoundException } from '@nestjs/common';
import type { ReadPacket } from '@nestjs/microservices';
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
  ['a map', new Map([[1, 2]]), 'leaves out the content of this Map'],
  ['a map with properties', new Tagged([['a', 'b']]), 'leaves out the content of this Map'],
  ['a map of another realm', runInContext('new Map([[1, 2]])', createContext()), 'leaves out the content of this Map'],
  ['a set', new Set([1]), 'leaves out the content of this Set'],
  ['an error', new Error('a secret'), 'leaves out the content of this Error'],
  [
    'an error with properties',
    Object.assign(new Error('a secret'), { code: 5 }),
    'leaves out the content of this Error',
  ],
  ['an ArrayBuffer', new ArrayBuffer(8), 'leaves out the content of this ArrayBuffer'],
  ['a generator', (function* () { yield 1; })(), 'leaves out the content of this Generator'], // prettier-ignore
  ['a regular expression', /a/, 'leaves out the content of this RegExp'],
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
  ['an exception of Nest', new NotFoundException('tea'), '{"response":{"message":"tea","error":"Not Found","statusCode":404},"status":404,"options":{},"message":"tea","name":"NotFoundException"}'], // prettier-ignore
  ['a date', new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ['an array of another realm', runInContext('[1, 2]', createContext()), '[1,2]'],
  ['a typed array', new Uint8Array(1), '{"0":0}'],
  ['an empty typed array', new Uint8Array(), '{}'],
  ['null', null, 'null'],
])('%s is sent as JSON has it', (_, data, json) => {
  expect(encode(data)).toBe(json);
});

it('the header redrive-group is not sent again, whether the record or a dispatch hook has it', () => {
  const passedOn = { 'redrive-group': 'g', tenant: 'a' };
  const record = new RedisStreamsRecord(1, passedOn);
  for (const packet of [{ data: 1, metadata: passedOn }, { data: record }]) {
    const encoded = codec.encode({ pattern: 'orders', ...packet } as ReadPacket);
    expect(encoded).toMatchObject({ options: { headers: { tenant: 'a' } } });
    expect(encoded).not.toHaveProperty('options.headers.redrive-group');
  }
});
