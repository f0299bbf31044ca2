const CR = 13;
const LF = 10;
const ASTERISK = 42;
const DOLLAR = 36;
const COLON = 58;

/** A byte that frames values and is no content. */
export interface FramingByte {
  /** Its place in the chunk. */
  readonly at: number;
  /**
   * `type` is the first byte of a value; `digit` a byte of a length or an integer, its sign included; `last-digit` the last
   * one; `cr` and `lf` end that line; `end` is the last byte after the content of a bulk string.
   */
  readonly kind: 'type' | 'digit' | 'last-digit' | 'cr' | 'lf' | 'end';
  /** The first byte of its value. */
  readonly type: number;
}

/**
 * Follows the RESP2 values of one direction of a connection and tells framing from content. It reads no content, and expects
 * bytes that are valid: show it what a peer sent, not what a proxy made of it.
 */
export class RespFraming {
  /** Complete values that are no part of an array. */
  values = 0;
  #state: 'type' | 'number' | 'number-lf' | 'line' | 'content' = 'type';
  #type = 0;
  #number = '';
  /** Of a bulk string, with the line break behind it. */
  #contentLeft = 0;
  /** Values that are missing in each open array, the innermost last. */
  readonly #open: number[] = [];

  /** Reads a chunk; returns its framing bytes if they are wanted. */
  read(chunk: Buffer, wantsBytes: boolean): FramingByte[] {
    const found: FramingByte[] = [];
    const note = (at: number, kind: FramingByte['kind']): void => {
      if (wantsBytes) found.push({ at, kind, type: this.#type });
    };
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at] as number;
      switch (this.#state) {
        case 'type':
          this.#type = byte;
          this.#number = '';
          this.#state = [ASTERISK, DOLLAR, COLON].includes(byte) ? 'number' : 'line';
          note(at, 'type');
          break;
        case 'number':
          if (byte === CR) this.#state = 'number-lf';
          else this.#number += String.fromCharCode(byte);
          note(at, byte === CR ? 'cr' : chunk[at + 1] === CR ? 'last-digit' : 'digit');
          break;
        case 'number-lf':
          note(at, 'lf');
          this.#endNumber();
          break;
        case 'line':
          if (byte === LF) this.#endValue();
          break;
        case 'content': {
          const last = at + this.#contentLeft - 1;
          if (last >= chunk.length) {
            this.#contentLeft -= chunk.length - at;
            return found;
          }
          at = last;
          note(at, 'end');
          this.#endValue();
          break;
        }
      }
    }
    return found;
  }

  #endNumber(): void {
    const number = Number(this.#number);
    if (this.#type === DOLLAR && number >= 0) {
      this.#contentLeft = number + 2;
      this.#state = 'content';
    } else if (this.#type === ASTERISK && number > 0) {
      this.#open.push(number);
      this.#state = 'type';
    } else {
      this.#endValue();
    }
  }

  #endValue(): void {
    this.#state = 'type';
    while (this.#open.length > 0) {
      const left = (this.#open.pop() as number) - 1;
      if (left > 0) {
        this.#open.push(left);
        return;
      }
    }
    this.values += 1;
  }
}
