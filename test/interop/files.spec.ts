import { createReadStream, createWriteStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, describe, expect, it } from '@jest/globals';

import { SsDecoder, SsEncoder } from '../../lib/file.js';
import type { SsHeader, SsMessage } from '../../lib/file.js';
import { onFile } from '../support/reference.js';

const folder = mkdtempSync(join(tmpdir(), 'interop-files-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The format of `decode` of the reference program. */
interface DecodedFile {
  readonly header: { readonly fileName: string; readonly nanoseconds: string; readonly beaconInterval: number };
  readonly messages: unknown[];
  readonly beacons: ReadonlyArray<{ readonly number: number; readonly markers: unknown[] }>;
  readonly hasEnd: boolean;
}

const CREATED = new Date(1_700_000_000_000);

function message(streamKey: string, number: number, payload: string | Buffer, shardId = 0n): SsMessage {
  const timestamp = new Date(CREATED.getTime() + number);
  const sequence = (BigInt(timestamp.getTime()) << 16n) | BigInt(number % 7);
  return { streamKey, shardId, sequence, timestamp, payload: Buffer.from(payload as string) };
}

const forReference = ({ streamKey, shardId, sequence, timestamp, payload }: SsMessage): object => ({
  streamKey,
  shardId: String(shardId),
  sequence: String(sequence),
  nanoseconds: String(BigInt(timestamp.getTime()) * 1_000_000n),
  payload: Buffer.from(payload).toString('hex'),
});

const LARGE = Buffer.alloc(10_000, 'x');
const files: ReadonlyArray<readonly [string, { interval: number; messages: readonly SsMessage[]; end: boolean }]> = [
  ['no message', { interval: 1_048_576, messages: [], end: false }],
  ['a message of no bytes, and the end', { interval: 1_048_576, messages: [message('orders', 1, '')], end: true }],
  [
    'messages that beacons cut, of several streams and shards',
    {
      interval: 1_024,
      messages: Array.from({ length: 60 }, (_, number) =>
        message(
          ['orders', 'payments.eu', 'audit_log'][number % 3] as string,
          number,
          `message ${number}`.repeat(number),
          BigInt(number % 4),
        ),
      ),
      end: true,
    },
  ],
  [
    'a message longer than ten beacon intervals, and binary ones',
    {
      interval: 1_024,
      messages: [
        message('orders', 1, LARGE),
        message('orders', 2, Buffer.from([0, 255, 13, 0xc3, 0x28])),
        message('orders', 3, 'ü€', 9_007_199_254_740_993n),
      ],
      end: false,
    },
  ],
];

async function decodeHere(path: string): Promise<{ header: SsHeader | undefined; messages: SsMessage[] }> {
  const decoder = new SsDecoder();
  const messages: SsMessage[] = [];
  let header: SsHeader | undefined;
  decoder.on('header', (given: SsHeader) => (header = given));
  await pipeline(createReadStream(path), decoder, async (decoded) => {
    for await (const each of decoded) messages.push(each as SsMessage);
  });
  return { header, messages };
}

async function encodeHere(path: string, messages: readonly SsMessage[], header: SsHeader, end: boolean): Promise<void> {
  const encoder = new SsEncoder({ ...header, endOfStream: end });
  await pipeline(Readable.from(messages), encoder, createWriteStream(path));
}

describe.each(files)('a file with %s', (name, { interval, messages, end }) => {
  const pathOf = (by: string): string => join(folder, `${by}-${files.findIndex(([each]) => each === name)}.ss`);

  it('that this package wrote is read by the reference: header, messages, beacons, end', async () => {
    const path = pathOf('here');
    await encodeHere(path, messages, { fileName: 'here.ss', createdAt: CREATED, beaconInterval: interval }, end);
    const decoded = (await onFile('decode', { file: path })) as DecodedFile;
    expect(decoded.header).toEqual({
      fileName: 'here.ss',
      nanoseconds: String(BigInt(CREATED.getTime()) * 1_000_000n),
      beaconInterval: interval,
    });
    expect(decoded.messages).toEqual(messages.map(forReference));
    expect(decoded.hasEnd).toBe(end);
    expect(decoded.beacons.length > 0).toBe(readFileSync(path).length > interval);
  });

  it('that the reference wrote is read by this package, which writes the same bytes', async () => {
    const path = pathOf('there');
    await onFile('encode', { file: path, beaconInterval: interval, messages: messages.map(forReference), end });
    const decoded = await decodeHere(path);
    expect(decoded.messages.map(forReference)).toEqual(messages.map(forReference));
    expect(decoded.header).toMatchObject({ fileName: 'there-' + pathOf('').slice(-4), beaconInterval: interval });

    const again = pathOf('again');
    await encodeHere(again, messages, decoded.header as SsHeader, false);
    const [theirs, mine] = [readFileSync(path), readFileSync(again)];
    // The end-of-stream message contains the current time.
    expect(theirs.subarray(0, mine.length).equals(mine)).toBe(true);
    expect(theirs.length > mine.length).toBe(end);
  });
});
