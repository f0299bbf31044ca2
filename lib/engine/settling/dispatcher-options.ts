import type { RedisStreamsError } from '../../errors.js';
import type { ConsumerSession } from '../consuming/consumer-session.js';
import type { HandlerPace } from '../consuming/reading/pace.js';
import type { StreamMessage } from '../messages/stream-message.js';
import type { RateLimit } from './rate-limit.js';
import type { Delivery, Settlement } from './settlement.js';

/** What a dispatcher works with, and how it delivers. */
export interface DispatcherOptions {
  readonly session: ConsumerSession;
  /** Most deliveries at the same time. */
  readonly concurrency: number;
  /** Gets the duration of each delivery. */
  readonly pace?: HandlerPace | undefined;
  /**
   * Delivers several messages at once: those that are buffered when `size` is reached or `timeout` ms are over. A message that
   * was delivered before is delivered alone. Default: one.
   */
  readonly batch?: { readonly size: number; readonly timeout: number } | undefined;
  /** Limits how many messages are started in a time; retries count as well. */
  readonly rateLimit?: RateLimit | undefined;
  /** Messages of the same key are handled one after the other; undefined is no key. */
  readonly keyOf?: ((message: StreamMessage) => string | undefined) | undefined;
  /** Resolves when the handlers are done. Each delivery is settled by then, or later by its handler. */
  readonly deliver: (deliveries: readonly Delivery[]) => Promise<void> | undefined;
  /** Called when `deliver` has failed; settles the deliveries that are not settled. */
  readonly onFailed: (deliveries: readonly Delivery[], error: unknown) => void;
  /** Stores a message as a dead letter; the dispatcher acknowledges it afterwards. */
  readonly storeDeadLetter: (message: StreamMessage, settlement: Settlement & { kind: 'dead-letter' }) => Promise<void>;
  readonly onError: (error: RedisStreamsError) => void;
}

/**
 * Parked messages that occupy no place in the buffer. One key whose first message keeps failing must not stop the other keys;
 * past this number, further messages of parked keys occupy places, and in the end reading stops.
 */
export const MAX_PARKED_OUTSIDE = 1_000;

/** How long handlers that have a signal may take to heed it when the server closes, in milliseconds. */
export const ABORT_GRACE = 500;

/** Delay after which a message whose dead letter could not be stored is handed out again, in milliseconds. */
export const DEAD_LETTER_RETRY_DELAY = 5_000;
