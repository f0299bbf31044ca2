import { partitionOf } from '../../engine/consuming/partition.js';
import type { Partition } from '../../engine/consuming/partition.js';
import type { StreamMessage } from '../../engine/messages/stream-message.js';
import type { ContextScope } from '../redis-streams.context.js';

/**
 * Which scope handles the messages of a stream that a consumer reads. A pattern has one stream, several, or none as a wildcard
 * that has found none; a stream has one scope while it is open.
 *
 * A message keeps the scope that it was first handled in, so that one that still runs when its stream is closed, or is opened
 * for another pattern, is settled by the rules of its own pattern. It never reads anything.
 */
export class StreamScopes {
  readonly #open = new Map<string, ContextScope>();
  /** Of partitions that messages were handled from. */
  readonly #known = new WeakMap<Partition, ContextScope>();

  /** Keys of the streams that are open. */
  get streamKeys(): readonly string[] {
    return [...this.#open.keys()];
  }

  /** The messages of the stream are handled in this scope from now on. */
  open(streamKey: string, scope: ContextScope): void {
    this.#open.set(streamKey, scope);
  }

  close(streamKey: string): void {
    this.#open.delete(streamKey);
  }

  /** The pattern of a stream that is open. */
  patternOf(streamKey: string): string {
    return (this.#open.get(streamKey) as ContextScope).pattern;
  }

  /** The streams that are open for a pattern. */
  streamsOf(pattern: string): readonly string[] {
    return [...this.#open].filter(([, scope]) => scope.pattern === pattern).map(([streamKey]) => streamKey);
  }

  /** The scope of a message that was handed out. */
  of(message: StreamMessage): ContextScope {
    const partition = partitionOf(message);
    const known = this.#known.get(partition);
    if (known) return known;
    const scope = this.#open.get(message.streamKey) as ContextScope;
    this.#known.set(partition, scope);
    return scope;
  }
}
