import { setTimeout as pause } from 'node:timers/promises';

export interface TrafficOptions {
  /** Where the gateway accepts orders. */
  readonly url: string;
  readonly seconds: number;
  /** Orders per second. */
  readonly rate: number;
  readonly signal: AbortSignal;
}

/** Customers who place orders concurrently. */
const CUSTOMERS = 16;
const ITEMS = ['tea', 'coffee', 'sugar', 'milk'];

/** Sends HTTP requests at a steady rate and counts the answers. */
export class Traffic {
  /** Ids of the orders that the gateway has accepted: none of them may be lost. */
  readonly accepted = new Set<string>();
  readonly #options: TrafficOptions;
  #placed = 0;
  #refused = 0;
  #lastRefusal = '';

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  /** Requests that were not answered with 201. Their orders may or may not be in the stream. */
  get refused(): number {
    return this.#refused;
  }

  get lastRefusal(): string {
    return this.#lastRefusal;
  }

  /** Resolves when the last request was answered. */
  async run(): Promise<void> {
    const start = performance.now();
    await Promise.all(Array.from({ length: CUSTOMERS }, () => this.#shop(start)));
  }

  /** Each order has its time; a customer who is late places the order at once. */
  async #shop(start: number): Promise<void> {
    const { seconds, rate, signal } = this.#options;
    while (!signal.aborted) {
      const dueAt = (this.#placed++ / rate) * 1_000;
      if (dueAt >= seconds * 1_000) return;
      const wait = start + dueAt - performance.now();
      if (wait > 0) await pause(wait);
      await this.#order();
    }
  }

  async #order(): Promise<void> {
    const item = ITEMS[this.#placed % ITEMS.length];
    try {
      const response = await fetch(this.#options.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ item, quantity: 1 }),
      });
      if (response.status !== 201) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
      this.accepted.add(((await response.json()) as { order: string }).order);
    } catch (error) {
      this.#refused += 1;
      this.#lastRefusal = error instanceof Error ? error.message : String(error);
    }
  }
}
