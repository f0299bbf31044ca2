import { monotonicNow } from '../../shared/clock.js';
import type { Partition } from '../consuming/partition.js';

interface DelayedAck {
  readonly stream: Partition;
  readonly id: string;
  readonly dueAt: number;
}

/** Acknowledges each message some time after it was handed out (`autoCommit: 'delayed'`). The delay is the same for all. */
export class DelayedAcks {
  readonly #delay: number;
  readonly #ack: (stream: Partition, id: string) => void;
  #queue: DelayedAck[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(delay: number, ack: (stream: Partition, id: string) => void) {
    this.#delay = delay;
    this.#ack = ack;
  }

  add(stream: Partition, id: string): void {
    if (this.#delay === 0) {
      this.#ack(stream, id);
      return;
    }
    this.#queue.push({ stream, id, dueAt: monotonicNow() + this.#delay });
    this.#timer ??= setTimeout(() => this.#release(), this.#delay);
  }

  /** Acknowledges everything now. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const { stream, id } of this.#queue) this.#ack(stream, id);
    this.#queue = [];
  }

  #release(): void {
    const now = monotonicNow();
    const firstLater = this.#queue.findIndex(({ dueAt }) => dueAt > now);
    const due = this.#queue.splice(0, firstLater === -1 ? this.#queue.length : firstLater);
    for (const { stream, id } of due) this.#ack(stream, id);
    const next = this.#queue[0];
    this.#timer = next ? setTimeout(() => this.#release(), Math.max(1, next.dueAt - now)) : undefined;
  }
}
