import type { ShardAssignment } from '../engine/consuming/ownership/shard-assignment.js';
import type { StreamMessage } from '../engine/messages/stream-message.js';
import type { RedisStreamsError } from '../errors.js';
import type { RedisStreamsStatus } from '../redis/connection/redis-connections.js';

/** A message that became a dead letter. */
export interface DeadLetterEvent {
  /** The message, as it was read from its own stream. */
  readonly message: StreamMessage;
  /** Name of the consumer group. */
  readonly group: string;
  /** Key of the stream of dead letters. */
  readonly deadLetterStream: string;
  /** Id of the dead letter in its stream. */
  readonly deadLetterId: string;
  /** Number of the oldest dead letters that were deleted to keep `deadLetter.maxLen`; undefined where Redis does not tell. */
  readonly trimmed: number | undefined;
  /** Why the message was given up. */
  readonly reason: string;
  /** The last error of the handler. */
  readonly error: unknown;
}

/** A message that will be handled again. */
export interface RetryEvent {
  /** The message. */
  readonly message: StreamMessage;
  /** Milliseconds until then. */
  readonly delay: number;
  /** The error with which the handler failed. */
  readonly error: unknown;
}

/** An event that was read after its time and was not handled. */
export interface ExpiredEvent {
  /** The message. */
  readonly message: StreamMessage;
  /** The time that its sender has set. */
  readonly expiresAt: Date;
  /** How many events this server has dropped so, this one included. */
  readonly total: number;
}

/**
 * The events of server and client, with the listeners that `on()` takes. A type and no interface: Nest's classes ask for
 * one.
 */
export type RedisStreamsEvents = {
  /** The state of the connection changed. */
  status: (status: RedisStreamsStatus) => void;
  /** Something failed in the background: a handler, a read, an acknowledgement, a send whose result nothing awaits. */
  error: (error: RedisStreamsError | Error) => void;
  /** A message will be handled again. */
  retry: (event: RetryEvent) => void;
  /** A message became a dead letter. */
  deadLetter: (event: DeadLetterEvent) => void;
  /** A message was read after the time that its sender has set with `setExpiresAt`; it is acknowledged unhandled. */
  expired: (event: ExpiredEvent) => void;
  /** With `shardOwnership: 'owned'`: this server owns a shard, and reads it. */
  assigned: (assignment: ShardAssignment) => void;
  /** This server does not own the shard any more. */
  revoked: (assignment: ShardAssignment) => void;
};
