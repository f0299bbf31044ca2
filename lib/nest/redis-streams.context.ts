import { BaseRpcContext } from '@nestjs/microservices';

import type { Delivery, Settlement } from '../engine/delivery.js';
import { check } from '../engine/option-checks.js';
import type { StreamMessage } from '../engine/stream-message.js';
import { deadLetter, retryOrDeadLetter } from './failure-policy.js';
import type { FailurePolicy } from './failure-policy.js';

/** What stands behind a context; made by the server for each message. */
export interface ContextSource {
  readonly delivery: Delivery;
  readonly pattern: string;
  readonly group: string | undefined;
  readonly consumer: string | undefined;
  readonly commit: () => Promise<void>;
  /** How often this message may be handled, and what then. */
  readonly failurePolicy: FailurePolicy;
  /** False where nothing is pending: neither a retry nor a dead letter is possible. */
  readonly canRetry: boolean;
  /** A settlement changes nothing, for that reason. */
  readonly onIgnored: (attempted: string, reason: string) => void;
}

type RedisStreamsContextArgs = [message: StreamMessage, pattern: string];

/** The message that a handler was given, and what it may do with it. */
export class RedisStreamsContext extends BaseRpcContext<RedisStreamsContextArgs> {
  readonly #source: ContextSource;

  constructor(source: ContextSource) {
    super([source.delivery.message, source.pattern]);
    this.#source = source;
  }

  /** The entry itself. */
  getMessage(): StreamMessage {
    return this.#source.delivery.message;
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
    return this.#source.pattern;
  }

  /** Undefined in real-time mode. */
  getConsumerGroup(): string | undefined {
    return this.#source.group;
  }

  /** This consumer's name in the group; undefined in real-time mode. */
  getConsumer(): string | undefined {
    return this.#source.consumer;
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
    this.#settle('retry()', retryOrDeadLetter(this.getDeliveryCount(), this.#source.failurePolicy, options.delay));
  }

  /** Makes the message a dead letter at once. The first settlement wins. */
  deadLetter(reason: string): void {
    check.name('reason', reason);
    this.#settle('deadLetter()', deadLetter(reason, this.#source.failurePolicy));
  }

  /** Sends all acknowledgements that are queued, also those of other messages; resolves once Redis has them. */
  async commit(): Promise<void> {
    await this.#source.commit();
  }

  #settle(attempted: string, settlement: Settlement): void {
    const { delivery, canRetry, onIgnored } = this.#source;
    const isPossible = canRetry || settlement.kind === 'ack';
    if (!delivery.settle(isPossible ? settlement : { kind: 'pending' })) onIgnored(attempted, 'it was settled before');
    else if (!isPossible) onIgnored(attempted, 'it is not pending on the server');
  }
}
