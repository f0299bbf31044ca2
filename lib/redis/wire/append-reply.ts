import type { ReplyHandler } from './reply-handler.js';
import { ValueDecoder } from './reply-handler.js';
import { ProtocolError, ReplyError, RESP, UnexpectedReply } from './resp-reader.js';
import type { RespReader } from './resp-reader.js';

/**
 * The outcome of each entry of a batch: its id, or an error of the server or of the connection. Undefined when all were
 * appended and no caller wants the ids.
 */
export type AppendOutcomes = ReadonlyArray<string | Error> | undefined;

/**
 * The replies to a batch of XADDs. When the connection ends in the middle, the ids that were read are confirmed and the
 * remaining entries have the connection's error. The promise never rejects.
 */
export class AppendReply implements ReplyHandler {
  readonly promise: Promise<AppendOutcomes>;
  readonly #size: number;
  readonly #wantsIds: boolean;
  #read = 0;
  /** Without ids to keep, an array is made for the first error only. */
  #outcomes: Array<string | Error> | undefined;
  #resolve!: (outcomes: AppendOutcomes) => void;

  constructor(size: number, wantsIds: boolean) {
    this.#size = size;
    this.#wantsIds = wantsIds;
    if (wantsIds) this.#outcomes = [];
    this.promise = new Promise((resolve) => (this.#resolve = resolve));
  }

  read(reader: RespReader): boolean {
    const wantsIds = this.#wantsIds;
    for (; this.#read < this.#size; this.#read += 1) {
      const start = reader.at;
      const outcome = this.#readOutcome(reader, wantsIds);
      if (outcome === undefined) {
        reader.at = start;
        return false;
      }
      if (typeof outcome !== 'string') this.#startOutcomes();
      this.#outcomes?.push(outcome);
    }
    return true;
  }

  complete(): void {
    this.#resolve(this.#outcomes);
  }

  lost(error: Error): void {
    const outcomes = this.#startOutcomes();
    while (outcomes.length < this.#size) outcomes.push(error);
    this.#resolve(outcomes);
  }

  #startOutcomes(): Array<string | Error> {
    return (this.#outcomes ??= Array<string>(this.#read).fill(''));
  }

  #readOutcome(reader: RespReader, wantsId: boolean): string | Error | undefined {
    const { type, at: start } = reader;
    if (type === RESP.bulk) {
      const length = reader.number();
      if (length === undefined) return undefined;
      if (length < 0) return unexpectedReply(null);
      const at = reader.bulk(length);
      if (at === undefined) return undefined;
      // An id begins with a digit; anything else comes from a proxy.
      if (!isDigit(reader.bytes[at])) return unexpectedReply('text');
      return wantsId ? reader.bytes.toString('latin1', at, at + length) : '';
    }
    if (type === undefined) return undefined;
    if (type === RESP.error) {
      const text = reader.line();
      return text === undefined ? undefined : new ReplyError(text);
    }
    if (type === RESP.integer || type === RESP.simple || type === RESP.array) return readUnexpected(reader);
    // A push or another type of RESP3 is no reply in RESP2: from here on it is open which reply belongs to which entry.
    reader.at = start;
    this.#startOutcomes().push(new UnexpectedReply(`Redis answered XADD with type ${type}, which RESP2 does not have`));
    this.#read += 1;
    throw new ProtocolError(`Redis sent a value of type ${type}, which RESP2 does not have`);
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

/** Read from its beginning each time: it is short, and no server sends it. */
function readUnexpected(reader: RespReader): Error | undefined {
  const decoder = new ValueDecoder('utf8');
  return decoder.read(reader) ? unexpectedReply(decoder.value) : undefined;
}

/** The error for a value that came in place of an id. */
export function unexpectedReply(value: unknown): Error {
  const found = value === null ? 'null' : Array.isArray(value) ? 'an array' : `a ${typeof value}`;
  return new UnexpectedReply(`Redis answered XADD with ${found} in place of an id`);
}

/** The id, or the error of the entry, for a reply that was read as a value. */
export function outcomeOf(reply: unknown): string | Error {
  if (reply instanceof Error) return reply;
  return typeof reply === 'string' && isDigit(reply.charCodeAt(0)) ? reply : unexpectedReply(reply);
}
