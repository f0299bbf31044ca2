/** How long a suspect keeps the turn: one that has not ended its process by then, or hangs, must not hold up the others. */
const LONGEST_TURN = 10_000;

/**
 * Lets one suspect at a time run, of all consumers of a streamer, so that a process that ends blames one message only.
 * It owns the turn; the suspects that wait stay with their dispatchers.
 */
export class SuspectTurn {
  #holder: object | undefined;
  readonly #waiting = new Set<() => void>();

  /**
   * Returns the function that gives the turn back, or undefined while another suspect has it; then `onFree` is called,
   * once, when it is free.
   */
  enter(onFree: () => void): (() => void) | undefined {
    if (this.#holder) {
      this.#waiting.add(onFree);
      return undefined;
    }
    this.#waiting.delete(onFree);
    const holder = {};
    this.#holder = holder;
    const leave = (): void => {
      clearTimeout(timer);
      if (this.#holder !== holder) return;
      this.#holder = undefined;
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      for (const listener of waiting) listener();
    };
    const timer = setTimeout(leave, LONGEST_TURN);
    return leave;
  }

  /** The listener does not wait any more. */
  forget(onFree: () => void): void {
    this.#waiting.delete(onFree);
  }
}
