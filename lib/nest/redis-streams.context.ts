import { BaseRpcContext } from '@nestjs/microservices';

import type { Delivery } from '../engine/delivery.js';
import type { StreamMessage } from '../engine/stream-message.js';

/** What stands behind a context; made by the server for each message. */
export interface ContextSource {
  readonly delivery: Delivery;
  readonly pattern: string;
  readonly group: string | undefined;
  readonly consumer: string | undefined;
  readonly commit: () => Promise<void>;
  /** A settlement came too late: the message was settled before. */
  readonly onLateSettlement: (attempted: string) => void;
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
    return this.getMessage().headers[name];
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
    if (!this.#source.delivery.settle({ kind: 'ack' })) this.#source.onLateSettlement('ack()');
  }

  /** Sends all acknowledgements that are queued, also those of other messages; resolves once Redis has them. */
  async commit(): Promise<void> {
    await this.#source.commit();
  }
}
