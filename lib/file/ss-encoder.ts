import { Transform } from 'node:stream';
import type { TransformCallback } from 'node:stream';

import { InvalidOptionError } from '../errors.js';
import { check, optionNames } from '../shared/option-checks.js';
import { CRC16_START, crc16 } from './crc16.js';
import {
  DEFAULT_BEACON_INTERVAL,
  END_OF_STREAM,
  HEADER_SIZE,
  LINE_END,
  encodeFileHeader,
  encodeMessageHeader,
  MAX_MESSAGE_OVERHEAD,
  maxMarkers,
} from './ss-format.js';
import type { SsMessage } from './ss-format.js';

/** Options of {@link SsEncoder}. */
export interface SsEncoderOptions {
  /**
   * The name that the header has; that of the file, without its folder. At most 111 bytes in UTF-8.
   * @defaultValue empty
   */
  fileName?: string;
  /**
   * The time of creation that the header has.
   * @defaultValue now
   */
  createdAt?: Date;
  /**
   * Distance between two beacons in bytes. 128 to 4,294,967,295.
   * @defaultValue `1_048_576`
   */
  beaconInterval?: number;
  /**
   * Whether the file ends with the message that tells its readers to stop.
   * @defaultValue `false`
   */
  endOfStream?: boolean;
}

const OPTIONS = optionNames<SsEncoderOptions>({
  fileName: true,
  createdAt: true,
  beaconInterval: true,
  endOfStream: true,
});
const MAX_U32 = 0xffff_ffff;
const MAX_U64 = 2n ** 64n - 1n;
/** Beacons count the bytes of a whole message. */
const MAX_PAYLOAD = MAX_U32 - MAX_MESSAGE_OVERHEAD;
/** Of the size of a payload. */
const SIZE_BYTES = 4;
/** Up to this size a message is copied into one piece, because a stream of Node.js costs more for each piece than the copy. */
const MAX_COPIED = 64 * 1024;

/** Of one stream and shard, for the markers of beacons. */
interface LastMessage {
  readonly streamKey: string;
  readonly shardId: bigint;
  sequence: bigint;
  time: number;
  /** Over the checksums of all messages so far. */
  checksum: number;
}

/**
 * Writes a SeaStreamer file (`.ss`): takes {@link SsMessage}s, gives bytes. It keeps nothing of a message but its place among the
 * markers, so memory does not grow with the file. The file is valid after each message, and is complete when the stream has ended.
 * A message that the format cannot hold ends the stream with an InvalidOptionError.
 * @example
 * await pipeline(messages, new SsEncoder({ fileName: 'orders.ss' }), createWriteStream('orders.ss'));
 */
export class SsEncoder extends Transform {
  readonly #interval: number;
  readonly #endOfStream: boolean;
  readonly #header: Buffer;
  readonly #last = new Map<string, LastMessage>();
  /** In the order of the markers: by stream, then by shard. */
  #ordered: LastMessage[] = [];
  /** Markers that were written so far. Where a beacon has no room for all of them, the next one continues. */
  #markers = 0;
  #offset = 0;

  /** @throws InvalidOptionError */
  constructor(options: SsEncoderOptions = {}) {
    // Before the stream exists: one that is not complete would still begin to write.
    const { beaconInterval, endOfStream, ...names } = resolveOptions(options);
    const header = encodeFileHeader({ ...names, beaconInterval });
    super({ writableObjectMode: true });
    this.#interval = beaconInterval;
    this.#endOfStream = endOfStream;
    this.#header = header;
  }

  /** Bytes that were written so far. */
  get bytesWritten(): number {
    return this.#offset;
  }

  /** Called by Node.js: writes the header of the file. */
  override _construct(callback: TransformCallback): void {
    this.#write(this.#header);
    callback();
  }

  /** Called by Node.js for each message. */
  override _transform(message: SsMessage, _encoding: BufferEncoding, callback: TransformCallback): void {
    try {
      checkMessage(message);
      this.#writeMessage(message);
      callback();
    } catch (error) {
      callback(error as Error);
    }
  }

  /** Called by Node.js at the end of the messages. */
  override _flush(callback: TransformCallback): void {
    if (this.#endOfStream) {
      const { streamKey, payload } = END_OF_STREAM;
      const timestamp = new Date();
      this.#writeMessage({ streamKey, shardId: 0n, sequence: 0n, timestamp, payload: Buffer.from(payload) });
    }
    callback();
  }

  /** @throws InvalidOptionError before anything of the message is written */
  #writeMessage(message: SsMessage): void {
    const { payload } = message;
    const start = encodeMessageHeader(message, SIZE_BYTES);
    start.writeUInt32BE(payload.length, start.length - SIZE_BYTES);
    const checksum = crc16(payload);
    const end = Buffer.from([checksum >> 8, checksum & 0xff, LINE_END]);
    this.#note(message, end.subarray(0, 2));
    const parts = payload.length > MAX_COPIED ? [start, payload, end] : [Buffer.concat([start, payload, end])];
    let left = start.length + payload.length + end.length;
    for (const part of parts) left = this.#write(part, left);
  }

  #note({ streamKey, shardId, sequence, timestamp }: SsMessage, checksum: Uint8Array): void {
    const key = `${shardId} ${streamKey}`;
    const time = timestamp.getTime();
    let last = this.#last.get(key);
    if (!last) {
      last = { streamKey, shardId, sequence, time, checksum: CRC16_START };
      this.#last.set(key, last);
      this.#ordered = [...this.#last.values()].sort(inOrder);
    }
    if (sequence > last.sequence) last.sequence = sequence;
    last.time = Math.max(last.time, time);
    last.checksum = crc16(checksum, last.checksum);
  }

  /**
   * Writes a part of a message, cut in pieces by the beacons that are due.
   * @param left bytes of the message from the beginning of this part on
   * @returns the same after this part
   */
  #write(part: Uint8Array, left = part.length): number {
    let start = 0;
    let rest = left;
    while (start < part.length) {
      const piece = part.subarray(start, start + this.#interval - (this.#offset % this.#interval));
      this.#push(piece);
      start += piece.length;
      rest -= piece.length;
      if (this.#offset % this.#interval === 0) this.#push(this.#beacon(part === this.#header ? 0 : rest));
    }
    return rest;
  }

  #push(bytes: Uint8Array): void {
    this.#offset += bytes.length;
    this.push(bytes);
  }

  #beacon(remaining: number): Buffer {
    const all = this.#ordered;
    const count = Math.min(all.length, maxMarkers(this.#interval));
    const first = all.length === 0 ? 0 : this.#markers % all.length;
    const markers = [...all.slice(first), ...all].slice(0, count);
    this.#markers += count;
    const start = Buffer.alloc(6);
    start[0] = LINE_END;
    start.writeUInt32BE(remaining, 1);
    start[5] = count;
    return Buffer.concat([start, ...markers.map(encodeMarker), Buffer.from([LINE_END])]);
  }
}

/** @throws InvalidOptionError */
function resolveOptions(options: SsEncoderOptions): Required<SsEncoderOptions> {
  check.options('', options, OPTIONS);
  const { fileName = '', createdAt = new Date(), endOfStream = false } = options;
  const { beaconInterval = DEFAULT_BEACON_INTERVAL } = options;
  check.string('fileName', fileName);
  check.date('createdAt', createdAt);
  check.integer('beaconInterval', beaconInterval, HEADER_SIZE, MAX_U32);
  check.boolean('endOfStream', endOfStream);
  return { fileName, createdAt, beaconInterval, endOfStream };
}

function encodeMarker({ streamKey, shardId, sequence, time, checksum }: LastMessage): Buffer {
  const marker = encodeMessageHeader({ streamKey, shardId, sequence, timestamp: new Date(time) }, 2);
  marker.writeUInt16BE(checksum, marker.length - 2);
  return marker;
}

function inOrder(one: LastMessage, other: LastMessage): number {
  const byKey = Buffer.compare(Buffer.from(one.streamKey), Buffer.from(other.streamKey));
  return byKey !== 0 ? byKey : Number(one.shardId > other.shardId) - Number(one.shardId < other.shardId);
}

/** @throws InvalidOptionError */
function checkMessage({ streamKey, shardId, sequence, timestamp, payload }: SsMessage): void {
  check.name('streamKey', streamKey);
  if (streamKey === END_OF_STREAM.streamKey) {
    throw new InvalidOptionError('streamKey', 'must not be the one that ends a file', streamKey);
  }
  checkU64('shardId', shardId);
  checkU64('sequence', sequence);
  check.date('timestamp', timestamp);
  if (!(payload instanceof Uint8Array)) throw new InvalidOptionError('payload', 'must be a Uint8Array', payload);
  if (payload.length > MAX_PAYLOAD) {
    throw new InvalidOptionError('payload', `must have at most ${MAX_PAYLOAD} bytes`, payload.length);
  }
}

function checkU64(name: string, value: unknown): void {
  if (typeof value === 'bigint' && value >= 0n && value <= MAX_U64) return;
  throw new InvalidOptionError(name, 'must be a bigint of 64 bits without a sign', value);
}
