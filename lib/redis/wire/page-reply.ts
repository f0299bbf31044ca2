import { FieldSchema } from './field-schema.js';
import type { ReplyHandler } from './reply-handler.js';
import { ProtocolError, ReplyError, RESP } from './resp-reader.js';
import type { RespReader } from './resp-reader.js';
import { joinedPages } from './stream-entry.js';
import type { StreamEntry, StreamPage } from './stream-entry.js';

/** An entry that XREADGROUP … CLAIM took over has its idle time and its deliveries behind id and fields. */
const PARTS_OF_CLAIMED = 4;

/** Copied for the fields of an entry: a list that begins empty takes the memory of 17 with the first field. */
const PLACES: readonly Buffer[] = Array.from({ length: 64 }, () => Buffer.alloc(0));

/** The schema of the last entry, kept over all pages of a connection: entries of one stream nearly always share it. */
export interface LastSchema {
  schema: FieldSchema;
}

export function noSchema(): LastSchema {
  return { schema: new FieldSchema([]) };
}

/**
 * The reply to XREAD or XREADGROUP, or the replies to two of them, decoded field by field as the bytes arrive: every
 * byte is looked at once, however large an entry is. Ids become strings at once; values stay parts of the bytes that
 * arrived; field names, which are nearly always those of the entry before, are the same Buffers as there.
 */
export class PageReply implements ReplyHandler {
  readonly promise: Promise<StreamPage[]>;
  #pages: StreamPage[] = [];
  /** Pages of the first of two replies. */
  #before: StreamPage[] = [];
  #repliesLeft: number;
  readonly #streamKey: (key: string) => string;
  readonly #last: LastSchema;
  readonly #onCount: ((entries: number) => void) | undefined;
  #resolve!: (pages: StreamPage[]) => void;
  #reject!: (error: Error) => void;
  #error: ReplyError | undefined;
  /** -1 before the reply has begun. */
  #streamsLeft = -1;
  /** In RESP3 the streams are a map: no array stands around a key and its entries. */
  #isMap = false;
  #entriesLeft = 0;
  #entries: StreamEntry[] = [];
  /** The entry that is being read: number of its parts, 0 between two entries. */
  #parts = 0;
  #id = '';
  /** Null when the entry was deleted. */
  #fields: Buffer[] | null = null;
  #fieldCount = 0;
  #fieldsLeft = 0;

  /**
   * @param streamKey the stream key of a key that Redis names
   * @param onCount see {@link CommandChannel.pages}
   * @param replies 1 or 2
   */
  constructor(streamKey: (key: string) => string, last: LastSchema, onCount?: (entries: number) => void, replies = 1) {
    this.#streamKey = streamKey;
    this.#last = last;
    this.#onCount = onCount;
    this.#repliesLeft = replies;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  read(reader: RespReader): boolean {
    for (;;) {
      if (this.#entriesLeft > 0) {
        if (!this.#readEntry(reader)) return false;
      } else if (this.#streamsLeft > 0) {
        if (!this.#readHead(reader)) return false;
      } else if (this.#streamsLeft === -1) {
        if (!this.#begin(reader)) return false;
      } else if (this.#repliesLeft > 1) {
        this.#nextReply();
      } else {
        return true;
      }
    }
  }

  #nextReply(): void {
    this.#repliesLeft -= 1;
    this.#before = this.#pages;
    this.#pages = [];
    this.#streamsLeft = -1;
  }

  /** The pages are empty when no entry arrived within the block time. */
  complete(): void {
    if (this.#error && this.#before.length === 0) this.#reject(this.#error);
    else this.#resolve(this.#before.length === 0 ? this.#pages : joinedPages(this.#before, this.#pages));
  }

  /**
   * The complete entries of a torn page are not handed on: in a group the next connection finds all of the page in the
   * pending entries list, and without a group reading continues behind the last page.
   */
  lost(error: Error): void {
    this.#reject(error);
  }

  #begin(reader: RespReader): boolean {
    const { type } = reader;
    if (type === undefined) return false;
    const start = reader.at;
    if (type === RESP.error) {
      const text = reader.line();
      if (text === undefined) return notYet(reader, start);
      this.#error ??= new ReplyError(text);
      this.#streamsLeft = 0;
      return true;
    }
    if (type !== RESP.array && type !== RESP.bulk && reader.newType === undefined)
      throw new ProtocolError(`Redis answered a read with type ${type}`);
    const streams = reader.number();
    if (streams === undefined) return notYet(reader, start);
    this.#streamsLeft = Math.max(0, streams);
    this.#isMap = type === RESP.map;
    return true;
  }

  /** The key of a stream, and the number of entries that follow. */
  #readHead(reader: RespReader): boolean {
    const start = reader.at;
    if (!this.#isMap && reader.arrayLength() === undefined) return notYet(reader, start);
    const keyLength = reader.bulkLength();
    const key = keyLength === undefined ? undefined : reader.bulk(keyLength);
    const count = key === undefined ? undefined : reader.arrayLength();
    if (keyLength === undefined || key === undefined || count === undefined) return notYet(reader, start);
    this.#streamsLeft -= 1;
    this.#entriesLeft = Math.max(0, count);
    this.#entries = [];
    const name = reader.bytes.toString('utf8', key, key + keyLength);
    this.#pages.push({ streamKey: this.#streamKey(name), entries: this.#entries });
    if (this.#onCount && this.#repliesLeft === 1 && this.#pages.length === 1 && this.#streamsLeft === 0) {
      this.#onCount(this.#entriesLeft + (this.#before[0]?.entries.length ?? 0));
    }
    return true;
  }

  #readEntry(reader: RespReader): boolean {
    if (this.#parts === 0 && !this.#readEntryHead(reader)) return false;
    // A null in place of an entry has no parts.
    if (this.#parts < 0) {
      this.#parts = 0;
      this.#entriesLeft -= 1;
      return true;
    }
    if (this.#fieldsLeft > 0 && !this.#readFields(reader)) return false;
    let deliveriesBefore = 0;
    if (this.#parts === PARTS_OF_CLAIMED) {
      const start = reader.at;
      const deliveries = readDeliveries(reader);
      if (deliveries === undefined) return notYet(reader, start);
      deliveriesBefore = deliveries;
    }
    const fields = this.#fields;
    const schema = fields ? this.#schemaOf(fields) : undefined;
    this.#entries.push({ id: this.#id, fields, deliveryCount: deliveriesBefore + 1, schema });
    this.#parts = 0;
    this.#entriesLeft -= 1;
    return true;
  }

  #readEntryHead(reader: RespReader): boolean {
    const start = reader.at;
    const parts = reader.newType === RESP.null ? reader.number() : reader.arrayLength();
    if (parts === undefined) return notYet(reader, start);
    if (parts <= 0) {
      this.#parts = -1;
      return true;
    }
    const idLength = reader.bulkLength();
    const idAt = idLength === undefined ? undefined : reader.bulk(idLength);
    const { type } = reader;
    const count = idAt === undefined || type === undefined ? undefined : reader.number();
    if (idLength === undefined || idAt === undefined || count === undefined) return notYet(reader, start);
    const isNull = count < 0 || (reader.isResp3 && type === RESP.null);
    if (type !== RESP.array && !isNull) throw new ProtocolError(`Redis sent fields of type ${type}`);
    this.#parts = parts;
    this.#id = idOf(reader.bytes, idAt, idLength);
    this.#fields = isNull ? null : PLACES.slice(0, count);
    this.#fieldCount = 0;
    this.#fieldsLeft = Math.max(0, count);
    return true;
  }

  #readFields(reader: RespReader): boolean {
    const fields = this.#fields as Buffer[];
    const { names } = this.#last.schema;
    const { bytes } = reader;
    for (let left = this.#fieldsLeft; left > 0; left -= 1) {
      const start = reader.at;
      const length = reader.bulkLength();
      const at = length === undefined ? undefined : reader.bulk(length);
      if (length === undefined || at === undefined) {
        this.#fieldsLeft = left;
        return notYet(reader, start);
      }
      const isValue = this.#fieldCount % 2 === 1;
      const known = isValue ? undefined : names[this.#fieldCount / 2];
      fields[this.#fieldCount] = known && isSame(known, bytes, at, length) ? known : bytes.subarray(at, at + length);
      this.#fieldCount += 1;
    }
    this.#fieldsLeft = 0;
    return true;
  }

  #schemaOf(fields: readonly Buffer[]): FieldSchema {
    const { names } = this.#last.schema;
    let index = 0;
    while (index < names.length && names[index] === fields[2 * index]) index += 1;
    if (2 * index < fields.length || index < names.length) {
      // Copied: a part of the page would keep all of it in memory.
      const copies = fields.filter((_, at) => at % 2 === 0).map((name) => Buffer.from(name));
      this.#last.schema = new FieldSchema(copies);
    }
    return this.#last.schema;
  }
}

/** A call with a fixed number of codes is compiled into one step. */
const textOf = String.fromCharCode as (...codes: Array<number | undefined>) => string;

/**
 * The text of an id. Until 2286 its milliseconds have 13 digits, so that it has 15 to 17 characters while a millisecond has at most
 * 1,000 entries. For these lengths this takes less than half of the time of `toString`.
 */
// prettier-ignore
function idOf(b: Buffer, at: number, length: number): string {
  switch (length) {
    case 15: return textOf(b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4], b[at + 5], b[at + 6], b[at + 7], b[at + 8],
      b[at + 9], b[at + 10], b[at + 11], b[at + 12], b[at + 13], b[at + 14]);
    case 16: return textOf(b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4], b[at + 5], b[at + 6], b[at + 7], b[at + 8],
      b[at + 9], b[at + 10], b[at + 11], b[at + 12], b[at + 13], b[at + 14], b[at + 15]);
    case 17: return textOf(b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4], b[at + 5], b[at + 6], b[at + 7], b[at + 8],
      b[at + 9], b[at + 10], b[at + 11], b[at + 12], b[at + 13], b[at + 14], b[at + 15], b[at + 16]);
    default: return b.toString('latin1', at, at + length);
  }
}

function notYet(reader: RespReader, start: number): false {
  reader.at = start;
  return false;
}

function isSame(name: Buffer, bytes: Buffer, at: number, length: number): boolean {
  if (name.length !== length) return false;
  let same = 0;
  while (same < length && name[same] === bytes[at + same]) same += 1;
  return same === length;
}

/** Number of earlier deliveries of a claimed entry; its idle time, which comes first, is skipped. */
function readDeliveries(reader: RespReader): number | undefined {
  return readNumber(reader) === undefined ? undefined : readNumber(reader);
}

/** A number that servers send as an integer or as a bulk string. */
function readNumber(reader: RespReader): number | undefined {
  const { type } = reader;
  if (type === undefined) return undefined;
  const value = reader.number();
  if (type !== RESP.bulk || value === undefined) return value;
  const at = reader.bulk(value);
  return at === undefined ? undefined : Number(reader.bytes.toString('latin1', at, at + value));
}
