const CR = 13;
const MINUS = 45;
const ZERO = 48;
const DOLLAR = 36;
const ASTERISK = 42;
const COLON = 58;
const PLUS = 43;

/** The first byte of a value of RESP2, which says what it is. */
export const RESP = Object.freeze({
  array: ASTERISK,
  bulk: DOLLAR,
  error: MINUS,
  integer: COLON,
  simple: PLUS,
});

const EMPTY = Buffer.alloc(0);

/**
 * Reads values of RESP2, the protocol of Redis, from bytes that may end anywhere. A method that finds its value incomplete
 * returns undefined, and {@link wanted} says how many bytes there have to be at least before it is worth trying again; where
 * reading stands is then of no meaning, and whoever reads goes back to a place of their own.
 */
export class RespReader {
  /** What is read. */
  bytes: Buffer = EMPTY;
  /** Where the next value begins. */
  at = 0;
  wanted = 0;

  /** The first byte of the next value. */
  get type(): number | undefined {
    if (this.at < this.bytes.length) return this.bytes[this.at];
    return this.#wantMore();
  }

  /** A length or an integer: the first line of anything but a text. -1 is the length of null. */
  number(): number | undefined {
    const { bytes } = this;
    let at = this.at + 1;
    const isNegative = bytes[at] === MINUS;
    if (isNegative) at += 1;
    let value = 0;
    for (; at + 1 < bytes.length; at += 1) {
      const byte = bytes[at] as number;
      if (byte === CR) {
        this.at = at + 2;
        return isNegative ? -value : value;
      }
      const digit = byte - ZERO;
      if (digit < 0 || digit > 9) throw new Error(`Redis sent byte ${byte} where a number should be`);
      value = value * 10 + digit;
    }
    return this.#wantMore();
  }

  /** Goes past the bytes of a bulk string whose length was read; returns where they begin. */
  bulk(length: number): number | undefined {
    const start = this.at;
    const end = start + length + 2;
    if (end > this.bytes.length) return this.#wantMore(end);
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

  /** Goes past a value, whatever it is. */
  passOver(): true | undefined {
    switch (this.type) {
      case undefined:
        return undefined;
      case RESP.simple:
      case RESP.error:
        return this.line() === undefined ? undefined : true;
      case RESP.integer:
        return this.number() === undefined ? undefined : true;
      case RESP.bulk: {
        const length = this.number();
        if (length === undefined) return undefined;
        return length < 0 || this.bulk(length) !== undefined ? true : undefined;
      }
      case RESP.array:
        return this.#passOverItems();
      default:
        throw new Error(`Redis sent a value of type ${this.bytes[this.at]}, which RESP2 does not have`);
    }
  }

  #passOverItems(): true | undefined {
    const count = this.number();
    if (count === undefined) return undefined;
    for (let item = 0; item < count; item += 1) if (!this.passOver()) return undefined;
    return true;
  }

  #wantMore(total = this.bytes.length + 1): undefined {
    this.wanted = total;
    return undefined;
  }
}
