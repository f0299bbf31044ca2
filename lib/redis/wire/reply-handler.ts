import { ReplyError, RESP } from './resp-reader.js';
import type { RespReader } from './resp-reader.js';

/**
 * Waits in the queue of a {@link RespConnection} for the reply to one command, or for the replies to several commands that
 * were written in one piece.
 */
export interface ReplyHandler {
  /**
   * Reads from `reader.at` on. True when everything has been read. False when the bytes end before that: `reader.at` then
   * stands behind the part that has been taken, which is not offered again. @throws ProtocolError
   */
  read(reader: RespReader): boolean;
  /** Everything has been read. Called once, and never together with {@link lost}. Must not throw. */
  complete(): void;
  /** The connection ended before the last byte arrived; what was read until then counts. Must not throw. */
  lost(error: Error): void;
}

/** Strings of a reply as text or as bytes. */
export type ReplyEncoding = 'utf8' | 'buffer';

interface OpenArray {
  readonly items: unknown[];
  left: number;
}

/** The value is not complete; null and undefined are values. */
const INCOMPLETE = Symbol('incomplete');

/**
 * Reads one value of any shape, a map as its keys and values in turn. An array that ends in the middle continues there, so that
 * reading stays linear.
 */
export class ValueDecoder {
  readonly #encoding: ReplyEncoding;
  readonly #open: OpenArray[] = [];
  value: unknown;

  constructor(encoding: ReplyEncoding) {
    this.#encoding = encoding;
  }

  read(reader: RespReader): boolean {
    for (;;) {
      const start = reader.at;
      let value = this.#readItem(reader);
      if (value === INCOMPLETE) {
        reader.at = start;
        return false;
      }
      if (value === undefined) continue; // An array with items has been opened.
      for (let array = this.#open.at(-1); array; array = this.#open.at(-1)) {
        array.items.push(value);
        array.left -= 1;
        if (array.left > 0) break;
        value = array.items;
        this.#open.pop();
      }
      if (this.#open.length === 0) {
        this.value = value;
        return true;
      }
    }
  }

  /** Undefined when it was the head of an array that has items. */
  #readItem(reader: RespReader): unknown {
    const { type } = reader;
    switch (type) {
      case undefined:
        return INCOMPLETE;
      case RESP.simple:
        return reader.line() ?? INCOMPLETE;
      case RESP.error: {
        const text = reader.line();
        return text === undefined ? INCOMPLETE : new ReplyError(text);
      }
      case RESP.bulk:
        return this.#readBulk(reader);
      default: {
        if (type === RESP.integer) return reader.number() ?? INCOMPLETE;
        const count = reader.newType === undefined ? reader.arrayLength() : reader.number();
        if (count === undefined) return INCOMPLETE;
        if (type === RESP.null) return null;
        if (count <= 0) return count === 0 ? [] : null;
        this.#open.push({ items: [], left: type === RESP.map ? 2 * count : count });
        return undefined;
      }
    }
  }

  #readBulk(reader: RespReader): unknown {
    const length = reader.number();
    if (length === undefined) return INCOMPLETE;
    if (length < 0) return null;
    const at = reader.bulk(length);
    if (at === undefined) return INCOMPLETE;
    const { bytes } = reader;
    return this.#encoding === 'utf8' ? bytes.toString('utf8', at, at + length) : bytes.subarray(at, at + length);
  }
}

/** The reply to one command, as a promise that rejects with a {@link ReplyError} or with what ended the connection. */
export class ValueReply implements ReplyHandler {
  readonly promise: Promise<unknown>;
  readonly #decoder: ValueDecoder;
  #resolve!: (value: unknown) => void;
  #reject!: (error: unknown) => void;

  constructor(encoding: ReplyEncoding) {
    this.#decoder = new ValueDecoder(encoding);
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  read(reader: RespReader): boolean {
    return this.#decoder.read(reader);
  }

  complete(): void {
    const { value } = this.#decoder;
    if (value instanceof ReplyError) this.#reject(value);
    else this.#resolve(value);
  }

  lost(error: Error): void {
    this.#reject(error);
  }
}

/**
 * The replies to several commands: each a value, a {@link ReplyError}, or the error that ended the connection before that
 * reply came. The promise never rejects.
 */
export class ValuesReply implements ReplyHandler {
  readonly promise: Promise<unknown[]>;
  readonly #encoding: ReplyEncoding;
  readonly #size: number;
  readonly #values: unknown[] = [];
  #decoder: ValueDecoder;
  #resolve!: (values: unknown[]) => void;

  constructor(encoding: ReplyEncoding, size: number) {
    this.#encoding = encoding;
    this.#size = size;
    this.#decoder = new ValueDecoder(encoding);
    this.promise = new Promise((resolve) => (this.#resolve = resolve));
  }

  read(reader: RespReader): boolean {
    while (this.#values.length < this.#size) {
      if (!this.#decoder.read(reader)) return false;
      this.#values.push(this.#decoder.value);
      this.#decoder = new ValueDecoder(this.#encoding);
    }
    return true;
  }

  complete(): void {
    this.#resolve(this.#values);
  }

  lost(error: Error): void {
    while (this.#values.length < this.#size) this.#values.push(error);
    this.#resolve(this.#values);
  }
}

/** Skips the reply to a command that goes before another one, as ASKING does. */
export class IgnoredReply implements ReplyHandler {
  readonly #decoder = new ValueDecoder('buffer');

  read(reader: RespReader): boolean {
    return this.#decoder.read(reader);
  }

  complete(): void {
    // The command behind it fails if this one has failed.
  }

  lost(): void {
    // The command behind it fails as well.
  }
}
