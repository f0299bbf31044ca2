import { BaseRpcContext } from '@nestjs/microservices';

import { check, optionNames } from '../shared/option-checks.js';
import { REDRIVE_GROUP_HEADER } from '../engine/admin/redrive.js';
import { DEAD_LETTER_HEADERS } from '../engine/settling/dead-letter.js';
import type { AbortReason } from '../errors.js';
import type { StreamMessage } from '../engine/messages/stream-message.js';
import type { Settlement } from '../engine/settling/settlement.js';
import { EXPIRES_AT_HEADER } from './deadlines.js';
import { KEY_HEADER } from '../constants.js';
import { REQUEST_HEADERS, requestInfoOf } from './requests/request-headers.js';
import { ACKNOWLEDGED, LEFT_PENDING, deadLetter, retryOrDeadLetter } from './server/failure-policy.js';
import type { HandlerBinding } from './server/handler-binding.js';

/** One delivery of a message. The engine makes it; `createContext` of a server passes it to the context's constructor. */
export interface MessageDelivery {
  /** The message. */
  readonly message: StreamMessage;
  /** @internal Undefined until the message is settled. */
  readonly settlement: Settlement | undefined;
  /** @internal False when the message was settled before. */
  settle(settlement: Settlement): boolean;
  /** @internal The error with which the handler failed. */
  failure: unknown;
  /** @internal It was read after its time, and reached no handler. */
  isExpired: boolean;
  /** @internal */
  readonly signal: AbortSignal;
  /** @internal */
  readonly abortReason: AbortReason | undefined;
  /** @internal */
  abort(reason: AbortReason): void;
  /** @internal On the monotonic clock. */
  set deadline(deadline: number | undefined);
}

/** The part of a context that the messages of one pattern have in common. The server makes it. */
export interface ContextScope {
  /** Pattern of the handlers. */
  readonly pattern: string;
  /** Undefined in real-time mode. */
  readonly group: string | undefined;
  /** Undefined in real-time mode. */
  readonly consumer: string | undefined;
  /** @internal */
  readonly binding: HandlerBinding;
  /** @internal False where nothing is pending on the server: neither a retry nor a dead letter is possible. */
  readonly canRetry: boolean;
  /** @internal In place of a dead letter, the shard of a message that failed for good is halted. */
  readonly haltsShard: boolean;
  /** @internal */
  commit(): Promise<void>;
  /** @internal Reports a settlement that has no effect. */
  onIgnored(message: StreamMessage, attempted: string, reason: string): void;
}

const RETRY_REQUEST = optionNames<{ delay?: number }>({ delay: true });

/** Headers that this package adds to those of the sender. */
const OWN_HEADERS: ReadonlySet<string> = new Set([
  ...Object.values(DEAD_LETTER_HEADERS),
  KEY_HEADER,
  EXPIRES_AT_HEADER,
  REDRIVE_GROUP_HEADER,
]);
const OWN_REQUEST_HEADERS: ReadonlySet<string> = new Set([...OWN_HEADERS, ...Object.values(REQUEST_HEADERS)]);

/**
 * The message that a handler was given, and the ways to settle it.
 * @example
 * ```ts
 * @StreamEventPattern('orders', { ack: 'manual' })
 * async handle(order: Order, context: RedisStreamsContext) {
 *   await this.orders.save(order, { signal: context.getSignal() });
 *   context.ack();
 * }
 * ```
 */
export class RedisStreamsContext extends BaseRpcContext<[message: StreamMessage, pattern: string]> {
  readonly #delivery: MessageDelivery;
  readonly #scope: ContextScope;
  #isAnswered = false;

  constructor(delivery: MessageDelivery, scope: ContextScope) {
    super([delivery.message, scope.pattern]);
    this.#delivery = delivery;
    this.#scope = scope;
  }

  /** @internal */
  static deliveryOf(context: RedisStreamsContext): MessageDelivery {
    return context.#delivery;
  }

  /** A request is answered now: it can neither be retried nor become a dead letter. @internal */
  static beginAnswer(context: RedisStreamsContext): void {
    context.#isAnswered = true;
  }

  /** @internal */
  static scopeOf(context: RedisStreamsContext): ContextScope {
    return context.#scope;
  }

  /** The entry itself. */
  getMessage(): StreamMessage {
    return this.#delivery.message;
  }

  /** The stream's key, without a shard's number. */
  getStream(): string {
    return this.getMessage().streamKey;
  }

  /** 0 when the stream is not sharded. */
  getShard(): number {
    return this.getMessage().shardId;
  }

  /**
   * With `shardOwnership: 'owned'`: rises with every owner of the shard, see {@link StreamMessage.fencingToken}; otherwise undefined.
   */
  getFencingToken(): bigint | undefined {
    return this.getMessage().fencingToken;
  }

  /** The entry id, `ms-seq`. */
  getMessageId(): string {
    return this.getMessage().id;
  }

  /** When the message was appended, by the server's clock unless the sender set it. */
  getTimestamp(): Date {
    return this.getMessage().timestamp;
  }

  /** All headers, also those that this package adds. */
  getHeaders(): Readonly<Record<string, string>> {
    return this.getMessage().headers;
  }

  /** One header; undefined when the message does not have it. */
  getHeader(name: string): string | undefined {
    const headers = this.getHeaders();
    return Object.hasOwn(headers, name) ? headers[name] : undefined;
  }

  /**
   * What the sender has attached to the packet: its metadata (Nest 12's dispatch hook) and the headers of its record,
   * without those that this package adds. Undefined when there are none, as in the contexts of Nest 12.
   */
  getMetadata(): Readonly<Record<string, string>> | undefined {
    const own = requestInfoOf(this.getMessage()) ? OWN_REQUEST_HEADERS : OWN_HEADERS;
    const entries = Object.entries(this.getHeaders()).filter(([name]) => !own.has(name));
    return entries.length === 0 ? undefined : Object.fromEntries(entries);
  }

  /** The pattern of the handler: for a wildcard, with `*` or `>`. */
  getPattern(): string {
    return this.#scope.pattern;
  }

  /** Undefined in real-time mode. */
  getConsumerGroup(): string | undefined {
    return this.#scope.group;
  }

  /** This consumer's name in the group; undefined in real-time mode. */
  getConsumer(): string | undefined {
    return this.#scope.consumer;
  }

  /** 1 on first delivery. */
  getDeliveryCount(): number {
    return this.getMessage().deliveryCount;
  }

  /**
   * Aborted when the handler should stop, with a HandlingAbortedError that names the reason: the server closes and
   * `shutdownTimeout` is over, the message was lost to another consumer, or the client of a request has stopped waiting. Pass
   * it on to calls that take time: `fetch(url, { signal })`. A handler that ignores it runs to its end.
   */
  getSignal(): AbortSignal {
    return this.#delivery.signal;
  }

  /** Marks the message as processed; sent to Redis in the background. The first settlement wins. */
  ack(): void {
    this.#settle('ack()', ACKNOWLEDGED);
  }

  /**
   * Has the message delivered again, after `delay` milliseconds if given, else after the delay of the retry policy. It
   * counts as an attempt, unless the signal aborted for a shutdown: after the last one the message becomes a dead letter. The first
   * settlement wins. Without effect for a request.
   * @throws InvalidOptionError
   */
  retry(options: { delay?: number } = {}): void {
    check.options('', options, RETRY_REQUEST);
    if (options.delay !== undefined) check.time('delay', options.delay, 0);
    const { failurePolicy } = this.#scope.binding;
    this.#settle('retry()', retryOrDeadLetter(this.#delivery, failurePolicy, options.delay));
  }

  /**
   * Makes the message a dead letter at once. The first settlement wins. Without effect for a request.
   * @throws InvalidOptionError for an empty reason
   */
  deadLetter(reason: string): void {
    check.name('reason', reason);
    this.#settle('deadLetter()', deadLetter(reason, this.#scope.binding.failurePolicy));
  }

  /**
   * Sends all acknowledgements that are queued, also those of other messages; resolves once Redis has them.
   * @throws ShardLeaseLostError when acknowledgements of an owned shard were refused; or what Redis answered
   */
  async commit(): Promise<void> {
    await this.#scope.commit();
  }

  #settle(attempted: string, settlement: Settlement): void {
    const { canRetry } = this.#scope;
    const message = this.getMessage();
    if (settlement.kind !== 'ack' && this.#isAnswered) {
      this.#scope.onIgnored(message, attempted, 'it is a request, which is answered once');
      return;
    }
    const isPossible = canRetry || settlement.kind === 'ack';
    const isFirst = this.#delivery.settle(isPossible ? settlement : LEFT_PENDING);
    if (!isFirst) this.#scope.onIgnored(message, attempted, 'it was settled before');
    else if (!isPossible) this.#scope.onIgnored(message, attempted, 'it is not pending on the server');
  }
}
