import { FieldSchema } from './field-schema.js';
import type { ReplyDecoder } from './reply-tap.js';
import { RESP } from './resp-reader.js';
import type { RespReader } from './resp-reader.js';
import type { StreamEntry, StreamPage } from '../commands/stream-commands.js';

/** An entry that XREADGROUP … CLAIM took over has its idle time and its deliveries behind id and fields. */
const PARTS_OF_CLAIMED = 4;

/** The layout of the entry that was read last, over all pages of a connection. */
export interface LastSchema {
  layout: FieldSchema;
}

export function noSchema(): LastSchema {
  return { layout: new FieldSchema([]) };
}

/**
 * Reads the reply to XREAD and XREADGROUP, entry by entry as they arrive. Ids become strings at once; values stay parts of
 * the bytes that came; names, nearly always those of the entry before, are the same Buffers as there.
 */
export class PageDecoder implements ReplyDecoder<StreamPage[]> {
  readonly #pages: StreamPage[] = [];
  readonly #streamKey: (key: string) => string;
  readonly #last: LastSchema;
  /** -1 before the reply has begun. */
  #streamsLeft = -1;
  #entriesLeft = 0;
  #entries: StreamEntry[] = [];

  /** @param streamKey the stream key of a key that Redis names */
  constructor(streamKey: (key: string) => string, last: LastSchema) {
    this.#streamKey = streamKey;
    this.#last = last;
  }

  read(reader: RespReader): 'done' | 'more' | 'foreign' {
    if (this.#streamsLeft === -1) {
      const start = reader.at;
      // An error, or null because nothing came in time. There is one byte at least, or nobody would ask.
      if (reader.type !== RESP.array) return 'foreign';
      const streams = reader.number();
      if (streams === undefined || streams < 0) {
        reader.at = start;
        return streams === undefined ? 'more' : 'foreign';
      }
      this.#streamsLeft = streams;
    }
    for (;;) {
      const start = reader.at;
      const isMore = this.#entriesLeft > 0 ? this.#readEntry(reader) : this.#streamsLeft > 0 && this.#readHead(reader);
      if (isMore === undefined) {
        reader.at = start;
        return 'more';
      }
      if (!isMore) return 'done';
    }
  }

  /** None when nothing came in time. */
  result(): StreamPage[] {
    return this.#pages;
  }

  /** The key of a stream, and how many entries follow. */
  #readHead(reader: RespReader): true | undefined {
    if (reader.number() === undefined) return undefined;
    const keyLength = reader.number();
    const key = keyLength === undefined ? undefined : reader.bulk(keyLength);
    if (keyLength === undefined || key === undefined) return undefined;
    const count = reader.number();
    if (count === undefined) return undefined;
    this.#streamsLeft -= 1;
    this.#entriesLeft = Math.max(0, count);
    this.#entries = [];
    this.#pages.push({
      streamKey: this.#streamKey(reader.bytes.toString('utf8', key, key + keyLength)),
      entries: this.#entries,
    });
    return true;
  }

  #readEntry(reader: RespReader): true | undefined {
    const parts = reader.number();
    if (parts === undefined) return undefined;
    if (parts > 0) {
      const idLength = reader.number();
      const idAt = idLength === undefined ? undefined : reader.bulk(idLength);
      if (idLength === undefined || idAt === undefined) return undefined;
      const fields = this.#readFields(reader);
      const before = fields === undefined ? undefined : parts === PARTS_OF_CLAIMED ? readDeliveries(reader) : 0;
      if (fields === undefined || before === undefined) return undefined;
      const id = reader.bytes.toString('latin1', idAt, idAt + idLength);
      this.#entries.push({ id, fields, deliveryCount: before + 1, layout: this.#layoutOf(fields) });
    }
    this.#entriesLeft -= 1;
    return true;
  }

  /** Null when the entry was deleted. */
  #readFields(reader: RespReader): Buffer[] | null | undefined {
    const count = reader.number();
    if (count === undefined) return undefined;
    if (count < 0) return null;
    const fields: Buffer[] = [];
    for (let index = 0; index < count; index += 1) {
      const length = reader.number();
      const at = length === undefined ? undefined : reader.bulk(length);
      if (length === undefined || at === undefined) return undefined;
      const { bytes } = reader;
      const isValue = index % 2 === 1;
      const known = isValue ? undefined : this.#last.layout.names[index / 2];
      fields.push(known && isSame(known, bytes, at, length) ? known : bytes.subarray(at, at + length));
    }
    return fields;
  }

  #layoutOf(fields: readonly Buffer[] | null): FieldSchema | undefined {
    if (!fields) return undefined;
    const { names } = this.#last.layout;
    let index = 0;
    while (index < names.length && names[index] === fields[2 * index]) index += 1;
    if (2 * index < fields.length || index < names.length) {
      // Copied: a part of the page would keep all of it in memory.
      const copies = fields.filter((_, at) => at % 2 === 0).map((name) => Buffer.from(name));
      this.#last.layout = new FieldSchema(copies);
    }
    return this.#last.layout;
  }
}

function isSame(name: Buffer, bytes: Buffer, at: number, length: number): boolean {
  if (name.length !== length) return false;
  let same = 0;
  while (same < length && name[same] === bytes[at + same]) same += 1;
  return same === length;
}

/** How often a claimed entry was delivered before. */
function readDeliveries(reader: RespReader): number | undefined {
  const idle = reader.passOver();
  if (idle === undefined) return undefined;
  const type = reader.type;
  if (type === undefined) return undefined;
  if (type !== RESP.bulk) return reader.number();
  const length = reader.number();
  const at = length === undefined ? undefined : reader.bulk(length);
  return at === undefined ? undefined : Number(reader.bytes.toString('latin1', at, at + (length as number)));
}
