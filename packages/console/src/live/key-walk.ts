import { PermissionError } from 'nestjs-redis-streams';
import type { StreamManager } from 'nestjs-redis-streams';
import type { Look } from './topic.js';

/** Pages of SCAN, of about 500 keys each, in one step. */
const PAGES = 100;

/**
 * Walks through the keyspace for streams, a bounded part of it in each step, and begins again at the end. A stream that was added is
 * found when the walk comes by; one that was deleted is forgotten at the end of the next walk that reaches all nodes.
 */
export class KeyWalk {
  /** Of the last complete walk, and of this one. */
  #last: ReadonlySet<string> = new Set();
  #current = new Set<string>();
  #cursor = '0';
  #isComplete = false;
  /** Whether this walk leaves out a node of a cluster, which is away. */
  #isPartial = false;

  /** Whether all keys have been seen. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  get keys(): ReadonlySet<string> {
    return new Set([...this.#last, ...this.#current]);
  }

  async advance(
    manager: StreamManager,
    { progress, signal }: Pick<Look<unknown>, 'progress' | 'signal'>,
  ): Promise<void> {
    for (let page = 0; page < PAGES && !signal.aborted; page += 1) {
      const found = await this.#scan(manager);
      if (!found) return;
      const { cursor, streams, unreachable = [] } = found;
      if (unreachable.length > 0) this.#isPartial = true;
      progress();
      for (const key of streams) this.#current.add(key);
      this.#cursor = cursor;
      if (cursor !== '0') continue;
      this.#last = this.#isPartial ? this.keys : this.#current;
      this.#current = new Set();
      this.#isComplete ||= !this.#isPartial;
      this.#isPartial = false;
      return;
    }
  }

  /** Undefined where Redis does not answer: what is known is shown until the walk continues. @throws RedisStreamsError */
  async #scan(manager: StreamManager): Promise<Awaited<ReturnType<StreamManager['scan']>> | undefined> {
    try {
      return await manager.scan(this.#cursor, { skipUnreachable: true });
    } catch (error) {
      if (error instanceof PermissionError || this.keys.size === 0) throw error;
      return undefined;
    }
  }
}
