import { outsideContext } from '../../../shared/async-context.js';
import { within } from '../../../shared/backoff.js';
import type { RedisStreamsError } from '../../../errors.js';
import type { ShardLayout, StreamLayouts } from '../../../redis/commands/layouts.js';
import type { GroupInfo } from '../../../redis/commands/stream-commands.js';
import { compareEntryIds } from '../../../redis/commands/entry-id.js';
import { classifyRedisError, toPublicError } from '../../../redis/commands/redis-error.js';
import type { ResolvedConsumerOptions } from '../../options/resolve-options.js';
import { shardKeysOf } from '../../sharding/layout-changes.js';
import type { ConsumerEnvironment } from '../consumer-environment.js';
import { Partition, groupBy } from '../partition.js';
import { RepeatedFailure } from '../repeated-failure.js';
import type { PartitionReader } from '../stream-assignment.js';
import { unreadShards } from '../unread-shards.js';
import type { ShardOwnership } from './shard-ownership.js';

/** A stream whose number of shards may be set. */
interface LaidOutStream {
  readonly streamKey: string;
  readonly mustExist: boolean;
  /** It was set, or is being set. */
  isLaidOut: boolean;
  /** The shards of each layout that exist, the oldest first. */
  readonly layouts: Partition[][];
  /** Which of the layouts the group handles now; those before are handled. */
  current: number;
  /** Shards of those before into which something came back, see {@link LayoutGate}. */
  readonly revived: Set<Partition>;
  /** How many old shards were looked at again. */
  revisited: number;
  /** Keys of halted shards for which the next layout waits, after this was logged. */
  readonly blocking: Set<string>;
  /** It was reported that some of its shards are not read. */
  hasUnread: boolean;
}

/** Between two looks at the layouts, and at what is left of the old one, in milliseconds. */
const LOOK_INTERVAL = 1_000;
const DRAIN_INTERVAL = 200;
/** Old shards that are looked at again with each look. */
const REVISITED = 4;
/** Longest wait for a look that is under way when the consumer ends. */
const CLOSE_LIMIT = 1_000;

/**
 * Stands between the assignment of a consumer and its {@link ShardOwnership}: of a stream whose number of shards was set, it lets
 * the group share the shards of one layout at a time, and the next when everything in the closed shards is acknowledged.
 *
 * Each consumer of a group decides this by itself, by what Redis tells of the group: a closed shard has a last entry, and one
 * that was delivered and is not pending was handled. What one of them has found stays true for all, but for what comes back: a
 * dead letter that is redriven, a group that is moved, an entry that was appended after a failover had lost the end of the
 * shard. Old shards are looked at again in turn, and what came back is handled beside the current layout.
 */
export class LayoutGate implements PartitionReader {
  readonly #ownership: ShardOwnership;
  readonly #onError: (error: RedisStreamsError) => void;
  /** By their keys. */
  readonly #streams = new Map<string, LaidOutStream>();
  /** Keys of shards that the application has unassigned. */
  readonly #excluded = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  /** Changes and looks are made one after the other: two looks at a time would learn a layout twice. */
  #changes: Promise<void> = Promise.resolve();
  readonly #failure: RepeatedFailure;
  #isClosed = false;

  constructor(ownership: ShardOwnership, onError: (error: RedisStreamsError) => void) {
    this.#ownership = ownership;
    this.#onError = onError;
    this.#failure = new RepeatedFailure(onError);
  }

  get environment(): ConsumerEnvironment {
    return this.#ownership.environment;
  }

  get options(): ResolvedConsumerOptions {
    return this.#ownership.options;
  }

  get partitions(): PartitionReader['partitions'] {
    return this.#ownership.partitions;
  }

  async open(partitions: readonly Partition[]): Promise<void> {
    await this.#change(async () => this.#ownership.open(await this.#admitted(partitions, false)));
    this.#schedule();
  }

  add(partitions: readonly Partition[], isAllNew: boolean): Promise<void> {
    return this.#change(async () => {
      for (const { key } of partitions) this.#excluded.delete(key);
      await this.#ownership.add(await this.#admitted(partitions, isAllNew), isAllNew);
    });
  }

  remove(partitions: readonly Partition[]): Promise<void> {
    return this.#change(async () => {
      for (const { key } of partitions) this.#excluded.add(key);
      await this.#ownership.remove(partitions);
      const left = new Set(this.partitions.current.map(({ streamKey }) => streamKey));
      for (const { streamKey } of partitions) if (!left.has(streamKey)) this.#forget(streamKey);
    });
  }

  /** Never rejects. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await within(CLOSE_LIMIT, this.#changes);
  }

  #change(change: () => Promise<void>): Promise<void> {
    const done = this.#changes.then(change);
    this.#changes = done.catch(() => undefined);
    return done;
  }

  /** When it is assigned again, it is shared as a whole. */
  #forget(streamKey: string): void {
    for (const { key } of this.#streams.get(streamKey)?.layouts.flat() ?? []) this.#excluded.delete(key);
    this.#streams.delete(streamKey);
  }

  /** Those of the partitions that may be shared now; in place of the shards of a stream with layouts, those of the current one. */
  async #admitted(partitions: readonly Partition[], isAllNew: boolean): Promise<Partition[]> {
    const admitted: Partition[] = [];
    for (const [streamKey, wanted] of groupBy(partitions, ({ streamKey }) => streamKey)) {
      // A shard of a new layout may be found before the layout is set.
      const mustExist = wanted.some((partition) => partition.mustExist);
      const stream = await this.#look(streamKey, mustExist, isAllNew);
      if (stream.isLaidOut) admitted.push(...wanted.filter(({ key }) => key === streamKey), ...this.#sharedOf(stream));
      else admitted.push(...wanted);
    }
    return admitted;
  }

  /** Reads new layouts, and moves to the next layout when the group has handled the current one. */
  async #look(streamKey: string, mustExist: boolean, isAllNew: boolean): Promise<LaidOutStream> {
    const known = await this.environment.control.layouts.look(streamKey);
    const stream = this.#streams.get(streamKey) ?? newStream(streamKey, mustExist);
    this.#streams.set(streamKey, stream);
    stream.isLaidOut ||= known.layouts.length > 0 || known.pending !== undefined;
    if (!stream.isLaidOut) {
      this.#reportUnread(stream, known);
      return stream;
    }
    await this.#learn(stream, known.layouts, isAllNew);
    while (stream.current < stream.layouts.length - 1 && (await this.#isHandled(stream))) stream.current += 1;
    if (stream.current < stream.layouts.length - 1) this.#warnOfHalted(stream);
    await this.#revisit(stream);
    return stream;
  }

  /** Once for each stream. */
  #reportUnread(stream: LaidOutStream, known: StreamLayouts): void {
    const unread = stream.hasUnread ? undefined : unreadShards(stream.streamKey, known, this.options);
    if (!unread) return;
    stream.hasUnread = true;
    this.#onError(unread);
  }

  /** Once for each shard. Those that other consumers own are their matter. */
  #warnOfHalted({ streamKey, blocking }: LaidOutStream): void {
    for (const key of this.#ownership.haltedOf(streamKey)) {
      if (blocking.has(key)) continue;
      blocking.add(key);
      this.environment.logger.warn(
        `The shard '${key}' is halted, and the new shards of '${streamKey}' wait for it: until its next owner has handled the ` +
          `message at which it was halted, no consumer of the group '${this.options.group}' reads them`,
      );
    }
  }

  async #revisit(stream: LaidOutStream): Promise<void> {
    const old = stream.layouts.slice(0, stream.current).flat();
    const inTurn = Array.from({ length: Math.min(REVISITED, old.length) }, (_, index) => {
      return old[(stream.revisited + index) % old.length] as Partition;
    });
    stream.revisited += inTurn.length;
    for (const partition of new Set([...stream.revived, ...inTurn])) {
      const { isHere, isHandled } = await this.#stateOf(partition.key);
      if (isHere && !isHandled) stream.revived.add(partition);
      else stream.revived.delete(partition);
    }
  }

  /**
   * Fixes the start position of the group in the shards of new layouts, before they are shared. A group that was there when a layout was
   * set handles it from its beginning; a new one begins where it was told. The newest layout comes first, so that a group which
   * another member creates at this moment is in the older ones only after that.
   */
  async #learn(stream: LaidOutStream, known: readonly ShardLayout[], isAllNew: boolean): Promise<void> {
    const { streamKey, mustExist, layouts } = stream;
    const isFollowed = isAllNew || layouts.length > 0;
    const learned: Partition[][] = [];
    for (let index = known.length - 1; index >= layouts.length; index -= 1) {
      const keys = shardKeysOf(streamKey, known[index] as ShardLayout);
      const isHere =
        isFollowed || (await this.#hasGroup(known.slice(0, index).flatMap((each) => shardKeysOf(streamKey, each))));
      const isLast = index === known.length - 1;
      const partitions: Partition[] = [];
      for (const [place, key] of keys.entries()) {
        // An old shard that was deleted would come back open.
        if (!isLast && !(await this.environment.control.reading.isStream(key))) continue;
        const partition = new Partition(streamKey, (known[index] as ShardLayout).first + place, key);
        partition.mustExist = mustExist;
        await this.#ownership.fixStart(partition, isHere);
        partitions.push(partition);
      }
      learned.unshift(partitions);
    }
    layouts.push(...learned);
  }

  async #hasGroup(keys: readonly string[]): Promise<boolean> {
    return (await Promise.all(keys.map((key) => this.#groupOn(key)))).some((group) => group !== undefined);
  }

  /** Undefined when the shard or the group does not exist. */
  async #groupOn(key: string): Promise<GroupInfo | undefined> {
    try {
      const groups = await this.environment.control.groups.groups(key);
      return groups.find(({ name }) => name === this.options.group);
    } catch (error) {
      if (classifyRedisError(error) === 'stream-gone') return undefined;
      throw error;
    }
  }

  /** Whether the group has acknowledged everything in the current layout, whose shards are closed. */
  async #isHandled({ layouts, current }: LaidOutStream): Promise<boolean> {
    const shards = layouts[current] as Partition[];
    const are = await Promise.all(
      shards.map(async ({ key }) => this.#excluded.has(key) || (await this.#stateOf(key)).isHandled),
    );
    return are.every(Boolean);
  }

  /** Whether the group is in the shard, and whether it has acknowledged everything in it. */
  async #stateOf(key: string): Promise<{ isHere: boolean; isHandled: boolean }> {
    const info = await this.environment.control.reading.streamInfo(key);
    if (!info) return { isHere: false, isHandled: true };
    const group = await this.#groupOn(key);
    if (!group) return { isHere: false, isHandled: false };
    const isDelivered = info.lastId === undefined || compareEntryIds(group.lastDeliveredId, info.lastId) >= 0;
    return { isHere: true, isHandled: isDelivered && group.pending === 0 };
  }

  /** The shards that the group handles now. */
  #sharedOf({ layouts, current, revived }: LaidOutStream): Partition[] {
    return [...(layouts[current] ?? []), ...revived].filter(({ key }) => !this.#excluded.has(key));
  }

  #schedule(): void {
    if (this.#isClosed) return;
    const isDraining = [...this.#streams.values()].some((each) => each.current < each.layouts.length - 1);
    this.#timer = setTimeout(() => void this.#lookAgain(), isDraining ? DRAIN_INTERVAL : LOOK_INTERVAL);
  }

  /** Never rejects. A failure is reported once. */
  async #lookAgain(): Promise<void> {
    try {
      await this.#change(() => outsideContext(() => this.#follow()));
      this.#failure.succeeded();
    } catch (error) {
      const names = [...this.#streams.keys()].join("', '");
      if (!this.#isClosed) this.#failure.failed(toPublicError(error, names, 'looking at the shards of'));
    }
    this.#schedule();
  }

  /** @throws the failure of the first stream that has one, after all had their turn */
  async #follow(): Promise<void> {
    const failures: unknown[] = [];
    for (const stream of this.#streams.values()) {
      if (this.#isClosed) return;
      try {
        await this.#look(stream.streamKey, stream.mustExist, true);
        if (stream.isLaidOut) await this.#share(stream);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Shares the shards that the group handles now, and no others. */
  async #share(stream: LaidOutStream): Promise<void> {
    const wanted = this.#sharedOf(stream);
    const shared = this.partitions.current.filter(
      ({ streamKey, key }) => streamKey === stream.streamKey && key !== streamKey,
    );
    const [wantedKeys, sharedKeys] = [keySet(wanted), keySet(shared)];
    const added = wanted.filter(({ key }) => !sharedKeys.has(key));
    const removed = shared.filter(({ key }) => !wantedKeys.has(key));
    // The new ones first: without any shard, the consumer would leave the stream.
    if (added.length > 0) await this.#ownership.add(added, true);
    if (removed.length > 0) await this.#ownership.remove(removed);
  }
}

function keySet(partitions: readonly Partition[]): Set<string> {
  return new Set(partitions.map(({ key }) => key));
}

function newStream(streamKey: string, mustExist: boolean): LaidOutStream {
  return {
    streamKey,
    mustExist,
    isLaidOut: false,
    layouts: [],
    current: 0,
    revived: new Set(),
    revisited: 0,
    blocking: new Set(),
    hasUnread: false,
  };
}
