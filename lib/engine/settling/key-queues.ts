import type { StreamMessage } from '../messages/stream-message.js';

interface Lane {
  /** The message that everybody else in the lane waits for: it is in a handler, or waits to be retried. */
  owner: string;
  readonly parked: StreamMessage[];
}

/**
 * Keeps messages with the same key in their order: one lane for each key that has a message under way. A message that
 * fails keeps its lane until it is settled for good, and holds up nobody outside of it. Messages without a key have no lane.
 */
export class KeyQueues {
  readonly #keyOf: (message: StreamMessage) => string | undefined;
  readonly #lanes = new Map<string, Lane>();
  #runnable: StreamMessage[] = [];

  constructor(keyOf: (message: StreamMessage) => string | undefined) {
    this.#keyOf = keyOf;
  }

  /** True when the message may be handled now; otherwise it is parked, and comes out of {@link next} when its turn is there. */
  enter(message: StreamMessage): boolean {
    const key = this.#keyOf(message);
    if (key === undefined) return true;
    const lane = this.#lanes.get(key);
    if (!lane) {
      this.#lanes.set(key, { owner: message.id, parked: [] });
      return true;
    }
    // The owner comes again when it is retried.
    if (lane.owner === message.id) return true;
    lane.parked.push(message);
    return false;
  }

  /** A parked message whose turn it is. */
  next(): StreamMessage | undefined {
    return this.#runnable.shift();
  }

  /** The message is settled for good, or somebody else has it: the next of its lane may go. */
  leave(message: StreamMessage): void {
    const key = this.#keyOf(message);
    const lane = key === undefined ? undefined : this.#lanes.get(key);
    if (key === undefined || lane?.owner !== message.id) return;
    const next = lane.parked.shift();
    if (!next) {
      this.#lanes.delete(key);
      return;
    }
    lane.owner = next.id;
    this.#runnable.push(next);
  }

  /** Everything that no handler has been given yet. */
  drain(): StreamMessage[] {
    const waiting = [...this.#runnable, ...[...this.#lanes.values()].flatMap(({ parked }) => parked)];
    this.#runnable = [];
    this.#lanes.clear();
    return waiting;
  }
}
