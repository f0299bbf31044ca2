import { setTimeout as pause } from 'node:timers/promises';

import { SHARDS } from '../shop.js';
import { addressOf } from './fleet.js';
import type { Fleet } from './fleet.js';
import type { Ledger } from './ledger.js';

/** One row of the table. */
export interface ShardView {
  readonly shard: number;
  /** The port of the master that serves it. */
  readonly node: string;
  /** The instance that owns it, `-` while there is none. */
  readonly owner: string;
  readonly generation: string;
  /** Orders that are handled in a second. */
  readonly rate: number;
  readonly lag: number;
}

const INTERVAL = 500;
/** Rates are means of so many intervals. */
const MEAN_OF = 4;
const NO_OWNER = '-';

/** Looks at the shards again and again: whose they are by Redis, and how they proceed by the ledger. */
export class Watch {
  readonly #fleet: Fleet;
  readonly #ledger: Ledger;
  readonly #end = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #owners = new Map<number, { owner: string; generation: string }>();
  #nodes: readonly string[] = [];
  readonly #looks: Array<{ readonly at: number; readonly handled: readonly number[] }> = [];

  constructor(fleet: Fleet, ledger: Ledger) {
    this.#fleet = fleet;
    this.#ledger = ledger;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#end.abort();
    await this.#running;
  }

  get shards(): ShardView[] {
    return all.map((shard) => {
      const { owner = NO_OWNER, generation = NO_OWNER } = this.#owners.get(shard) ?? {};
      const node = this.#nodes[shard] ?? NO_OWNER;
      return { shard, node, owner, generation, rate: this.#rateOf(shard), lag: this.#ledger.lagOf(shard) };
    });
  }

  /** How many shards each instance owns. */
  get shares(): ReadonlyMap<string, number> {
    const shares = new Map<string, number>();
    for (const { owner } of this.#owners.values()) shares.set(owner, (shares.get(owner) ?? 0) + 1);
    shares.delete(NO_OWNER);
    return shares;
  }

  #rateOf(shard: number): number {
    const [first, last] = [this.#looks[0], this.#looks.at(-1)];
    if (!first || !last || first === last) return 0;
    const handled = (last.handled[shard] ?? 0) - (first.handled[shard] ?? 0);
    return Math.round((handled * 1_000) / (last.at - first.at));
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      this.#looks.push({ at: performance.now(), handled: all.map((shard) => this.#ledger.handledOf(shard)) });
      if (this.#looks.length > MEAN_OF) this.#looks.shift();
      // While a master is down, what was seen last stays in the table.
      await Promise.allSettled([this.#lookAtOwners(), this.#lookAtNodes()]);
      await pause(INTERVAL, undefined, { signal }).catch(() => undefined);
    }
  }

  async #lookAtOwners(): Promise<void> {
    const owners = await this.#fleet.owners();
    this.#owners = new Map(
      owners.map(({ shardId, owner = NO_OWNER, generation }) => [
        shardId,
        // A part of the name is random, because a lease is known by the name of its owner.
        { owner: /^billing-\d+/.exec(owner)?.[0] ?? owner, generation: String(generation ?? NO_OWNER) },
      ]),
    );
  }

  async #lookAtNodes(): Promise<void> {
    this.#nodes = (await Promise.all(all.map((shard) => this.#fleet.masterOf(shard)))).map(addressOf);
  }
}

const all = Array.from({ length: SHARDS }, (_, shard) => shard);
