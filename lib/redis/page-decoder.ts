import type { ReplyDecoder } from './reply-tap.js';
import { RESP } from './resp-reader.js';
import type { RespReader } from './resp-reader.js';
import type { StreamEntry, StreamPage } from './stream-commands.js';

/** An entry that XREADGROUP … CLAIM took over has its idle time and its deliveries behind id and fields. */
const PARTS_OF_CLAIMED = 4;

const NO_NAME = Buffer.alloc(0);

/**
 * Reads the reply to XREAD and XREADGROUP, entry by entry as they arrive. Ids become strings at once; payloads stay parts
 * of the bytes that came; a field's name, nearly always that of the entry before, is the same Buffer as there.
 */
export class PageDecoder implements ReplyDecoder<StreamPage[]> {
  readonly #pages: StreamPage[] = [];
  readonly #streamKey: (key: string) => string;
  /** -1 before the reply has begun. */
  #streamsLeft = -1;
  #entriesLeft = 0;
  #entries: StreamEntry[] = [];
  #lastName: Buffer = NO_NAME;

  /** @param streamKey the stream key of a key that Redis names */
  constructor(streamKey: (key: string) => string) {
    this.#streamKey = streamKey;
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
      this.#entries.push({ id, fields, deliveryCount: before + 1 });
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
      fields.push(index % 2 === 0 ? this.#name(reader.bytes, at, length) : reader.bytes.subarray(at, at + length));
    }
    return fields;
  }

  #name(bytes: Buffer, at: number, length: number): Buffer {
    const last = this.#lastName;
    if (last.length === length) {
      let same = 0;
      while (same < length && last[same] === bytes[at + same]) same += 1;
      if (same === length) return last;
    }
    return (this.#lastName = bytes.subarray(at, at + length));
  }
}

/** How often a claimed entry was delivered before. */
function readDeliveries(reader: RespReader): number | undefined {
  const idle = reader.skip();
  if (idle === undefined) return undefined;
  const type = reader.type;
  if (type === undefined) return undefined;
  if (type !== RESP.bulk) return reader.number();
  const length = reader.number();
  const at = length === undefined ? undefined : reader.bulk(length);
  return at === undefined ? undefined : Number(reader.bytes.toString('latin1', at, at + (length as number)));
}
