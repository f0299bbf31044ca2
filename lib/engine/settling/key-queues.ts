import { takeFrom } from '../../shared/take-from.js';
import type { StreamMessage } from '../messages/stream-message.js';

interface KeyQueue {
  /** Id of the message that the others of its key wait for: it is in a handler, or waits for its retry. */
  owner: string;
  readonly parked: StreamMessage[];
}

/**
 * Keeps the messages of one key in order: a queue for each key that has an unsettled message. The message that owns the queue
 * may be handled; the others are parked until it is settled finally, retries included. Messages of other keys, and those
 * without a key, never wait for them.
 */
export class KeyQueues {
  readonly #keyOf: (message: StreamMessage) => string | undefined;
  readonly #queues = new Map<string, KeyQueue>();
  #runnable: StreamMessage[] = [];

  constructor(keyOf: (message: StreamMessage) => string | undefined) {
    this.#keyOf = keyOf;
  }

  /** True when the message may be handled now; otherwise it is parked, and {@link next} returns it when it is its turn. */
  enter(message: StreamMessage): boolean {
    const key = this.#keyOf(message);
    if (key === undefined) return true;
    const queue = this.#queues.get(key);
    if (!queue) {
      this.#queues.set(key, { owner: message.id, parked: [] });
      return true;
    }
    // A retry of the owner enters again.
    if (queue.owner === message.id) return true;
    queue.parked.push(message);
    return false;
  }

  /** Parked messages whose turn it is. */
  get runnable(): number {
    return this.#runnable.length;
  }

  /** Every message that no handler was given. */
  get waiting(): StreamMessage[] {
    return [...this.#runnable, ...[...this.#queues.values()].flatMap(({ parked }) => parked)];
  }

  /** A parked message whose turn it is. */
  next(): StreamMessage | undefined {
    return this.#runnable.shift();
  }

  /** The message is settled finally, or another consumer has it: the next one of its key may be handled. */
  leave(message: StreamMessage): void {
    const key = this.#keyOf(message);
    const queue = key === undefined ? undefined : this.#queues.get(key);
    if (key === undefined || queue?.owner !== message.id) return;
    const next = queue.parked.shift();
    if (!next) {
      this.#queues.delete(key);
      return;
    }
    queue.owner = next.id;
    this.#runnable.push(next);
  }

  /** Removes and returns the messages that were not returned by {@link next} and that the predicate accepts. */
  withdraw(isWanted: (message: StreamMessage) => boolean): StreamMessage[] {
    const withdrawn: StreamMessage[] = [];
    for (const queue of this.#queues.values()) {
      withdrawn.push(...takeFrom(queue.parked, isWanted));
    }
    const runnable = takeFrom(this.#runnable, isWanted);
    for (const message of runnable) this.leave(message);
    return [...withdrawn, ...runnable];
  }

  /** Removes and returns every message that no handler was given. */
  drain(): StreamMessage[] {
    const { waiting } = this;
    this.#runnable = [];
    this.#queues.clear();
    return waiting;
  }
}
