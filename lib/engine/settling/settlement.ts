import type { StreamMessage } from '../messages/stream-message.js';

/**
 * How the handling of a message ended: it is acknowledged, handed out again after a delay, stored as a dead letter, or left
 * pending for a consumer that claims idle entries.
 */
export type Settlement =
  | { readonly kind: 'ack' }
  | { readonly kind: 'retry'; readonly delay: number }
  | { readonly kind: 'dead-letter'; readonly reason: string; readonly error?: unknown }
  | { readonly kind: 'pending' };

/** One message that was given to a handler. The first settlement wins; a later one changes nothing. */
export class Delivery {
  readonly message: StreamMessage;
  readonly #apply: (message: StreamMessage, settlement: Settlement) => void;
  #settlement: Settlement | undefined;

  constructor(message: StreamMessage, apply: (message: StreamMessage, settlement: Settlement) => void) {
    this.message = message;
    this.#apply = apply;
  }

  get settlement(): Settlement | undefined {
    return this.#settlement;
  }

  /** Returns false when the message was settled before. */
  settle(settlement: Settlement): boolean {
    if (this.#settlement) return false;
    this.#settlement = settlement;
    this.#apply(this.message, settlement);
    return true;
  }
}
