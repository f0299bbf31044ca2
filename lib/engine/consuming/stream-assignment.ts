import { ClosedError, ConnectTimeoutError, ConsumerEndedError, ServerReplyError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { outsideContext } from '../../shared/async-context.js';
import { RECONNECT_BACKOFF, backoffDelay, limited, pause, within } from '../../shared/backoff.js';
import { monotonicNow } from '../../shared/clock.js';
import { withResolvers } from '../../shared/deferred.js';
import { listNames, quoted } from '../../shared/list-names.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import { shardKey, streamOfShard } from '../messages/stream-message.js';
import type { ResolvedConsumerOptions } from '../options/resolve-options.js';
import type { ConsumerEnvironment } from './consumer-environment.js';
import { Partition } from './partition.js';
import type { PartitionSet } from './partition.js';
import { RepeatedFailure } from './repeated-failure.js';
import { ShardDiscovery } from './shard-discovery.js';
import { StreamSearch } from './stream-search.js';
import type { StreamSearchOptions } from './stream-search.js';

/** What reads the partitions that are assigned: a session, or a group that shares them among its members. */
export interface PartitionReader {
  readonly environment: ConsumerEnvironment;
  readonly options: ResolvedConsumerOptions;
  readonly partitions: Pick<PartitionSet, 'current'>;
  /** Fixes the start position of every partition, then starts to read. */
  open(partitions: readonly Partition[]): Promise<void>;
  /** @param isAllNew they appeared while others were read */
  add(partitions: readonly Partition[], isAllNew: boolean): Promise<void>;
  remove(partitions: readonly Partition[]): Promise<void>;
}

/** Longest wait for a change that is under way when the consumer ends, in milliseconds. */
const CLOSE_LIMIT = 1_000;

/**
 * Decides which partitions a consumer reads: the shards that are given or that its {@link ShardDiscovery} finds, and the streams that its
 * {@link StreamSearch} finds, at the start and later, and those that {@link assign} and {@link unassign} name. It owns the timer
 * of both; changes are made one after the other.
 */
export class StreamAssignment {
  readonly #reader: PartitionReader;
  readonly #onError: (error: RedisStreamsError) => void;
  /** Undefined when no shards are looked for. */
  readonly #discovery: ShardDiscovery | undefined;
  /** Undefined when every stream has been named. */
  readonly #search: StreamSearch | undefined;
  /** Streams that were found and dropped: when the search finds them again, they are not new. */
  readonly #dropped = new Set<string>();
  readonly #searchFailure: RepeatedFailure;
  /** Streams that were found and cannot be read, for a reason that was reported. */
  readonly #refused = new Set<string>();
  /** Keys of the shards that were unassigned, so that they are not found again. */
  readonly #excluded = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #changes: Promise<void> = Promise.resolve();
  readonly #closing = new AbortController();

  /** @param search streams that are read as soon as they exist */
  constructor(reader: PartitionReader, onError: (error: RedisStreamsError) => void, search?: StreamSearchOptions) {
    this.#reader = reader;
    this.#onError = onError;
    this.#searchFailure = new RepeatedFailure(onError);
    const { control, logger } = reader.environment;
    const { shardDiscoveryInterval: interval } = reader.options;
    if (interval !== false) this.#discovery = new ShardDiscovery({ reading: control.reading, interval, logger });
    const streamOf = (key: string): string => (this.#discovery ? streamOfShard(key) : key);
    if (search) this.#search = new StreamSearch(search, control.reading, streamOf);
  }

  /**
   * What is started here and by later changes, the loops and timers of the session, runs until the session ends. A command
   * that fails for a reason that may pass is repeated: a master may have died a moment ago.
   * @param deadline on the monotonic clock
   * @throws ConnectTimeoutError, or the last refusal of the server, at the deadline; ConsumerEndedError after {@link close}
   */
  open(streamKeys: readonly string[], deadline: number): Promise<void> {
    return outsideContext(async () => {
      const partitions = await this.#repeatUntil(streamKeys, deadline, () => this.#find(streamKeys));
      await this.#repeatUntil(streamKeys, deadline, () => this.#reader.open(partitions));
      const search = this.#search;
      if (search) {
        const { name } = search.options;
        const found = await this.#repeatUntil([name], deadline, () => search.all());
        await this.#repeatUntil([name], deadline, () => this.#addFound(search, found, false));
      }
      this.#scheduleLook();
    });
  }

  assign(streamKey: string, shardId: number | undefined): Promise<void> {
    return this.#change(async () => {
      const isNew = shardId === undefined && this.#discovery?.isWatching(streamKey) === false;
      const wanted =
        shardId === undefined
          ? await this.#find([streamKey])
          : [new Partition(streamKey, shardId, await this.#shardKeyOf(streamKey, shardId))];
      const excluded = wanted.filter(({ key }) => this.#excluded.delete(key));
      try {
        await this.#add(wanted, false);
      } catch (error) {
        // What the caller was refused must not be found and read by a later look.
        if (isNew) this.#discovery?.unwatch(streamKey);
        for (const { key } of excluded) this.#excluded.add(key);
        throw error;
      }
      this.#scheduleLook();
    });
  }

  unassign(streamKey: string, shardId: number | undefined): Promise<void> {
    return this.#change(async () => {
      const unwanted = this.#reader.partitions.current.filter(
        (partition) => partition.streamKey === streamKey && (shardId === undefined || partition.shardId === shardId),
      );
      if (shardId === undefined) this.#discovery?.unwatch(streamKey);
      else for (const { key } of unwanted) this.#excluded.add(key);
      await this.#reader.remove(unwanted);
    });
  }

  /**
   * Ends the reading of a stream that the search has found, and of no other; the search finds it again if it exists and is still
   * wanted.
   */
  async drop(streamKey: string): Promise<void> {
    const isFound = this.#reader.partitions.current.some((each) => each.streamKey === streamKey && each.mustExist);
    if (!isFound) return;
    this.#dropped.add(streamKey);
    await this.unassign(streamKey, undefined);
    this.#search?.options.onDropped([streamKey]);
  }

  /** A stream that the search has found does not exist any more. Never rejects. */
  async vanished(streamKey: string): Promise<void> {
    this.#logGone([streamKey]);
    try {
      await this.drop(streamKey);
      // One that comes in its place is new.
      this.#dropped.delete(streamKey);
    } catch (error) {
      if (!this.#isClosed) this.#onError(toPublicError(error, streamKey, 'ending the reading of'));
    }
  }

  /** Resolves when the change that runs is over, or soon: its server may stand still, and the session refuses it later. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    await within(CLOSE_LIMIT, this.#changes);
  }

  #scheduleLook(): void {
    const dueIn = Math.min(this.#discovery?.dueIn ?? Infinity, this.#search?.dueIn ?? Infinity);
    clearTimeout(this.#timer);
    if (this.#isClosed || dueIn === Infinity) return;
    this.#timer = setTimeout(() => void this.#look(), dueIn);
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    try {
      await this.#change(async () => this.#add((await this.#discovery?.look()) ?? [], true));
    } catch (error) {
      const keys = new Set(this.#reader.partitions.current.map(({ streamKey }) => streamKey));
      if (!this.#isClosed) this.#onError(toPublicError(error, [...keys].join("', '"), 'looking for shards of'));
    }
    if (this.#search?.dueIn === 0) await this.#searchAgain(this.#search);
    this.#scheduleLook();
  }

  /** Never rejects. An outage is reported once. */
  async #searchAgain(search: StreamSearch): Promise<void> {
    try {
      await this.#change(() => this.#lookForStreams(search));
      this.#searchFailure.succeeded();
    } catch (error) {
      const failure = toPublicError(error, search.options.name, 'looking for the streams of');
      if (!this.#isClosed) this.#searchFailure.failed(failure);
    }
  }

  async #lookForStreams(search: StreamSearch): Promise<void> {
    const { streams, isComplete } = await search.look();
    await this.#addFound(search, streams, true);
    if (!isComplete) return;
    const found = this.#reader.partitions.current.filter(({ mustExist }) => mustExist);
    const gone = new Set(await search.gone(found.map(({ key }) => key)));
    const left = new Set(found.filter(({ key }) => !gone.has(key)).map(({ streamKey }) => streamKey));
    const unwanted = found.filter(({ streamKey }) => !left.has(streamKey));
    if (unwanted.length === 0) return;
    for (const { streamKey } of unwanted) this.#discovery?.unwatch(streamKey);
    await this.#reader.remove(unwanted);
    const streamKeys = [...new Set(unwanted.map(({ streamKey }) => streamKey))];
    this.#logGone(streamKeys);
    search.options.onDropped(streamKeys);
  }

  #logGone(streamKeys: readonly string[]): void {
    this.#reader.environment.logger.log(`Gone, and no longer read: ${listNames(streamKeys.map(quoted))}`);
  }

  /** One that cannot be opened holds up no other; it is reported once, and tried again with every walk. */
  async #addFound(search: StreamSearch, streamKeys: readonly string[], isAllNew: boolean): Promise<void> {
    const current = new Set(this.#reader.partitions.current.map(({ streamKey }) => streamKey));
    const added = streamKeys.filter((streamKey) => !current.has(streamKey));
    if (added.length === 0) return;
    await search.options.onFound(added);
    try {
      await this.#addExisting(added, isAllNew);
    } catch (error) {
      if (this.#isClosed || toPublicError(error, added.join("', '"), 'opening').retryable) throw error;
      for (const streamKey of added) await this.#addAlone(search, streamKey, isAllNew);
    }
  }

  async #addAlone(search: StreamSearch, streamKey: string, isAllNew: boolean): Promise<void> {
    try {
      await this.#addExisting([streamKey], isAllNew);
    } catch (error) {
      const failure = toPublicError(error, streamKey, 'opening');
      if (this.#isClosed || failure.retryable) throw failure;
      this.#discovery?.unwatch(streamKey);
      search.options.onDropped([streamKey]);
      if (!this.#refused.has(streamKey)) this.#onError(failure);
      this.#refused.add(streamKey);
    }
  }

  async #addExisting(streamKeys: readonly string[], isAllNew: boolean): Promise<void> {
    const partitions = await this.#find(streamKeys);
    for (const partition of partitions) partition.mustExist = true;
    const isBack = ({ streamKey }: Partition): boolean => this.#dropped.has(streamKey);
    const back = partitions.filter(isBack);
    await this.#add(
      partitions.filter((partition) => !isBack(partition)),
      isAllNew,
    );
    await this.#add(back, false);
    for (const streamKey of streamKeys) {
      this.#refused.delete(streamKey);
      this.#dropped.delete(streamKey);
    }
    if (!isAllNew) return;
    this.#reader.environment.logger.log(`Found, and read from now on: ${listNames(streamKeys.map(quoted))}`);
  }

  /** Repeats the work while it fails for reasons that may pass. Nothing of it may remain after a failure. */
  async #repeatUntil<T>(streamKeys: readonly string[], deadline: number, work: () => Promise<T>): Promise<T> {
    const rest = Math.max(0, Math.ceil(deadline - monotonicNow()));
    return limited(rest, this.#closing.signal, (limit) => this.#repeat(streamKeys, limit, work));
  }

  async #repeat<T>(streamKeys: readonly string[], limit: AbortSignal, work: () => Promise<T>): Promise<T> {
    const keys = streamKeys.join("', '");
    let failure: RedisStreamsError | undefined;
    const over = withResolvers<never>();
    over.promise.catch(() => undefined);
    const giveUp = (): void => over.reject(this.#isClosed ? new ConsumerEndedError() : this.#tooLate(failure));
    limit.addEventListener('abort', giveUp);
    try {
      for (let attempt = 1; !limit.aborted; attempt += 1) {
        try {
          return await Promise.race([work(), over.promise]);
        } catch (error) {
          if (limit.aborted) break;
          failure = toPublicError(error, keys, 'opening');
          if (!failure.retryable || failure instanceof ClosedError) throw failure;
        }
        if (attempt === 1) this.#reader.environment.logger.warn(`${failure.message}; trying again`);
        await pause(backoffDelay(RECONNECT_BACKOFF, attempt), limit);
      }
      if (limit.aborted) giveUp();
      return await over.promise;
    } finally {
      limit.removeEventListener('abort', giveUp);
    }
  }

  #tooLate(failure: RedisStreamsError | undefined): RedisStreamsError {
    if (failure instanceof ServerReplyError) return failure;
    const { address, timeout } = this.#reader.environment;
    return new ConnectTimeoutError(address, timeout, failure?.cause ?? failure);
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #add(partitions: readonly Partition[], isAllNew: boolean): Promise<void> {
    const known = new Set(this.#reader.partitions.current.map(({ key }) => key));
    const added = partitions.filter(({ key }) => !known.has(key) && !this.#excluded.has(key));
    if (added.length > 0) await this.#reader.add(added, isAllNew);
  }

  async #find(streamKeys: readonly string[]): Promise<Partition[]> {
    const { shards } = this.#reader.options;
    if (shards) {
      return streamKeys.flatMap((streamKey) => {
        return shards.map((shardId) => new Partition(streamKey, shardId, shardKey(streamKey, shardId, true)));
      });
    }
    if (!this.#discovery) return streamKeys.map((streamKey) => new Partition(streamKey, 0, streamKey));
    return this.#discovery.watch(streamKeys);
  }

  /** Shard 0 is the stream itself, unless there is a shard with that number. */
  async #shardKeyOf(streamKey: string, shardId: number): Promise<string> {
    const key = shardKey(streamKey, shardId, true);
    if (shardId > 0 || this.#reader.options.shards || (await this.#reader.environment.control.reading.isStream(key)))
      return key;
    return streamKey;
  }

  #change(change: () => Promise<void>): Promise<void> {
    const done = this.#changes.then(async () => {
      if (!this.#isClosed) await outsideContext(change);
    });
    this.#changes = done.catch(() => undefined);
    return done;
  }
}
