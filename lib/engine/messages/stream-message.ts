import { isUtf8 } from 'node:buffer';

import { PayloadDecodeError } from '../../errors.js';
import { entryIdSequence, entryIdTime } from '../../redis/commands/entry-id.js';
import type { TimestampFormat } from '../../redis/commands/entry-id.js';
import { FieldSchema } from '../../redis/wire/field-schema.js';
import { detached } from '../../redis/wire/stream-entry.js';
import type { StreamEntry } from '../../redis/commands/stream-commands.js';

/** Which stream shard an entry came from. */
export interface StreamShard {
  /** The stream's own key, without a shard's number. */
  readonly streamKey: string;
  /** 0 when the stream is not sharded. */
  readonly shardId: number;
}

/** A shard, and where it is. */
export interface StoredShard extends StreamShard {
  /** The key in Redis, without our key prefix. */
  readonly key: string;
  /** Of an owned shard: its owner's generation. */
  readonly fencingToken?: bigint | undefined;
}

/** How the entries of a streamer are read. */
export interface EntryFormat {
  /** The field of the payload. */
  readonly messageField: string;
  /** What sequences are made of. */
  readonly timestampFormat: TimestampFormat;
}

/** The key of a shard: `orders` itself, or `orders:2`. */
export function shardKey(streamKey: string, shardId: number, isSharded: boolean): string {
  return isSharded ? `${streamKey}:${shardId}` : streamKey;
}

/** The stream that a key is a shard of, where shards are read; or the key itself. */
export function streamOfShard(key: string): string {
  return key.replace(/:(?:0|[1-9]\d*)$/, '');
}

const EMPTY = Buffer.alloc(0);
const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

/**
 * One entry as a consumer hands it out. Fields, headers and payload are looked up when they are first asked for, because
 * many a consumer needs only one of them.
 */
export class StreamMessage implements StreamShard {
  /** The entry id, `ms-seq`. */
  readonly id: string;
  /** 1 on first delivery; the server's own count, so that a message whose handling killed the process is counted too. */
  readonly deliveryCount: number;
  readonly #shard: StoredShard;
  #raw: readonly Buffer[];
  readonly #format: EntryFormat;
  readonly #isSuspect: boolean;
  #schema: FieldSchema | undefined;
  #payload: Buffer | undefined;
  #fields: ReadonlyMap<string, Buffer> | undefined;
  #headers: Readonly<Record<string, string>> | undefined;

  /** @internal */
  static create(shard: StoredShard, entry: StreamEntry, format: EntryFormat): StreamMessage {
    return new StreamMessage(shard, entry, format);
  }

  private constructor(shard: StoredShard, entry: StreamEntry, format: EntryFormat) {
    this.#shard = shard;
    this.id = entry.id;
    this.deliveryCount = entry.deliveryCount;
    this.#raw = entry.fields ?? [];
    this.#schema = entry.schema;
    this.#format = format;
    this.#isSuspect = entry.isSuspect === true;
  }

  get streamKey(): string {
    return this.#shard.streamKey;
  }

  get shardId(): number {
    return this.#shard.shardId;
  }

  /**
   * With `shardOwnership: 'owned'`: a number that rises with every owner of the shard. A store that refuses a write with a lower number
   * than it has seen is safe from a former owner whose handler runs on. Undefined where shards are shared.
   */
  get fencingToken(): bigint | undefined {
    return this.#shard.fencingToken;
  }

  /**
   * `ms << 16 | seq`, as sea-streamer has it, or with nanoseconds `ns << 16 | seq`.
   * @throws SequenceOverflowError when a foreign id does not fit, such as one in nanoseconds without that `timestampFormat`
   */
  get sequence(): bigint {
    return entryIdSequence(this.id, this.#format.timestampFormat);
  }

  /** The time part of the id. */
  get timestamp(): Date {
    return new Date(entryIdTime(this.id));
  }

  /**
   * The payload field; empty when the entry has none. It is a part of the bytes that came from the socket, often of a whole
   * page: to keep many payloads, keep copies of them (`Buffer.from(message.payload)`).
   */
  get payload(): Buffer {
    return (this.#payload ??= this.#raw[this.#schemaOfFields.valueAt(this.#format.messageField)] ?? EMPTY);
  }

  /** False for an entry of another writer that has other fields only. */
  get hasPayload(): boolean {
    return this.#schemaOfFields.valueAt(this.#format.messageField) !== -1;
  }

  /** Every field as it is stored; of a name that occurs twice, the last. */
  get fields(): ReadonlyMap<string, Buffer> {
    if (!this.#fields) {
      const { names } = this.#schemaOfFields;
      this.#fields = new Map(names.map((name, index) => [name.toString(), this.#raw[2 * index + 1] as Buffer]));
    }
    return this.#fields;
  }

  /**
   * Names and values in turn, byte for byte, for an entry that is copied: {@link fields} has no invalid UTF-8 in its names, and
   * only one of two fields with the same name.
   */
  get storedFields(): readonly Buffer[] {
    return this.#raw;
  }

  /** The headers, without their prefix. A header may have any name, so ask for it with `Object.hasOwn` where that matters. */
  get headers(): Readonly<Record<string, string>> {
    return (this.#headers ??= this.#readHeaders());
  }

  /** By which sea-streamer names a message. */
  get identifier(): StreamShard & Pick<StreamMessage, 'sequence'> {
    return { streamKey: this.streamKey, shardId: this.shardId, sequence: this.sequence };
  }

  /**
   * The payload as UTF-8. What is not UTF-8 becomes U+FFFD, or with `fatal` an error.
   * @throws PayloadDecodeError with `fatal` only
   */
  text({ fatal = false }: { fatal?: boolean } = {}): string {
    if (fatal && !isUtf8(this.payload)) {
      throw new PayloadDecodeError(`The payload of entry ${this.id} of '${this.streamKey}' is not UTF-8`);
    }
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

  /** Safe for JSON.stringify, which refuses a bigint: without the sequence, and with the payload as text. */
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

  /**
   * The object with which the message was created, by identity: a consumer recognises its own partition by it.
   * @internal
   */
  static shardOf(message: StreamMessage): StoredShard {
    return message.#shard;
  }

  /**
   * One of the headers, without the others.
   * @internal
   */
  static headerOf(message: StreamMessage, name: string): string | undefined {
    const at = message.#schemaOfFields.headerAt(name);
    return at === undefined ? undefined : (message.#raw[at] as Buffer).toString();
  }

  /**
   * Whether an earlier process may have begun this message and ended because of it. Its delivery is counted on the server
   * when its handler starts.
   * @internal
   */
  static isSuspect(message: StreamMessage): boolean {
    return message.#isSuspect;
  }

  /**
   * For a message that will wait in this process: its fields become copies when they are a small part of the page in which
   * they came, which would stay in memory as a whole.
   * @internal
   */
  static detach(message: StreamMessage): void {
    const own = detached(message.#raw);
    if (own === message.#raw) return;
    message.#raw = own;
    // What was looked up are parts of the page, too.
    message.#schema = undefined;
    message.#payload = undefined;
    message.#fields = undefined;
  }

  get #schemaOfFields(): FieldSchema {
    return (this.#schema ??= FieldSchema.of(this.#raw));
  }

  #readHeaders(): Readonly<Record<string, string>> {
    const places = this.#schemaOfFields.headers;
    if (places.length === 0) return NO_HEADERS;
    const headers: Record<string, string> = {};
    for (const [at, name] of places) {
      const value = (this.#raw[at] as Buffer).toString();
      // Assigned, it would be no header but the object's prototype.
      if (name === '__proto__') Object.defineProperty(headers, name, { value, enumerable: true });
      else headers[name] = value;
    }
    return Object.freeze(headers);
  }
}
