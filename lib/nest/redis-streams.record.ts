import { checkDeduplication, checkDue } from '../engine/messages/outgoing-message.js';
import type { Deduplication } from '../engine/messages/outgoing-message.js';
import { InvalidOptionError } from '../errors.js';
import { check } from '../shared/option-checks.js';
import type { StandardSchemaV1 } from './standard-schema.js';

/** How a record is stored and handled, beside its key and its time. */
export interface RecordDelivery {
  /** Of an event. */
  readonly expiresAt?: Date | undefined;
  /** Of a request, in milliseconds. */
  readonly timeout?: number | undefined;
  /** Of an event. */
  readonly deduplication?: Deduplication | undefined;
  /** Of an event, in milliseconds. */
  readonly delay?: number | undefined;
  /** Of an event. */
  readonly deliverAt?: Date | undefined;
}

/** Data with headers, a key or a time. Made by {@link RedisStreamsRecordBuilder}. */
export class RedisStreamsRecord<T = unknown> {
  /** The data that the handler receives. */
  readonly data: T;
  /** Headers that are stored beside the data. */
  readonly headers: Readonly<Record<string, string>>;
  /** Picks the shard, and the key queue of an ordered handler. */
  readonly key: string | undefined;
  /** Time of the entry; undefined: the clock of Redis. */
  readonly timestamp: Date | undefined;
  /** Time from which on an event is not handled any more; undefined: it does not expire. */
  readonly expiresAt: Date | undefined;
  /** Longest time without a reply to a request, in milliseconds; undefined: `requestTimeout` of the client. */
  readonly timeout: number | undefined;
  /** Id with which an event is stored only once. */
  readonly deduplication: Deduplication | undefined;
  /** Milliseconds for which an event waits before it is appended. */
  readonly delay: number | undefined;
  /** Time until which an event waits before it is appended. */
  readonly deliverAt: Date | undefined;
  #schema: StandardSchemaV1 | undefined;

  constructor(
    data: T,
    headers: Readonly<Record<string, string>> = {},
    key?: string,
    timestamp?: Date,
    { expiresAt, timeout, deduplication, delay, deliverAt }: RecordDelivery = {},
  ) {
    this.data = data;
    this.headers = headers;
    this.key = key;
    this.timestamp = timestamp;
    this.expiresAt = expiresAt;
    this.timeout = timeout;
    this.deduplication = deduplication;
    this.delay = delay;
    this.deliverAt = deliverAt;
  }

  /** The same data, to be checked before it is sent. @internal */
  static checkedBy(schema: StandardSchemaV1, data: unknown): RedisStreamsRecord {
    const plain = data instanceof RedisStreamsRecord ? data : new RedisStreamsRecord(data);
    const record = new RedisStreamsRecord(plain.data, plain.headers, plain.key, plain.timestamp, plain);
    record.#schema = schema;
    return record;
  }

  /** @internal */
  static schemaOf(record: RedisStreamsRecord): StandardSchemaV1 | undefined {
    return record.#schema;
  }
}

/**
 * Builds a record, which `emit` and `send` accept in place of the data.
 * @example
 * client.emit('orders', new RedisStreamsRecordBuilder(order).setKey(order.customer).setHeader('source', 'web').build());
 */
export class RedisStreamsRecordBuilder<T = unknown> {
  #data: T | undefined;
  #headers = new Map<string, string>();
  #key: string | undefined;
  #timestamp: Date | undefined;
  #delivery: RecordDelivery = {};

  constructor(data?: T) {
    this.#data = data;
  }

  /** Replaces the data. */
  setData(data: T): this {
    this.#data = data;
    return this;
  }

  /**
   * Replaces all headers; undefined is none. To pass on those of a message, give it `context.getMetadata()`.
   * @throws InvalidOptionError unless every value is a string
   */
  setHeaders(headers: Readonly<Record<string, string>> | undefined): this {
    this.#headers = new Map();
    for (const [name, value] of Object.entries(headers ?? {})) this.setHeader(name, value);
    return this;
  }

  /** Adds a header, or replaces its value. @throws InvalidOptionError unless the name is a non-empty string and the value a string */
  setHeader(name: string, value: string): this {
    if (typeof name !== 'string' || name === '') throw new InvalidOptionError('header', 'must have a name', name);
    if (typeof value !== 'string') throw new InvalidOptionError(`headers.${name}`, 'must be a string', value);
    this.#headers.set(name, value);
    return this;
  }

  /**
   * The subject of the message, a customer's id for instance: picks the shard, and the key queue of an ordered handler.
   * @throws InvalidOptionError unless it is a string
   */
  setKey(key: string): this {
    if (typeof key !== 'string') throw new InvalidOptionError('key', 'must be a string', key);
    this.#key = key;
    return this;
  }

  /** The time of the entry; must not be before the last entry of the stream. @throws InvalidOptionError for an invalid date */
  setTimestamp(timestamp: Date): this {
    checkDate('timestamp', timestamp);
    this.#timestamp = timestamp;
    return this;
  }

  /**
   * The time from which on the event is not handled any more, by the clock of Redis. A server that reads it later acknowledges
   * it without a call of its handler, and emits `expired`. For events only.
   * @throws InvalidOptionError
   */
  setExpiresAt(expiresAt: Date): this {
    checkDate('expiresAt', expiresAt);
    this.#delivery = { ...this.#delivery, expiresAt };
    return this;
  }

  /**
   * Longest time without a reply, in milliseconds, in place of the client's `requestTimeout`. The server does not execute the
   * request later, and aborts the signal of its handler. At least 1. For requests only.
   * @throws InvalidOptionError
   */
  setTimeout(timeout: number): this {
    check.time('timeout', timeout, 1);
    this.#delivery = { ...this.#delivery, timeout };
    return this;
  }

  /**
   * The event is stored once, however many are emitted to its pattern with this id: all of them get the receipt of the first.
   * For events only.
   * @param id 1 to 512 characters, for example the id of a row of an outbox
   * @param options `within`: for how long after the first, in milliseconds by the clock of Redis, at most 7 days
   * @throws InvalidOptionError
   */
  setDeduplicationId(id: string, options: Pick<Deduplication, 'within'>): this {
    const deduplication = { ...options, id };
    checkDeduplication(deduplication);
    this.#delivery = { ...this.#delivery, deduplication };
    return this;
  }

  /**
   * The event waits in Redis for so many milliseconds before it is appended to its stream; `emit` completes when it is scheduled.
   * At least 0, at most 100 years. It replaces {@link setDeliverAt} and excludes {@link setTimestamp}. For events only.
   * @throws InvalidOptionError
   * @example
   * ```ts
   * client.emit('reminders', new RedisStreamsRecordBuilder(reminder).setDelay(60_000).build());
   * ```
   */
  setDelay(delay: number): this {
    checkDue({ delay });
    this.#delivery = { ...this.#delivery, delay, deliverAt: undefined };
    return this;
  }

  /**
   * The event waits in Redis until this time, by the clock of Redis; when that has passed, it is appended at once. It replaces
   * {@link setDelay} and excludes {@link setTimestamp}. For events only.
   * @throws InvalidOptionError
   */
  setDeliverAt(deliverAt: Date): this {
    checkDue({ deliverAt });
    this.#delivery = { ...this.#delivery, deliverAt, delay: undefined };
    return this;
  }

  /** Makes the record; the builder can be changed afterwards and used again. */
  build(): RedisStreamsRecord<T> {
    // fromEntries defines properties: a header called __proto__ becomes one, too.
    const headers = Object.fromEntries(this.#headers);
    return new RedisStreamsRecord(this.#data as T, headers, this.#key, this.#timestamp, this.#delivery);
  }
}

/** @throws InvalidOptionError */
function checkDate(name: string, date: Date): void {
  if (date instanceof Date && date.getTime() >= 0) return;
  throw new InvalidOptionError(name, 'must be a valid Date from 1970 on', date);
}
