import type { RedisStreamsError } from '../../errors.js';
import type { RedisStreamsStatus } from '../../redis/connection/redis-connections.js';
import type { HealthOptions, StreamerHealth, StreamerStats } from '../health.js';
import type { StreamMessage } from '../messages/stream-message.js';

/**
 * Follows messages, for traces and metrics: the option `telemetry` of a streamer, server, client or module. Every method is
 * optional. A message waits for the methods that are called for it, so they must be quick. The first error that a method throws
 * is logged; the message is sent or handled all the same.
 */
export interface Telemetry {
  /**
   * A streamer, also that of a server or client, opens its first connection. The returned function is called when the streamer
   * has disconnected.
   */
  attach?(source: TelemetrySource): (() => void) | undefined;
  /** A message is about to be sent. The returned operation is ended once, with the outcome. */
  startSend?(message: SentMessageDetails): SendOperation | undefined;
  /** Handlers are about to receive a message, or a batch: messages of one stream, or of the streams of one pattern. */
  startProcess?(messages: readonly StreamMessage[], details: ProcessDetails): ProcessOperation | undefined;
  /** `next()` of a consumer without handlers was called. */
  startReceive?(details: ReceiveDetails): ReceiveOperation | undefined;
  /** A request, `client.send()`, was subscribed to. */
  startRequest?(details: RequestDetails): RequestOperation | undefined;
  /** A message is in its stream of dead letters. */
  deadLettered?(details: DeadLetteredDetails): void;
  /** A failure in the background, or of a send that nothing awaits. It is logged and emitted as `error`, too. */
  failed?(error: RedisStreamsError, source: TelemetrySource): void;
}

/** A streamer, for the numbers that are asked for and not counted. */
export interface TelemetrySource {
  /** State of the connection. */
  readonly status: RedisStreamsStatus;
  /** The address that was configured; the first one of a cluster or of sentinels. Undefined where a function makes the clients. */
  readonly server:
    | {
        /** Host name or IP address. */
        readonly host: string;
        /** Port. */
        readonly port: number;
      }
    | undefined;
  /** The state as far as it is known without asking Redis. */
  stats(): StreamerStats;
  /** The state with the numbers that only Redis knows; rejects only for a wrong option. */
  health(options?: HealthOptions): Promise<StreamerHealth>;
}

/** A message of the application, a request, or an answer to one. */
export type SentMessageKind = 'message' | 'request' | 'reply';

/** A message that is about to be sent. */
export interface SentMessageDetails {
  /** What is sent: a message, a request or a reply. */
  readonly kind: SentMessageKind;
  /** Without the number of a shard. */
  readonly streamKey: string;
  /** Undefined when the stream is not sharded. */
  readonly shardId: number | undefined;
  /** Bytes of the payload. */
  readonly size: number;
  /** Whether it waits beside its stream until it is due. */
  readonly isDelayed: boolean;
  /** Headers that are added here are stored with the message. */
  readonly headers: Record<string, string>;
  /** The streamer that sends it. */
  readonly source: TelemetrySource;
}

/** The entry id, or why the message was not accepted. */
export interface SendOutcome {
  /** Id of the entry; of a delayed message, the id with which it can be cancelled. */
  readonly id?: string;
  /** Why the message was not accepted. */
  readonly error?: Error;
}

/** A send that has begun. */
export interface SendOperation {
  /**
   * Redis has accepted the message, or it has failed.
   * @param duration since the operation was started, in milliseconds, as in all operations
   */
  end(outcome: SendOutcome, duration: number): void;
}

/** Where the messages come from that handlers are about to receive. */
export interface ProcessDetails {
  /** Whether handlers of events or of requests receive them. */
  readonly kind: 'event' | 'request';
  /** Pattern of the handlers. */
  readonly pattern: string;
  /** Without the number of a shard; that of the first message. */
  readonly streamKey: string;
  /** Undefined when the stream is not sharded, or the messages of a batch are of several shards. */
  readonly shardId: number | undefined;
  /** Undefined in real-time mode. */
  readonly group: string | undefined;
  /** Name of the consumer; undefined in real-time mode. */
  readonly consumer: string | undefined;
  /** Whether the handler is given its messages in batches. */
  readonly isBatch: boolean;
  /** The streamer that has read the messages. */
  readonly source: TelemetrySource;
}

/** The outcome of one message. */
export interface ProcessOutcome {
  /** The message. */
  readonly message: StreamMessage;
  /** Undefined while a handler with `ack: 'manual'` has not decided, and with `isHandledAlone`. */
  readonly settlement: 'ack' | 'retry' | 'dead-letter' | 'pending' | undefined;
  /** Until the retry, in milliseconds. */
  readonly delay: number | undefined;
  /** Of the dead letter. */
  readonly reason: string | undefined;
  /** The error with which the handler failed; undefined when it did not. */
  readonly error: unknown;
  /** Whether it was read after its expiry or deadline, and reached no handler. */
  readonly isExpired: boolean;
  /** Its batch failed: it is handled again, alone, and has another outcome then. */
  readonly isHandledAlone?: boolean;
}

/** Handlers that have begun with a message, or with a batch. */
export interface ProcessOperation {
  /** Runs the handlers, in a context of its own for instance. Must call the function once, and return what it returns. */
  run?<T>(work: () => T): T;
  /** The handlers have ended. One outcome for each message, in their order. */
  end(outcomes: readonly ProcessOutcome[], duration: number): void;
}

/** A call of `next()`. */
export interface ReceiveDetails {
  /** Keys of the streams that the consumer reads, without the numbers of shards. */
  readonly streamKeys: readonly string[];
  /** Name of the consumer group; undefined in real-time mode. */
  readonly group: string | undefined;
  /** Name of the consumer; undefined in real-time mode. */
  readonly consumer: string | undefined;
  /** The streamer of the consumer. */
  readonly source: TelemetrySource;
}

/** The message that `next()` returned, or the error with which it failed. */
export interface ReceiveOutcome {
  /** The message. */
  readonly message?: StreamMessage;
  /** The error. */
  readonly error?: unknown;
}

/** A call of `next()` that waits for a message. */
export interface ReceiveOperation {
  /**
   * The call has returned a message, or has failed.
   * @param duration since the operation was started, in milliseconds
   */
  end(outcome: ReceiveOutcome, duration: number): void;
}

/** A request that is about to be sent. */
export interface RequestDetails {
  /** Pattern of the request. */
  readonly pattern: string;
  /** Without the number of a shard. */
  readonly streamKey: string;
  /** The streamer of the client. */
  readonly source: TelemetrySource;
}

/** How a request ended; without `error` and `isCancelled`, with its last answer. */
export interface RequestOutcome {
  /** Why the request failed. */
  readonly error?: unknown;
  /** Whether its subscriber has unsubscribed before the last answer. */
  readonly isCancelled?: boolean;
}

/** A request that has begun. */
export interface RequestOperation {
  /** Sends the request, in a context of its own for instance. Must call the function once, and return what it returns. */
  run?<T>(work: () => T): T;
  /** The last answer has arrived, the request has failed, or its subscriber has unsubscribed. */
  end(outcome: RequestOutcome, duration: number): void;
}

/** A message that was stored as a dead letter. */
export interface DeadLetteredDetails {
  /** The message, as it was read from its own stream. */
  readonly message: StreamMessage;
  /** Pattern of its handlers. */
  readonly pattern: string;
  /** Name of the consumer group. */
  readonly group: string;
  /** Key of the stream of dead letters. */
  readonly deadLetterStream: string;
  /** Why it was not handled. */
  readonly reason: string;
}
