const CR = 13;
const LF = 10;
const MINUS = 45;
const ZERO = 48;
const DOLLAR = 36;
const ASTERISK = 42;
const COLON = 58;
const PLUS = 43;
const PERCENT = 37;
const GREATER = 62;
const UNDERSCORE = 95;

/** The first byte of a value, which names its type. The last three are of RESP3, which only connections that watch keys speak. */
export const RESP = Object.freeze({
  array: ASTERISK,
  bulk: DOLLAR,
  error: MINUS,
  integer: COLON,
  simple: PLUS,
  map: PERCENT,
  push: GREATER,
  null: UNDERSCORE,
});

const EMPTY = Buffer.alloc(0);

/** The peer sent bytes that are no RESP2, or a reply of another shape than its command has. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

/**
 * In place of an entry's id came null or a value of another type, as some proxies answer. It belongs to this command, and the
 * replies behind it to theirs; whether the entry was stored is unknown.
 */
export class UnexpectedReply extends Error {
  override readonly name = 'UnexpectedReply';
}

/** An error that the server sent as the reply to a command. Its first word names the kind of error. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError';
}

/** A connection ended before the reply to a command had arrived; whether a command that was written ran is unknown. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
  /** False when nothing of the command was written, so that it cannot have run. */
  readonly wasWritten: boolean;

  constructor(message: string, { wasWritten = true, ...options }: { wasWritten?: boolean; cause?: unknown } = {}) {
    super(message, options);
    this.wasWritten = wasWritten;
  }
}

/**
 * Reads RESP2 values from bytes that may end anywhere. A method that finds its value incomplete returns undefined and notes
 * in {@link wanted} how many bytes are needed at least before another attempt makes sense. The position is then undefined:
 * the caller returns to a position that it has kept.
 */
export class RespReader {
  /** The bytes to read. */
  bytes: Buffer = EMPTY;
  /** Position of the next value. */
  at = 0;
  /** Whether a map, a push or the null of RESP3 may come; otherwise it is a violation of the protocol. */
  isResp3 = false;
  /** Number of bytes, counted from the beginning of {@link bytes}, that the next attempt needs. */
  wanted = 0;

  /** First byte of the next value. */
  get type(): number | undefined {
    if (this.at < this.bytes.length) return this.bytes[this.at];
    return this.#wantMore();
  }

  /** Type of the next value if it is one that only RESP3 has, and may come. */
  get newType(): number | undefined {
    const type = this.isResp3 ? this.type : undefined;
    return type === RESP.map || type === RESP.push || type === RESP.null ? type : undefined;
  }

  /** The first line of any value but a simple string or an error: an integer, or a length. The length of null is -1. */
  number(): number | undefined {
    const { bytes } = this;
    let at = this.at + 1;
    const isNegative = bytes[at] === MINUS;
    if (isNegative) at += 1;
    let value = 0;
    for (; at + 1 < bytes.length; at += 1) {
      const byte = bytes[at] as number;
      if (byte === CR) {
        if (bytes[at + 1] !== LF) throw new ProtocolError('Redis sent a line that does not end in CRLF');
        this.at = at + 2;
        return isNegative ? -value : value;
      }
      const digit = byte - ZERO;
      if (digit < 0 || digit > 9) throw new ProtocolError(`Redis sent byte ${byte} in place of a digit`);
      value = value * 10 + digit;
    }
    return this.#wantMore();
  }

  /** The count of an array whose type has not been checked yet. */
  arrayLength(): number | undefined {
    const { type } = this;
    if (type === undefined) return undefined;
    if (type !== RESP.array) throw new ProtocolError(`Redis sent type ${type} in place of an array`);
    return this.number();
  }

  /** The length of a bulk string whose type has not been checked yet; {@link bulk} skips its content. */
  bulkLength(): number | undefined {
    const { type } = this;
    if (type === undefined) return undefined;
    if (type !== RESP.bulk) throw new ProtocolError(`Redis sent type ${type} in place of a bulk string`);
    return this.number();
  }

  /** Skips the content of a bulk string whose length has been read; returns the position at which the content begins. */
  bulk(length: number): number | undefined {
    const start = this.at;
    const end = start + length + 2;
    if (length < 0) throw new ProtocolError('Redis sent null in place of a bulk string');
    if (end > this.bytes.length) return this.#wantMore(end);
    if (this.bytes[end - 1] !== LF)
      throw new ProtocolError('Redis sent a bulk string of another length than announced');
    this.at = end;
    return start;
  }

  /** The text of a simple string or an error. */
  line(): string | undefined {
    const end = this.bytes.indexOf('\r\n', this.at);
    if (end === -1) return this.#wantMore();
    const text = this.bytes.toString('utf8', this.at + 1, end);
    this.at = end + 2;
    return text;
  }

  #wantMore(total = this.bytes.length + 1): undefined {
    this.wanted = total;
    return undefined;
  }
}
