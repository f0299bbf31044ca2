/** Stands for all values of a label that are over the limit. */
export const OTHER = '(other)';

/**
 * Bounds the distinct values of one label. Streams may be named at run time, one for each customer for instance, and each name
 * would cost the monitoring system a series for ever. It never forgets a value: a series that returns must be the same one.
 */
export class LabelValues {
  readonly #max: number;
  readonly #onFull: () => void;
  readonly #known = new Set<string>();
  #isFull = false;

  /** @param onFull called once, when the first value is left out */
  constructor(max: number, onFull: () => void) {
    this.#max = max;
    this.#onFull = onFull;
  }

  of(value: string): string {
    if (this.#known.has(value)) return value;
    if (this.#known.size < this.#max) {
      this.#known.add(value);
      return value;
    }
    if (!this.#isFull) this.#onFull();
    this.#isFull = true;
    return OTHER;
  }
}
