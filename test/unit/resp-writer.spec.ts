import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Command } from 'ioredis';

import { RespWriter } from '../../lib/redis/wire/resp-writer.js';
import type { AppendRequest, Command as WrittenCommand } from '../../lib/redis/wire/resp-writer.js';

fc.configureGlobal({ seed: 20_261_126, numRuns: 200 });

/** The bytes that ioredis writes for the same entries, one command after the other. */
function written(key: string, limit: string[], requests: readonly AppendRequest[]): Buffer {
  const commands = requests.map(({ id, fields }) => {
    const parts = fields.map((field) => (typeof field === 'string' ? field : Buffer.from(field)));
    return new Command('XADD', [key, ...limit, id, ...parts]).toWritable({});
  });
  return Buffer.concat(commands.map((command) => Buffer.from(command as string)));
}

const part = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string(),
  fc.uint8Array({ maxLength: 20 }),
  fc.integer({ min: 0, max: 9_000 }).map((length) => 'ü'.repeat(length)),
);
const fields = fc
  .tuple(fc.oneof(fc.constant('msg'), part), part, fc.array(fc.tuple(part, part), { maxLength: 3 }))
  .map(([name, value, more]) => [name, value, ...more.flat()]);
const request = fc.record({ id: fc.constantFrom('*', '5-*', '7-1'), fields });
const limit = fc.constantFrom<string[]>([], ['MAXLEN', '~', '1000']);

describe('RESP writer', () => {
  it('writes a batch as ioredis does, also into a buffer that was used before', () => {
    const writer = new RespWriter();
    fc.assert(
      fc.property(fc.string(), limit, fc.array(request, { minLength: 1, maxLength: 20 }), (key, trim, requests) => {
        const bytes = writer.appends(key, trim, requests);
        expect(bytes.equals(written(key, trim, requests))).toBe(true);
        writer.release(bytes);
      }),
    );
  });

  it('leaves the bytes of a batch unchanged until they are released', () => {
    const writer = new RespWriter();
    const requestOf = (payload: string): AppendRequest[] => [{ id: '*', fields: ['msg', payload] }];
    const first = writer.appends('key', [], requestOf('first'));
    const copy = Buffer.from(first);
    const second = writer.appends('key', [], requestOf('second'));
    expect(first.equals(copy)).toBe(true);

    writer.release(first);
    expect(writer.appends('key', [], requestOf('third')).buffer).toBe(first.buffer);
    expect(second.toString()).toContain('second');
  });

  it('uses no buffer again that is not its own, whatever its size', () => {
    const writer = new RespWriter();
    const own = writer.appends('key', [], [{ id: '*', fields: ['msg', 'x'] }]);
    const foreign = Buffer.from(new ArrayBuffer(own.buffer.byteLength), 0, 10);
    expect([writer.owns(own), writer.owns(foreign)]).toEqual([true, false]);

    writer.release(foreign);
    expect(writer.appends('key', [], [{ id: '*', fields: ['msg', 'y'] }]).buffer).not.toBe(foreign.buffer);
  });

  it('writes commands of text, of bytes and of numbers as ioredis does', () => {
    const writer = new RespWriter();
    const argument = fc.oneof(part, fc.integer());
    const command = fc.tuple(fc.constantFrom('XACK', 'EVAL'), fc.array(argument, { maxLength: 5 }));
    fc.assert(
      fc.property(fc.array(command, { minLength: 1, maxLength: 4 }), (commands) => {
        const bytes = writer.commands(commands.map(([name, args]): WrittenCommand => [name, ...args]));
        const expected = commands.map(([name, args]) => {
          const parts = args.map((value) => (typeof value === 'object' ? Buffer.from(value) : value));
          return Buffer.from(new Command(name, parts).toWritable({}) as string);
        });
        expect(bytes.equals(Buffer.concat(expected))).toBe(true);
        writer.release(bytes);
      }),
    );
  });

  it('keeps no buffer that had to grow', () => {
    const writer = new RespWriter();
    const large = writer.appends('key', [], [{ id: '*', fields: ['msg', 'x'.repeat(1_000_000)] }]);
    writer.release(large);
    expect(writer.appends('key', [], [{ id: '*', fields: ['msg', 'x'] }]).buffer).not.toBe(large.buffer);
  });
});
