import type { RedisStreamsError } from '../../errors.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import { Partition, shardKey } from './partition.js';
import type { ConsumerSession } from './consumer-session.js';
import { discoverShards } from './shard-discovery.js';

/**
 * Decides which partitions a session reads: the shards that are found, at the start and by interval, and those that
 * {@link assign} and {@link unassign} name.
 */
export class StreamAssignment {
  readonly #session: ConsumerSession;
  readonly #onError: (error: RedisStreamsError) => void;
  /** Keys of the streams whose shards are looked for. */
  readonly #discovered = new Set<string>();
  /** Keys of the shards that were unassigned, so that they are not found again. */
  readonly #excluded = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  /** Changes are made one after the other. */
  #changes: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(session: ConsumerSession, onError: (error: RedisStreamsError) => void) {
    this.#session = session;
    this.#onError = onError;
  }

  async open(streamKeys: readonly string[]): Promise<void> {
    const partitions: Partition[] = [];
    for (const streamKey of streamKeys) partitions.push(...(await this.#find(streamKey)));
    await this.#session.open(partitions);
    for (const streamKey of streamKeys) this.#discovered.add(streamKey);
    const { shardDiscoveryInterval } = this.#session.options;
    if (shardDiscoveryInterval === false) return;
    this.#timer = setInterval(() => {
      this.#change(() => this.#discover()).catch((error: unknown) => {
        this.#onError(toPublicError(error, streamKeys.join("', '"), 'looking for shards of'));
      });
    }, shardDiscoveryInterval);
  }

  assign(streamKey: string, shardId: number | undefined): Promise<void> {
    return this.#change(async () => {
      if (shardId === undefined) this.#discovered.add(streamKey);
      const wanted =
        shardId === undefined
          ? await this.#find(streamKey)
          : [new Partition(streamKey, shardId, await this.#shardKeyOf(streamKey, shardId))];
      for (const { key } of wanted) this.#excluded.delete(key);
      await this.#add(wanted, false);
    });
  }

  unassign(streamKey: string, shardId: number | undefined): Promise<void> {
    return this.#change(async () => {
      const unwanted = this.#session.partitions.current.filter(
        (partition) => partition.streamKey === streamKey && (shardId === undefined || partition.shardId === shardId),
      );
      if (shardId === undefined) this.#discovered.delete(streamKey);
      else for (const { key } of unwanted) this.#excluded.add(key);
      await this.#session.remove(unwanted);
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    await this.#changes;
  }

  async #discover(): Promise<void> {
    for (const streamKey of this.#discovered) {
      const found = await discoverShards(streamKey, this.#session.environment.control.reading);
      const isKnown = this.#session.partitions.current.some((partition) => partition.streamKey === streamKey);
      // The plain key is in the list when there is nothing else, or when it is a stream; either way it is known already.
      await this.#add(isKnown ? found.filter(({ key }) => key !== streamKey) : found, true);
    }
  }

  async #add(partitions: readonly Partition[], isAllNew: boolean): Promise<void> {
    const known = new Set(this.#session.partitions.current.map(({ key }) => key));
    const added = partitions.filter(({ key }) => !known.has(key) && !this.#excluded.has(key));
    if (added.length > 0) await this.#session.add(added, isAllNew);
  }

  async #find(streamKey: string): Promise<Partition[]> {
    if (this.#session.options.shardDiscoveryInterval === false) return [new Partition(streamKey, 0, streamKey)];
    return discoverShards(streamKey, this.#session.environment.control.reading);
  }

  /** Shard 0 is the stream itself, unless there is a shard with that number. */
  async #shardKeyOf(streamKey: string, shardId: number): Promise<string> {
    const key = shardKey(streamKey, shardId, true);
    if (shardId > 0 || (await this.#session.environment.control.reading.isStream(key))) return key;
    return streamKey;
  }

  #change(change: () => Promise<void>): Promise<void> {
    const done = this.#changes.then(async () => {
      if (!this.#isClosed) await change();
    });
    this.#changes = done.catch(() => undefined);
    return done;
  }
}
