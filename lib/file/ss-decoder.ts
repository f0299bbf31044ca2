import { isUtf8 } from 'node:buffer';
import { Transform } from 'node:stream';
import type { TransformCallback } from 'node:stream';

import { FileDamagedError } from '../errors.js';
import { check, optionNames } from '../shared/option-checks.js';
import { crc16 } from './crc16.js';
import { END_OF_STREAM, FILE_MARK, HEADER_NUMBERS_SIZE, HEADER_SIZE, LINE_END, MAX_FILE_NAME } from './ss-format.js';
import type { SsFileMessage, SsHeader, SsMessage } from './ss-format.js';

/** Options of {@link SsDecoder}. */
export interface SsDecoderOptions {
  /**
   * Whether damaged parts are skipped: each is emitted as `damaged`, and reading continues with the next message that is sound.
   * @defaultValue `false`: the first one ends the stream with a {@link FileDamagedError}
   */
  salvage?: boolean;
  /**
   * Most bytes of one payload; a message that tells of more counts as damaged, before they are held in memory. 0 to 4,294,967,295.
   * @defaultValue `536_870_912`: Redis permits no larger one by default
   */
  maxPayload?: number;
}

const OPTIONS = optionNames<SsDecoderOptions>({ salvage: true, maxPayload: true });
const DEFAULT_MAX_PAYLOAD = 512 * 1024 * 1024;
const MAX_U32 = 0xffff_ffff;
/** Bytes that are skipped at once, so that they are not all held. */
const SKIPPED_AT_ONCE = 64 * 1024;

/** Asks for the next bytes of the file, so many of them. */
type Parser<T> = Generator<number, T, Buffer>;

/** The damage of one message, whose end is known: what follows can be read. */
class DamagedMessage extends FileDamagedError {}

/** A message and a beacon that cuts it contradict each other. Without one of them it is known where the next message begins. */
class DamagedBeforeBeacon extends FileDamagedError {
  /** Bytes that follow of the message, by the beacon. */
  readonly remaining: number;

  constructor(offset: number, remaining: number, expected: number) {
    super(offset, `a beacon tells of ${remaining} bytes of a message behind it, where ${expected} should follow`);
    this.remaining = remaining;
  }
}

/**
 * Reads a SeaStreamer file (`.ss`): takes bytes, gives {@link SsFileMessage}s. Every message is checked by its checksum. It holds one
 * message at a time, in pieces no larger than the distance between two beacons.
 *
 * It emits `header` before the first message, and `damaged` with each {@link FileDamagedError} where `salvage` is set. The message
 * that ends a file is not given; what follows it is not read.
 * @example
 * await pipeline(createReadStream('orders.ss'), new SsDecoder(), async (messages) => {
 *   for await (const message of messages) console.log(message.sequence);
 * });
 */
export class SsDecoder extends Transform {
  readonly #salvage: boolean;
  readonly #maxPayload: number;
  readonly #parser: Parser<void>;
  readonly #chunks: Buffer[] = [];
  /** Bytes of the chunks. */
  #held = 0;
  /** Bytes that the parser waits for; undefined when it has ended. */
  #wanted: number | undefined;
  /** Of the next byte that the parser gets, from the beginning of the file. */
  #offset = 0;
  #interval = Infinity;
  /** Where the message or the beacon begins that is being read; undefined between two of them. */
  #begun: number | undefined;
  /** Bytes that are left of the message, by a beacon that has cut its header; undefined without such a beacon. */
  #leftByBeacon: number | undefined;

  /** @throws InvalidOptionError */
  constructor(options: SsDecoderOptions = {}) {
    super({ readableObjectMode: true });
    check.options('', options, OPTIONS);
    const { salvage = false, maxPayload = DEFAULT_MAX_PAYLOAD } = options;
    check.boolean('salvage', salvage);
    check.integer('maxPayload', maxPayload, 0, MAX_U32);
    this.#salvage = salvage;
    this.#maxPayload = maxPayload;
    this.#parser = this.#parse();
    this.#wanted = this.#parser.next().value as number;
  }

  /** Called by Node.js for each piece of the file. */
  override _transform(chunk: Buffer, _encoding: BufferEncoding, callback: TransformCallback): void {
    if (this.#wanted !== undefined) {
      this.#chunks.push(chunk);
      this.#held += chunk.length;
    }
    try {
      this.#advance();
      callback();
    } catch (error) {
      callback(error as Error);
    }
  }

  /** Called by Node.js at the end of the file. */
  override _flush(callback: TransformCallback): void {
    const hasHeader = this.#interval !== Infinity;
    const hasBegun = this.#begun !== undefined && this.#begun < this.#offset;
    if (this.#wanted === undefined || (hasHeader && !hasBegun && this.#held === 0)) {
      callback();
      return;
    }
    const place = hasHeader ? 'in the middle of a message' : 'in its header';
    const cut = new FileDamagedError(this.#begun ?? this.#offset, `the file ends ${place}`);
    if (this.#salvage && hasHeader) {
      this.emit('damaged', cut);
      callback();
    } else {
      callback(cut);
    }
  }

  #advance(): void {
    while (this.#wanted !== undefined && this.#held >= this.#wanted) {
      const bytes = this.#take(this.#wanted);
      this.#offset += bytes.length;
      const { done, value } = this.#parser.next(bytes);
      this.#wanted = done ? undefined : (value as number);
    }
    if (this.#wanted !== undefined) return;
    this.#chunks.length = 0;
    this.#held = 0;
  }

  #take(size: number): Buffer {
    this.#held -= size;
    const [first] = this.#chunks;
    if (size === 0 || !first) return Buffer.alloc(0);
    if (first.length > size) {
      this.#chunks[0] = first.subarray(size);
      return first.subarray(0, size);
    }
    const parts: Buffer[] = [];
    let used = 0;
    for (let left = size; left > 0;) {
      const chunk = this.#chunks[used] as Buffer;
      const part = chunk.subarray(0, left);
      parts.push(part);
      left -= part.length;
      if (part.length === chunk.length) used += 1;
      else this.#chunks[used] = chunk.subarray(part.length);
    }
    this.#chunks.splice(0, used);
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }

  *#parse(): Parser<void> {
    this.#begun = 0;
    const mark = yield FILE_MARK.length;
    checkMark(mark);
    const { header, damage } = decodeFileHeader(Buffer.concat([mark, yield HEADER_SIZE - mark.length]));
    if (damage && !this.#salvage) throw damage;
    this.#interval = header.beaconInterval;
    this.#begun = undefined;
    if (damage) this.emit('damaged', damage);
    this.emit('header', header);
    for (;;) {
      try {
        const message = yield* this.#message();
        if (isEnd(message)) return;
        this.push(message);
      } catch (error) {
        if (!this.#salvage || !(error instanceof FileDamagedError)) throw error;
        this.emit('damaged', error);
        if (error instanceof DamagedBeforeBeacon) yield* this.#toNextMessage(error.remaining);
        else if (!(error instanceof DamagedMessage)) yield* this.#toNextMessage(undefined);
      }
      this.#begun = undefined;
    }
  }

  *#message(): Parser<SsFileMessage> {
    // A beacon may be all that the file still has.
    if (this.#isAtBeacon) yield* this.#beaconWithin(0);
    this.#begun = undefined;
    this.#leftByBeacon = undefined;
    const start = this.#offset;
    const length = (yield* this.#read(1, undefined))[0] as number;
    const head = yield* this.#read(length + HEADER_NUMBERS_SIZE + 4, undefined);
    const numbers = head.subarray(length);
    const size = numbers.readUInt32BE(HEADER_NUMBERS_SIZE);
    const left = this.#leftByBeacon ?? size + 3;
    if (left !== size + 3) throw new DamagedBeforeBeacon(start, left, size + 3);
    if (size > this.#maxPayload) throw new FileDamagedError(start, `a message tells of ${size} bytes of payload`);
    const payload = yield* this.#read(size, size + 3);
    const end = yield* this.#read(3, 3);
    if (end[2] !== LINE_END) throw new FileDamagedError(start, 'a message does not end where it should');
    const [stored, computed] = [end.readUInt16BE(0), crc16(payload)];
    if (stored !== computed) {
      throw new DamagedMessage(start, `the checksum of a message is ${computed}, and should be ${stored}`);
    }
    const timestamp = new Date(Number(numbers.readBigUInt64BE(16)));
    if (Number.isNaN(timestamp.getTime())) throw new DamagedMessage(start, 'the time of a message is out of range');
    const streamKey = head.subarray(0, length);
    if (length === 0 || !isUtf8(streamKey)) throw new DamagedMessage(start, 'the stream key of a message is no text');
    return {
      offset: start,
      streamKey: streamKey.toString(),
      shardId: numbers.readBigUInt64BE(0),
      sequence: numbers.readBigUInt64BE(8),
      timestamp,
      payload,
    };
  }

  /**
   * Bytes of a message, without the beacons that cut it.
   * @param left bytes of the message from here on; undefined where that is not known yet
   */
  *#read(size: number, left: number | undefined): Parser<Buffer> {
    const parts: Buffer[] = [];
    for (let missing = size; missing > 0;) {
      if (this.#isAtBeacon) yield* this.#beaconWithin(left === undefined ? undefined : left - (size - missing));
      this.#begun ??= this.#offset;
      const part = yield Math.min(missing, this.#toBeacon);
      parts.push(part);
      missing -= part.length;
      if (this.#leftByBeacon !== undefined) this.#leftByBeacon -= part.length;
    }
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }

  get #isAtBeacon(): boolean {
    return this.#offset > HEADER_SIZE - 1 && this.#offset % this.#interval === 0;
  }

  /** Bytes up to the next beacon. */
  get #toBeacon(): number {
    return this.#interval - (this.#offset % this.#interval);
  }

  /** @param expected bytes that follow of the message; undefined where that is not known yet */
  *#beaconWithin(expected: number | undefined): Parser<void> {
    const start = this.#offset;
    const remaining = yield* this.#beacon();
    if (expected === undefined) this.#leftByBeacon = remaining;
    else if (remaining !== expected) throw new DamagedBeforeBeacon(start, remaining, expected);
  }

  /** Returns how many bytes follow of the message that it cuts. */
  *#beacon(): Parser<number> {
    const start = this.#offset;
    this.#begun ??= start;
    const head = yield 6;
    if (head[0] !== LINE_END) throw new FileDamagedError(start, 'a beacon does not begin where it should');
    for (let markers = head[5] as number; markers > 0; markers -= 1) {
      const [length = 0] = yield 1;
      const size = length + HEADER_NUMBERS_SIZE + 2;
      if (this.#offset + size - start >= this.#interval) throw new FileDamagedError(start, 'a beacon is too long');
      yield size;
    }
    if ((yield 1)[0] !== LINE_END) throw new FileDamagedError(start, 'a beacon does not end where it should');
    return head.readUInt32BE(1);
  }

  /**
   * Continues behind the next beacon, and behind the message that this one cuts.
   * @param known what the beacon said that was just read
   */
  *#toNextMessage(known: number | undefined): Parser<void> {
    let remaining = known;
    for (;;) {
      try {
        if (remaining === undefined) {
          while (!this.#isAtBeacon) yield Math.min(SKIPPED_AT_ONCE, this.#toBeacon);
          remaining = yield* this.#beacon();
        }
        while (remaining > 0) {
          // The count of this beacon replaces that of the one before, which may be the damaged part.
          if (this.#isAtBeacon) remaining = yield* this.#beacon();
          if (remaining === 0) break;
          const part = yield Math.min(remaining, SKIPPED_AT_ONCE, this.#toBeacon);
          remaining -= part.length;
        }
        return;
      } catch (error) {
        if (!(error instanceof FileDamagedError)) throw error;
        remaining = undefined;
      }
    }
  }
}

/** @throws FileDamagedError */
function checkMark(bytes: Buffer): void {
  if (!bytes.subarray(0, 2).equals(FILE_MARK.subarray(0, 2))) {
    throw new FileDamagedError(0, 'it is no SeaStreamer file');
  }
  if (bytes[2] !== FILE_MARK[2]) throw new FileDamagedError(2, `it has version ${bytes[2]} of the format, not 1`);
}

/**
 * The header, and its first damage among the parts that reading does not depend on.
 * @throws FileDamagedError where the distance of the beacons is not known
 */
function decodeFileHeader(bytes: Buffer): { header: SsHeader; damage: FileDamagedError | undefined } {
  const nameAt = FILE_MARK.length + 1;
  const length = bytes[FILE_MARK.length] as number;
  if (length > MAX_FILE_NAME) throw new FileDamagedError(FILE_MARK.length, 'the file name in its header is too long');
  const timeAt = nameAt + length;
  const intervalAt = timeAt + 8;
  const beaconInterval = bytes.readUInt32BE(intervalAt);
  if (beaconInterval < HEADER_SIZE) throw new FileDamagedError(intervalAt, `its beacon interval is ${beaconInterval}`);
  const name = bytes.subarray(nameAt, timeAt);
  const createdAt = new Date(Number(bytes.readBigUInt64BE(timeAt)));
  const rules: ReadonlyArray<[isSound: boolean, offset: number, reason: string]> = [
    [isUtf8(name), nameAt, 'the file name in its header is no text'],
    [!Number.isNaN(createdAt.getTime()), timeAt, 'the time in its header is out of range'],
    [bytes[HEADER_SIZE - 1] === LINE_END, HEADER_SIZE - 1, 'its header does not end where it should'],
  ];
  const broken = rules.find(([isSound]) => !isSound);
  const damage = broken && new FileDamagedError(broken[1], broken[2]);
  return { header: { fileName: name.toString(), createdAt, beaconInterval }, damage };
}

function isEnd({ streamKey, payload }: SsMessage): boolean {
  return streamKey === END_OF_STREAM.streamKey && Buffer.from(payload).toString() === END_OF_STREAM.payload;
}
