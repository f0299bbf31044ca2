import type { StreamMessage } from '../engine/messages/stream-message.js';
import type { RedisStreamsError } from '../errors.js';
import type { RedisStreamsStatus } from '../redis/connection/redis-connections.js';

/** A message that became a dead letter. */
export interface DeadLetterEvent {
  /** Where it came from. */
  readonly message: StreamMessage;
  readonly group: string;
  /** The stream of dead letters and the id in it. */
  readonly deadLetterStream: string;
  readonly deadLetterId: string;
  readonly reason: string;
  /** What the handler threw last. */
  readonly error: unknown;
}

/** A message that will be handled again. */
export interface RetryEvent {
  readonly message: StreamMessage;
  /** Milliseconds until then. */
  readonly delay: number;
  readonly error: unknown;
}

/** What `on()` of server and client tells about. */
export interface RedisStreamsEvents {
  /** The connection's state changed. */
  status: (status: RedisStreamsStatus) => void;
  /** Something failed in the background: a handler, a read, an acknowledgement, a send that nobody waited for. */
  error: (error: RedisStreamsError | Error) => void;
  /** A message will be handled again. */
  retry: (event: RetryEvent) => void;
  /** A message became a dead letter. */
  deadLetter: (event: DeadLetterEvent) => void;
}

/** The same as a record of functions, which is what Nest's base classes ask for. */
export type RedisStreamsEventsMap = { [Event in keyof RedisStreamsEvents]: RedisStreamsEvents[Event] };
