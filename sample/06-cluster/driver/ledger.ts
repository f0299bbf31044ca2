import type { Order } from '../shop.js';

/** One handling of an order. */
export interface Handling extends Order {
  readonly shard: number;
  /** Rises with every owner of the shard. */
  readonly token: number;
  /** In microseconds, by the clock of all processes. */
  readonly at: number;
}

export interface Result {
  readonly confirmed: number;
  /** Sends that failed, by the codes of their errors. */
  readonly unconfirmed: ReadonlyMap<string, number>;
  /** Orders, each counted once. */
  readonly handled: number;
  /** Handlings that were not the first of their order, by what happened last before them. */
  readonly duplicates: ReadonlyMap<string, number>;
  readonly outOfOrder: readonly string[];
  readonly lost: readonly string[];
}

/** Notes what the services report, and compares it in the end. */
export class Ledger {
  readonly #confirmed = new Set<string>();
  readonly #unconfirmed = new Map<string, number>();
  readonly #handled = new Set<string>();
  readonly #handlings: Array<Handling & { readonly phase: string }> = [];
  readonly #storedOf = new Map<number, number>();
  readonly #confirmedOf = new Map<number, number>();
  readonly #handledOf = new Map<number, number>();
  #phase = '';

  /** Something happens: from now on duplicates are counted under its name. */
  begin(phase: string): void {
    this.#phase = phase;
  }

  confirm(order: Order, shard: number): void {
    this.#confirmed.add(nameOf(order));
    increment(this.#confirmedOf, shard);
    increment(this.#storedOf, shard);
  }

  /** @param shard that has the order; undefined where that is not known */
  fail(code: string, shard: number | undefined): void {
    increment(this.#unconfirmed, code);
    if (shard !== undefined) increment(this.#storedOf, shard);
  }

  handle(handling: Handling): void {
    this.#handlings.push({ ...handling, phase: this.#phase });
    const order = nameOf(handling);
    if (this.#handled.has(order)) return;
    this.#handled.add(order);
    increment(this.#handledOf, handling.shard);
  }

  get sent(): number {
    return this.#confirmed.size + sum(this.#unconfirmed);
  }

  get handled(): number {
    return this.#handled.size;
  }

  handledOf(shard: number): number {
    return this.#handledOf.get(shard) ?? 0;
  }

  confirmedOf(shard: number): number {
    return this.#confirmedOf.get(shard) ?? 0;
  }

  /** Orders of a shard that are stored and not handled. */
  lagOf(shard: number): number {
    return Math.max(0, (this.#storedOf.get(shard) ?? 0) - this.handledOf(shard));
  }

  get lost(): string[] {
    return [...this.#confirmed].filter((order) => !this.#handled.has(order));
  }

  result(): Result {
    const [duplicates, first] = [new Map<string, number>(), new Set<string>()];
    const highest = new Map<string, number>();
    const outOfOrder: string[] = [];
    for (const handling of [...this.#handlings].sort((one, other) => one.at - other.at)) {
      const { customer, number, phase } = handling;
      if (first.has(nameOf(handling))) {
        increment(duplicates, phase);
        continue;
      }
      first.add(nameOf(handling));
      const before = highest.get(customer) ?? 0;
      if (number < before) outOfOrder.push(`${nameOf(handling)} after ${before}, ${phase}`);
      highest.set(customer, Math.max(number, before));
    }
    const { lost } = this;
    return {
      confirmed: this.#confirmed.size,
      unconfirmed: this.#unconfirmed,
      handled: this.handled,
      duplicates,
      outOfOrder,
      lost,
    };
  }
}

export function sum(counts: ReadonlyMap<unknown, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}

function nameOf({ customer, number }: Order): string {
  return `${customer}#${number}`;
}

function increment<Key>(counts: Map<Key, number>, key: Key): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
