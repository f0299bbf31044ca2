/** Milliseconds between two looks, at most. */
const LONGEST = 600_000;

export interface PaceOptions {
  /** Milliseconds between two looks, at least. */
  readonly interval: number;
  /** Redis spends one part in so many of its time on everything that is looked at. */
  readonly rest: number;
}

/**
 * Decides how long each topic waits between two looks. All of them share a part of Redis's time: each gets an equal share of it, and
 * what a topic does not need, because it is cheap, is shared by the others. So an expensive topic makes itself slower, not the cheap
 * ones.
 */
export class Pace {
  readonly #options: PaceOptions;
  /** Milliseconds that the last look at each topic took. */
  readonly #costs = new Map<object, number>();

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  /** @param topic which is looked at */
  note(topic: object, cost: number): void {
    this.#costs.set(topic, cost);
  }

  /** The topic has no viewers. */
  forget(topic: object): void {
    this.#costs.delete(topic);
  }

  /** Milliseconds from the end of a look at the topic to the next one. */
  pauseOf(topic: object): number {
    const pause = (this.#costs.get(topic) ?? 0) / this.#largestShare();
    return Math.round(Math.min(LONGEST, Math.max(this.#options.interval, pause)));
  }

  /** The part of Redis's time that a topic may have when the cheaper ones have what they need; infinite if it suffices for all. */
  #largestShare(): number {
    const { interval, rest } = this.#options;
    let left = 1 / rest;
    let topics = this.#costs.size;
    for (const cost of [...this.#costs.values()].sort((one, other) => one - other)) {
      if (cost / interval > left / topics) break;
      left -= cost / interval;
      topics -= 1;
    }
    return topics === 0 ? Infinity : left / topics;
  }
}
