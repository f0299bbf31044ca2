import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';

/**
 * What was read and not yet handed out: bounded, first in first out.
 *
 * Its free places are the credit that a read may use. With `holdsUntilReleased` a message keeps its place until
 * {@link release}, so that what is buffered and what is in handlers together never exceed the capacity.
 */
export class MessageBuffer<T> {
  readonly #holdsUntilReleased: boolean;
  #capacity = 0;
  #lowWater = 0;
  #items: Array<T | undefined> = [];
  #head = 0;
  #held = 0;
  #room: Deferred<void> | undefined;
  #onArrival: () => void = () => undefined;

  /** @param page what one read would like to bring; reading resumes once there is room for it, or for half of the capacity. */
  constructor(capacity: number, page: number, holdsUntilReleased = false) {
    this.#holdsUntilReleased = holdsUntilReleased;
    this.resize(capacity, page);
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** What is buffered stays; a smaller capacity holds from then on. */
  resize(capacity: number, page: number): void {
    this.#capacity = capacity;
    this.#lowWater = Math.max(1, Math.min(page, Math.ceil(capacity / 2)));
    this.#announceRoom();
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  /** How many more messages may be read. */
  get credit(): number {
    return Math.max(0, this.#capacity - this.size - this.#held);
  }

  /** How many of the messages that wait to be taken are such. */
  count(predicate: (item: T) => boolean): number {
    return (this.#items.slice(this.#head) as T[]).filter(predicate).length;
  }

  /** Messages that were taken and still hold their place. */
  get held(): number {
    return this.#held;
  }

  /** Whether a read is worth while. */
  get hasRoom(): boolean {
    return this.credit >= this.#lowWater;
  }

  /** Nothing is left to take, and what was taken holds too many places for a read. */
  get isStuck(): boolean {
    return this.size === 0 && !this.hasRoom;
  }

  /** Called after messages arrived. */
  onArrival(listener: () => void): void {
    this.#onArrival = listener;
  }

  push(items: readonly T[]): void {
    if (items.length === 0) return;
    for (const item of items) this.#items.push(item);
    this.#onArrival();
  }

  take(): T | undefined {
    if (this.size === 0) return undefined;
    const item = this.#items[this.#head] as T;
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) this.#reset([]);
    else if (this.#head >= 1_024 && this.#head * 2 > this.#items.length) this.#reset(this.#items.slice(this.#head));
    if (this.#holdsUntilReleased) this.#held += 1;
    else this.#announceRoom();
    return item;
  }

  /** Gives back the place of a message that was taken. */
  release(): void {
    this.#held -= 1;
    this.#announceRoom();
  }

  /** Takes a place again for a message that had given it back. */
  hold(): void {
    this.#held += 1;
  }

  /** Takes out everything that the predicate names, in order. */
  remove(predicate: (item: T) => boolean): T[] {
    const kept: T[] = [];
    const removed: T[] = [];
    for (const item of this.#items.slice(this.#head) as T[]) (predicate(item) ? removed : kept).push(item);
    this.#reset(kept);
    this.#announceRoom();
    return removed;
  }

  /** Resolves once a read is worth while: at low water, not for every single place. Also ended by {@link wake}. */
  async room(): Promise<void> {
    if (this.hasRoom) return;
    this.#room ??= withResolvers<void>();
    await this.#room.promise;
  }

  /** Ends a wait for room, because whoever waits has something else to do. */
  wake(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  #announceRoom(): void {
    if (this.#room && this.hasRoom) this.wake();
  }

  #reset(items: Array<T | undefined>): void {
    this.#items = items;
    this.#head = 0;
  }
}
