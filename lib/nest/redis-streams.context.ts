import { BaseRpcContext } from '@nestjs/microservices';

import type { Delivery, Settlement } from '../engine/settling/settlement.js';
import { check } from '../engine/options/option-checks.js';
import type { StreamMessage } from '../engine/messages/stream-message.js';
import { deadLetter, retryOrDeadLetter } from './server/failure-policy.js';
import type { FailurePolicy } from './server/failure-policy.js';

/** What stands behind the contexts of one pattern's messages. */
export interface ContextScope {
  readonly pattern: string;
  readonly group: string | undefined;
  readonly consumer: string | undefined;
  readonly commit: () => Promise<void>;
  /** How often a message may be handled, and what then. */
  readonly failurePolicy: FailurePolicy;
  /** False where nothing is pending: neither a retry nor a dead letter is possible. */
  readonly canRetry: boolean;
  /** A settlement changes nothing, for that reason. */
  readonly onIgnored: (message: StreamMessage, attempted: string, reason: string) => void;
}

type RedisStreamsContextArgs = [message: StreamMessage, pattern: string];

/** The message that a handler was given, and what it may do with it. */
export class RedisStreamsContext extends BaseRpcContext<RedisStreamsContextArgs> {
  readonly #delivery: Delivery;
  readonly #scope: ContextScope;

  constructor(delivery: Delivery, scope: ContextScope) {
    super([delivery.message, scope.pattern]);
    this.#delivery = delivery;
    this.#scope = scope;
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

  /** The entry id, `ms-seq`. */
  getMessageId(): string {
    return this.getMessage().id;
  }

  /** When the message was appended, by the server's clock unless the sender set it. */
  getTimestamp(): Date {
    return this.getMessage().timestamp;
  }

  getHeaders(): Readonly<Record<string, string>> {
    return this.getMessage().headers;
  }

  getHeader(name: string): string | undefined {
    const headers = this.getHeaders();
    return Object.hasOwn(headers, name) ? headers[name] : undefined;
  }

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

  /** Marks the message as processed; sent to Redis in the background. The first settlement wins. */
  ack(): void {
    this.#settle('ack()', { kind: 'ack' });
  }

  /**
   * Wants the message again, after `delay` milliseconds if given, else as the retry policy says. It counts as an attempt:
   * when these are used up, the message becomes a dead letter. The first settlement wins.
   */
  retry(options: { delay?: number } = {}): void {
    if (options.delay !== undefined) check.integer('delay', options.delay, 0);
    this.#settle('retry()', retryOrDeadLetter(this.getDeliveryCount(), this.#scope.failurePolicy, options.delay));
  }

  /** Makes the message a dead letter at once. The first settlement wins. */
  deadLetter(reason: string): void {
    check.name('reason', reason);
    this.#settle('deadLetter()', deadLetter(reason, this.#scope.failurePolicy));
  }

  /** Sends all acknowledgements that are queued, also those of other messages; resolves once Redis has them. */
  async commit(): Promise<void> {
    await this.#scope.commit();
  }

  #settle(attempted: string, settlement: Settlement): void {
    const { canRetry, onIgnored } = this.#scope;
    const message = this.getMessage();
    const isPossible = canRetry || settlement.kind === 'ack';
    const isFirst = this.#delivery.settle(isPossible ? settlement : { kind: 'pending' });
    if (!isFirst) onIgnored(message, attempted, 'it was settled before');
    else if (!isPossible) onIgnored(message, attempted, 'it is not pending on the server');
  }
}
