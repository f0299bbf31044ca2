import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';

/**
 * Owns the messages that were read and not yet handed out: bounded, first in first out.
 *
 * Its free places are the credit of a read, which reserves those that it asks for until it comes back. With
 * `holdsUntilReleased` a message occupies its place until {@link release}, so that buffered messages and those in handlers
 * together never exceed the capacity.
 */
export class MessageBuffer<T> {
  readonly #holdsUntilReleased: boolean;
  #capacity = 0;
  #batchSize = 0;
  #items: Array<T | undefined> = [];
  #head = 0;
  #inFlight = 0;
  #reserved = 0;
  #reservedForLong = 0;
  #room: Deferred<void> | undefined;
  #onArrival: () => void = () => undefined;

  /** @param batchSize most entries of one read; reading resumes once there is room for them, or for half of the capacity */
  constructor(capacity: number, batchSize: number, holdsUntilReleased = false) {
    this.#holdsUntilReleased = holdsUntilReleased;
    this.resize(capacity, batchSize);
  }

  get capacity(): number {
    return this.#capacity;
  }

  get batchSize(): number {
    return this.#batchSize;
  }

  /** Buffered messages stay, even if the new capacity is smaller. */
  resize(capacity: number, batchSize: number): void {
    this.#capacity = capacity;
    this.#batchSize = batchSize;
    this.#announceRoom();
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  /** How many more messages may be read. */
  get credit(): number {
    return Math.max(0, this.#free - this.#reserved);
  }

  /**
   * Keeps places for a read. Returns the function that gives them back; a second call does nothing.
   * @param isForLong the read may block: the places are not counted on for a larger read
   */
  reserve(places: number, isForLong = false): () => void {
    this.#reserved += places;
    if (isForLong) this.#reservedForLong += places;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#reserved -= places;
      if (isForLong) this.#reservedForLong -= places;
      this.#announceRoom();
    };
  }

  /** How many buffered messages the predicate accepts. */
  count(predicate: (item: T) => boolean): number {
    return (this.#items.slice(this.#head) as T[]).filter(predicate).length;
  }

  /** Messages that were taken and still occupy their place. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Whether there are enough free places for a read. */
  get hasRoom(): boolean {
    return this.credit >= this.#lowWater(this.#capacity - this.#reservedForLong);
  }

  /** Nothing is left to take, and the messages that were taken occupy too many places for a read. */
  get isStarved(): boolean {
    return this.size === 0 && this.#free < this.#lowWater(this.#capacity);
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

  /** Puts messages before all others. They may take more places than are free; then reading waits. */
  putBack(items: readonly T[]): void {
    if (items.length === 0) return;
    this.#reset([...items, ...this.#items.slice(this.#head)]);
    this.#onArrival();
  }

  take(): T | undefined {
    if (this.size === 0) return undefined;
    const item = this.#items[this.#head] as T;
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) this.#reset([]);
    else if (this.#head >= 1_024 && this.#head * 2 > this.#items.length) this.#reset(this.#items.slice(this.#head));
    if (this.#holdsUntilReleased) this.#inFlight += 1;
    else this.#announceRoom();
    return item;
  }

  /** Frees the place of a message that was taken. */
  release(): void {
    this.#inFlight -= 1;
    this.#announceRoom();
  }

  /** Occupies a place again for a message whose place was freed before. */
  occupy(): void {
    this.#inFlight += 1;
  }

  /** Removes and returns the messages that the predicate accepts, in order. */
  remove(predicate: (item: T) => boolean): T[] {
    const kept: T[] = [];
    const removed: T[] = [];
    for (const item of this.#items.slice(this.#head) as T[]) (predicate(item) ? removed : kept).push(item);
    this.#reset(kept);
    this.#announceRoom();
    return removed;
  }

  /** Resolves when there is room for a read: at low water, not for every free place. {@link wake} ends it too. */
  async room(): Promise<void> {
    if (this.hasRoom) return;
    this.#room ??= withResolvers<void>();
    await this.#room.promise;
  }

  /** Ends a wait for room, so that the read loop runs its periodic tasks. */
  wake(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  get #free(): number {
    return this.#capacity - this.size - this.#inFlight;
  }

  #lowWater(places: number): number {
    return Math.max(1, Math.min(this.#batchSize, Math.ceil(places / 2)));
  }

  #announceRoom(): void {
    if (this.#room && this.hasRoom) this.wake();
  }

  #reset(items: Array<T | undefined>): void {
    this.#items = items;
    this.#head = 0;
  }
}
