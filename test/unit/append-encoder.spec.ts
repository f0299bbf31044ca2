import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Command } from 'ioredis';

import { AppendEncoder } from '../../lib/redis/wire/append-encoder.js';
import type { AppendRequest } from '../../lib/redis/commands/stream-commands.js';

fc.configureGlobal({ seed: 20_261_126, numRuns: 200 });

/** What ioredis writes for the same, one command after the other. */
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

describe('an encoder of batches', () => {
  it('writes what ioredis writes, also into a buffer that was used before', () => {
    const encoder = new AppendEncoder();
    fc.assert(
      fc.property(fc.string(), limit, fc.array(request, { minLength: 1, maxLength: 20 }), (key, trim, requests) => {
        const bytes = encoder.encode(key, trim, requests);
        expect(bytes.equals(written(key, trim, requests))).toBe(true);
        encoder.release(bytes);
      }),
    );
  });

  it('leaves the bytes of a batch alone until they are given back', () => {
    const encoder = new AppendEncoder();
    const requestOf = (payload: string): AppendRequest[] => [{ id: '*', fields: ['msg', payload] }];
    const first = encoder.encode('key', [], requestOf('first'));
    const copy = Buffer.from(first);
    const second = encoder.encode('key', [], requestOf('second'));
    expect(first.equals(copy)).toBe(true);

    encoder.release(first);
    expect(encoder.encode('key', [], requestOf('third')).buffer).toBe(first.buffer);
    expect(second.toString()).toContain('second');
  });

  it('keeps no buffer that had to grow', () => {
    const encoder = new AppendEncoder();
    const large = encoder.encode('key', [], [{ id: '*', fields: ['msg', 'x'.repeat(1_000_000)] }]);
    encoder.release(large);
    expect(encoder.encode('key', [], [{ id: '*', fields: ['msg', 'x'] }]).buffer).not.toBe(large.buffer);
  });
});
