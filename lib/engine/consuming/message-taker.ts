import type { RedisStreamsError } from '../../errors.js';
import type { StreamMessage } from '../messages/stream-message.js';
import type { Partition } from './partition.js';
import type { AdaptivePrefetch } from './reading/adaptive-prefetch.js';

export interface SessionListeners {
  /** A partition is not read any more; the others are. */
  readonly onStreamFailure: (error: RedisStreamsError, partition: Partition) => void;
  /** A background operation failed; it is repeated where that can help. */
  readonly onError: (error: RedisStreamsError) => void;
}

/** How long the handlers of a taker have been running, in milliseconds. */
export interface HandlerReport {
  /** Undefined when none runs. */
  readonly oldestHandler: number | undefined;
  /** Since the last place was taken; undefined while there is a free one. */
  readonly allBusyFor: number | undefined;
}

/** Takes the messages of a session: a {@link StreamConsumer} or a {@link Dispatcher}. */
export interface MessageTaker {
  /** Messages were buffered; `handOut()` of the session returns them. */
  onArrival(): void;
  /** A message that waited for its retry here was deleted, or another consumer has claimed it. */
  onTakenAway(message: StreamMessage): void;
  /** These entries are not ours any more; some may be in handlers. */
  onLeaseLost?(partition: Partition, ids: ReadonlySet<string>): void;
  /** Only of a taker that keeps messages: removes and returns those that it has taken and given to no handler. */
  withdraw?(isWanted: (message: StreamMessage) => boolean): StreamMessage[];
  /** Only of a taker that keeps messages: those that it has taken and given to no handler. */
  readonly waiting?: readonly StreamMessage[];
  /** Only of a taker that runs handlers. */
  report?(): HandlerReport;
}

/** How many messages may be in this process; see {@link MessageBuffer}. */
export interface SessionCapacity {
  /** Places for messages in handlers, in addition to the prefetch. */
  readonly inHandlers: number;
  /** Whether the taker settles every message. Then the message occupies its place until it is released. */
  readonly holdsUntilReleased: boolean;
  /** Chooses the prefetch; without it the options set it. */
  readonly adaptivePrefetch?: AdaptivePrefetch | undefined;
}
