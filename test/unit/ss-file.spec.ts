import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { crc16 } from '../../lib/file/crc16.js';
import type { FileDamagedError } from '../../lib/engine.js';
import { SsDecoder, SsEncoder } from '../../lib/file.js';
import type { SsDecoderOptions, SsEncoderOptions, SsHeader, SsMessage } from '../../lib/file.js';

const CREATED = new Date(1_700_000_000_000);

async function encode(messages: readonly SsMessage[], options: SsEncoderOptions = {}): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await pipeline(Readable.from(messages), new SsEncoder({ createdAt: CREATED, ...options }), async (bytes) => {
    for await (const chunk of bytes) chunks.push(chunk as Buffer);
  });
  return Buffer.concat(chunks);
}

interface Decoded {
  readonly header: SsHeader | undefined;
  readonly messages: SsMessage[];
  readonly damages: number[];
  readonly error: FileDamagedError | undefined;
}

interface DecodeOptions extends SsDecoderOptions {
  /** Bytes of one chunk. */
  readonly piece?: number;
}

async function decode(file: Buffer, { piece = 1_000, ...options }: DecodeOptions = {}): Promise<Decoded> {
  const decoder = new SsDecoder(options);
  const messages: SsMessage[] = [];
  const damages: number[] = [];
  let header: SsHeader | undefined;
  let error: Decoded['error'];
  decoder.on('header', (given: SsHeader) => (header = given));
  decoder.on('damaged', ({ offset }: { offset: number }) => damages.push(offset));
  try {
    await pipeline(pieces(file, piece), decoder, async (decoded) => {
      for await (const message of decoded) messages.push(message as SsMessage);
    });
  } catch (thrown) {
    error = thrown as Decoded['error'];
  }
  return { header, messages, damages, error };
}

function* pieces(file: Buffer, size: number): Generator<Buffer> {
  for (let start = 0; start < file.length; start += size) yield file.subarray(start, start + size);
}

function message(streamKey: string, number: number, payload: string | Buffer, shardId = 0n): SsMessage {
  const timestamp = new Date(CREATED.getTime() + number);
  return {
    streamKey,
    shardId,
    sequence: (BigInt(timestamp.getTime()) << 16n) | BigInt(number),
    timestamp,
    payload: Buffer.from(payload),
  };
}

/** Comparable, also where a payload is of another class, and whether from a file or not. */
const plain = (messages: readonly SsMessage[]): unknown[] =>
  messages.map((each) => ({ ...each, offset: undefined, payload: Buffer.from(each.payload).toString('hex') }));

describe('the checksum of a .ss file', () => {
  it('is CRC-16/CDMA2000', () => {
    expect(crc16(Buffer.from('123456789'))).toBe(0x4c06);
    expect(crc16(Buffer.from('hello, world'))).toBe(0x8028);
    expect(crc16(Buffer.from('world'), crc16(Buffer.from('hello, ')))).toBe(0x8028);
  });
});

describe('a .ss file', () => {
  it('has the bytes of the format', async () => {
    const hello: SsMessage = {
      streamKey: 'hi',
      shardId: 1n,
      sequence: 0x0001_0203_0405_0607n,
      timestamp: new Date(0x0000_0102_0304),
      payload: Buffer.from('123456789'),
    };
    const file = await encode([hello], { fileName: 'a.ss', beaconInterval: 200 });
    const header = [
      '537301', // the mark, and the version
      '04612e7373', // the length of a.ss, and a.ss
      '0000018bcfe56800', // 1,700,000,000,000 ms
      '000000c8', // 200 bytes
      '00'.repeat(128 - 3 - 5 - 8 - 4 - 1),
      '0d',
    ];
    const messageHeader = [
      '026869', // hi
      '0000000000000001', // shard
      '0001020304050607', // sequence
      '0000000001020304', // time
    ];
    const body = ['00000009', '313233343536373839', '4c06', '0d'];
    expect(file.toString('hex')).toBe([...header, ...messageHeader, ...body].join(''));
  });

  it('has a beacon at each multiple of the interval, with the message that it cuts and the last ones of each shard', async () => {
    const messages = [message('b', 1, 'x'.repeat(20)), message('a', 2, 'y'.repeat(600), 7n)];
    const file = await encode(messages, { beaconInterval: 700 });
    // 128 bytes of header, and 26 + 4 + 20 + 3 of the first message: 519 bytes of 633 are before the beacon.
    const beacon = file.subarray(700);
    expect(beacon[0]).toBe(0x0d);
    expect(beacon.readUInt32BE(1)).toBe(633 - (700 - 128 - 53));
    // A beacon may use half of 693 bytes, of which the longest marker takes 282: one.
    expect(beacon[5]).toBe(1);
    expect(beacon.subarray(6, 8).toString()).toBe('\u0001a');
    expect(beacon.readBigUInt64BE(8)).toBe(7n);
    expect(beacon.readBigUInt64BE(16)).toBe(messages[1]?.sequence);
    // The running checksum: that of the two bytes of the checksum of the only message.
    const of = crc16(messages[1]?.payload as Buffer);
    expect(beacon.readUInt16BE(32)).toBe(crc16(Buffer.from([of >> 8, of & 0xff])));
    expect(beacon[34]).toBe(0x0d);
    expect(plain((await decode(file)).messages)).toEqual(plain(messages));
  });

  it('is read as it was written, in pieces of any size, whatever its beacons cut', async () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 20, minLength: 1 });
    const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    const any = fc.record({
      streamKey: text,
      shardId: u64,
      sequence: u64,
      timestamp: fc.date({ min: new Date(0), max: new Date(2 ** 45), noInvalidDate: true }),
      payload: fc.uint8Array({ maxLength: 700 }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(any, { maxLength: 12 }),
        fc.integer({ min: 128, max: 900 }),
        fc.integer({ min: 1, max: 400 }),
        fc.boolean(),
        async (messages, beaconInterval, piece, endOfStream) => {
          const file = await encode(messages, { beaconInterval, fileName: 'ä.ss', endOfStream });
          const decoded = await decode(file, { piece });
          expect(decoded.error).toBeUndefined();
          expect(decoded.header).toEqual({ fileName: 'ä.ss', createdAt: CREATED, beaconInterval });
          expect(plain(decoded.messages)).toEqual(plain(messages));
        },
      ),
      { numRuns: 150 },
    );
  });

  it('has the longest names, payloads without bytes, and payloads that several beacons cut', async () => {
    const large = Buffer.from(Uint8Array.from({ length: 3 * 1024 * 1024 }, (_, index) => (index * 31) >> 3));
    const messages = [
      message('ä'.repeat(127) + 'a', 1, '', 2n ** 64n - 1n),
      message('orders', 2, large),
      message('orders', 3, ''),
    ];
    const fileName = 'ü'.repeat(55) + 'u';
    const file = await encode(messages, { fileName });
    for (const offset of [1, 2, 3].map((number) => number * 1024 * 1024)) expect(file[offset]).toBe(0x0d);
    const decoded = await decode(file, { piece: 65_536 });
    expect(decoded.error).toBeUndefined();
    // 128 bytes of header, and 255 + 32 of a message without payload.
    expect(decoded.messages.slice(0, 2)).toMatchObject([{ offset: 128 }, { offset: 128 + 255 + 32 }]);
    expect(decoded.header?.fileName).toBe(fileName);
    expect(plain(decoded.messages)).toEqual(plain(messages));
  });

  it('names its streams and shards in turn, where a beacon has no room for all of them', async () => {
    const messages = Array.from({ length: 40 }, (_, number) =>
      message('a', number, 'x'.repeat(200), BigInt(number % 5)),
    );
    const file = await encode(messages, { beaconInterval: 1200 });
    // Half of 1193 bytes has room for two markers of up to 282 bytes; here a marker has 28.
    const shards: bigint[] = [];
    for (let offset = 1200; offset < file.length; offset += 1200) {
      expect(file[offset + 5]).toBe(2);
      for (const marker of [0, 1]) shards.push(file.readBigUInt64BE(offset + 6 + 28 * marker + 2));
    }
    expect(shards.slice(0, 6)).toEqual([0n, 1n, 2n, 3n, 4n, 0n]);
  });

  it('is written and read no faster than the other end takes it', async () => {
    let written = 0;
    function* endless(): Generator<SsMessage> {
      for (;;) yield message('orders', (written += 1), 'x'.repeat(1_000));
    }
    const encoder = new SsEncoder({ beaconInterval: 4_096 });
    const decoder = new SsDecoder();
    const file = pipeline(endless(), encoder, decoder);
    let read = 0;
    for await (const { sequence } of decoder as AsyncIterable<SsMessage>) {
      read += 1;
      expect(sequence & 0xffffn).toBe(BigInt(read));
      // In between are the buffers of both, each of a few messages.
      expect(written - read).toBeLessThan(200);
      if (read % 50 === 0) await setImmediate();
      if (read === 500) break;
    }
    await expect(file).rejects.toThrow('The operation was aborted');
    expect([encoder.destroyed, decoder.destroyed]).toEqual([true, true]);
  });

  it('ends with an error of a listener', async () => {
    const decoder = new SsDecoder();
    decoder.on('header', () => {
      throw new RangeError('too old');
    });
    const file = await encode([message('a', 1, '1')]);
    await expect(pipeline(pieces(file, 50), decoder, new Writable({ objectMode: true }))).rejects.toThrow('too old');
  });

  it('ends with its end-of-stream message, and bytes behind that are not read', async () => {
    const file = await encode([message('a', 1, '1')], { endOfStream: true });
    const { messages, error } = await decode(Buffer.concat([file, Buffer.from('rubbish')]));
    expect([messages.length, error]).toEqual([1, undefined]);
  });

  it.each<[string, object]>([
    ['fileName', { fileName: 'x'.repeat(112) }],
    ['beaconInterval', { beaconInterval: 127 }],
    ['createdAt', { createdAt: new Date(Number.NaN) }],
    ['endOfStream', { endOfStream: 1 }],
    ['name', { name: 'a.ss' }],
  ])('is not written with a wrong option: %s', (name, options) => {
    expect(() => new SsEncoder(options)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining(name) }),
    );
  });

  it.each<[string, object]>([
    ['salvage', { salvage: 'yes' }],
    ['maxPayload', { maxPayload: -1 }],
    ['maxPayload', { maxPayload: 2 ** 32 }],
    ['beaconInterval', { beaconInterval: 1024 }],
  ])('is not read with a wrong option: %s', (name, options) => {
    expect(() => new SsDecoder(options)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining(name) }),
    );
  });

  it.each<[string, Partial<SsMessage>]>([
    ['streamKey', { streamKey: 'ä'.repeat(128) }],
    ['streamKey', { streamKey: '' }],
    // Its readers would stop there.
    ['streamKey', { streamKey: 'SEA_STREAMER_INTERNAL', payload: Buffer.from('EOS') }],
    ['shardId', { shardId: 2n ** 64n }],
    ['sequence', { sequence: -1n }],
    ['timestamp', { timestamp: new Date(-1) }],
    ['payload', { payload: 'text' as never }],
  ])('takes no message with a wrong %s', async (name, wrong) => {
    const given = { ...message('a', 1, '1'), ...wrong };
    await expect(encode([given])).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      message: expect.stringContaining(name),
    });
  });
});

describe('a damaged .ss file', () => {
  const messages = Array.from({ length: 12 }, (_, number) =>
    message(number % 3 ? 'orders' : 'payments', number, String(number).repeat(30 + number * 5), BigInt(number % 2)),
  );
  const options = { beaconInterval: 333 };

  it('is named with its offset, and gives nothing that was not written, wherever a byte was changed', async () => {
    const file = await encode(messages, options);
    const all = plain(messages);
    for (let offset = 128; offset < file.length; offset += 1) {
      const damaged = Buffer.from(file);
      damaged[offset] = (damaged[offset] as number) ^ 0x55;
      const { messages: found, error } = await decode(damaged);
      // Markers, and the numbers of a message's header, have no checksum.
      if (!error) continue;
      expect(error).toMatchObject({ code: 'ERR_FILE_DAMAGED' });
      expect(error.offset).toBeLessThanOrEqual(offset + 333);
      expect(plain(found)).toEqual(all.slice(0, found.length));
    }
  });

  it('gives all sound messages with salvage, but for those near the damage', async () => {
    const file = await encode(messages, options);
    const payloads = new Set(messages.map(({ payload }) => Buffer.from(payload).toString()));
    for (let offset = 128; offset < file.length; offset += 1) {
      const damaged = Buffer.from(file);
      damaged[offset] = (damaged[offset] as number) ^ 0x55;
      const { messages: found, error } = await decode(damaged, { salvage: true });
      expect(error).toBeUndefined();
      expect(found.every(({ payload }) => payloads.has(Buffer.from(payload).toString()))).toBe(true);
      // Messages have 60 to 160 bytes, so no more than six begin between three beacons.
      expect(found.length).toBeGreaterThanOrEqual(messages.length - 6);
    }
  });

  it('that was cut is an error unless it was cut between two messages, and gives what is whole with salvage', async () => {
    const file = await encode(messages, options);
    const errors: unknown[] = [];
    let whole = 0;
    for (let length = 128; length < file.length; length += 1) {
      const cut = file.subarray(0, length);
      const { messages: found, error } = await decode(cut);
      expect(plain(found)).toEqual(plain(messages.slice(0, found.length)));
      if (error) errors.push((error as { code?: unknown }).code);
      else whole += 1;
      const { messages: saved } = await decode(cut, { salvage: true });
      expect(plain(saved)).toEqual(plain(messages.slice(0, saved.length)));
      expect(saved.length).toBeGreaterThanOrEqual(found.length);
    }
    expect([...new Set(errors)]).toEqual(['ERR_FILE_DAMAGED']);
    expect(whole).toBeGreaterThanOrEqual(messages.length);
    expect(whole).toBeLessThanOrEqual(messages.length + 2 * Math.ceil(file.length / 333));
  });

  it.each([
    ['empty', Buffer.alloc(0), 0, 'ends in its header'],
    ['of another kind', Buffer.alloc(200, 'text'), 0, 'no SeaStreamer file'],
    ['of another kind and short', Buffer.from('{}\n'), 0, 'no SeaStreamer file'],
    ['of another version', Buffer.from([0x53, 0x73, 2, ...Buffer.alloc(200)]), 2, 'version 2'],
    ['cut in its mark', Buffer.from([0x53]), 0, 'ends in its header'],
    ['cut in its header', Buffer.from([0x53, 0x73, 1]), 0, 'ends in its header'],
    ['without a usable beacon interval', Buffer.from([0x53, 0x73, 1, ...Buffer.alloc(200)]), 12, 'interval is 0'],
  ])('or one that is %s is told apart', async (_, file, offset, reason) => {
    for (const salvage of [false, true]) {
      const { error, messages: found } = await decode(file, { salvage });
      expect([error?.offset, found]).toEqual([offset, []]);
      expect(error?.message).toContain(reason);
    }
  });

  it('is named also where its header is damaged, and gives all messages with salvage', async () => {
    const file = await encode(messages, { ...options, fileName: 'abc' });
    const header: Array<[offset: number, value: number]> = [
      [4, 0xff], // of the name: no UTF-8
      [7, 0xff], // of the time: too late for a date
      [127, 0],
    ];
    for (const [offset, value] of header) {
      const damaged = Buffer.from(file);
      damaged[offset] = value;
      expect((await decode(damaged)).error).toMatchObject({ code: 'ERR_FILE_DAMAGED', offset });
      const saved = await decode(damaged, { salvage: true });
      expect([saved.error, saved.damages]).toEqual([undefined, [offset]]);
      expect(plain(saved.messages)).toEqual(plain(messages));
    }
  });

  it('is not held in memory for a length that it does not have', async () => {
    // Without beacons for 4 GiB, nothing contradicts the length until the file ends.
    const file = await encode(messages, { beaconInterval: 2 ** 32 - 1 });
    const size = 128 + 1 + 'payments'.length + 24;
    file.writeUInt32BE(2 ** 32 - 1, size);
    const { error } = await decode(file);
    expect(error).toMatchObject({ offset: 128, message: expect.stringContaining('4294967295 bytes') });
    const small = await decode(await encode(messages), { maxPayload: 50 });
    expect(small.error?.message).toContain('bytes of payload');
    // Behind those with 30, 35, 40, 45 and 50 bytes, to each of which its header and its frame add.
    const names = messages.slice(0, 5).reduce((sum, { streamKey }) => sum + streamKey.length, 0);
    expect(small.error?.offset).toBe(128 + 200 + names + 5 * (1 + 24 + 4 + 3));
  });

  it('gives with salvage what is behind a part that was overwritten with zeros', async () => {
    const file = await encode(messages, options);
    const damaged = Buffer.from(file).fill(0, 340, 900);
    const { messages: found, error } = await decode(damaged, { salvage: true });
    expect(error).toBeUndefined();
    const all = plain(messages);
    expect(all).toEqual(expect.arrayContaining(plain(found)));
    expect(plain(found).at(-1)).toEqual(all.at(-1));
    expect(found.length).toBeGreaterThan(3);
  });
});
