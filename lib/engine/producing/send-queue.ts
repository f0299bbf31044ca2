/** Properties of a message that decide how many go together. */
interface Sendable {
  /** Number of names and values. */
  readonly fieldCount: number;
  /** In bytes. */
  readonly size: number;
  /** Those with conditions are written by scripts of their own, and make batches of their own. */
  readonly conditions: object | undefined;
  readonly isUncertain?: boolean;
}

/** The lane over which a stream is written, as far as its queue knows it. */
export interface Lane {
  readonly name: string;
  readonly isIdle: boolean;
  /** Number of the oldest batch in flight; Infinity when there is none. */
  readonly oldestInFlight: number;
}

/** Messages of one stream that go out together. Those of a batch that must be repeated go out again as one batch. */
export interface Batch<T extends Sendable = Sendable> {
  readonly stream: SendQueue<T>;
  readonly entries: readonly T[];
  /** In bytes. */
  readonly size: number;
  /** Grows from batch to batch of a producer; a part of a batch has a fraction. */
  readonly number: number;
  /** Distance to the number of the next batch. */
  readonly span: number;
  /** Connections that ended while it, or the batch that it is a part of, was in flight. */
  readonly breaks: number;
  /** When the first of them had ended, on the monotonic clock. */
  readonly brokenAt: number;
  /** How many batches the lane had seen answered when it became suspect. */
  readonly answeredBefore: number;
  /** Whether it is a part of a batch that was split. */
  readonly isPart: boolean;
  /** Whether the server must revoke it before it can be split or sent again. */
  readonly mustRevoke: boolean;
}

/** Cuts a batch in two; one message stays together. The parts have new numbers, and stay before every later batch. */
export function partsOf<T extends Sendable>(batch: Batch<T>): Array<Batch<T>> {
  const middle = Math.ceil(batch.entries.length / 2);
  // Quarters are exact in binary, so no two parts ever share a number.
  const span = batch.span / 4;
  return [batch.entries.slice(0, middle), batch.entries.slice(middle)]
    .filter((entries) => entries.length > 0)
    .map((entries, index) => ({
      ...batch,
      ...sizeOf(entries),
      number: batch.number + span * (index + 1),
      span,
      isPart: batch.isPart || batch.entries.length > 1,
      mustRevoke: false,
    }));
}

function sizeOf<T extends Sendable>(entries: readonly T[]): { entries: readonly T[]; size: number } {
  return { entries, size: entries.reduce((sum, { size }) => sum + size, 0) };
}

const UNBROKEN = { breaks: 0, brokenAt: Infinity, answeredBefore: Infinity, isPart: false, mustRevoke: false } as const;

/** The batch with only these of its entries. */
export function withEntries<T extends Sendable>(batch: Batch<T>, entries: readonly T[]): Batch<T> {
  return { ...batch, ...sizeOf(entries) };
}

/** Redis before 7.0 answers a command of more than 1,048,576 parts by closing the connection. */
const MAX_PARTS = 1_000_000;

/** Bytes of a batch: a larger one would hold up the server, and all of its clients, for long. */
const MAX_BYTES = 8 * 1024 * 1024;

/** An entry's id, and the number of its fields. */
const PARTS_BESIDE_FIELDS = 2;

/** From here on the taken messages at the beginning of a queue are cut off. */
const CUT_FROM = 4_096;

/**
 * The messages of one stream that are not settled: those that wait, in order, and before them the batches that must be
 * repeated. It knows how many of its batches are in flight and over which lane, because all of them go over one connection:
 * only that keeps them in order.
 */
export class SendQueue<T extends Sendable> {
  readonly streamKey: string;
  #waiting: T[] = [];
  #head = 0;
  /** In their old order. */
  #repeats: Array<Batch<T>> = [];
  #mustRenumber = false;
  /** Batches that have been taken and are not back. */
  inFlight = 0;
  /** The lane of the batches in flight, or of the last ones. */
  lane: Lane | undefined;
  /** The lane in which it waits for its turn. */
  waitsIn: Lane | undefined;
  /** Another node serves the stream: nothing more is written until every batch in flight is back. */
  isHeld = false;
  /**
   * Its shard is closed, or its producer looks how many shards the stream has now: what waits may go to another shard, so that
   * nothing is written but what {@link mustAsk}.
   */
  isClosed = false;
  /** Redirections, and refusals for its slot alone, in a row. */
  redirections = 0;

  /** The stream that it is a shard of, where the number of shards may change. */
  readonly sharded: object | undefined;

  constructor(streamKey: string, sharded?: object) {
    this.streamKey = streamKey;
    this.sharded = sharded;
  }

  /** Whether a batch may be stored, and the server remembers it: only a repetition tells. */
  mustAsk(isRemembered: boolean): boolean {
    const isOpen = ({ isUncertain, conditions }: T): boolean =>
      isUncertain === true && (isRemembered || conditions !== undefined);
    return this.#repeats.some(({ entries }) => entries.some(isOpen));
  }

  /** The first of what waits. */
  peek(): T | undefined {
    return this.#repeats[0]?.entries[0] ?? this.#waiting[this.#head];
  }

  /** Everything that waits, in order; nothing is left. */
  takeAll(): T[] {
    const all = [...this.#repeats.flatMap(({ entries }) => entries), ...this.#waiting.slice(this.#head)];
    this.#repeats = [];
    this.#cut([]);
    return all;
  }

  get hasWork(): boolean {
    return this.#repeats.length > 0 || this.#head < this.#waiting.length;
  }

  /** Whether nothing of it is left that is not settled. */
  get isDone(): boolean {
    return this.inFlight === 0 && !this.hasWork;
  }

  push(entry: T): void {
    this.#waiting.push(entry);
  }

  /** Puts a batch back that goes before everything that waits. */
  repeat(batch: Batch<T>): void {
    const index = this.#repeats.findIndex(({ number }) => number > batch.number);
    if (index === -1) this.#repeats.push(batch);
    else this.#repeats.splice(index, 0, batch);
  }

  /** The server has revoked the numbers of all batches that were sent: those to repeat get new ones when the next is taken. */
  renumber(): void {
    this.#mustRenumber = true;
  }

  /** @param number the number of a new batch; repeated ones keep theirs, unless these were revoked */
  next(maxBatch: number, number: () => number): Batch<T> | undefined {
    if (this.#mustRenumber) {
      this.#repeats = this.#repeats.map((batch) => ({ ...batch, number: number(), span: 1 }));
      this.#mustRenumber = false;
    }
    const repeated = this.#repeats.shift();
    if (repeated) return repeated;
    if (this.#head === this.#waiting.length) return undefined;
    const { end, size } = this.#endOfBatch(maxBatch);
    const entries = this.#waiting.slice(this.#head, end);
    this.#head = end;
    if (this.#head === this.#waiting.length) this.#cut([]);
    else if (this.#head >= CUT_FROM && this.#head * 2 > this.#waiting.length)
      this.#cut(this.#waiting.slice(this.#head));
    return { stream: this, entries, size, number: number(), span: 1, ...UNBROKEN };
  }

  /** Number of the oldest batch that must be repeated. */
  get oldestRepeat(): number {
    return this.#repeats[0]?.number ?? Infinity;
  }

  #cut(waiting: T[]): void {
    this.#waiting = waiting;
    this.#head = 0;
  }

  /** Messages that are large or have many headers make a batch of fewer messages, of one at least. */
  #endOfBatch(maxBatch: number): { end: number; size: number } {
    const limit = Math.min(this.#waiting.length, this.#head + maxBatch);
    let end = this.#head;
    let parts = 0;
    let size = 0;
    const isPlain = this.#waiting[end]?.conditions === undefined;
    do {
      const entry = this.#waiting[end] as T;
      parts += entry.fieldCount + PARTS_BESIDE_FIELDS;
      if (end > this.#head && (parts > MAX_PARTS || size + entry.size > MAX_BYTES)) break;
      if ((entry.conditions === undefined) !== isPlain) break;
      size += entry.size;
      end += 1;
    } while (end < limit);
    return { end, size };
  }
}
