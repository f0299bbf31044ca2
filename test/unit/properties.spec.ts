import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { DEFAULTS } from '../../lib/engine/options/options.js';
import { resolveProducerOptions } from '../../lib/engine/options/resolve-options.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { StreamProducer } from '../../lib/engine/producing/stream-producer.js';
import { safeLogger } from '../../lib/shared/logger.js';
import { JSON_DESERIALIZER, JSON_SERIALIZER, PacketCodec } from '../../lib/nest/packet-codec.js';
import type { EncodedPacket } from '../../lib/nest/packet-codec.js';
import { RedisStreamsRecordBuilder } from '../../lib/nest/redis-streams.record.js';
import {
  compareEntryIds,
  entryIdSequence,
  isEntryId,
  lastIdOfMillisecond,
  nextEntryId,
  parseEntryId,
} from '../../lib/redis/commands/entry-id.js';
import type { AppendRequest, WriteBatch } from '../../lib/redis/commands/stream-commands.js';
import {
  collectClaims,
  parseConsumers,
  parseGroups,
  parsePending,
  parseStreamInfo,
} from '../../lib/redis/commands/replies.js';
import { entriesOf as parseEntries, pagesOf } from '../../lib/redis/wire/stream-entry.js';

// The seed is fixed so that a failure is the same everywhere; a failing case prints its own path for replaying.
fc.configureGlobal({ seed: 20_260_101, numRuns: 300 });

const MAX = 2n ** 64n - 1n;
const bytes = (value: string | Uint8Array): Buffer => Buffer.from(value as Uint8Array);

const uint64 = fc.oneof(
  fc.bigInt(0n, MAX),
  fc.constantFrom(0n, 1n, 0xffffn, 0x1_0000n, 2n ** 48n - 1n, 2n ** 48n, 2n ** 53n + 1n, MAX - 1n, MAX),
);
const entryId = fc.tuple(uint64, uint64).map(([milliseconds, counter]) => `${milliseconds}-${counter}`);
/** Well-formed text, and the names that every object has. */
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('__proto__', 'constructor', 'toString', 'hasOwnProperty', 'then', 'msg', 'h:', 'h:h:', '0', ''),
);
const buffer = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((value) => bytes(value)),
  text.map((value) => bytes(value)),
);
const headers = fc
  .array(fc.tuple(text, text), { maxLength: 12 })
  .map((pairs) => Object.fromEntries(pairs) as Record<string, string>);

/** What toEqual would not tell apart: an own property `__proto__` is an entry like any other. */
const entriesOf = (record: object): Array<[string, unknown]> =>
  Object.entries(record).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));

const messageOf = (fields: readonly Buffer[] | null, id = '1-0'): StreamMessage =>
  StreamMessage.create(
    { streamKey: 's', shardId: 0, key: 's' },
    { id, fields: fields && [...fields], deliveryCount: 1 },
    DEFAULTS.streamer,
  );

describe('replies', () => {
  const flatFields = fc.array(fc.tuple(buffer, buffer), { maxLength: 6 }).map((pairs) => pairs.flat());
  const entry = fc.record({
    id: entryId,
    fields: fc.option(flatFields),
    before: fc.option(fc.nat(), { nil: undefined }),
  });
  type Entry = typeof entry extends fc.Arbitrary<infer T> ? T : never;
  const rawOf = ({ id, fields, before }: Entry): unknown[] =>
    before === undefined ? [bytes(id), fields] : [bytes(id), fields, bytes('17'), bytes(String(before))];
  const parsedOf = ({ id, fields, before = 0 }: Entry): unknown => ({ id, fields, deliveryCount: before + 1 });

  it('with pages of entries come out as they were written, deleted ones left out', () => {
    const page = fc.tuple(text, fc.array(fc.option(entry), { maxLength: 5 }));
    fc.assert(
      fc.property(fc.array(page, { maxLength: 4 }), text, (pages, prefix) => {
        const reply = pages.map(([key, entries]) => [bytes(prefix + key), entries.map((each) => each && rawOf(each))]);
        expect(pagesOf(reply, (key) => key.slice(prefix.length))).toEqual(
          pages.map(([streamKey, entries]) => ({
            streamKey,
            entries: entries.filter((each) => each !== null).map(parsedOf),
          })),
        );
      }),
    );
  });

  it('that are not a list are read as an empty one', () => {
    const noList = fc.anything().filter((value) => !Array.isArray(value));
    fc.assert(
      fc.property(noList, (reply) => {
        expect(pagesOf(reply, (key) => key)).toEqual([]);
        for (const parse of [parseEntries, parsePending, parseGroups, parseConsumers]) expect(parse(reply)).toEqual([]);
      }),
    );
  });

  it('with names and values in turn are read by name, in any order and among names that are not known', () => {
    const foreign = fc.array(fc.tuple(fc.constantFrom('__proto__', 'constructor', 'radix-tree-keys'), fc.anything()));
    fc.assert(
      fc.property(fc.nat(), entryId, foreign, fc.nat(), (length, lastGeneratedId, others, shift) => {
        const pairs = [['length', length], ['last-generated-id', lastGeneratedId], ...others]; // prettier-ignore
        const at = shift % pairs.length;
        const reply = [...pairs.slice(at), ...pairs.slice(0, at)].flatMap((pair) => pair);
        expect(parseStreamInfo(reply)).toEqual({ length, lastGeneratedId });
      }),
    );
  });

  it('to claims have every entry in one place at most, and only missing ones among the deleted', () => {
    const outcome = fc.constantFrom('ours', 'taken', 'deleted', 'nil', 'without-fields');
    fc.assert(
      fc.property(fc.array(fc.tuple(entryId, outcome, fc.nat())), (claims) => {
        const pending = claims.map(([id]) => ({ id, consumer: 'c', idle: 0, deliveryCount: 1 }));
        const counts = claims.map(([, , count]) => count);
        const replies = claims.map(([id, kind]) => {
          if (kind === 'taken') return [];
          if (kind === 'deleted') return 0;
          return [kind === 'nil' ? null : [bytes(id), kind === 'ours' ? [bytes('msg'), bytes('x')] : null]];
        });
        const { entries, deleted } = collectClaims(pending, counts, replies);
        const idsOf = (...kinds: string[]): string[] =>
          claims.filter(([, kind]) => kinds.includes(kind)).map(([id]) => id);
        expect(entries.map(({ id }) => id)).toEqual(idsOf('ours'));
        expect(deleted).toEqual(idsOf('deleted', 'nil', 'without-fields'));
      }),
    );
  });
});

describe('entry ids of 64 bits', () => {
  it('are parsed to what they were made of, and formatted to what they were parsed from', () => {
    fc.assert(
      fc.property(uint64, uint64, (milliseconds, counter) => {
        expect(parseEntryId(`${milliseconds}-${counter}`)).toEqual({ milliseconds, counter });
        expect(parseEntryId(String(milliseconds))).toEqual({ milliseconds, counter: 0n });
      }),
    );
  });

  it('are distinguished from any other text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.bigInt().map(String), fc.tuple(fc.bigInt(), fc.bigInt())), (value) => {
        const candidate = typeof value === 'string' ? value : value.join('-');
        const parts = /^(\d+)(?:-(\d+))?$/.exec(candidate);
        const isOne = candidate.length <= 41 && parts !== null && BigInt(parts[1] as string) <= MAX;
        expect(isEntryId(candidate)).toBe(isOne && BigInt(parts[2] ?? '0') <= MAX);
      }),
    );
  });

  it('are ordered like the numbers that they are made of', () => {
    const numberOf = (id: string): bigint => {
      const { milliseconds, counter } = parseEntryId(id) as { milliseconds: bigint; counter: bigint };
      return (milliseconds << 64n) | counter;
    };
    fc.assert(
      fc.property(entryId, entryId, (a, b) => {
        const [left, right] = [numberOf(a), numberOf(b)];
        expect(Math.sign(compareEntryIds(a, b))).toBe(left < right ? -1 : left > right ? 1 : 0);
        expect(compareEntryIds(a, a)).toBe(0);
      }),
    );
  });

  it('have a next one, except the last', () => {
    fc.assert(
      fc.property(uint64, uint64, (milliseconds, counter) => {
        const next = nextEntryId(`${milliseconds}-${counter}`);
        const number = ((milliseconds << 64n) | counter) + 1n;
        expect(next).toBe(number > (MAX << 64n) + MAX ? undefined : `${number >> 64n}-${number & MAX}`);
      }),
    );
  });

  it('of one millisecond are not greater than its last one', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), uint64, (milliseconds, counter) => {
        expect(
          compareEntryIds(`${milliseconds}-${counter}`, lastIdOfMillisecond(milliseconds, 'ms')),
        ).toBeLessThanOrEqual(0);
      }),
    );
  });

  it('make a sequence that keeps their order, where it has room for both parts', () => {
    const [milliseconds, counter] = [fc.bigInt(0n, 2n ** 48n - 1n), fc.bigInt(0n, 2n ** 16n - 1n)];
    fc.assert(
      fc.property(milliseconds, counter, (high, low) => {
        const sequence = entryIdSequence(`${high}-${low}`);
        expect([sequence >> 16n, sequence & 0xffffn]).toEqual([high, low]);
      }),
    );
  });

  it('make no sequence where it has no room for one of their parts', () => {
    fc.assert(
      fc.property(uint64, uint64, (milliseconds, counter) => {
        fc.pre(milliseconds >= 2n ** 48n || counter >= 2n ** 16n);
        const id = `${milliseconds}-${counter}`;
        expect(() => entryIdSequence(id)).toThrow(expect.objectContaining({ code: 'ERR_SEQUENCE_OVERFLOW', id }));
      }),
    );
  });
});

describe('messages', () => {
  it('have every field of an entry, whatever its bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(buffer, buffer), { maxLength: 20 }), entryId, (pairs, id) => {
        const message = messageOf(pairs.flat(), id);
        expect([...message.fields]).toEqual([...new Map(pairs.map(([name, value]) => [name.toString(), value]))]);
        expect(message.storedFields).toEqual(pairs.flat());
        const payload = pairs.find(([name]) => name.equals(bytes('msg')))?.[1];
        expect(message.payload).toEqual(payload ?? Buffer.alloc(0));
        expect(message.hasPayload).toBe(payload !== undefined);
        expect(JSON.parse(JSON.stringify(message))).toMatchObject({ id, payload: message.text() });
      }),
    );
  });

  it('of an entry that was deleted have neither fields nor headers', () => {
    const message = messageOf(null);
    expect([message.fields.size, Object.keys(message.headers), message.hasPayload]).toEqual([0, [], false]);
  });

  it('have the payload and the headers that a producer was given', async () => {
    const sent: AppendRequest[] = [];
    const producer = StreamProducer.create('s', resolveProducerOptions({}), {
      onEnded: () => undefined,
      connectTimeout: 1_000,
      appending: {
        wasReached: true,
        laneOf: () => '',
        canWrite: () => true,
        payloadLimit: () => undefined,
        write: async ({ requests }: WriteBatch) => requests.map((each) => `${sent.push(each)}-0`),
      } as never,
      messageField: 'msg',
      timestampFormat: 'ms',
      timeout: 1_000,
      telemetry: undefined,
      logger: safeLogger({ error: () => undefined, warn: () => undefined, log: () => undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.oneof(text, fc.uint8Array()), headers, async (payload, given) => {
        const { id } = await producer.send(payload, { headers: given });
        const { fields } = sent.at(-1) as AppendRequest;
        const message = messageOf(fields.map((field) => bytes(field as string)), id); // prettier-ignore
        expect(message.payload).toEqual(bytes(payload as string));
        expect(entriesOf(message.headers)).toEqual(entriesOf(given));
        expect(entriesOf(JSON.parse(JSON.stringify(message)).headers)).toEqual(entriesOf(given));
        expect(Object.getPrototypeOf(message.headers)).toBe(Object.prototype);
      }),
    );
    await producer.end();
  });
});

describe('the packet codec', () => {
  const codec = new PacketCodec(
    () => JSON_SERIALIZER,
    () => JSON_DESERIALIZER,
  );
  const received = ({ payload, options }: EncodedPacket): StreamMessage => {
    const pairs = Object.entries(options.headers ?? {}).flatMap(([name, value]) => [`h:${name}`, value]);
    return messageOf([bytes('msg'), bytes(payload as string), ...pairs.map((each) => bytes(each))]);
  };

  it('decodes any JSON value to what was encoded', async () => {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue({ maxDepth: 6, stringUnit: 'binary' }), text, async (data, pattern) => {
        const message = received(codec.encode({ pattern, data }) as EncodedPacket);
        // As text, because JSON has no -0 and toEqual overlooks a property called __proto__.
        expect(JSON.stringify(await codec.decode(message, pattern))).toBe(JSON.stringify(data));
        expect(message.text()).toBe(JSON.stringify(data));
      }),
    );
  });

  it('keeps the headers and the key of a record beside the data', async () => {
    const named = headers.map(({ '': _, key: __, ...rest }) => rest);
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), named, fc.option(text, { nil: undefined }), async (value, given, key) => {
        const builder = new RedisStreamsRecordBuilder(value).setHeaders(given);
        const data = (key === undefined ? builder : builder.setKey(key)).build();
        const encoded = codec.encode({ pattern: 'p', data }) as EncodedPacket;
        const message = received(encoded);
        expect(JSON.stringify(await codec.decode(message, 'p'))).toBe(JSON.stringify(value));
        expect(encoded.options.key).toBe(key);
        expect(entriesOf(message.headers)).toEqual(entriesOf(key === undefined ? given : { ...given, key }));
      }),
    );
  });

  it('gives the fields of an entry of another writer as an object of text', async () => {
    const name = text.filter((each) => each !== 'msg');
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.tuple(name, text), { selector: ([each]) => each }), async (pairs) => {
        const message = messageOf(pairs.flat().map((each) => bytes(each)));
        const data = (await codec.decode(message, 'p')) as object;
        expect(entriesOf(data)).toEqual(entriesOf(Object.fromEntries(pairs)));
      }),
    );
  });

  it('decodes any bytes, or fails with its own error', async () => {
    await fc.assert(
      fc.asyncProperty(buffer, async (payload) => {
        const decoding = Promise.resolve(messageOf([bytes('msg'), payload])).then((message) =>
          codec.decode(message, 'p'),
        );
        const outcome = await decoding.then(
          () => 'decoded',
          (error: { code?: string }) => error.code,
        );
        expect(['decoded', 'ERR_PAYLOAD_DECODE']).toContain(outcome);
      }),
    );
  });
});
