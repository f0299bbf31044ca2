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
/** What the header has room for beside the mark, the length of the name, two numbers and the line end. */
export const MAX_FILE_NAME = HEADER_SIZE - 3 - 1 - 12 - 1;
export const DEFAULT_BEACON_INTERVAL = 1024 * 1024;
const MAX_TEXT = 255;
/** 0x0D, remaining bytes, number of markers, 0x0D. */
const EMPTY_BEACON_SIZE = 7;
/** Shard id, sequence, timestamp. */
export const HEADER_NUMBERS_SIZE = 24;
const MAX_MARKER_SIZE = 1 + MAX_TEXT + HEADER_NUMBERS_SIZE + 2;
/** Size and checksum of the payload, and 0x0D. */
const PAYLOAD_FRAME_SIZE = 7;
/** Of a message, without its payload. */
export const MAX_MESSAGE_OVERHEAD = 1 + MAX_TEXT + HEADER_NUMBERS_SIZE + PAYLOAD_FRAME_SIZE;

/** The message that may be the last one of a file. */
export const END_OF_STREAM = Object.freeze({ streamKey: 'SEA_STREAMER_INTERNAL', payload: 'EOS' });

/** What the first bytes of a file say about it. */
export interface SsHeader {
  /** The name that the file had when it was written. */
  readonly fileName: string;
  /** Not a valid date where the file is damaged there, and salvaged. */
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
  /** Time of the message, in milliseconds. */
  readonly timestamp: Date;
  /** Payload of the message. */
  readonly payload: Uint8Array;
}

/** A message, and where it was found. */
export interface SsFileMessage extends SsMessage {
  /** Where the message begins, in bytes from the beginning of the file. */
  readonly offset: number;
}

/** How many markers a beacon may have: they take at most half of the space between two beacons. */
export function maxMarkers(beaconInterval: number): number {
  return Math.floor(Math.min(MAX_TEXT, (beaconInterval - EMPTY_BEACON_SIZE) / MAX_MARKER_SIZE) / 2);
}

/** @throws InvalidOptionError when it has more than 255 bytes */
function textSize(name: string, text: string): number {
  const size = Buffer.byteLength(text);
  if (size <= MAX_TEXT) return size;
  throw new InvalidOptionError(name, `must have at most ${MAX_TEXT} bytes in UTF-8`, `${text.slice(0, 20)}…`);
}

/**
 * The header of a message or a marker.
 * @param room bytes that are left free behind it, for the caller
 * @throws InvalidOptionError
 */
export function encodeMessageHeader(message: Omit<SsMessage, 'payload'>, room: number): Buffer {
  const { streamKey, shardId, sequence, timestamp } = message;
  const size = textSize('streamKey', streamKey);
  const header = Buffer.alloc(1 + size + HEADER_NUMBERS_SIZE + room);
  let offset = header.writeUInt8(size);
  offset += header.write(streamKey, offset);
  offset = header.writeBigUInt64BE(shardId, offset);
  offset = header.writeBigUInt64BE(sequence, offset);
  header.writeBigUInt64BE(BigInt(timestamp.getTime()), offset);
  return header;
}

/** @throws InvalidOptionError */
export function encodeFileHeader({ fileName, createdAt, beaconInterval }: SsHeader): Buffer {
  const header = Buffer.alloc(HEADER_SIZE);
  const size = Buffer.byteLength(fileName);
  if (size > MAX_FILE_NAME) {
    throw new InvalidOptionError('fileName', `must have at most ${MAX_FILE_NAME} bytes in UTF-8`, fileName);
  }
  let offset = FILE_MARK.copy(header);
  offset = header.writeUInt8(size, offset);
  offset += header.write(fileName, offset);
  offset = header.writeBigUInt64BE(BigInt(createdAt.getTime()), offset);
  header.writeUInt32BE(beaconInterval, offset);
  header[HEADER_SIZE - 1] = LINE_END;
  return header;
}
