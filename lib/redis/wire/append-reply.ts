import type { ReplyHandler } from './reply-handler.js';
import { ProtocolError, ReplyError, RESP } from './resp-reader.js';
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
      const outcome = readOutcome(reader, wantsIds);
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
}

/** The id, or '' when no caller wants it. */
function readOutcome(reader: RespReader, wantsId: boolean): string | Error | undefined {
  const { type } = reader;
  if (type === undefined) return undefined;
  if (type === RESP.bulk) {
    const length = reader.number();
    const at = length === undefined ? undefined : reader.bulk(length);
    if (length === undefined || at === undefined) return undefined;
    return wantsId ? reader.bytes.toString('latin1', at, at + length) : '';
  }
  if (type !== RESP.error) throw new ProtocolError(`Redis answered XADD with type ${type} in place of an id`);
  const text = reader.line();
  return text === undefined ? undefined : new ReplyError(text);
}
