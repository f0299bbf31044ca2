/** What waits to be sent to one stream. */
interface StreamQueue<T> {
  entries: T[];
  head: number;
}

/** Messages of one stream that go out together. What is repeated of a batch goes out again as one. */
export interface Batch<T> {
  readonly streamKey: string;
  readonly entries: readonly T[];
  /** In bytes. */
  readonly size: number;
  /** Grows from batch to batch. */
  readonly number: number;
}

/** What matters of a message for how many go together. */
interface Sendable {
  /** Names and values. */
  readonly fieldCount: number;
  /** In bytes. */
  readonly size: number;
}

/** Redis before 7.0 answers a command of more than 1,048,576 parts by closing the connection. */
const MAX_PARTS = 1_000_000;

/** Bytes of a batch: a larger one would hold up the server, and everybody else on it, for long. */
const MAX_BYTES = 8 * 1024 * 1024;

/** An entry's id, and the number of its fields. */
const PARTS_BESIDE_FIELDS = 2;

/** From here on the taken entries at the beginning of a queue are cut off. */
const CUT_FROM = 4_096;

/**
 * What waits to be sent, each stream for itself: messages of one stream keep their order and go out in batches, streams
 * take turns, whatever the order in which their messages came.
 */
export class SendQueue<T extends Sendable> {
  /** Streams with something to send, in the order of their turns. */
  readonly #queues = new Map<string, StreamQueue<T>>();
  #batches = 0;

  push(streamKey: string, entry: T): void {
    const queue = this.#queues.get(streamKey);
    if (queue) queue.entries.push(entry);
    else this.#queues.set(streamKey, { entries: [entry], head: 0 });
  }

  next(maxBatch: number): Batch<T> | undefined {
    const [first] = this.#queues;
    if (!first) return undefined;
    const [streamKey, queue] = first;
    const { end, size } = endOfBatch(queue, maxBatch);
    const entries = queue.entries.slice(queue.head, end);
    queue.head += entries.length;
    // Its next turn comes after those of the others.
    this.#queues.delete(streamKey);
    if (queue.head < queue.entries.length) {
      if (queue.head >= CUT_FROM && queue.head * 2 > queue.entries.length) {
        queue.entries = queue.entries.slice(queue.head);
        queue.head = 0;
      }
      this.#queues.set(streamKey, queue);
    }
    this.#batches += 1;
    return { streamKey, entries, size, number: this.#batches };
  }
}

/** Messages that are large or have many headers make a batch of fewer messages, of one at least. */
function endOfBatch({ entries, head }: StreamQueue<Sendable>, maxBatch: number): { end: number; size: number } {
  const limit = Math.min(entries.length, head + maxBatch);
  let end = head;
  let parts = 0;
  let size = 0;
  do {
    const entry = entries[end] as Sendable;
    parts += entry.fieldCount + PARTS_BESIDE_FIELDS;
    if (end > head && (parts > MAX_PARTS || size + entry.size > MAX_BYTES)) break;
    size += entry.size;
    end += 1;
  } while (end < limit);
  return { end, size };
}
