/** Width of a column, in milliseconds. */
export const SPAN = 250;

/** Something that happened to a process. */
export interface Mark {
  /** Milliseconds since the first order. */
  readonly at: number;
  readonly text: string;
}

/** When each instance handled how many orders. */
export class Timeline {
  readonly marks: Mark[] = [];
  readonly #handled = new Map<string, number[]>();
  readonly #now: () => number;
  #start: number | undefined;
  /** What became of the orders; empty until the run has ended. */
  summary = '';

  /** @param now milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** An instance has handled an order. Time begins with the first one. */
  add(instance: string): void {
    const columns = this.#handled.get(instance) ?? [];
    const column = Math.floor(this.#elapsed() / SPAN);
    columns[column] = (columns[column] ?? 0) + 1;
    this.#handled.set(instance, columns);
  }

  mark(text: string): void {
    this.marks.push({ at: this.#elapsed(), text });
  }

  /** The number of columns in which an instance handled orders, or another one did after it. */
  get length(): number {
    return Math.max(0, ...Array.from(this.#handled.values(), (columns) => columns.length));
  }

  /** Orders per second of an instance, by column. */
  rates(instance: string): number[] {
    const columns = this.#handled.get(instance) ?? [];
    return Array.from({ length: this.length }, (_, column) => ((columns[column] ?? 0) * 1_000) / SPAN);
  }

  #elapsed(): number {
    this.#start ??= this.#now();
    return this.#now() - this.#start;
  }
}
