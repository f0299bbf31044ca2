import { InvalidOptionError } from '../errors.js';

// The file format of SeaStreamer, version 1. All numbers are big endian.
//
//   file    = header (message | beacon)* end-of-stream?
//   header  = 0x53 0x73 0x01, file name, created at (u64), beacon interval (u32), zeros up to byte 127, 0x0D
//   message = message header, size (u32), payload, checksum of the payload (u16), 0x0D
//   message header = stream key, shard id (u64), sequence (u64), timestamp (u64)
//   beacon  = 0x0D, bytes that follow of the message that it cuts in two (u32), number of markers (u8), markers, 0x0D
//   marker  = message header of the last message of a stream and shard, its running checksum (u16)
//
// A text is one byte with its length and its bytes in UTF-8. A beacon is at every offset that is a multiple of the interval.

export const FILE_MARK = Buffer.from([0x53, 0x73, 0x01]);
export const HEADER_SIZE = 128;
/** Ends header, messages and beacons, and begins a beacon, so that an editor shows lines. */
export const LINE_END = 0x0d;
export const DEFAULT_BEACON_INTERVAL = 1024 * 1024;
const MAX_TEXT = 255;
/** 0x0D, remaining bytes, number of markers, 0x0D. */
const EMPTY_BEACON_SIZE = 7;
/** Shard id, sequence, timestamp. */
export const HEADER_NUMBERS_SIZE = 24;
const MAX_MARKER_SIZE = 1 + MAX_TEXT + HEADER_NUMBERS_SIZE + 2;

/** The message that may be the last one of a file. */
export const END_OF_STREAM = Object.freeze({ streamKey: 'SEA_STREAMER_INTERNAL', payload: 'EOS' });

/** What the first bytes of a file say about it. */
export interface SsHeader {
  /** The name that the file had when it was written. */
  readonly fileName: string;
  readonly createdAt: Date;
  /** Distance between two beacons in bytes. */
  readonly beaconInterval: number;
}

/** A message as the file has it. */
export interface SsMessage {
  /** Without the number of a shard. */
  readonly streamKey: string;
  /** 0 for a stream without shards. Not a number: other programs use all 64 bits. */
  readonly shardId: bigint;
  /** Of the entry id `ms-seq`: `ms << 16 | seq`. */
  readonly sequence: bigint;
  readonly timestamp: Date;
  readonly payload: Uint8Array;
}

/** How many markers a beacon may have: they take at most half of the space between two beacons. */
export function maxMarkers(beaconInterval: number): number {
  return Math.floor(Math.min(MAX_TEXT, (beaconInterval - EMPTY_BEACON_SIZE) / MAX_MARKER_SIZE) / 2);
}

/** @throws InvalidOptionError when it has more than 255 bytes */
function encodeText(name: string, text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length > MAX_TEXT) {
    throw new InvalidOptionError(name, `must have at most ${MAX_TEXT} bytes in UTF-8`, `${text.slice(0, 20)}…`);
  }
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

/** The header of a message or a marker. @throws InvalidOptionError */
export function encodeMessageHeader({ streamKey, shardId, sequence, timestamp }: Omit<SsMessage, 'payload'>): Buffer {
  const numbers = Buffer.alloc(HEADER_NUMBERS_SIZE);
  numbers.writeBigUInt64BE(shardId, 0);
  numbers.writeBigUInt64BE(sequence, 8);
  numbers.writeBigUInt64BE(BigInt(timestamp.getTime()), 16);
  return Buffer.concat([encodeText('streamKey', streamKey), numbers]);
}

/** @throws InvalidOptionError */
export function encodeFileHeader({ fileName, createdAt, beaconInterval }: SsHeader): Buffer {
  const header = Buffer.alloc(HEADER_SIZE);
  const name = encodeText('fileName', fileName);
  if (FILE_MARK.length + name.length + 12 >= HEADER_SIZE) {
    const most = HEADER_SIZE - FILE_MARK.length - 14;
    throw new InvalidOptionError('fileName', `must have at most ${most} bytes in UTF-8`, fileName);
  }
  FILE_MARK.copy(header, 0);
  name.copy(header, FILE_MARK.length);
  let offset = FILE_MARK.length + name.length;
  offset = header.writeBigUInt64BE(BigInt(createdAt.getTime()), offset);
  header.writeUInt32BE(beaconInterval, offset);
  header[HEADER_SIZE - 1] = LINE_END;
  return header;
}
