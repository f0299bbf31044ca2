import type { RedisStreamsError } from '../../errors.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import { Partition, shardKey } from './partition.js';
import type { ConsumerSession } from './consumer-session.js';
import { discoverShards } from './shard-discovery.js';

/** Decides which shards a session reads: those that it finds, at first and on an interval, and those that it is told. */
export class StreamAssignment {
  readonly #session: ConsumerSession;
  readonly #onError: (error: RedisStreamsError) => void;
  /** Streams whose shards are looked for. */
  readonly #discovered = new Set<string>();
  /** Shards that were taken off on purpose, and must not be found again. */
  readonly #excluded = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  /** Changes come one after the other, whoever asks for them. */
  #changes: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(session: ConsumerSession, onError: (error: RedisStreamsError) => void) {
    this.#session = session;
    this.#onError = onError;
  }

  async open(streamKeys: readonly string[]): Promise<void> {
    const streams: Partition[] = [];
    for (const streamKey of streamKeys) streams.push(...(await this.#find(streamKey)));
    await this.#session.open(streams);
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
      for (const stream of wanted) this.#excluded.delete(stream.key);
      await this.#add(wanted, false);
    });
  }

  unassign(streamKey: string, shardId: number | undefined): Promise<void> {
    return this.#change(async () => {
      const gone = this.#session.streams.filter(
        (stream) => stream.streamKey === streamKey && (shardId === undefined || stream.shardId === shardId),
      );
      if (shardId === undefined) this.#discovered.delete(streamKey);
      else for (const stream of gone) this.#excluded.add(stream.key);
      await this.#session.remove(gone);
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
      const isKnown = this.#session.streams.some((stream) => stream.streamKey === streamKey);
      // The plain key is in the list when there is nothing else, or when it is a stream; either way it is known already.
      await this.#add(isKnown ? found.filter(({ key }) => key !== streamKey) : found, true);
    }
  }

  async #add(streams: readonly Partition[], isAllNew: boolean): Promise<void> {
    const known = new Set(this.#session.streams.map(({ key }) => key));
    const added = streams.filter(({ key }) => !known.has(key) && !this.#excluded.has(key));
    if (added.length > 0) await this.#session.add(added, isAllNew);
  }

  async #find(streamKey: string): Promise<Partition[]> {
    if (this.#session.options.shardDiscoveryInterval === false) return [new Partition(streamKey, 0, streamKey)];
    return discoverShards(streamKey, this.#session.environment.control.reading);
  }

  /** Shard 0 is the stream itself, unless there is a shard of that number. */
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
