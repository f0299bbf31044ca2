import { outsideContext } from '../../../shared/async-context.js';
import { within } from '../../../shared/backoff.js';
import type { RedisStreamsError } from '../../../errors.js';
import type { ShardLayout } from '../../../redis/commands/layouts.js';
import type { GroupInfo } from '../../../redis/commands/stream-commands.js';
import { compareEntryIds } from '../../../redis/commands/entry-id.js';
import { classifyRedisError, toPublicError } from '../../../redis/commands/redis-error.js';
import { shardKey } from '../../messages/stream-message.js';
import type { ResolvedConsumerOptions } from '../../options/resolve-options.js';
import { shardIdsOf } from '../../sharding/layout-changes.js';
import type { ConsumerEnvironment } from '../consumer-environment.js';
import { Partition } from '../partition.js';
import type { PartitionReader } from '../stream-assignment.js';
import type { ShardOwnership } from './shard-ownership.js';

/** A stream whose number of shards was set. */
interface LaidOutStream {
  readonly streamKey: string;
  readonly mustExist: boolean;
  /** The group was there when a layout was set, so that it handles the new shards from their beginning. */
  isFollowed: boolean;
  /** The shards of each layout, the oldest first. */
  readonly layouts: Partition[][];
  /** Which of the layouts the group handles now; those before are handled. */
  current: number;
}

/** Between two looks at the layouts, and at what is left of the old one, in milliseconds. */
const LOOK_INTERVAL = 1_000;
const DRAIN_INTERVAL = 200;
/** Longest wait for a look that is under way when the consumer ends. */
const CLOSE_LIMIT = 1_000;

/**
 * Stands between the assignment of a consumer and its {@link ShardOwnership}: of a stream whose number of shards was set, it lets
 * the group share the shards of one layout at a time, and the next when everything in the closed shards is acknowledged.
 *
 * Each consumer of a group decides this by itself, by what Redis tells of the group: a closed shard has a last entry, and one
 * that was delivered and is not pending was handled. What one of them has found stays true for all.
 */
export class LayoutGate implements PartitionReader {
  readonly #ownership: ShardOwnership;
  readonly #onError: (error: RedisStreamsError) => void;
  /** Streams with shards, by their keys; undefined where no number was set. */
  readonly #streams = new Map<string, LaidOutStream | undefined>();
  /** Keys of shards that the application has unassigned. */
  readonly #excluded = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #failure: string | undefined;
  #isClosed = false;

  constructor(ownership: ShardOwnership, onError: (error: RedisStreamsError) => void) {
    this.#ownership = ownership;
    this.#onError = onError;
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
    await this.#ownership.open(await this.#admitted(partitions, false));
    this.#schedule();
  }

  async add(partitions: readonly Partition[], isAllNew: boolean): Promise<void> {
    for (const { key } of partitions) this.#excluded.delete(key);
    await this.#ownership.add(await this.#admitted(partitions, isAllNew), isAllNew);
  }

  async remove(partitions: readonly Partition[]): Promise<void> {
    for (const { key } of partitions) this.#excluded.add(key);
    await this.#ownership.remove(partitions);
    const left = new Set(this.partitions.current.map(({ streamKey }) => streamKey));
    for (const { streamKey } of partitions) if (!left.has(streamKey)) this.#streams.delete(streamKey);
  }

  /** Never rejects. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await within(CLOSE_LIMIT, this.#looking);
  }

  /** Those of the partitions that may be shared now, and in their place the shards of layouts. */
  async #admitted(partitions: readonly Partition[], isAllNew: boolean): Promise<Partition[]> {
    const byStream = new Map<string, Partition[]>();
    for (const each of partitions) byStream.set(each.streamKey, [...(byStream.get(each.streamKey) ?? []), each]);
    const admitted: Partition[] = [];
    for (const [streamKey, wanted] of byStream) {
      // A shard of a new layout may be found before the layout is known.
      await this.#look(
        streamKey,
        wanted.some(({ mustExist }) => mustExist),
        isAllNew,
      );
      const stream = this.#streams.get(streamKey);
      const laidOut = new Set(stream?.layouts.flat().map(({ key }) => key));
      admitted.push(...wanted.filter(({ key }) => !laidOut.has(key)), ...this.#sharedOf(stream));
    }
    return admitted;
  }

  /** Learns new layouts, and goes on to the next one where the group has handled the one before. */
  async #look(streamKey: string, mustExist: boolean, isAllNew: boolean): Promise<void> {
    const { layouts } = this.environment.control;
    const known = (await layouts.look(streamKey)).layouts;
    let stream = this.#streams.get(streamKey);
    if (known.length > 0 && !stream) {
      // A group that was there before handles every shard from its beginning; a new one begins where it was told.
      const isFollowed = isAllNew || (await this.#hasGroup(known.flatMap((layout) => keysOf(streamKey, layout))));
      stream = { streamKey, mustExist, isFollowed, layouts: [], current: 0 };
    }
    if (stream) {
      for (const layout of known.slice(stream.layouts.length)) await this.#learn(stream, layout);
      while (stream.current < stream.layouts.length - 1 && (await this.#isHandled(stream))) stream.current += 1;
      stream.isFollowed = true;
    }
    this.#streams.set(streamKey, stream);
  }

  /** Fixes the start position of its shards before anything is sent to them, or before they are shared at least. */
  async #learn(stream: LaidOutStream, layout: ShardLayout): Promise<void> {
    const { streamKey, mustExist, isFollowed, layouts } = stream;
    const partitions = shardIdsOf(layout).map((id) => {
      const partition = new Partition(streamKey, id, shardKey(streamKey, id, true));
      partition.mustExist = mustExist;
      return partition;
    });
    for (const each of partitions) await this.#ownership.fixStart(each, isFollowed && layout.first > 0);
    layouts.push(partitions);
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
    const are = await Promise.all(shards.map(async ({ key }) => this.#excluded.has(key) || this.#isShardHandled(key)));
    return are.every(Boolean);
  }

  async #isShardHandled(key: string): Promise<boolean> {
    const info = await this.environment.control.reading.streamInfo(key);
    if (!info) return true;
    const group = await this.#groupOn(key);
    if (!group || group.pending > 0) return false;
    return info.lastId === undefined || compareEntryIds(group.lastDeliveredId, info.lastId) >= 0;
  }

  /** The shards of the layout that the group handles now. */
  #sharedOf(stream: LaidOutStream | undefined): Partition[] {
    return (stream?.layouts[stream.current] ?? []).filter(({ key }) => !this.#excluded.has(key));
  }

  #schedule(): void {
    if (this.#isClosed) return;
    const isDraining = [...this.#streams.values()].some((each) => each && each.current < each.layouts.length - 1);
    this.#timer = setTimeout(() => void this.#lookAgain(), isDraining ? DRAIN_INTERVAL : LOOK_INTERVAL);
  }

  /** Never rejects. A failure is reported once. */
  async #lookAgain(): Promise<void> {
    this.#looking = outsideContext(() => this.#follow()).then(
      () => {
        this.#failure = undefined;
      },
      (error: unknown) => {
        const names = [...this.#streams.keys()].join("', '");
        const failure = toPublicError(error, names, 'looking at the shards of');
        if (!this.#isClosed && failure.code !== this.#failure) this.#onError(failure);
        this.#failure = failure.code;
      },
    );
    await this.#looking;
    this.#schedule();
  }

  async #follow(): Promise<void> {
    for (const [streamKey, before] of this.#streams) {
      const was = before?.current ?? -1;
      await this.#look(streamKey, before?.mustExist ?? false, true);
      const stream = this.#streams.get(streamKey);
      if (!stream || stream.current === was || this.#isClosed) continue;
      // The new ones first: without any shard, the consumer would leave the stream.
      await this.#ownership.add(this.#sharedOf(stream), true);
      const handled = new Set(
        stream.layouts
          .slice(0, stream.current)
          .flat()
          .map(({ key }) => key),
      );
      await this.#ownership.remove(this.partitions.current.filter(({ key }) => handled.has(key)));
    }
  }
}

function keysOf(streamKey: string, layout: ShardLayout): string[] {
  return shardIdsOf(layout).map((id) => shardKey(streamKey, id, true));
}
