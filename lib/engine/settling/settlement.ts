import type { StreamMessage } from '../messages/stream-message.js';

/**
 * How the handling of a message ended: acknowledged; to be handed out again after a delay; moved to the dead letters; or
 * left pending, for whoever claims idle entries.
 */
export type Settlement =
  | { readonly kind: 'ack' }
  | { readonly kind: 'retry'; readonly delay: number }
  | { readonly kind: 'dead-letter'; readonly reason: string; readonly error?: unknown }
  | { readonly kind: 'pending' };

/** One message in the hands of one handler. The first settlement wins; a later one changes nothing. */
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

  /** False when the message was settled before. */
  settle(settlement: Settlement): boolean {
    if (this.#settlement) return false;
    this.#settlement = settlement;
    this.#apply(this.message, settlement);
    return true;
  }
}
