import { HEADER_PREFIX } from '../constants.js';
import { PayloadDecodeError } from '../errors.js';
import { entryIdSequence, entryIdTime } from '../redis/entry-id.js';
import type { StreamEntry } from '../redis/stream-commands.js';

/** Which stream shard an entry came from. */
export interface StreamShard {
  /** The stream's own key, without a shard's number. */
  readonly streamKey: string;
  /** 0 when the stream is not sharded. */
  readonly shardId: number;
}

const EMPTY = Buffer.alloc(0);
const HEADER_PREFIX_BYTES = Buffer.from(HEADER_PREFIX);

/**
 * One entry as a consumer hands it out. Fields, headers and payload are looked up when they are first asked for, because
 * many a consumer needs only one of them.
 */
export class StreamMessage implements StreamShard {
  /** The entry id, `ms-seq`. */
  readonly id: string;
  /** 1 on first delivery; the server's own count, so that a message whose handling killed the process is counted too. */
  readonly deliveryCount: number;
  readonly #shard: StreamShard;
  readonly #raw: readonly Buffer[];
  readonly #messageField: string;
  #payload: Buffer | undefined;
  #fields: ReadonlyMap<string, Buffer> | undefined;
  #headers: Readonly<Record<string, string>> | undefined;

  constructor(shard: StreamShard, entry: StreamEntry, messageField: string) {
    this.#shard = shard;
    this.id = entry.id;
    this.deliveryCount = entry.deliveryCount;
    this.#raw = entry.fields ?? [];
    this.#messageField = messageField;
  }

  get streamKey(): string {
    return this.#shard.streamKey;
  }

  get shardId(): number {
    return this.#shard.shardId;
  }

  /** `ms << 16 | seq`, as sea-streamer has it. @throws SequenceOverflowError when a foreign id does not fit. */
  get sequence(): bigint {
    return entryIdSequence(this.id);
  }

  /** The time part of the id. */
  get timestamp(): Date {
    return new Date(entryIdTime(this.id));
  }

  /** The payload field; empty when the entry has none. */
  get payload(): Buffer {
    return (this.#payload ??= this.#find(this.#messageField) ?? EMPTY);
  }

  /** False for an entry of another writer that has other fields only. */
  get hasPayload(): boolean {
    return this.#find(this.#messageField) !== undefined;
  }

  /** Every field as it is stored; of a name that occurs twice, the last. */
  get fields(): ReadonlyMap<string, Buffer> {
    if (!this.#fields) {
      const fields = new Map<string, Buffer>();
      this.#each((name, value) => fields.set(name.toString(), value));
      this.#fields = fields;
    }
    return this.#fields;
  }

  /** The headers, without their prefix. A header may have any name, so ask for it with `Object.hasOwn` where that matters. */
  get headers(): Readonly<Record<string, string>> {
    if (!this.#headers) {
      const headers: Array<[name: string, value: string]> = [];
      this.#each((name, value) => {
        if (isHeader(name)) headers.push([name.toString('utf8', HEADER_PREFIX_BYTES.length), value.toString()]);
      });
      // fromEntries defines properties, so that even a header called __proto__ is only that.
      this.#headers = Object.freeze(Object.fromEntries(headers));
    }
    return this.#headers;
  }

  /** The payload as UTF-8. */
  text(): string {
    return this.payload.toString();
  }

  /** The payload parsed as JSON. @throws PayloadDecodeError when it is none. */
  json<T = unknown>(): T {
    try {
      return JSON.parse(this.text()) as T;
    } catch (error) {
      throw new PayloadDecodeError(`The payload of entry ${this.id} of '${this.streamKey}' is not JSON`, error);
    }
  }

  /** Safe for JSON.stringify, which refuses a bigint: the sequence becomes a string, the payload text. */
  toJSON(): Record<string, unknown> {
    return {
      streamKey: this.streamKey,
      shardId: this.shardId,
      id: this.id,
      timestamp: this.timestamp,
      payload: this.text(),
      headers: { ...this.headers },
      deliveryCount: this.deliveryCount,
    };
  }

  /** The very object that the message was made with; by it a consumer knows its own stream again. */
  static shardOf(message: StreamMessage): StreamShard {
    return message.#shard;
  }

  /**
   * Names and values in turn, byte for byte. Whoever passes an entry on needs these: {@link fields} has no invalid UTF-8
   * and of a name that occurs twice only one.
   */
  static storedFieldsOf(message: StreamMessage): readonly Buffer[] {
    return message.#raw;
  }

  #find(field: string): Buffer | undefined {
    // Compared as bytes first by length: the payload is nearly always the first field.
    for (let index = 0; index + 1 < this.#raw.length; index += 2) {
      const name = this.#raw[index] as Buffer;
      if (name.length === Buffer.byteLength(field) && name.toString() === field) return this.#raw[index + 1];
    }
    return undefined;
  }

  #each(visit: (name: Buffer, value: Buffer) => void): void {
    for (let index = 0; index + 1 < this.#raw.length; index += 2) {
      visit(this.#raw[index] as Buffer, this.#raw[index + 1] as Buffer);
    }
  }
}

function isHeader(name: Buffer): boolean {
  return (
    name.length >= HEADER_PREFIX_BYTES.length &&
    name[0] === HEADER_PREFIX_BYTES[0] &&
    name[1] === HEADER_PREFIX_BYTES[1]
  );
}
