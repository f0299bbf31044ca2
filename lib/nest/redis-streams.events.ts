import type { RedisStreamsError } from '../errors.js';
import type { RedisStreamsStatus } from '../redis/redis-connections.js';

/** What `on()` of server and client tells about. */
export interface RedisStreamsEvents {
  /** The connection's state changed. */
  status: (status: RedisStreamsStatus) => void;
  /** Something failed in the background: a handler, a read, an acknowledgement, a send that nobody waited for. */
  error: (error: RedisStreamsError | Error) => void;
}

/** The same as a record of functions, which is what Nest's base classes ask for. */
export type RedisStreamsEventsMap = { [Event in keyof RedisStreamsEvents]: RedisStreamsEvents[Event] };
