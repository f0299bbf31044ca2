import { ServiceUnavailableException } from '@nestjs/common';
import type { Topic } from './topic.js';

export interface TopicsOptions {
  /** Topics that have viewers at the same time. */
  readonly most: number;
  /** Milliseconds that a topic is kept after its last viewer has left. */
  readonly keep: number;
}

/**
 * The topics by their keys: those that have viewers, and those whose last viewer has left a moment ago. A viewer who loads the page
 * again, or comes back to it, finds what was measured before, and gets no look that comes earlier than for one who has stayed.
 */
export class Topics {
  readonly #options: TopicsOptions;
  readonly #topics = new Map<string, Topic<unknown>>();
  /** The topics without viewers, the one that was left first at the beginning. */
  readonly #left = new Map<string, NodeJS.Timeout>();
  readonly #onEmpty: () => void;
  #isClosed = false;

  /** @param onEmpty the last topic is gone */
  constructor(options: TopicsOptions, onEmpty: () => void) {
    this.#options = options;
    this.#onEmpty = onEmpty;
  }

  get size(): number {
    return this.#topics.size;
  }

  [Symbol.iterator](): IterableIterator<[string, Topic<unknown>]> {
    return this.#topics.entries();
  }

  /** @throws ServiceUnavailableException when there are too many for one more */
  requireRoom(key: string): void {
    if (this.#topics.has(key) || this.#topics.size - this.#left.size < this.#options.most) return;
    throw new ServiceUnavailableException(
      `The console shows ${this.#options.most} views at the same time, and no more; close some of its pages`,
    );
  }

  /** The topic of a key, which is about to be watched. @throws ServiceUnavailableException, see {@link requireRoom} */
  take<T>(key: string, create: () => Topic<T>): Topic<T> {
    this.requireRoom(key);
    clearTimeout(this.#left.get(key));
    this.#left.delete(key);
    const known = this.#topics.get(key);
    if (known) return known as Topic<T>;
    const [first] = this.#left.keys();
    if (first !== undefined && this.#topics.size >= this.#options.most) this.#drop(first);
    const topic = create();
    this.#topics.set(key, topic as Topic<unknown>);
    return topic;
  }

  /** The last viewer of a topic has left. */
  leave(key: string): void {
    if (this.#isClosed) return this.#drop(key);
    this.#left.set(key, setTimeout(() => this.#drop(key), this.#options.keep).unref());
  }

  /** Keeps no topic any more that has no viewers. */
  close(): void {
    this.#isClosed = true;
    for (const key of this.#left.keys()) this.#drop(key);
  }

  #drop(key: string): void {
    clearTimeout(this.#left.get(key));
    this.#left.delete(key);
    this.#topics.delete(key);
    if (this.#topics.size === 0) this.#onEmpty();
  }
}
