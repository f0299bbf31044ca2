/** Milliseconds without an answer that are silence of Redis, and not work. */
const SILENCE = 1_000;

/**
 * How long Redis works on the looks at one topic: the time from each answer to the next. Silence does not count: Redis was stopped,
 * or busy with something else. Only if the look before was silent too its first second does, because a stream of thousands of shards may
 * need as long each time.
 */
export class LookCost {
  #value = 0;
  #current = 0;
  #answeredAt = 0;
  #isSilent = false;
  #wasSilent = false;

  /** Milliseconds, of the last look. */
  get value(): number {
    return this.#value;
  }

  start(): void {
    this.#answeredAt = performance.now();
    this.#current = 0;
    this.#wasSilent = this.#isSilent;
    this.#isSilent = false;
  }

  /** Redis has answered. */
  progress(): void {
    const now = performance.now();
    const time = now - this.#answeredAt;
    this.#answeredAt = now;
    if (time > SILENCE) this.#isSilent = true;
    this.#current += time <= SILENCE ? time : this.#wasSilent ? SILENCE : 0;
  }

  end(): void {
    this.progress();
    this.#value = this.#current;
  }
}
