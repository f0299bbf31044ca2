import type { ServiceEvent } from '../../driver/service.js';

/** The orders that one service, or one instance of it, has handled. */
export class Tally {
  /** Number of times each order was handled. */
  readonly #orders = new Map<string, number>();
  readonly #latencies: number[] = [];
  #redelivered = 0;

  add({ order, delivery, latency }: ServiceEvent): void {
    this.#orders.set(String(order), (this.#orders.get(String(order)) ?? 0) + 1);
    if (Number(delivery) > 1) this.#redelivered += 1;
    this.#latencies.push(Number(latency));
  }

  /** Orders that were handled, each counted once. */
  get handled(): number {
    return this.#orders.size;
  }

  /** Deliveries that were not the first of their order. */
  get redelivered(): number {
    return this.#redelivered;
  }

  missing(accepted: ReadonlySet<string>): number {
    let missing = 0;
    for (const order of accepted) if (!this.#orders.has(order)) missing += 1;
    return missing;
  }

  /** Percentile of the milliseconds from the HTTP request to the handler; `share` is 0 to 1. */
  latency(share: number): number {
    const sorted = [...this.#latencies].sort((a, b) => a - b);
    return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
  }
}

/** The tallies, by instance and by service; `orders-1` is an instance of `orders`. */
export class Tallies {
  readonly #tallies = new Map<string, Tally>();

  of(name: string): Tally {
    const tally = this.#tallies.get(name) ?? new Tally();
    this.#tallies.set(name, tally);
    return tally;
  }

  add(instance: string, event: ServiceEvent): void {
    if (event.event !== 'handled') return;
    const service = instance.replace(/-\d+$/, '');
    for (const name of new Set([instance, service])) this.of(name).add(event);
  }
}
