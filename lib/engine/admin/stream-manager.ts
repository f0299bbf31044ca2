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
import { idsBetween, rangeBound } from './range-bound.js';
import type { ShardOwnerDetails } from './shard-owner-details.js';
import { MAX_SHARDS, setShards } from './set-shards.js';
import type { RangeBound } from './range-bound.js';

export interface PendingQuery {
  /** Only entries of this consumer. */
  consumer?: string;
  /** Only entries after this id, to continue where a page ended. */
  after?: string;
  /** Only entries that have been idle for at least this time, in milliseconds. Applied to each page. */
  minIdle?: number;
  /** Size of a page. At least 1, default 100. */
  count?: number;
}

export interface DelayedQuery {
  /** Size of a page. At least 1, at most 10,000, default 100. */
  count?: number;
  /** The id of a delayed message, to continue after it. */
  after?: string;
}

/** A message that waits beside its stream until it is due. */
export interface DelayedMessage {
  /** For {@link StreamManager.cancelDelayed}; the same as in its receipt, but for the number of its shard. */
  readonly id: string;
  readonly deliverAt: Date;
  readonly payload: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

const DELAYED_QUERY = optionNames<DelayedQuery>({ count: true, after: true });
const RANGE_OPTIONS = optionNames<{ count?: number }>({ count: true });
const PENDING_QUERY = optionNames<PendingQuery>({ consumer: true, after: true, minIdle: true, count: true });
const REDRIVE_OPTIONS = optionNames<RedriveOptions>({ filter: true, limit: true, dryRun: true });

/** Inspects and repairs streams and groups. It owns no connection; its streamer does. */
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

  /** One page of the keys that are streams. Start without a cursor; the last page returns `'0'`. A page may be empty. */
  async scan(cursor = '0'): Promise<{ cursor: string; streams: string[] }> {
    if (!/^\d+$/.test(cursor)) throw new InvalidOptionError('cursor', 'must be a cursor that scan() returned', cursor);
    return this.#on('*', 'scanning', () => this.#commands.reading.scan(cursor));
  }

  /** The entries between two bounds, oldest first. */
  async range(
    streamKey: string,
    from: RangeBound,
    to: RangeBound,
    options: { count?: number } = {},
  ): Promise<StreamMessage[]> {
    check.name('streamKey', streamKey);
    check.options('', options, RANGE_OPTIONS);
    if (options.count !== undefined) check.integer('count', options.count, 1);
    const bounds = { from: rangeBound('from', from), to: rangeBound('to', to) };
    const shard = { streamKey, shardId: 0, key: streamKey };
    const entries = await this.#on(streamKey, 'reading', async () => {
      const { reading } = this.#commands;
      const ids = await idsBetween(streamKey, bounds, reading);
      return reading.range(streamKey, ids.from, ids.to, options.count);
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
  async info(streamKey: string): Promise<StreamDetails> {
    check.name('streamKey', streamKey);
    return this.#on(streamKey, 'looking at', () => streamDetails(streamKey, this.#commands));
  }

  /** The consumer groups of a stream and its shards, see {@link info}; an empty list when it does not exist. */
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
   * {@link info} finds.
   * @throws InvalidOptionError
   */
  async owners(streamKey: string, group: string): Promise<ShardOwnerDetails[]> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    return this.#on(streamKey, 'looking at the owners of', () => ownersOf(streamKey, group, this.#commands));
  }

  /**
   * Sets how many shards a stream has, while messages are sent and handled. The new shards have numbers of their own, behind those
   * that there were; the old ones are closed: Redis refuses every later append to them, from any writer. Producers with a sharder
   * of this package follow, and consumers with `shardOwnership: 'owned'` handle what is in the old shards before they begin with the new
   * ones, so that the messages of a key stay in their order. Other writers must be configured with the new numbers. Resolves when new
   * messages go to the new shards. If `shards` equals the current number, the old shards are closed again, because a failover
   * may have opened them. See docs/owned-shards.md.
   * @param shards 1 to 65,536
   * @throws InvalidOptionError; ShardsBusyError while delayed messages wait beside a shard; UnsupportedOperationError where scripts are
   * not permitted
   */
  async setShards(streamKey: string, shards: number): Promise<void> {
    check.name('streamKey', streamKey);
    check.integer('shards', shards, 1, MAX_SHARDS);
    await this.#on(streamKey, 'setting the shards of', () => setShards(streamKey, shards, this.#commands));
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

  /** One page of a group's pending entries list, oldest first. */
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
   * does not handle it once more because of the move; what it has settled is handled again.
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
    if (!isEntryId(id) || !id.includes('-')) throw new InvalidOptionError('id', "must be an entry id, 'ms-seq'", id);
    const resolved = resolveDeadLetterPlace(streamKey, place);
    return this.#on(resolved.deadLetterStream, 'deleting a dead letter in', () =>
      removeDeadLetter(resolved, id, this.#commands, this.#format),
    );
  }

  /**
   * Returns dead letters to the group that they came from, and to no other; its consumers claim them at their next scan for
   * idle entries. @throws InvalidOptionError, GroupMissingError when that group does not exist any more
   */
  async redrive(deadLetterStream: string, options: RedriveOptions = {}): Promise<RedriveResult> {
    check.name('deadLetterStream', deadLetterStream);
    check.options('', options, REDRIVE_OPTIONS);
    if (options.limit !== undefined) check.integer('limit', options.limit, 1);
    if (options.filter !== undefined) check.function('filter', options.filter);
    if (options.dryRun !== undefined) check.boolean('dryRun', options.dryRun);
    return this.#on(deadLetterStream, 'redriving', () =>
      redrive(deadLetterStream, options, this.#commands, this.#format),
    );
  }

  /**
   * Deletes the entries that every group of the stream has acknowledged, and no others; see {@link TrimOptions}. Consumers
   * in real-time mode have no group, so entries that they have not read are deleted too. A stream without groups is not
   * trimmed.
   * @throws InvalidOptionError, UnsupportedOperationError where scripts are not permitted
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

  /** Ends {@link pauseGroup}. Consumers that were paused by their application stay paused. Idempotent. */
  async resumeGroup(streamKey: string, group: string): Promise<void> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    await this.#on(streamKey, 'resuming a group of', () => this.#commands.pauses.resume({ streamKey, group }));
  }

  /** Removes a consumer's name from a group. @throws ConsumerPendingError while entries are pending for it. */
  async removeConsumer(streamKey: string, group: string, consumer: string): Promise<void> {
    check.name('streamKey', streamKey);
    check.name('group', group);
    check.name('consumer', consumer);
    const pending = await this.#onGroup(streamKey, group, 'removing a consumer of', () =>
      this.#commands.groups.removeConsumer(streamKey, group, consumer),
    );
    if (pending > 0) throw new ConsumerPendingError(streamKey, group, consumer, pending);
  }

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
