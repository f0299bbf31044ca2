import { ConsumerPendingError, GroupMissingError, InvalidOptionError } from '../../errors.js';
import { isEntryId } from '../../redis/commands/entry-id.js';
import { classifyRedisError, toPublicError } from '../../redis/commands/redis-error.js';
import type { GroupConsumerInfo, PendingEntry, StreamCommands } from '../../redis/commands/stream-commands.js';
import type { RewindTarget } from '../consuming/consumer-types.js';
import { check, optionNames } from '../../shared/option-checks.js';
import { listDeadLetters, removeDeadLetter, resolveDeadLetterPlace, resolveDeadLetterQuery } from './dead-letters.js';
import type { DeadLetterMessage, DeadLetterPlace, DeadLetterQuery } from './dead-letters.js';
import { redrive } from './redrive.js';
import type { RedriveOptions, RedriveResult } from './redrive.js';
import { resolveRetention, trimAcknowledged } from './retention.js';
import type { TrimOptions, TrimResult } from './retention.js';
import { consumersOf, ownersOf, groupDetails, streamDetails } from './stream-details.js';
import type { GroupDetails, StreamDetails } from './stream-details.js';
import { positionOf, resolveRewindTarget } from '../consuming/seek.js';
import { delayedId, parseDelayedId } from '../messages/delayed-id.js';
import { StreamMessage, shardKey } from '../messages/stream-message.js';
import type { EntryFormat } from '../messages/stream-message.js';
import type {
  DelayedMessage,
  DelayedQuery,
  ClusterReadOptions,
  PendingQuery,
  RangeOptions,
  SetShardsOptions,
} from './manager-queries.js';
import { idsBetween, rangeBound } from './range-bound.js';
import { MAX_SHARDS } from '../options/options.js';
import type { LayoutDetails, ShardLayout } from '../../redis/commands/layouts.js';
import type { ShardOwnerDetails } from './shard-owner-details.js';
import { plannedShards, setShards } from './set-shards.js';
import type { RangeBound } from './range-bound.js';

const DELAYED_QUERY = optionNames<DelayedQuery>({ count: true, after: true });
const CLUSTER_READ_OPTIONS = optionNames<ClusterReadOptions>({ skipUnreachable: true });
const RANGE_OPTIONS = optionNames<RangeOptions>({ count: true, newest: true });
const PENDING_QUERY = optionNames<PendingQuery>({ consumer: true, after: true, minIdle: true, count: true });
const SET_SHARDS_OPTIONS = optionNames<SetShardsOptions>({ dryRun: true });
const REDRIVE_OPTIONS = optionNames<RedriveOptions>({ ids: true, filter: true, limit: true, dryRun: true });

/**
 * Inspects and repairs streams and groups. It owns no connection; its streamer does.
 *
 * Beside the errors that a method names, each rejects with what Redis or the connection answers: WrongTypeError for a key that
 * is no stream, PermissionError, ServerReplyError, ConnectionError, and ClosedError after `disconnect()` of the streamer.
 * @example
 * ```ts
 * const manager = await streamer.createManager();
 * for (const { name, lag, pending } of await manager.groups('orders')) console.log(name, lag, pending);
 * ```
 */
export class StreamManager implements AsyncDisposable {
  readonly #commands: StreamCommands;
  readonly #format: EntryFormat;

  /** @internal */
  static create(commands: StreamCommands, format: EntryFormat): StreamManager {
    return new StreamManager(commands, format);
  }

  private constructor(commands: StreamCommands, format: EntryFormat) {
    this.#commands = commands;
    this.#format = format;
  }

  /**
   * One page of the keys that are streams. Start without a cursor; the last page returns `'0'`. A page may be empty.
   * @throws InvalidOptionError
   */
  async scan(
    cursor = '0',
    options: ClusterReadOptions = {},
  ): Promise<{
    /** For the next page; `'0'` after the last one. */
    cursor: string;
    /** Keys of streams. */
    streams: string[];
    /** With {@link ClusterReadOptions.skipUnreachable}: addresses of masters that were left out of this page. */
    unreachable?: string[];
  }> {
    if (!/^\d+$/.test(cursor)) throw new InvalidOptionError('cursor', 'must be a cursor that scan() returned', cursor);
    const skipUnreachable = isSkipping(options);
    const scanning = this.#on('*', 'scanning', () => this.#commands.reading.scan(cursor, { skipUnreachable }));
    const { unreachable, ...page } = await scanning;
    return skipUnreachable ? { ...page, unreachable } : page;
  }

  /**
   * The entries between two bounds, oldest first, or with `newest` the other way round; `from` is the older bound in either case.
   * @throws InvalidOptionError
   * @example
   * ```ts
   * const lastTen = await manager.range('orders', '-', '+', { newest: true, count: 10 });
   * const lastHour = await manager.range('orders', new Date(Date.now() - 3_600_000), '+');
   * ```
   */
  async range(
    streamKey: string,
    from: RangeBound,
    to: RangeBound,
    options: RangeOptions = {},
  ): Promise<StreamMessage[]> {
    check.name('streamKey', streamKey);
    check.options('', options, RANGE_OPTIONS);
    const { count, newest = false } = options;
    if (count !== undefined) check.integer('count', count, 1);
    check.boolean('newest', newest);
    const bounds = { from: rangeBound('from', from), to: rangeBound('to', to) };
    const shard = { streamKey, shardId: 0, key: streamKey };
    const entries = await this.#on(streamKey, 'reading', async () => {
      const { reading } = this.#commands;
      const ids = await idsBetween(streamKey, bounds, reading);
      return newest
        ? reading.rangeBackwards(streamKey, ids.from, ids.to, count)
        : reading.range(streamKey, ids.from, ids.to, count);
    });
    return entries.map((entry) => StreamMessage.create(shard, entry, this.#format));
  }

  /**
   * One page of the messages that wait for the stream, those that are due first at the beginning. Of a stream with shards, name a
   * shard: `orders:2`.
   * @throws InvalidOptionError, UnsupportedOperationError where scripts are not permitted
   */
  async delayed(streamKey: string, query: DelayedQuery = {}): Promise<DelayedMessage[]> {
    check.name('streamKey', streamKey);
    check.options('', query, DELAYED_QUERY);
    const { count = 100, after } = query;
    check.integer('count', count, 1, 10_000);
    const position = after === undefined ? undefined : parseDelayedId(after);
    if (after !== undefined && !position) {
      throw new InvalidOptionError('after', 'must be the id of a delayed message', after);
    }
    const shard = { streamKey, shardId: 0, key: streamKey };
    const entries = await this.#on(streamKey, 'looking at delayed messages of', () =>
      this.#commands.delayed.list(streamKey, count, position),
    );
    return entries.map(({ token, due, fields }) => {
      const id = delayedId({ token, due, shardId: undefined });
      const { payload, headers } = StreamMessage.create(shard, { id, fields, deliveryCount: 0 }, this.#format);
      return { id, deliverAt: new Date(due), payload, headers };
    });
  }

  /**
   * Removes a message that waits; false when it is in the stream already, was cancelled before, or never was. Its deduplication
   * id can be used again.
   * @param id of a receipt or of {@link delayed}
   * @throws InvalidOptionError, UnsupportedOperationError where scripts are not permitted
   */
  async cancelDelayed(streamKey: string, id: string): Promise<boolean> {
    check.name('streamKey', streamKey);
    check.name('id', id);
    const delayed = parseDelayedId(id);
    if (!delayed) return false;
    const { token, shardId } = delayed;
    // The id of a receipt has the number of the shard; the key may be that of the stream or of the shard.
    const keys = shardId === undefined ? [streamKey] : [shardKey(streamKey, shardId, true), streamKey];
    return this.#on(streamKey, 'cancelling a delayed message of', async () => {
      for (const key of keys) if (await this.#commands.delayed.cancel(key, token)) return true;
      return false;
    });
  }

  /**
   * Length, memory, ids and groups of a stream. Of a stream with shards (`orders:0`, `orders:1`, … up to a gap of 32 numbers),
   * of all shards together, and in `shards` of each. Of a stream that does not exist: no entries, no groups, no `shards`.
   * @throws InvalidOptionError; WrongTypeError for a key that is no stream
   */
  async info(streamKey: string, options: ClusterReadOptions = {}): Promise<StreamDetails> {
    check.name('streamKey', streamKey);
    const skipUnreachable = isSkipping(options);
    return this.#on(streamKey, 'looking at', () => streamDetails(streamKey, this.#commands, skipUnreachable));
  }

  /**
   * The consumer groups of a stream and its shards, see {@link info}; an empty list when it does not exist.
   * @throws InvalidOptionError
   */
  async groups(streamKey: string): Promise<GroupDetails[]> {
    check.name('streamKey', streamKey);
    return this.#on(streamKey, 'looking at the groups of', () => groupDetails(streamKey, this.#commands));
  }

  /**
   * The consumers that a group has on a stream and its shards, see {@link info}.
   * @throws InvalidOptionError; GroupMissingError when the group, or the stream, does not exist
   */
  async consumers(streamKey: string, group: string): Promise<GroupConsumerInfo[]> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    return this.#on(streamKey, 'looking at consumers of', () => consumersOf(streamKey, group, this.#commands));
  }

  /**
   * Which consumer owns each shard of a stream, in a group whose consumers have `shardOwnership: 'owned'`. Finds the shards that
   * {@link info} finds; the stream itself is the first one if it exists. An empty list when the stream does not exist.
   * @throws InvalidOptionError
   */
  async owners(streamKey: string, group: string): Promise<ShardOwnerDetails[]> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    return this.#on(streamKey, 'looking at the owners of', () => ownersOf(streamKey, group, this.#commands));
  }

  /**
   * How many shards a stream has and had, as far as {@link setShards} and producers with a `KeyHashSharder` have noted it; {@link info}
   * has the shards that exist. Changes nothing, and does not wait for a change that is under way.
   * @throws InvalidOptionError
   */
  async layouts(streamKey: string): Promise<LayoutDetails> {
    check.name('streamKey', streamKey);
    return this.#on(streamKey, 'looking at the layouts of', () => this.#commands.layouts.read(streamKey));
  }

  /**
   * Sets how many shards a stream has, while messages are sent and handled. The new shards have numbers of their own, behind those
   * that there were; the old ones are closed: Redis refuses every later append to them, from any writer. Producers with a sharder
   * of this package follow, and consumers with `shardOwnership: 'owned'` handle what is in the old shards before they begin with the new
   * ones, so that the messages of a key stay in their order. Other writers must be configured with the new numbers. Resolves with the new
   * shards when new messages go to them. If `shards` equals the current number, the old shards are closed again, because a failover
   * may have opened them. See docs/owned-shards.md.
   * @param streamKey not one of the shards: `orders`, and not `orders:0`
   * @param shards 1 to 10,000
   * @throws InvalidOptionError; ShardsBusyError while delayed messages wait beside a shard; UnsupportedOperationError where scripts are
   * not permitted
   * @example
   * ```ts
   * await manager.setShards('orders', 24);
   * ```
   */
  async setShards(streamKey: string, shards: number, options: SetShardsOptions = {}): Promise<ShardLayout> {
    check.name('streamKey', streamKey);
    check.integer('shards', shards, 1, MAX_SHARDS);
    check.options('', options, SET_SHARDS_OPTIONS);
    if (options.dryRun !== undefined) check.boolean('dryRun', options.dryRun);
    const set = options.dryRun ? plannedShards : setShards;
    return this.#on(streamKey, 'setting the shards of', () => set(streamKey, shards, this.#commands));
  }

  /**
   * Whether the stream has a consumer group.
   * @internal
   */
  async hasGroups(streamKey: string): Promise<boolean> {
    check.name('streamKey', streamKey);
    return this.#on(streamKey, 'looking at the groups of', async () => {
      if (!(await this.#commands.reading.streamInfo(streamKey))) return false;
      return (await this.#commands.groups.groups(streamKey)).length > 0;
    });
  }

  /**
   * One page of a group's pending entries list, oldest first. Of a stream with shards it takes one shard, `orders:2`.
   * @throws InvalidOptionError; GroupMissingError when the group, or the stream, does not exist
   * @example
   * ```ts
   * const stuck = await manager.pending('orders', 'billing', { minIdle: 60_000 });
   * ```
   */
  async pending(streamKey: string, group: string, query: PendingQuery = {}): Promise<PendingEntry[]> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    check.options('', query, PENDING_QUERY);
    const { consumer, after, minIdle = 0, count = 100 } = query;
    if (consumer !== undefined) check.name('consumer', consumer);
    check.integer('count', count, 1);
    check.integer('minIdle', minIdle, 0);
    if (after !== undefined && !isEntryId(after)) throw new InvalidOptionError('after', 'must be an entry id', after);
    const page = await this.#onGroup(streamKey, group, 'looking at pending entries of', () =>
      this.#commands.pending.pending(streamKey, group, { consumer, after, count }),
    );
    return page.filter(({ idle }) => idle >= minIdle);
  }

  /**
   * Moves a whole group: it continues after an id or a time, at the beginning, or at the end. A position past the
   * last entry is the end as well. Pending entries stay pending. A server that has a message in its buffer or in a handler
   * does not handle it once more because of the move; what it has settled is handled again. Of a stream with shards it takes one
   * shard, `orders:2`.
   * @throws InvalidOptionError; GroupMissingError when the group, or the stream, does not exist
   * @example
   * ```ts
   * await manager.setGroupPosition('orders', 'billing', new Date('2026-11-01T00:00:00Z'));
   * ```
   */
  async setGroupPosition(streamKey: string, group: string, to: RewindTarget | Date): Promise<void> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    if (to instanceof Date) check.date('to', to);
    const target = to instanceof Date ? { after: to } : resolveRewindTarget(to, 'a Date, ');
    await this.#onGroup(streamKey, group, 'moving a group of', async () => {
      const position = await positionOf(streamKey, target, this.#commands.reading);
      await this.#commands.groups.setGroupPosition(streamKey, group, position);
    });
  }

  /**
   * One page of the dead letters of a stream, the oldest first. It takes the stream itself, `orders`, and looks at
   * `orders.dead` or at {@link DeadLetterPlace.deadLetterStream}; {@link redrive} takes the stream of dead letters. A query that
   * few match reads the stream of dead letters to its end: `since` and `until` limit that.
   * @throws InvalidOptionError
   * @example
   * const [letter] = await manager.deadLetters('orders', { reason: 'timed out', since: new Date(Date.now() - 3_600_000) });
   */
  async deadLetters(streamKey: string, query: DeadLetterQuery = {}): Promise<DeadLetterMessage[]> {
    check.name('streamKey', streamKey);
    const resolved = resolveDeadLetterQuery(streamKey, query);
    return this.#on(resolved.deadLetterStream, 'looking at dead letters in', () =>
      listDeadLetters(resolved, this.#commands.reading, this.#format),
    );
  }

  /**
   * Deletes a dead letter for ever, its message with it; false when there is none with that id.
   * @param id of {@link deadLetters}
   * @throws InvalidOptionError
   */
  async removeDeadLetter(streamKey: string, id: string, place: DeadLetterPlace = {}): Promise<boolean> {
    check.name('streamKey', streamKey);
    check.name('id', id);
    checkIds('id', [id]);
    const resolved = resolveDeadLetterPlace(streamKey, place);
    return this.#on(resolved.deadLetterStream, 'deleting a dead letter in', () =>
      removeDeadLetter(resolved, id, this.#commands, this.#format),
    );
  }

  /**
   * Returns dead letters to the group that they came from, and to no other; its consumers claim them at their next scan for
   * idle entries.
   * @throws InvalidOptionError; GroupMissingError when that group does not exist any more
   * @example
   * ```ts
   * const { redriven } = await manager.redrive('orders.dead', { filter: ({ headers }) => headers['source'] === 'web' });
   * ```
   */
  async redrive(deadLetterStream: string, options: RedriveOptions = {}): Promise<RedriveResult> {
    check.name('deadLetterStream', deadLetterStream);
    check.options('', options, REDRIVE_OPTIONS);
    if (options.limit !== undefined) check.integer('limit', options.limit, 1);
    if (options.ids !== undefined) checkIds('ids', options.ids);
    if (options.filter !== undefined) check.function('filter', options.filter);
    if (options.dryRun !== undefined) check.boolean('dryRun', options.dryRun);
    return this.#on(deadLetterStream, 'redriving', () =>
      redrive(deadLetterStream, options, this.#commands, this.#format),
    );
  }

  /**
   * Deletes the entries that every group of the stream has acknowledged, and no others; see {@link TrimOptions}. Consumers
   * in real-time mode have no group, so entries that they have not read are deleted too. A stream without groups is not
   * trimmed. Of a stream with shards it takes one shard, `orders:2`; the stream itself has no entries.
   * @throws InvalidOptionError, UnsupportedOperationError where scripts are not permitted
   * @example
   * ```ts
   * const { trimmed } = await manager.trimAcknowledged('orders', { keepFor: 86_400_000 });
   * ```
   */
  async trimAcknowledged(streamKey: string, options: TrimOptions = {}): Promise<TrimResult> {
    check.name('streamKey', streamKey);
    const resolved = resolveRetention(options, 'options');
    return this.#on(streamKey, 'trimming', () => trimAcknowledged(streamKey, resolved, this.#commands.groups));
  }

  /**
   * Pauses a group on a stream, its shards included, in every process: within two seconds none of its consumers reads or
   * hands out anything new; running handlers end, and their acknowledgements are sent. A consumer that starts later reads
   * nothing until {@link resumeGroup}. The group need not exist yet. The pause is a key beside the stream: it is gone when
   * Redis restarts without its data. Idempotent.
   * @throws InvalidOptionError; PermissionError without the permission for SET
   */
  async pauseGroup(streamKey: string, group: string): Promise<void> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    await this.#on(streamKey, 'pausing a group of', () => this.#commands.pauses.pause({ streamKey, group }));
  }

  /**
   * Ends {@link pauseGroup}. Consumers that were paused by their application stay paused. Idempotent.
   * @throws InvalidOptionError
   */
  async resumeGroup(streamKey: string, group: string): Promise<void> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    await this.#on(streamKey, 'resuming a group of', () => this.#commands.pauses.resume({ streamKey, group }));
  }

  /**
   * Removes a consumer's name from a group. Of a stream with shards it takes one shard, `orders:2`.
   * @throws InvalidOptionError; ConsumerPendingError while entries are pending for it; GroupMissingError when the group, or the
   * stream, does not exist
   */
  async removeConsumer(streamKey: string, group: string, consumer: string): Promise<void> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    check.name('consumer', consumer);
    const pending = await this.#onGroup(streamKey, group, 'removing a consumer of', () =>
      this.#commands.groups.removeConsumer(streamKey, group, consumer),
    );
    if (pending > 0) throw new ConsumerPendingError(streamKey, group, consumer, pending);
  }

  /** Closes nothing: the connection belongs to the streamer. */
  async [Symbol.asyncDispose](): Promise<void> {
    // The connection belongs to the streamer.
  }

  async #onGroup<T>(streamKey: string, group: string, action: string, run: () => Promise<T>): Promise<T> {
    return this.#on(streamKey, action, async () => {
      try {
        return await run();
      } catch (error) {
        const kind = classifyRedisError(error);
        throw kind === 'group-missing' || kind === 'stream-gone'
          ? new GroupMissingError(streamKey, group, error)
          : error;
      }
    });
  }

  async #on<T>(streamKey: string, action: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw toPublicError(error, streamKey, action);
    }
  }
}

/** @throws InvalidOptionError */
function isSkipping(options: ClusterReadOptions): boolean {
  check.options('', options, CLUSTER_READ_OPTIONS);
  const { skipUnreachable = false } = options;
  check.boolean('skipUnreachable', skipUnreachable);
  return skipUnreachable;
}

/** @throws InvalidOptionError for what is no id of an entry; a time alone would be a range */
function checkIds(option: string, ids: readonly string[]): void {
  if (!Array.isArray(ids)) throw new InvalidOptionError(option, 'must be a list of entry ids', ids);
  for (const id of ids) {
    if (typeof id === 'string' && isEntryId(id) && id.includes('-')) continue;
    throw new InvalidOptionError(option, "must be an entry id, 'ms-seq'", id);
  }
}
