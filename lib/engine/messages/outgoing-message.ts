import { HEADER_PREFIX } from '../../constants.js';
import { InvalidOptionError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import type { AppendConditions, AppendRequest } from '../../redis/commands/stream-commands.js';
import type { FollowedOperation } from '../telemetry/guarded-telemetry.js';
import type { SendOutcome } from '../telemetry/telemetry.js';
import { timeInIds, timestampFormatOf } from '../../redis/commands/entry-id.js';
import type { TimestampFormat } from '../../redis/commands/entry-id.js';
import { check, optionNames } from '../../shared/option-checks.js';
import { delayedId, parseDelayedId } from './delayed-id.js';
import { Receipt } from './receipt.js';

/** A message's content: stored as it is, never wrapped. */
export type Payload = string | Uint8Array;

/** Options of one message. */
export interface SendOptions {
  /**
   * Becomes the time of the entry's id. Must not be before the stream's last entry.
   * @defaultValue the server's clock
   */
  timestamp?: Date;
  /**
   * Picks the shard with {@link KeyHashSharder}. It is not stored.
   * @defaultValue none
   */
  key?: string;
  /**
   * Stored beside the payload, each in a field `h:<name>`.
   * @defaultValue none
   */
  headers?: Record<string, string>;
  /**
   * Stores the message once, however many sends have this id: all of them get the receipt of the first. Needs scripts. In a
   * stream with shards a shard is chosen by `key`, and without one by this id; the same id in two shards is stored twice.
   * @defaultValue none
   */
  deduplication?: Deduplication;
  /**
   * Milliseconds for which the message waits beside the stream before it is appended, by the clock of Redis. It gets its id and
   * its time then. At least 0, at most 3,153,600,000,000 (100 years). Needs scripts. Excludes `timestamp` and `deliverAt`.
   * @defaultValue none
   */
  delay?: number;
  /**
   * The time until which it waits, by the clock of Redis; in the past: appended at once. Excludes `timestamp` and `delay`.
   * @defaultValue none
   */
  deliverAt?: Date;
}

/** An id that the caller gives to a message, to recognise it when it is sent again. */
export interface Deduplication {
  /** Unique in its stream: the number of an order, or the id of a row of an outbox. 1 to 512 characters. */
  id: string;
  /**
   * For how long after the first send others with its id are not stored, in milliseconds by the clock of Redis. It costs one
   * small key for each id. 1 to 604,800,000 (7 days).
   */
  within: number;
}

const SEND_OPTIONS = optionNames<SendOptions>({
  timestamp: true,
  key: true,
  headers: true,
  deduplication: true,
  delay: true,
  deliverAt: true,
});
const DEDUPLICATION = optionNames<Deduplication>({ id: true, within: true });

const MAX_DEDUPLICATION_ID = 512;
/** Milliseconds: 7 days. */
const MAX_DEDUPLICATION_WINDOW = 7 * 24 * 3_600_000;
/** Milliseconds: 100 years. */
const MAX_DELAY = 100 * 365 * 24 * 3_600_000;

/**
 * Checks the names of the options, `key`, `deduplication`, `delay` and `deliverAt`; {@link entryIdFor} and {@link headerFields} check
 * the others. @throws InvalidOptionError
 */
export function checkSendOptions(options: SendOptions): void {
  if (typeof options !== 'object') check.object('options', options);
  // Makes no list of the names: this runs for each message.
  for (const name in options) if (!SEND_OPTIONS.has(name)) check.options('', options, SEND_OPTIONS);
  const { key, headers } = options;
  if (key !== undefined && typeof key !== 'string') throw new InvalidOptionError('key', 'must be a string', key);
  if (headers !== undefined && typeof headers !== 'object') check.object('headers', headers);
  if (options.deduplication !== undefined) checkDeduplication(options.deduplication);
  if (options.delay !== undefined || options.deliverAt !== undefined) checkDue(options);
}

/** @throws InvalidOptionError */
export function checkDue({
  delay,
  deliverAt,
  timestamp,
}: Pick<SendOptions, 'delay' | 'deliverAt' | 'timestamp'>): void {
  if (delay !== undefined) check.integer('delay', delay, 0, MAX_DELAY);
  if (deliverAt !== undefined) check.date('deliverAt', deliverAt);
  if (delay !== undefined && deliverAt !== undefined)
    throw new InvalidOptionError('deliverAt', 'cannot be combined with delay', deliverAt);
  if (timestamp === undefined) return;
  const rule = 'cannot be combined with timestamp: a delayed message gets its time when it is appended';
  throw new InvalidOptionError(delay === undefined ? 'deliverAt' : 'delay', rule, delay ?? deliverAt);
}

/** @throws InvalidOptionError */
export function checkDeduplication(deduplication: Deduplication): void {
  check.options('deduplication', deduplication, DEDUPLICATION);
  const { id, within } = deduplication;
  check.name('deduplication.id', id);
  if (id.length > MAX_DEDUPLICATION_ID) {
    const rule = `must have at most ${MAX_DEDUPLICATION_ID} characters`;
    throw new InvalidOptionError('deduplication.id', rule, `${id.slice(0, 20)}…`);
  }
  check.integer('deduplication.within', within, 1, MAX_DEDUPLICATION_WINDOW);
}

/** Called once with the outcome of a message: undefined when Redis has it, otherwise the reason why not. */
export type OnSettled = (failure: RedisStreamsError | undefined) => void;

/** A stream of which a producer knows how many shards it has now. */
export interface ShardedStream {
  readonly streamKey: string;
}

/** Where a message of a producer with a sharder goes. */
export interface ShardRoute {
  readonly streamKey: string;
  readonly shardId: number;
  /** Undefined where the number of shards is fixed. */
  readonly sharded: ShardedStream | undefined;
  /** By which its shard is chosen again, when the number of shards has changed. */
  readonly key: string | undefined;
}

/** The id and the conditions of a message that has any. */
export interface MessageTerms {
  /** `*`, `<ms>-*` or a complete id. */
  readonly id: string;
  readonly conditions: AppendConditions | undefined;
}

/** The messages that were pushed between two flushes. */
export interface FlushRound {
  open: number;
}

/** The messages of one round that were pushed before the same distribution. */
export interface PushTurn {
  readonly round: FlushRound;
  /** End of their repetitions, on the monotonic clock. */
  readonly deadline: number;
}

/** What all messages of a producer have in common. */
export interface MessageSender {
  /** The field of the payload. */
  readonly messageField: string;
  readonly timestampFormat: TimestampFormat;
  /** Whether its errors have receipts, so that each message needs its id. */
  readonly waitsForReplicas: boolean;
  /** The stream has ids in nanoseconds and the producer does not: Redis gave its entry the time of the last id. */
  readonly onNanoseconds: (streamKey: string) => void;
  /** A send failed, and its promise has no handler. */
  readonly onUnobserved: (error: RedisStreamsError) => void;
}

/**
 * One message on its way to Redis. The producer creates it, the write pipeline keeps its own notes on it and settles it
 * exactly once.
 *
 * It is one object of few fields, because at some hundred thousand messages a second most of the work is copying what waits
 * from one generation of the heap to the next: what is rare or shared is in an object of its own.
 */
export abstract class OutgoingMessage implements AppendRequest {
  readonly sender: MessageSender;
  /** The key of the stream or shard. */
  streamKey: string;
  readonly payload: Payload;
  /** Memory that the message takes while it waits, in bytes. */
  readonly size: number;
  /** Names and values of the other fields, in turn. */
  more: readonly Payload[] | undefined = undefined;
  terms: MessageTerms | undefined = undefined;
  /** Undefined without a sharder. */
  route: ShardRoute | undefined = undefined;
  /** Its operation in traces and metrics. */
  operation: FollowedOperation<SendOutcome> | undefined = undefined;
  /** Set by the pipeline. */
  turn: PushTurn | undefined = undefined;
  /** An append was sent and its reply was lost, so the message may be in the stream already. */
  isUncertain = false;

  constructor(sender: MessageSender, key: string, payload: Payload, size: number) {
    this.sender = sender;
    this.streamKey = key;
    this.payload = payload;
    this.size = size;
  }

  get id(): string {
    return this.terms?.id ?? '*';
  }

  get conditions(): AppendConditions | undefined {
    return this.terms?.conditions;
  }

  get sharded(): ShardedStream | undefined {
    return this.route?.sharded;
  }

  /** Made when it is sent, so that no message has an array while it waits. */
  get fields(): AppendRequest['fields'] {
    const { sender, payload, more } = this;
    return more ? [sender.messageField, payload, ...more] : [sender.messageField, payload];
  }

  get fieldCount(): number {
    return 2 + (this.more?.length ?? 0);
  }

  /** It goes to another shard. */
  moveTo(key: string, shardId: number): void {
    this.streamKey = key;
    if (this.route) this.route = { ...this.route, shardId };
  }

  /** Of the entry, or of the delayed message, with that id. */
  receiptOf(id: string): Receipt {
    const { streamKey: stream, shardId } = this.route ?? { streamKey: this.streamKey, shardId: 0 };
    const { timestampFormat } = this.sender;
    const delayed = this.conditions && parseDelayedId(id);
    if (!delayed) return new Receipt(stream, shardId, id, undefined, timestampFormat);
    const { token, due } = delayed;
    const shard = this.streamKey === stream ? undefined : shardId;
    return new Receipt(stream, shardId, delayedId({ token, due, shardId: shard }), new Date(due), timestampFormat);
  }

  /** Whether the caller needs the entry's id. */
  abstract get wantsId(): boolean;
  abstract accepted(id: string): void;
  abstract failed(error: RedisStreamsError): void;
}

/** A message whose id no caller needs. */
export class MessageWithoutReceipt extends OutgoingMessage {
  readonly onSettled: OnSettled;

  constructor(sender: MessageSender, key: string, payload: Payload, size: number, onSettled: OnSettled) {
    super(sender, key, payload, size);
    this.onSettled = onSettled;
  }

  get wantsId(): boolean {
    return this.sender.waitsForReplicas;
  }

  accepted(): void {
    this.onSettled(undefined);
  }

  failed(error: RedisStreamsError): void {
    this.onSettled(error);
  }
}

/** Characters of `1700000000123-999999`: a longer id has nanoseconds, or over a million entries in its millisecond. */
const LONG_ID = 20;

/** Takes the outcome of one message. */
export interface OutcomeTaker {
  accepted(receipt: Receipt): void;
  /** @param onUnobserved called with the error if no handler or subscriber observes it */
  failed(error: RedisStreamsError, onUnobserved: (error: RedisStreamsError) => void): void;
}

/** A message whose sender wants the receipt. */
export class MessageWithReceipt extends OutgoingMessage {
  readonly taker: OutcomeTaker;

  constructor(sender: MessageSender, key: string, payload: Payload, size: number, taker: OutcomeTaker) {
    super(sender, key, payload, size);
    this.taker = taker;
  }

  get wantsId(): boolean {
    return true;
  }

  accepted(id: string): void {
    const receipt = this.receiptOf(id);
    const isForeign =
      id.length > LONG_ID && !receipt.deliverAt && timestampFormatOf(id) !== this.sender.timestampFormat;
    if (isForeign) this.sender.onNanoseconds(this.streamKey);
    this.taker.accepted(receipt);
  }

  failed(error: RedisStreamsError): void {
    this.taker.failed(error, this.sender.onUnobserved);
  }
}

/** Size of a payload in Redis, in bytes. @throws InvalidOptionError */
export function bytesOf(payload: Payload): number {
  if (typeof payload === 'string') return Buffer.byteLength(payload);
  if (payload instanceof Uint8Array) return payload.length;
  throw new InvalidOptionError('payload', 'must be a string or a Uint8Array', payload);
}

/** Bytes of the largest argument of a message: the server limits each, not their sum. */
export function largestPart({ payload, more = [] }: OutgoingMessage): number {
  return more.reduce((largest, part) => Math.max(largest, bytesOf(part)), bytesOf(payload));
}

/** Memory of a payload while it waits: a string with a character outside of Latin-1 has two bytes for each character. */
export function heldBytes(payload: Payload, bytes: number): number {
  return bytes === payload.length ? bytes : Math.max(bytes, 2 * payload.length);
}

/** Names of headers are few; one string for each, in place of a new one for each message, is compared by identity. */
const MAX_KEPT_NAMES = 1_000;
const fieldNames = new Map<string, string>();

/** The field in which a header is stored. */
function fieldOf(header: string): string {
  let field = fieldNames.get(header);
  if (field === undefined) {
    field = HEADER_PREFIX + header;
    if (fieldNames.size < MAX_KEPT_NAMES) fieldNames.set(header, field);
  }
  return field;
}

/** The fields of headers, names and values in turn. @throws InvalidOptionError */
export function headerFields(headers: Record<string, string>): string[] {
  const fields: string[] = [];
  for (const name of Object.keys(headers)) {
    const value = headers[name];
    if (typeof value !== 'string') throw new InvalidOptionError(`headers.${name}`, 'must be a string', value);
    fields.push(fieldOf(name), value);
  }
  return fields;
}

/** Approximate size of header fields in bytes. */
export function lengthOf(fields: readonly string[]): number {
  return fields.reduce((sum, { length }) => sum + length, 0);
}

/** The id that a message asks for. @throws InvalidOptionError */
export function entryIdFor(timestamp: Date | undefined, format: TimestampFormat): string {
  if (timestamp === undefined) return '*';
  check.date('timestamp', timestamp);
  const time = timeInIds(timestamp.getTime(), format);
  if (timestampFormatOf(time) === format) return `${time}-*`;
  const rule =
    'must be between April 1970 and April 2262 where ids have nanoseconds, or it could be milliseconds as well';
  throw new InvalidOptionError('timestamp', rule, timestamp);
}
