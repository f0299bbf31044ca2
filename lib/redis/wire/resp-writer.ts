/** A part of a command: its name, a key, an argument. */
export type CommandArgument = string | Uint8Array | number;

/** A command and its arguments, in the order in which they are sent. */
export type Command = readonly [name: string, ...args: CommandArgument[]];

/** One entry to append. */
export interface AppendRequest {
  /** `*`, `<ms>-*` or a complete id. */
  readonly id: string;
  /** Names and values in turn. */
  readonly fields: ReadonlyArray<string | Uint8Array>;
  /** Approximate size of the fields in bytes, when the caller knows it. */
  readonly size?: number;
}

/** Twice what a batch of 500 messages of 256 bytes needs. */
const USUAL_SIZE = 256 * 1024;
/** Approximate bytes of an entry without its target and its fields, and of the length line of a part of a command. */
const ENTRY_OVERHEAD = 100;
const PART_OVERHEAD = 32;
/** As many batches as are in flight at most; larger buffers are left to the garbage collector. */
const MAX_KEPT = 16;
/** Commands of text up to this size are joined as one string, which is faster than single writes into a large buffer. */
const SMALL_COMMAND = 64 * 1024;

/** The part of an entry before its values, as far as nearly all entries of a stream have it in common. */
interface Head {
  readonly target: string;
  readonly id: string;
  readonly size: number;
  readonly name: string | Uint8Array | undefined;
  /** From the end of the previous part to the first name or, when that is no text, to the id. */
  readonly bytes: Buffer;
  /** Number of fields that are part of it. */
  readonly fields: number;
  /** The same bytes followed by the length line of the first value, by that length. */
  readonly withLength: Buffer[];
}

/**
 * Writes commands as RESP2 bytes. Batches of XADDs go into buffers that are used again: the memory pages of a fresh one, and
 * a string that is joined only to be split again, cost more than everything else (0.2 in place of 0.9 µs for a message of
 * 256 bytes). It owns these buffers from {@link release} to the next batch.
 *
 * Inside a batch each part is written together with the line break of the previous part.
 */
export class RespWriter {
  readonly #free: Buffer[] = [];
  /** Those that can be used again. By identity: the pool of Node's own buffers may have any size, this one too. */
  readonly #usual = new WeakSet<ArrayBufferLike>();
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #head: Head | undefined;

  /** Some commands in one piece. Return the bytes with {@link release} when all replies have arrived. */
  commands(commands: readonly Command[]): Buffer {
    let size = 0;
    let isText = true;
    for (const command of commands) {
      for (const part of command) {
        if (typeof part === 'object') isText = false;
        size += PART_OVERHEAD + (typeof part === 'number' ? 0 : part.length);
      }
    }
    if (isText && size <= SMALL_COMMAND) return Buffer.from(commands.map(textOf).join(''));
    this.#begin(size);
    for (const command of commands) {
      this.#copy(Buffer.from(`\r\n*${command.length}`));
      for (const part of command) this.#value(typeof part === 'number' ? String(part) : part);
    }
    return this.#end();
  }

  /**
   * A batch of XADDs. Return the bytes with {@link release} when all replies have arrived.
   * @param limit arguments of XADD between key and id
   */
  appends(key: string, limit: ReadonlyArray<string | number>, requests: readonly AppendRequest[]): Buffer {
    const target = ['XADD', key, ...limit].map((argument) => bulk(String(argument))).join('');
    const overhead = target.length + ENTRY_OVERHEAD;
    this.#begin(requests.reduce((sum, { size = 0 }) => sum + size + overhead, 0));
    for (const { id, fields } of requests) {
      let head = this.#head;
      if (head?.id !== id || head.name !== fields[0] || head.size !== fields.length || head.target !== target) {
        this.#head = head = headOf(target, limit.length, id, fields);
      }
      if (head.fields === 1) this.#headAndValue(head, fields[1] ?? '');
      else this.#copy(head.bytes);
      for (let index = 2 * head.fields; index < fields.length; index += 1) {
        const field = fields[index] as string | Uint8Array;
        if (index % 2 === 0 && typeof field === 'string') this.#copy(nameOf(field));
        else this.#value(field);
      }
    }
    return this.#end();
  }

  /** Whether the bytes are part of a buffer that can be used again. */
  owns({ buffer }: Buffer): boolean {
    return this.#usual.has(buffer);
  }

  /** Call it when the bytes will be neither written nor read any more. */
  release(bytes: Buffer): void {
    if (this.owns(bytes) && this.#free.length < MAX_KEPT) this.#free.push(Buffer.from(bytes.buffer));
  }

  /** @param size approximate number of bytes; more is possible and costs a copy */
  #begin(size: number): void {
    this.#bytes = size <= USUAL_SIZE ? (this.#free.pop() ?? this.#createUsual()) : Buffer.allocUnsafeSlow(size);
    this.#at = 0;
  }

  #createUsual(): Buffer {
    const bytes = Buffer.allocUnsafeSlow(USUAL_SIZE);
    this.#usual.add(bytes.buffer);
    return bytes;
  }

  #end(): Buffer {
    this.#copy(LINE_BREAK);
    return this.#bytes.subarray(LINE_BREAK.length, this.#at);
  }

  #headAndValue({ bytes, withLength }: Head, value: string | Uint8Array): void {
    const length = lengthOf(value);
    // One copy in place of two, because most messages consist of one value.
    if (length > MAX_KEPT_LENGTH) this.#copy(Buffer.concat([bytes, lengthLine(length)]));
    else this.#copy((withLength[length] ??= Buffer.concat([bytes, lengthLine(length)])));
    this.#content(value, length);
  }

  #value(value: string | Uint8Array): void {
    const length = lengthOf(value);
    this.#copy(lengthLine(length));
    this.#content(value, length);
  }

  #content(value: string | Uint8Array, length: number): void {
    if (typeof value !== 'string') return this.#copy(value);
    this.#reserve(length);
    this.#at += this.#bytes.write(value, this.#at);
  }

  #copy(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #reserve(length: number): void {
    const needed = this.#at + length;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
  }
}

const LINE_BREAK = Buffer.from('\r\n');

/** The length lines of values up to this size are kept. */
const MAX_KEPT_LENGTH = 1_024;
const LENGTH_LINES: Buffer[] = [];

function lengthOf(value: string | Uint8Array): number {
  return typeof value === 'string' ? Buffer.byteLength(value) : value.length;
}

function lengthLine(length: number): Buffer {
  if (length > MAX_KEPT_LENGTH) return Buffer.from(`\r\n$${length}\r\n`);
  return (LENGTH_LINES[length] ??= Buffer.from(`\r\n$${length}\r\n`));
}

/** Field names are few, and those of messages with headers are nearly always the same. */
const MAX_KEPT_NAMES = 1_000;
const NAMES = new Map<string, Buffer>();

function nameOf(name: string): Buffer {
  const known = NAMES.get(name);
  if (known) return known;
  const bytes = Buffer.from(`\r\n$${Buffer.byteLength(name)}\r\n${name}`);
  if (NAMES.size < MAX_KEPT_NAMES) NAMES.set(name, bytes);
  return bytes;
}

function headOf(target: string, limitSize: number, id: string, fields: AppendRequest['fields']): Head {
  const [name] = fields;
  const parts = 3 + limitSize + fields.length;
  const text = `\r\n*${parts}\r\n${target}${bulk(id)}${typeof name === 'string' ? bulk(name) : ''}`;
  const bytes = Buffer.from(text.slice(0, -LINE_BREAK.length));
  return { target, id, name, bytes, size: fields.length, fields: typeof name === 'string' ? 1 : 0, withLength: [] };
}

function textOf(command: Command): string {
  let text = `*${command.length}\r\n`;
  for (const part of command) text += bulk(String(part));
  return text;
}

function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
}
