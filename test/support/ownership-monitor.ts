import { setTimeout as pause } from 'node:timers/promises';

import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import type { FaultBench } from './fault-bench.js';

const INTERVAL = 20;

/** Polls the owners of a group's pending entries until it is stopped or the test ends. */
export class OwnershipMonitor {
  /** Entries that changed their owner. */
  readonly moves: string[] = [];
  /** Entries with a delivery count other than 1. */
  readonly redeliveries: string[] = [];
  readonly #owners = new Map<string, string>();
  readonly #watching: Promise<void>;
  #isOver = false;

  constructor(bench: FaultBench, client: RedisClient, stream: string, group: string) {
    const look = async (): Promise<void> => {
      const rows = (await client.xpending(stream, group, '-', '+', 10_000)) as Array<[string, string, number, number]>;
      for (const [id, consumer, , deliveryCount] of rows) {
        const owner = this.#owners.get(id) ?? consumer;
        if (owner !== consumer) this.moves.push(`${id}: ${owner}, then ${consumer}`);
        if (deliveryCount !== 1) this.redeliveries.push(`${id}: ${deliveryCount}`);
        this.#owners.set(id, consumer);
      }
    };
    const watch = async (): Promise<void> => {
      while (!this.#isOver) {
        // The group may not exist yet, and the server may already be stopped.
        await look().catch(() => undefined);
        await pause(INTERVAL);
      }
    };
    this.#watching = watch();
    bench.endLater(() => this.stop());
  }

  /** Number of pending entries seen. */
  get seen(): number {
    return this.#owners.size;
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#watching;
  }
}
