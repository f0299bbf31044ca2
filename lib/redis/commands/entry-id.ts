import { MAX_ID_MILLISECONDS, MAX_SEQUENCE_IN_MILLISECOND } from '../../constants.js';
import { InvalidOptionError, SequenceOverflowError } from '../../errors.js';

/** What the times in ids are counted in: milliseconds, as by Redis itself, or nanoseconds. */
export type TimestampFormat = 'ms' | 'ns';

/** The two 64-bit halves of an entry id. */
export interface EntryIdParts {
  readonly milliseconds: bigint;
  readonly counter: bigint;
}

const ENTRY_ID = /^(\d{1,20})(?:-(\d{1,20}))?$/;
/** The last time of a Date. As nanoseconds it is in April 1970. */
const MAX_DATE = 8.64e15;
/** The first time that is taken for nanoseconds, by us and by scripts: with an earlier id, a stream counts as one with milliseconds. */
export const FIRST_NANOSECONDS = BigInt(MAX_DATE) + 1n;
/** The last time in nanoseconds that programs can have, who count them in 64 bits with a sign: in April 2262. */
const MAX_NANOSECONDS = 2 ** 63;
/** In a millisecond. */
const NANOSECONDS = 1_000_000n;
const MAX_UINT64 = 0xffff_ffff_ffff_ffffn;
const MAX_SEQUENCE = (MAX_UINT64 << 16n) | MAX_SEQUENCE_IN_MILLISECOND;

/** Parses `ms-seq` or `ms` (then the counter is 0); undefined when the text is no entry id. */
export function parseEntryId(id: string): EntryIdParts | undefined {
  const match = ENTRY_ID.exec(id);
  if (!match) return undefined;
  const milliseconds = BigInt(match[1] as string);
  const counter = BigInt(match[2] ?? '0');
  return milliseconds <= MAX_UINT64 && counter <= MAX_UINT64 ? { milliseconds, counter } : undefined;
}

export function isEntryId(id: string): boolean {
  return parseEntryId(id) !== undefined;
}

/** Negative when `a` comes before `b`, 0 when equal, positive otherwise. Both must be entry ids. */
export function compareEntryIds(a: string, b: string): number {
  const left = requireEntryId(a);
  const right = requireEntryId(b);
  return compare(left.milliseconds, right.milliseconds) || compare(left.counter, right.counter);
}

/**
 * The id directly behind `id`; used where a server has no exclusive ranges (before Redis 6.2). Undefined behind the last id
 * there can be: a foreign writer may have used it, and Redis refuses a range that begins behind it.
 */
export function nextEntryId(id: string): string | undefined {
  const { milliseconds, counter } = requireEntryId(id);
  if (counter < MAX_UINT64) return `${milliseconds}-${counter + 1n}`;
  return milliseconds < MAX_UINT64 ? `${milliseconds + 1n}-0` : undefined;
}

/** What the times of a stream are counted in, by one of its ids. */
export function timestampFormatOf(id: string): TimestampFormat {
  return isNanoseconds(Number.parseInt(id, 10)) ? 'ns' : 'ms';
}

/** The first part of ids from a millisecond on; by itself it is the first of them, wherever an id is taken. */
export function timeInIds(milliseconds: number, format: TimestampFormat): string {
  return String(format === 'ns' ? BigInt(milliseconds) * NANOSECONDS : milliseconds);
}

/** The last id that a millisecond can have: what comes behind it is of a later time. */
export function lastIdOfMillisecond(milliseconds: number, format: TimestampFormat): string {
  const time = format === 'ns' ? (BigInt(milliseconds) + 1n) * NANOSECONDS - 1n : milliseconds;
  return `${time}-${MAX_UINT64}`;
}

/** Milliseconds since the epoch, rounded to what a number holds exactly. */
export function entryIdTime(id: string): number {
  const time = Number.parseInt(id, 10);
  return isNanoseconds(time) ? Number(requireEntryId(id).milliseconds / NANOSECONDS) : time;
}

/** Whether the first part of an id has nanoseconds: sea-streamer can write those, and in milliseconds they would be no time. */
function isNanoseconds(time: number): boolean {
  return time > MAX_DATE && time < MAX_NANOSECONDS;
}

/**
 * `time << 16 | counter`, the sequence number of sea-streamer: 64 bits with milliseconds, 80 with nanoseconds.
 * @throws SequenceOverflowError when the id does not fit.
 */
export function entryIdSequence(id: string, format: TimestampFormat = 'ms'): bigint {
  const { milliseconds: time, counter } = requireEntryId(id);
  const maxTime = format === 'ns' ? MAX_UINT64 : MAX_ID_MILLISECONDS;
  if (counter > MAX_SEQUENCE_IN_MILLISECOND || time > maxTime) throw new SequenceOverflowError(id);
  return (time << 16n) | counter;
}

/** The id whose {@link entryIdSequence} this is. @throws InvalidOptionError */
export function entryIdOfSequence(sequence: bigint): string {
  if (typeof sequence !== 'bigint' || sequence < 0n || sequence > MAX_SEQUENCE) {
    throw new InvalidOptionError('sequence', 'must be a bigint, as of message.sequence', sequence);
  }
  return `${sequence >> 16n}-${sequence & MAX_SEQUENCE_IN_MILLISECOND}`;
}

/** The id directly before `id`; undefined before `0-0`. */
function previousEntryId(id: string): string | undefined {
  const { milliseconds, counter } = requireEntryId(id);
  if (counter > 0n) return `${milliseconds}-${counter - 1n}`;
  return milliseconds > 0n ? `${milliseconds - 1n}-${MAX_UINT64}` : undefined;
}

/**
 * Between the id of an entry, `ms-seq`, and the number that sea-streamer has in its place, `ms << 16 | seq`; and from one id to
 * another, for pages of a range.
 * @example
 * ```ts
 * const page = await manager.range('orders', '-', '+', { count: 100 });
 * const next = await manager.range('orders', entryId.next(page.at(-1).id), '+', { count: 100 });
 * ```
 */
export const entryId = Object.freeze({
  /** The id of a sequence. @throws InvalidOptionError unless it is a bigint from 0 on that an id can have */
  fromSequence(sequence: bigint): string {
    return entryIdOfSequence(sequence);
  },
  /**
   * The sequence of an id.
   * @throws InvalidOptionError when it is no entry id; SequenceOverflowError when its time has over 48 bits, or its counter over 16
   */
  toSequence(id: string): bigint {
    return entryIdSequence(checkedId('id', id));
  },
  /** Whether a text is an entry id: `ms-seq`, or `ms`, which stands for `ms-0`. */
  isValid(id: string): boolean {
    return typeof id === 'string' && isEntryId(id);
  },
  /** Negative when `one` comes before `other`, 0 when they are equal, positive otherwise. @throws InvalidOptionError */
  compare(one: string, other: string): number {
    return compareEntryIds(checkedId('one', one), checkedId('other', other));
  },
  /** The lowest id behind another; undefined behind the last id that there can be. @throws InvalidOptionError */
  next(id: string): string | undefined {
    return nextEntryId(checkedId('id', id));
  },
  /** The highest id before another; undefined before `0-0`. @throws InvalidOptionError */
  previous(id: string): string | undefined {
    return previousEntryId(checkedId('id', id));
  },
});

function checkedId(name: string, id: string): string {
  if (typeof id === 'string' && isEntryId(id)) return id;
  throw new InvalidOptionError(name, "must be an entry id 'ms-seq'", id);
}

function requireEntryId(id: string): EntryIdParts {
  const parts = parseEntryId(id);
  if (!parts) throw new TypeError(`'${id}' is not an entry id`);
  return parts;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
