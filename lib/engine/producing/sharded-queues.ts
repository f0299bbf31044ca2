import { monotonicNow } from '../../shared/clock.js';
import type { ShardedStream } from '../messages/outgoing-message.js';
import type { LanePipeline, StreamQueue } from './write-lane.js';

/**
 * Knows the queues of the shards of each stream whose number of shards may change. While such a stream is held, nothing is written
 * to its shards but what only a repetition settles. It never takes a message out of a queue.
 */
export class ShardedQueues {
  readonly #pipeline: Pick<LanePipeline, 'isOver' | 'deadlineOf'>;
  readonly #queues = new WeakMap<object, Set<StreamQueue>>();
  readonly #held = new WeakSet<object>();

  constructor(pipeline: Pick<LanePipeline, 'isOver' | 'deadlineOf'>) {
    this.#pipeline = pipeline;
  }

  add(queue: StreamQueue): void {
    const { sharded } = queue;
    if (!sharded) return;
    queue.isClosed = this.#held.has(sharded);
    const queues = this.#queues.get(sharded);
    if (queues) queues.add(queue);
    else this.#queues.set(sharded, new Set([queue]));
  }

  remove(queue: StreamQueue): void {
    if (queue.sharded) this.#queues.get(queue.sharded)?.delete(queue);
  }

  of(sharded: ShardedStream): StreamQueue[] {
    return [...(this.#queues.get(sharded) ?? [])];
  }

  hold(sharded: ShardedStream): void {
    this.#held.add(sharded);
    for (const queue of this.of(sharded)) queue.isClosed = true;
  }

  /** Of the queues that it has then; those that there are stay closed. */
  release(sharded: ShardedStream): StreamQueue[] {
    this.#held.delete(sharded);
    return this.of(sharded);
  }

  /** Whether no message of the stream waits or is in flight. */
  isIdle(sharded: ShardedStream): boolean {
    return this.of(sharded).every(({ isDone }) => isDone);
  }

  /** Those of which no message is in flight, or may be stored and is asked for. */
  back(sharded: ShardedStream): StreamQueue[] {
    return this.of(sharded).filter((queue) => queue.inFlight === 0 && this.#pipeline.isOver(queue));
  }

  areBack(sharded: ShardedStream): boolean {
    return this.back(sharded).length === this.of(sharded).length;
  }

  /** Milliseconds until the first message of the stream that waits has failed. */
  timeLeft(sharded: ShardedStream): number {
    const firsts = this.of(sharded).flatMap((queue) => queue.peek() ?? []);
    return Math.max(0, Math.min(...firsts.map((message) => this.#pipeline.deadlineOf(message))) - monotonicNow());
  }
}
