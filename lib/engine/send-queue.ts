/** What waits to be sent to one stream. */
interface StreamQueue<T> {
  entries: T[];
  head: number;
  batches: number;
}

/** Messages of one stream that go out together. What is repeated of a batch goes out again as one. */
export interface Batch<T> {
  readonly streamKey: string;
  readonly entries: readonly T[];
  /** Grows from batch to batch of the stream. */
  readonly number: number;
}

/** From here on the taken entries at the beginning of a queue are cut off. */
const CUT_FROM = 4_096;

/**
 * What waits to be sent, each stream for itself: messages of one stream keep their order and go out in batches, streams
 * take turns, whatever the order in which their messages came.
 */
export class SendQueue<T> {
  readonly #queues = new Map<string, StreamQueue<T>>();
  /** Streams with something to send, in the order of their turns. */
  readonly #turns = new Set<string>();

  push(streamKey: string, entry: T): void {
    let queue = this.#queues.get(streamKey);
    if (!queue) this.#queues.set(streamKey, (queue = { entries: [], head: 0, batches: 0 }));
    queue.entries.push(entry);
    this.#turns.add(streamKey);
  }

  next(maxBatch: number): Batch<T> | undefined {
    const [streamKey] = this.#turns;
    if (streamKey === undefined) return undefined;
    this.#turns.delete(streamKey);
    const queue = this.#queues.get(streamKey) as StreamQueue<T>;
    const entries = queue.entries.slice(queue.head, queue.head + maxBatch);
    queue.head += entries.length;
    if (queue.head === queue.entries.length) {
      queue.entries = [];
      queue.head = 0;
    } else {
      if (queue.head >= CUT_FROM && queue.head * 2 > queue.entries.length) {
        queue.entries = queue.entries.slice(queue.head);
        queue.head = 0;
      }
      this.#turns.add(streamKey);
    }
    queue.batches += 1;
    return { streamKey, entries, number: queue.batches };
  }
}
