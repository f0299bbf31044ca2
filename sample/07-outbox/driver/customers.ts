import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

const NAMES = ['ann', 'bob', 'eve', 'joe'];
const PAUSE = 5;
const ANSWER_LIMIT = 5_000;
const PATIENCE = 60_000;

/** Customers who place one order after the other. One that is not answered is placed again, with the same id. */
export class Customers {
  readonly #url: () => Promise<string>;
  #placed = 0;

  constructor(url: () => Promise<string>) {
    this.#url = url;
  }

  /** Orders that were answered. */
  get placed(): number {
    return this.#placed;
  }

  /** Resolves when the last order was answered after `isOver` has become true. */
  async shop(isOver: () => boolean): Promise<void> {
    const each = async (customer: string): Promise<void> => {
      while (!isOver()) {
        await this.#place(customer);
        this.#placed += 1;
        await pause(PAUSE);
      }
    };
    await Promise.all(NAMES.map(each));
  }

  async #place(customer: string): Promise<void> {
    const id = randomUUID();
    const giveUpAt = Date.now() + PATIENCE;
    for (;;) {
      try {
        const response = await fetch(`${await this.#url()}/${id}`, {
          method: 'PUT',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ customer, item: 'tea' }),
          signal: AbortSignal.timeout(ANSWER_LIMIT),
        });
        if (response.ok) return;
        throw new Error(`HTTP ${response.status}: ${await response.text()}`);
      } catch (error) {
        if (Date.now() > giveUpAt) throw error;
        await pause(PAUSE);
      }
    }
  }
}
