import { HandlingAbortedError } from '../../errors.js';
import type { AbortReason } from '../../errors.js';
import { monotonicNow } from '../../shared/clock.js';
import { MAX_TIME } from '../../shared/option-checks.js';
import type { StreamMessage } from '../messages/stream-message.js';

/**
 * How the handling of a message ended: it is acknowledged, handed out again after a delay, stored as a dead letter, or left
 * pending for a consumer that claims idle entries. A retry that is not counted has the delivery count of this delivery again.
 * `alone`: it is one of a batch that failed, and is handled next as a batch of one, which for the server is the same delivery.
 */
export type Settlement =
  | { readonly kind: 'ack' }
  | { readonly kind: 'retry'; readonly delay: number; readonly isUncounted?: boolean }
  | { readonly kind: 'dead-letter'; readonly reason: string; readonly error?: unknown }
  | { readonly kind: 'alone' }
  | { readonly kind: 'pending' };

/** One message that was given to a handler. The first settlement wins; a later one changes nothing. */
export class Delivery {
  readonly message: StreamMessage;
  /** The error with which its handler failed, for telemetry. */
  failure: unknown;
  /** It was read after its time, and reached no handler. */
  isExpired = false;
  readonly #apply: (message: StreamMessage, settlement: Settlement) => void;
  #settlement: Settlement | undefined;
  /** Made when a handler asks for its signal. */
  #controller: AbortController | undefined;
  #abortion: HandlingAbortedError | undefined;
  /** When its lease is no longer renewed, on the monotonic clock. */
  readonly #limit: number;
  #deadline: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param limit when the handler should have ended, on the monotonic clock */
  constructor(
    message: StreamMessage,
    apply: (message: StreamMessage, settlement: Settlement) => void,
    limit = Infinity,
  ) {
    this.message = message;
    this.#apply = apply;
    this.#limit = limit;
  }

  get settlement(): Settlement | undefined {
    return this.#settlement;
  }

  /** Returns false when the message was settled before. */
  settle(settlement: Settlement): boolean {
    if (this.#settlement) return false;
    this.#settlement = settlement;
    this.deadline = undefined;
    this.#apply(this.message, settlement);
    return true;
  }

  /** Aborted when the handler should stop. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#abortion) this.#controller.abort(this.#abortion);
      this.#watchTime();
    }
    return this.#controller.signal;
  }

  /** Whether a handler has asked for the signal. */
  get hasSignal(): boolean {
    return this.#controller !== undefined;
  }

  /** Why the signal is aborted, or would be if it were asked for; undefined while the handler has a purpose. */
  get abortReason(): AbortReason | undefined {
    return this.#abortion?.reason;
  }

  /** The first call wins. */
  abort(reason: AbortReason): void {
    if (this.#abortion) return;
    this.#abortion = new HandlingAbortedError(reason);
    this.#controller?.abort(this.#abortion);
  }

  /** When nothing waits for the outcome any more, on the monotonic clock; undefined: never. */
  set deadline(deadline: number | undefined) {
    this.#deadline = deadline;
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#controller) this.#watchTime();
  }

  #watchTime(): void {
    const deadline = this.#deadline ?? Infinity;
    const end = Math.min(deadline, this.#limit);
    if (this.#settlement || end === Infinity) return;
    // Clients in any language set deadlines, also such that no timer can wait for.
    const wait = Math.min(Math.max(0, end - monotonicNow()), MAX_TIME);
    this.#timer = setTimeout(() => this.abort(deadline === end ? 'deadline' : 'max-handler-time'), wait);
    this.#timer.unref();
  }
}
