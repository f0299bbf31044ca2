import { ConnectionError } from 'nestjs-redis-streams';
import type { StreamDetails, StreamManager } from 'nestjs-redis-streams';

/** Most streams whose keys are remembered. */
const MOST_STREAMS = 100_000;

/**
 * Reads the details of streams while a node of a cluster may be away. It remembers the keys of each stream, because
 * `StreamManager.info()` cannot tell which keys on that node exist. A stream with no key there is read as usual.
 */
export class KnownStreams {
  readonly #manager: () => Promise<StreamManager>;
  readonly #keys = new Map<string, readonly string[]>();

  constructor(manager: () => Promise<StreamManager>) {
    this.#manager = manager;
  }

  /** @throws ConnectionError where a key of the stream is on a node that does not answer; RedisStreamsError */
  async info(stream: string): Promise<StreamDetails> {
    const manager = await this.#manager();
    const details = await manager.info(stream, { skipUnreachable: true });
    const found = details.shards.map(({ key }) => key);
    const expected = this.#keys.get(stream) ?? (found.length === 0 ? [stream] : []);
    const unreachable = new Set(details.unreachable);
    const missing = expected.find((key) => unreachable.has(key));
    if (missing !== undefined) throw new ConnectionError(`The node of '${missing}' does not answer`);
    this.#keys.delete(stream);
    if (found.length > 0) this.#keys.set(stream, found);
    const [longestUnread] = this.#keys.keys();
    if (longestUnread !== undefined && this.#keys.size > MOST_STREAMS) this.#keys.delete(longestUnread);
    return details;
  }
}
