import { RedisStreamsError } from './shared/errors.js';
import { errorText } from './shared/error-text.js';

export { InvalidOptionError, RedisStreamsError } from './shared/errors.js';
export type { RedisStreamsErrorOptions } from './shared/errors.js';

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
  readonly streamKey: string;

  constructor(streamKey: string, cause?: unknown) {
    super('ERR_WRONG_TYPE', `The key '${streamKey}' holds another type than a stream`, { cause });
    this.streamKey = streamKey;
  }
}

/** The stream does not exist, and `mkStream` is not set. */
export class StreamMissingError extends RedisStreamsError {
  override readonly name: string = 'StreamMissingError';
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
  readonly streamKey: string;

  constructor(streamKey: string, reason: string, cause?: unknown, retryable = false) {
    super('ERR_SEND_FAILED', `Sending to '${streamKey}' failed: ${reason}`, { cause, retryable });
    this.streamKey = streamKey;
  }
}

/** The reply to an append was lost: the message may or may not be in the stream. */
export class UncertainSendError extends RedisStreamsError {
  override readonly name: string = 'UncertainSendError';
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
  readonly streamKey: string;
  readonly shardId: number;
  readonly id: string;
  readonly sequence: bigint;
  readonly timestamp: Date;
  readonly deliverAt: Date | undefined;
}

/**
 * Redis has the message, and too few replicas have it (`waitReplicas`): a failover may lose it. It is stored once, and not sent
 * again: the replicas get it when they can.
 */
export class ReplicasMissingError extends RedisStreamsError {
  override readonly name: string = 'ReplicasMissingError';
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
  readonly reason: AbortReason;

  constructor(reason: AbortReason) {
    super('ERR_HANDLING_ABORTED', `The handler should stop: ${ABORT_TEXTS[reason]}`);
    this.reason = reason;
  }
}

/** What a schema found wrong with a payload. */
export interface PayloadIssue {
  readonly message: string;
  /** Where in the payload. */
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined;
}

/** Issues that the text of an error names. */
const MAX_ISSUES = 5;

/** The schema of a catalog refused a payload. */
export class PayloadInvalidError extends RedisStreamsError {
  override readonly name: string = 'PayloadInvalidError';
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

/** A function of the options has failed, `retry.unless` for example; `cause` is what it threw. */
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

/** No server has ever listened to the pattern of a request. */
export class NoHandlerError extends RedisStreamsError {
  override readonly name: string = 'NoHandlerError';
  constructor(pattern: string) {
    super('ERR_NO_HANDLER', `There is no consumer group on '${pattern}', so the request would get no answer`, {
      retryable: true,
    });
  }
}

/** No reply to a request came in time. */
export class RequestTimeoutError extends RedisStreamsError {
  override readonly name: string = 'RequestTimeoutError';
  constructor(pattern: string, timeout: number) {
    super('ERR_REQUEST_TIMEOUT', `No reply to the request '${pattern}' within ${timeout} ms`, { retryable: true });
  }
}

/** The consumer has ended; it hands out nothing any more. */
export class ConsumerEndedError extends RedisStreamsError {
  override readonly name: string = 'ConsumerEndedError';
  constructor() {
    super('ERR_CONSUMER_ENDED', 'The consumer has ended');
  }
}

/** Another live process reads the stream under the same consumer name. It is reported, and both continue. */
export class ConsumerNameInUseError extends RedisStreamsError {
  override readonly name: string = 'ConsumerNameInUseError';
  readonly streamKey: string;
  readonly group: string;
  readonly consumer: string;

  constructor(streamKey: string, group: string, consumer: string, isOnlyConsumer: boolean) {
    const cure = isOnlyConsumer
      ? "run one process of a group in mode 'resumable', or give each process its own group"
      : "give each process a consumer name of its own, or leave out the option 'consumer'";
    super(
      'ERR_CONSUMER_NAME_IN_USE',
      `Another live process reads '${streamKey}' as the consumer '${consumer}' of group '${group}': both take the ` +
        `entries that are pending for the name, so messages are handled twice; ${cure}`,
    );
    this.streamKey = streamKey;
    this.group = group;
    this.consumer = consumer;
  }
}

/**
 * Another consumer may own a shard that this one owned: its lease was not renewed in time. It is reported, and its acknowledgements
 * are refused; the next owner handles their messages again.
 */
export class ShardLeaseLostError extends RedisStreamsError {
  override readonly name: string = 'ShardLeaseLostError';
  /** The key of the shard. */
  readonly streamKey: string;
  readonly group: string;

  constructor(streamKey: string, group: string, refusedAcks: number) {
    const acks = refusedAcks === 1 ? '1 acknowledgement is' : `${refusedAcks} acknowledgements are`;
    const consequence =
      refusedAcks === 0 ? 'its handlers should stop' : `${acks} refused, and the messages handled again`;
    super(
      'ERR_SHARD_LEASE_LOST',
      `The lease of the shard '${streamKey}' in group '${group}' is lost: another consumer may own it; ${consequence}`,
    );
    this.streamKey = streamKey;
    this.group = group;
  }
}

/** A message failed at every attempt, and with `onPoison: 'halt'` its shard is not read any more; nothing of it is skipped. */
export class ShardHaltedError extends RedisStreamsError {
  override readonly name: string = 'ShardHaltedError';
  /** The key of the shard. */
  readonly streamKey: string;
  /** Id of the message. */
  readonly id: string;

  constructor(streamKey: string, id: string, reason: string, cause: unknown) {
    super(
      'ERR_SHARD_HALTED',
      `The shard '${streamKey}' is halted at the message ${id}: ${reason}; the next owner of the shard tries it once more`,
      { cause },
    );
    this.streamKey = streamKey;
    this.id = id;
  }
}

/** The number of shards cannot change while delayed messages wait beside them: their keys are not stored. */
export class ShardsBusyError extends RedisStreamsError {
  override readonly name: string = 'ShardsBusyError';
  readonly streamKey: string;

  constructor(streamKey: string, shardKeys: readonly string[]) {
    super(
      'ERR_SHARDS_BUSY',
      `The shards of '${streamKey}' cannot change: delayed messages wait beside '${shardKeys.join("', '")}'`,
      { retryable: true },
    );
    this.streamKey = streamKey;
  }
}

/** The producer has ended; it accepts nothing any more. */
export class ProducerEndedError extends RedisStreamsError {
  override readonly name: string = 'ProducerEndedError';
  constructor() {
    super('ERR_PRODUCER_ENDED', 'The producer has ended');
  }
}

/** The streamer, client or server has been closed. */
export class ClosedError extends RedisStreamsError {
  override readonly name: string = 'ClosedError';
  constructor(subject: string, consequence?: string) {
    super('ERR_CLOSED', `${subject} is closed${consequence === undefined ? '' : `; ${consequence}`}`);
  }
}

/** The consumer still has pending entries and was therefore not removed. */
export class ConsumerPendingError extends RedisStreamsError {
  override readonly name: string = 'ConsumerPendingError';
  readonly pending: number;

  constructor(streamKey: string, group: string, consumer: string, pending: number) {
    super(
      'ERR_CONSUMER_PENDING',
      `The consumer '${consumer}' of group '${group}' on '${streamKey}' has ${pending} pending entries; ` +
        'acknowledge them, or let another consumer claim them, before removing it',
    );
    this.pending = pending;
  }
}
