import { RedisStreamsError } from './shared/errors.js';
import { errorText } from './shared/error-text.js';

export { InvalidOptionError, RedisStreamsError } from './shared/errors.js';
export type { RedisStreamsErrorOptions } from './shared/errors.js';
export * from './shared/consumer-errors.js';

/** The call makes no sense with the options that the object was created with. */
export class UnsupportedOperationError extends RedisStreamsError {
  override readonly name: string = 'UnsupportedOperationError';
  constructor(operation: string, reason: string) {
    super('ERR_UNSUPPORTED_OPERATION', `${operation} ${reason}`);
  }
}

/** Redis could not be reached, or the connection was lost; what was in flight may or may not have been done. */
export class ConnectionError extends RedisStreamsError {
  override readonly name: string = 'ConnectionError';
  constructor(message: string, cause?: unknown, retryable = true) {
    super('ERR_CONNECTION', message, { cause, retryable });
  }
}

/** Redis could not be reached within `timeout`. */
export class ConnectTimeoutError extends RedisStreamsError {
  override readonly name: string = 'ConnectTimeoutError';
  /** The address that was tried, without credentials. */
  readonly address: string;

  constructor(address: string, timeout: number, cause?: unknown) {
    const last = cause === undefined ? '' : `; last cause: ${errorText(cause)}`;
    super('ERR_CONNECT_TIMEOUT', `No connection to Redis at ${address} within ${timeout} ms${last}`, {
      cause,
      retryable: true,
    });
    this.address = address;
  }
}

/** Redis refused the credentials, or the user lacks a permission (NOAUTH, WRONGPASS, NOPERM). */
export class PermissionError extends RedisStreamsError {
  override readonly name: string = 'PermissionError';
  constructor(message: string, cause?: unknown) {
    super('ERR_PERMISSION', message, { cause });
  }
}

/** Redis answered a command with an error that has no class of its own here. */
export class ServerReplyError extends RedisStreamsError {
  override readonly name: string = 'ServerReplyError';
  /** First word of the reply, such as `ERR` or `OOM`. */
  readonly reply: string;

  constructor(message: string, reply: string, retryable: boolean, cause?: unknown) {
    super('ERR_SERVER_REPLY', message, { cause, retryable });
    this.reply = reply;
  }
}

/** The key holds another type than a stream. */
export class WrongTypeError extends RedisStreamsError {
  override readonly name: string = 'WrongTypeError';
  /** The key that holds another type. */
  readonly streamKey: string;

  constructor(streamKey: string, cause?: unknown) {
    super('ERR_WRONG_TYPE', `The key '${streamKey}' holds another type than a stream`, { cause });
    this.streamKey = streamKey;
  }
}

/** The stream does not exist, and `mkStream` is not set. */
export class StreamMissingError extends RedisStreamsError {
  override readonly name: string = 'StreamMissingError';
  /** Key of the stream. */
  readonly streamKey: string;

  constructor(streamKey: string) {
    super(
      'ERR_STREAM_MISSING',
      `The stream '${streamKey}' does not exist and mkStream is false; set mkStream: true to create it`,
    );
    this.streamKey = streamKey;
  }
}

/** The consumer group, or its stream, does not exist. */
export class GroupMissingError extends RedisStreamsError {
  override readonly name: string = 'GroupMissingError';
  /** Key of the stream. */
  readonly streamKey: string;
  /** Undefined where Redis does not say which of several. */
  readonly group: string | undefined;

  constructor(streamKey: string, group: string | undefined, cause?: unknown) {
    const name = group === undefined ? 'the consumer group asked for' : `a consumer group '${group}'`;
    super('ERR_GROUP_MISSING', `The stream '${streamKey}' does not exist or does not have ${name}`, { cause });
    this.streamKey = streamKey;
    this.group = group;
  }
}

/** More messages or bytes wait to be sent than the producer may hold. */
export class QueueFullError extends RedisStreamsError {
  override readonly name: string = 'QueueFullError';
  constructor(option: string, limit: number) {
    super('ERR_QUEUE_FULL', `The producer already holds ${option} = ${limit}; wait for receipts, or for ready()`, {
      retryable: true,
    });
  }
}

/** The message was refused, or could not be appended in time; it is not in the stream. */
export class SendFailedError extends RedisStreamsError {
  override readonly name: string = 'SendFailedError';
  /** Key of the stream, without the number of a shard. */
  readonly streamKey: string;

  constructor(streamKey: string, reason: string, cause?: unknown, retryable = false) {
    super('ERR_SEND_FAILED', `Sending to '${streamKey}' failed: ${reason}`, { cause, retryable });
    this.streamKey = streamKey;
  }
}

/** The reply to an append was lost: the message may or may not be in the stream. */
export class UncertainSendError extends RedisStreamsError {
  override readonly name: string = 'UncertainSendError';
  /** Key of the stream, without the number of a shard. */
  readonly streamKey: string;

  constructor(streamKey: string, cause?: unknown) {
    super(
      'ERR_SEND_UNCERTAIN',
      `The connection broke before Redis confirmed a message for '${streamKey}': it may or may not be in the stream`,
      { cause, retryable: true },
    );
    this.streamKey = streamKey;
  }
}

/** The payload is larger than the server accepts. */
export class PayloadTooLargeError extends RedisStreamsError {
  override readonly name: string = 'PayloadTooLargeError';
  constructor(streamKey: string, size: number, limit: number) {
    super('ERR_PAYLOAD_TOO_LARGE', `A message of ${size} bytes for '${streamKey}' is over the limit of ${limit} bytes`);
  }
}

/** A file of messages is damaged, was cut, or is no such file. */
export class FileDamagedError extends RedisStreamsError {
  override readonly name: string = 'FileDamagedError';
  /** Where in the file, in bytes from its beginning. */
  readonly offset: number;

  constructor(offset: number, reason: string) {
    super('ERR_FILE_DAMAGED', `The file is damaged at byte ${offset}: ${reason}`);
    this.offset = offset;
  }
}

/** Redis refuses the time: the stream already has a later entry. */
export class TimestampRefusedError extends RedisStreamsError {
  override readonly name: string = 'TimestampRefusedError';
  /** Key of the stream. */
  readonly streamKey: string;

  constructor(streamKey: string, timestamp: Date, cause?: unknown) {
    super(
      'ERR_TIMESTAMP_REFUSED',
      `'${streamKey}' already has an entry later than the timestamp ${timestamp.toISOString()}`,
      { cause },
    );
    this.streamKey = streamKey;
  }
}

/** Where a message is stored. */
export interface ReceiptDetails {
  /** Key of the stream, without the number of a shard. */
  readonly streamKey: string;
  /** Number of the shard; 0 when the stream is not sharded. */
  readonly shardId: number;
  /** Id of the entry, `ms-seq`; of a delayed message, the id with which it can be cancelled. */
  readonly id: string;
  /** The id as one number, `ms << 16 | seq`. */
  readonly sequence: bigint;
  /** Time of the entry, by the clock of Redis unless the sender set it. */
  readonly timestamp: Date;
  /** When a delayed message is due; undefined for a message without a delay. */
  readonly deliverAt: Date | undefined;
}

/**
 * Redis has the message, and too few replicas have it (`waitReplicas`): a failover may lose it. It is stored once, and not sent
 * again: the replicas get it when they can.
 */
export class ReplicasMissingError extends RedisStreamsError {
  override readonly name: string = 'ReplicasMissingError';
  /** Where the message is stored. */
  readonly receipt: ReceiptDetails;
  /** How many replicas had it in time; 0 also where Redis refused to count them. */
  readonly replicas: number;

  constructor(receipt: ReceiptDetails, replicas: number, count: number) {
    super(
      'ERR_REPLICAS_MISSING',
      `The message ${receipt.id} of '${receipt.streamKey}' is stored, but only ${replicas} of ${count} replicas have it`,
    );
    this.receipt = receipt;
    this.replicas = replicas;
  }
}

/** A message with nanoseconds was sent to a stream whose ids have milliseconds: `timestampFormat` does not fit it. */
export class TimestampFormatError extends RedisStreamsError {
  override readonly name: string = 'TimestampFormatError';
  /** Key of the stream. */
  readonly streamKey: string;

  constructor(streamKey: string, cause?: unknown) {
    super(
      'ERR_TIMESTAMP_FORMAT',
      `The ids of '${streamKey}' have milliseconds; with timestampFormat: 'ns' only a stream with nanoseconds, or a new one, can be written`,
      { cause },
    );
    this.streamKey = streamKey;
  }
}

/** The id cannot be written as `ms << 16 | seq`: its sequence is over 65,535, or its time over 48 bits. */
export class SequenceOverflowError extends RedisStreamsError {
  override readonly name: string = 'SequenceOverflowError';
  /** The id, `ms-seq`. */
  readonly id: string;

  constructor(id: string) {
    super('ERR_SEQUENCE_OVERFLOW', `The id '${id}' does not fit a 64-bit sequence of 48 bits time and 16 bits counter`);
    this.id = id;
  }
}

/** The payload cannot be turned into what was asked for. */
export class PayloadDecodeError extends RedisStreamsError {
  override readonly name: string = 'PayloadDecodeError';
  constructor(message: string, cause?: unknown) {
    super('ERR_PAYLOAD_DECODE', message, { cause });
  }
}

/** Why the signal of a handler is aborted. */
export type AbortReason = 'shutdown' | 'lease-lost' | 'max-handler-time' | 'deadline' | 'cancelled';

const ABORT_TEXTS: Readonly<Record<AbortReason, string>> = {
  shutdown: 'the server is closing, and shutdownTimeout is over',
  'lease-lost': 'the message is no longer pending for this consumer: another one may handle it',
  'max-handler-time': 'maxHandlerTime is over',
  deadline: 'the client of the request no longer waits',
  cancelled: 'the client of the request no longer reads the answer',
};

/** The reason of an aborted `RedisStreamsContext.getSignal()`. */
export class HandlingAbortedError extends RedisStreamsError {
  override readonly name: string = 'HandlingAbortedError';
  /** Why the handler should stop. */
  readonly reason: AbortReason;

  constructor(reason: AbortReason) {
    super('ERR_HANDLING_ABORTED', `The handler should stop: ${ABORT_TEXTS[reason]}`);
    this.reason = reason;
  }
}

/** What a schema found wrong with a payload. */
export interface PayloadIssue {
  /** Text of the schema library. */
  readonly message: string;
  /** Where in the payload. */
  readonly path?:
    | ReadonlyArray<
        | PropertyKey
        | {
            /** Name of a property, or index of an array. */
            readonly key: PropertyKey;
          }
      >
    | undefined;
}

/** Issues that the text of an error names. */
const MAX_ISSUES = 5;

/** The schema of a catalog refused a payload. */
export class PayloadInvalidError extends RedisStreamsError {
  override readonly name: string = 'PayloadInvalidError';
  /** Pattern of the event, or name in the catalog. */
  readonly pattern: string;
  /** All of them; the message names the first five. */
  readonly issues: readonly PayloadIssue[];

  constructor(pattern: string, issues: readonly PayloadIssue[]) {
    const texts = issues.slice(0, MAX_ISSUES).map(issueText);
    const more = issues.length > MAX_ISSUES ? `; and ${issues.length - MAX_ISSUES} more` : '';
    super('ERR_PAYLOAD_INVALID', `The payload for '${pattern}' is invalid: ${texts.join('; ')}${more}`);
    this.pattern = pattern;
    this.issues = issues;
  }
}

function issueText({ message, path = [] }: PayloadIssue): string {
  const place = path.map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
  return place === '' ? message : `${place}: ${message}`;
}

/** A handler failed with something that is no Error; `cause` is what it threw. */
export class HandlerError extends RedisStreamsError {
  override readonly name: string = 'HandlerError';
  constructor(message: string, cause: unknown) {
    super('ERR_HANDLER', `A handler failed: ${message}`, { cause });
  }
}

/** A function of the options has failed, `retry.unless` or the serializer for example; `cause` is what it threw. */
export class CallbackError extends RedisStreamsError {
  override readonly name: string = 'CallbackError';
  /** Name of the function, as in the options. */
  readonly callback: string;

  constructor(callback: string, cause: unknown) {
    super('ERR_CALLBACK', `${callback} failed: ${errorText(cause)}`, { cause });
    this.callback = callback;
  }
}

/** Handlers were still running when the server had to close; their messages stay pending. */
export class ShutdownTimeoutError extends RedisStreamsError {
  override readonly name: string = 'ShutdownTimeoutError';
  constructor(running: number, timeout: number) {
    super(
      'ERR_SHUTDOWN_TIMEOUT',
      `${running} handlers were still running after ${timeout} ms; their messages stay pending`,
    );
  }
}

/** A read loop neither read nor waited as planned; the watchdog has restarted it, on a new connection. */
export class ReadLoopStalledError extends RedisStreamsError {
  override readonly name: string = 'ReadLoopStalledError';
  constructor(streamKeys: string, limit: number) {
    super('ERR_READ_LOOP_STALLED', `Reading '${streamKeys}' stood still for more than ${limit} ms; it is restarted`, {
      retryable: true,
    });
  }
}

/**
 * Neither Redis nor the connection caused it: a mistake in a function that the application gave to this package, or in this
 * package itself; `cause` is the error that was thrown.
 */
export class InternalError extends RedisStreamsError {
  override readonly name: string = 'InternalError';
  constructor(message: string, cause: unknown) {
    super('ERR_INTERNAL', message, { cause });
  }
}

/** Some messages of a batch were not confirmed, each for the reason of its own error; the others are stored. */
export class BatchSendError extends RedisStreamsError {
  override readonly name: string = 'BatchSendError';
  /** One error for each message that failed. */
  readonly errors: readonly Error[];

  constructor(errors: readonly Error[], size: number) {
    super('ERR_BATCH_SEND', `${errors.length} of ${size} messages were not confirmed`, { cause: errors[0] });
    this.errors = errors;
  }
}

/** No server has ever listened to the pattern of a request; of a test client or server: none of its handlers answers it. */
export class NoHandlerError extends RedisStreamsError {
  override readonly name: string = 'NoHandlerError';
  /** @param message default: there is no consumer group on the pattern's stream */
  constructor(
    pattern: string,
    message = `There is no consumer group on '${pattern}', so the request would get no answer`,
  ) {
    super('ERR_NO_HANDLER', message, { retryable: true });
  }
}

/** No reply to a request came in time. */
export class RequestTimeoutError extends RedisStreamsError {
  override readonly name: string = 'RequestTimeoutError';
  constructor(pattern: string, timeout: number) {
    super('ERR_REQUEST_TIMEOUT', `No reply to the request '${pattern}' within ${timeout} ms`, { retryable: true });
  }
}
