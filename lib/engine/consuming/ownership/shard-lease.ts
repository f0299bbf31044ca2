import { monotonicNow } from '../../../shared/clock.js';
import type { HeldLease } from '../../../redis/commands/shard-owners.js';

/** The fraction of the lease time, after a renewal was sent, in which the lease counts as ours. In the rest, running handlers may end. */
const SAFE_FRACTION = 0.8;

/**
 * The right of this process to hand out the messages of a shard. It ends by the clock of this process, and earlier than on the
 * server, so that no message is handed out here after another consumer may have got the shard.
 */
export class ShardLease implements HeldLease {
  readonly streamKey: string;
  readonly group: string;
  readonly consumer: string;
  readonly generation: bigint;
  readonly #leaseTime: number;
  readonly #renewedByThread: () => number;
  #validUntil: number;
  #hasEnded = false;

  /**
   * @param sentAt when the lease was asked for, on the monotonic clock
   * @param renewedByThread when a thread sent its last renewal that has succeeded, on the same clock
   */
  constructor(
    { streamKey, group, consumer, generation }: HeldLease,
    sentAt: number,
    leaseTime: number,
    renewedByThread: () => number,
  ) {
    this.streamKey = streamKey;
    this.group = group;
    this.consumer = consumer;
    this.generation = generation;
    this.#leaseTime = leaseTime;
    this.#renewedByThread = renewedByThread;
    this.#validUntil = this.#endOf(sentAt);
  }

  get isValid(): boolean {
    if (this.#hasEnded) return false;
    const now = monotonicNow();
    return now < this.#validUntil || now < this.#endOf(this.#renewedByThread());
  }

  /** A message of the shard was passed over, or the shard was given up: a renewal does not make it valid again. */
  get isEnded(): boolean {
    return this.#hasEnded;
  }

  /** @param sentAt when the renewal that has succeeded was sent */
  extend(sentAt: number): void {
    this.#validUntil = Math.max(this.#validUntil, this.#endOf(sentAt));
  }

  /** Nothing of the shard is handed out any more. */
  end(): void {
    this.#hasEnded = true;
  }

  /** @param sentAt when the request that was granted was sent */
  #endOf(sentAt: number): number {
    return sentAt + SAFE_FRACTION * this.#leaseTime;
  }
}
