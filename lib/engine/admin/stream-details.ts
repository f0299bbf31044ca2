import { GroupMissingError } from '../../errors.js';
import { compareEntryIds } from '../../redis/commands/entry-id.js';
import { classifyRedisError, unlessRefused } from '../../redis/commands/redis-error.js';
import type { GroupConsumerInfo, GroupInfo, StreamCommands, StreamInfo } from '../../redis/commands/stream-commands.js';
import type { ShardOwner } from '../../redis/commands/shard-owners.js';
import { LAST_POSSIBLE_ID } from '../../redis/scripts/shard-layouts.js';
import { largestOf, sumOf } from '../../shared/sums.js';
import { lagOf } from '../health.js';
import { probeShards } from '../consuming/shard-discovery.js';
import { shardKey, streamOfShard } from '../messages/stream-message.js';
import type { StoredShard } from '../messages/stream-message.js';
import { ShardOwnerDetails } from './shard-owner-details.js';

/**
 * A consumer group, with its consumers. Of a stream with shards: sums over the shards that have the group, of `lagSeconds` the
 * largest, and of `lastDeliveredId` the lowest; closed shards of which everything was delivered do not count for it, while others do.
 */
export interface GroupDetails extends Omit<GroupInfo, 'consumers'> {
  /** Its consumers. */
  readonly consumers: readonly GroupConsumerInfo[];
  /**
   * Age in seconds of the oldest entry that was not delivered to the group yet, by the clock of Redis; 0 when there is none.
   * Undefined where the user may not read entries.
   */
  readonly lagSeconds?: number | undefined;
  /** Whether `StreamManager.pauseGroup()` has paused it; undefined where the user may not read that. */
  readonly isPaused?: boolean | undefined;
}

/** One key of a stream: the stream itself, or one of its shards. */
export interface ShardDetails {
  /** The key: `orders`, or `orders:2`. */
  readonly key: string;
  /** 0 for the stream itself. */
  readonly shardId: number;
  /** Number of entries. */
  readonly length: number;
  /** Bytes, as the server estimates them; undefined where the user may not use MEMORY USAGE. */
  readonly memory: number | undefined;
  /** Id of the oldest entry; undefined without entries. */
  readonly firstId: string | undefined;
  /** Id of the newest entry; undefined without entries. */
  readonly lastId: string | undefined;
  /** Number of entries that were ever added, trimmed and deleted ones included; undefined before Redis 7.0. */
  readonly entriesAdded: number | undefined;
  /** Its consumer groups. */
  readonly groups: readonly GroupDetails[];
  /** Whether Redis refuses every append, because {@link StreamManager.setShards} has closed the shard. */
  readonly isClosed: boolean;
}

/** A stream as a whole; of a stream with shards, all of them together. */
export interface StreamDetails extends Omit<ShardDetails, 'key' | 'shardId' | 'isClosed'> {
  /** Key of the stream, without the number of a shard. */
  readonly streamKey: string;
  /** The same for each of its keys: one, or one for each shard; none when the stream does not exist. */
  readonly shards: readonly ShardDetails[];
  /**
   * With {@link ClusterReadOptions.skipUnreachable}: keys that are missing because their node does not answer, of the stream and of the shards that
   * were looked for. Whether they exist is not known.
   */
  readonly unreachable?: readonly string[];
}

type DetailCommands = Pick<StreamCommands, 'reading' | 'groups' | 'pauses' | 'clock'>;

/** Does work on the node of a key. Undefined where the details are to leave it out. */
type Ask = <T>(key: string, work: () => Promise<T>) => Promise<T | undefined>;

const strictly: Ask = (_, work) => work();

/** @throws what Redis answered, for instance for a key that is no stream */
export async function streamDetails(
  streamKey: string,
  commands: DetailCommands & Pick<StreamCommands, 'nodes'>,
  skipUnreachable: boolean,
): Promise<StreamDetails> {
  const { nodes } = commands;
  if (skipUnreachable) await nodes.reached();
  const unreachable = new Set<string>();
  const ask: Ask = async (key, work) => {
    if (!skipUnreachable) return work();
    const answer = await nodes.unlessUnreachable(key, work);
    // Of a shard the stream is asked too, for pauses.
    if (!answer && key.startsWith(streamKey)) unreachable.add(key);
    return answer?.reply;
  };
  const keys = await keysOf(streamKey, commands, ask);
  const found = await Promise.all(keys.map((shard) => ask(shard.key, () => shardDetails(shard, commands, ask))));
  if (unreachable.size > 0) nodes.requireAny();
  const shards = found.filter((shard) => shard !== undefined);
  return {
    streamKey,
    length: sumOf(shards.map(({ length }) => length)),
    memory: sumOf(shards.map(({ memory }) => memory)),
    firstId: outermostId(
      shards.map(({ firstId }) => firstId),
      lowerId,
    ),
    lastId: outermostId(
      shards.map(({ lastId }) => lastId),
      higherId,
    ),
    entriesAdded: sumOf(shards.map(({ entriesAdded }) => entriesAdded)),
    groups: groupsTogether(shards),
    shards,
    ...(skipUnreachable && { unreachable: [...unreachable] }),
  };
}

/** The groups of a stream and its shards; none when it does not exist. */
export async function groupDetails(streamKey: string, commands: DetailCommands): Promise<GroupDetails[]> {
  const keys = await keysOf(streamKey, commands);
  const shards = await Promise.all(
    keys.map(async (shard) => {
      const [info, groups] = await Promise.all([
        unlessRefused(commands.reading.streamInfo(shard.key)),
        groupsOf(shard, commands, strictly),
      ]);
      return { isClosed: isClosed(info), lastId: info?.lastId, groups };
    }),
  );
  return groupsTogether(shards);
}

/** The consumers that a group has on a stream and its shards. @throws GroupMissingError */
export async function consumersOf(
  streamKey: string,
  group: string,
  commands: DetailCommands,
): Promise<GroupConsumerInfo[]> {
  const keys = await keysOf(streamKey, commands);
  const all = await Promise.all(keys.map(({ key }) => unlessGone(commands.groups.consumers(key, group))));
  const found = all.filter((consumers) => consumers !== undefined);
  if (found.length === 0) throw new GroupMissingError(streamKey, group);
  return consumersTogether(found);
}

/**
 * The owners of all shards of a stream in a group, and of the stream itself if it exists or has an owner. The details of a shard without
 * an owner have `undefined` in its place.
 */
export async function ownersOf(
  streamKey: string,
  group: string,
  commands: Pick<DetailCommands, 'reading'> & Pick<StreamCommands, 'ownership'>,
): Promise<ShardOwnerDetails[]> {
  const all = await keysOf(streamKey, commands);
  const owners = await commands.ownership.owners(all.map(({ key }) => ({ streamKey: key, group })));
  const failure = owners.find((owner) => owner instanceof Error);
  if (failure) throw failure;
  const details = all.map((shard, index) => new ShardOwnerDetails(shard, owners[index] as ShardOwner | undefined));
  const [own, ...shards] = details as [ShardOwnerDetails, ...ShardOwnerDetails[]];
  const isListed = own.owner !== undefined || (await commands.reading.isStream(streamKey));
  return isListed ? details : shards;
}

/** The stream and its shards, whether it exists or not. */
async function keysOf(
  streamKey: string,
  { reading }: Pick<DetailCommands, 'reading'>,
  ask = strictly,
): Promise<StoredShard[]> {
  // A user who may read the stream alone sees the stream alone.
  const isStream = async (key: string): Promise<boolean> =>
    (await ask(key, () => unlessRefused(reading.isStream(key)))) ?? false;
  const shards = await probeShards(streamKey, { isStream });
  const own: StoredShard = { streamKey, shardId: 0, key: streamKey };
  return [own, ...shards.map((shardId) => ({ streamKey, shardId, key: shardKey(streamKey, shardId, true) }))];
}

async function shardDetails(shard: StoredShard, commands: DetailCommands, ask: Ask): Promise<ShardDetails | undefined> {
  const { key, shardId } = shard;
  const info = await commands.reading.streamInfo(key);
  if (!info) return undefined;
  const [memory, groups] = await Promise.all([
    unlessRefused(commands.reading.memoryUsage(key)),
    groupsOf(shard, commands, ask),
  ]);
  const { length, firstId, lastId, entriesAdded } = info;
  return { key, shardId, length, memory, firstId, lastId, entriesAdded, groups, isClosed: isClosed(info) };
}

function isClosed(info: StreamInfo | undefined): boolean {
  return info?.lastGeneratedId === LAST_POSSIBLE_ID;
}

async function groupsOf({ streamKey, key }: StoredShard, commands: DetailCommands, ask: Ask): Promise<GroupDetails[]> {
  const groups = (await unlessGone(commands.groups.groups(key))) ?? [];
  const names = groups.map(({ name }) => name);
  // Who reads `orders:2` by its own name heeds a pause of `orders:2`; who reads it as a shard, one of `orders`.
  const pausedUnder = [...new Set([streamKey, streamOfShard(streamKey)])];
  const [consumers, lags, ...pauses] = await Promise.all([
    Promise.all(names.map((name) => unlessGone(commands.groups.consumers(key, name)))),
    Promise.all(groups.map((group) => lagOf(key, group, commands, unlessRefused))),
    ...pausedUnder.map((stream) =>
      ask(stream, () => commands.pauses.arePaused(names.map((group) => ({ streamKey: stream, group })))),
    ),
  ]);
  return groups.map((group, index) => {
    const answers = pauses.map((answer) => answer?.[index]);
    const isRead = answers.every((answer) => answer === false);
    const isPaused = answers.includes(true) || (isRead ? false : undefined);
    // Without consumers: a group that was removed after it was listed, or whose name is no UTF-8, so that it cannot be asked for.
    return { ...group, ...lags[index], consumers: consumers[index] ?? [], isPaused };
  });
}

/** Undefined when the stream or the group does not exist, or has been removed since it was found. */
async function unlessGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (['group-missing', 'stream-gone'].includes(classifyRedisError(error))) return undefined;
    throw error;
  }
}

type ShardGroups = Pick<ShardDetails, 'groups' | 'isClosed' | 'lastId'>;

function groupsTogether(shards: readonly ShardGroups[]): GroupDetails[] {
  const parts = byName(shards.flatMap(({ groups }) => groups));
  const ended = new Set(shards.flatMap((shard) => shard.groups.filter((group) => isAtEnd(shard, group))));
  return parts.map(([first, ...others]) => {
    if (others.length === 0) return first;
    const all = [first, ...others];
    const unended = all.filter((each) => !ended.has(each));
    return {
      ...first,
      pending: sumOf(all.map(({ pending }) => pending)),
      lag: sumOf(all.map(({ lag }) => lag)),
      lagSeconds: largestOf(all.map(({ lagSeconds }) => lagSeconds)),
      lastDeliveredId: (unended.length > 0 ? unended : all)
        .map(({ lastDeliveredId }) => lastDeliveredId)
        .reduce(lowerId),
      consumers: consumersTogether(all.map(({ consumers }) => consumers)),
      // One pause holds for all shards.
      isPaused: first.isPaused,
    };
  });
}

/** Whether the group gets nothing more from a closed shard. */
function isAtEnd({ isClosed: isShardClosed, lastId }: ShardGroups, { lastDeliveredId }: GroupDetails): boolean {
  return isShardClosed && (lastId === undefined || compareEntryIds(lastDeliveredId, lastId) >= 0);
}

/** A consumer reads all shards of a stream under one name. */
function consumersTogether(shards: ReadonlyArray<readonly GroupConsumerInfo[]>): GroupConsumerInfo[] {
  return byName(shards.flat()).map((all) => {
    const [{ name }] = all;
    const inactive = all.flatMap((part) => part.inactive ?? []);
    return {
      name,
      pending: sumOf(all.map(({ pending }) => pending)),
      idle: Math.min(...all.map(({ idle }) => idle)),
      inactive: inactive.length > 0 ? Math.min(...inactive) : undefined,
    };
  });
}

function byName<T extends { readonly name: string }>(items: readonly T[]): Array<[T, ...T[]]> {
  const found = new Map<string, [T, ...T[]]>();
  for (const item of items) {
    const same = found.get(item.name);
    if (same) same.push(item);
    else found.set(item.name, [item]);
  }
  return [...found.values()];
}

function lowerId(one: string, other: string): string {
  return compareEntryIds(one, other) <= 0 ? one : other;
}

function higherId(one: string, other: string): string {
  return lowerId(one, other) === one ? other : one;
}

/** Undefined without ids. */
function outermostId(
  ids: ReadonlyArray<string | undefined>,
  pick: (one: string, other: string) => string,
): string | undefined {
  const known = ids.filter((id) => id !== undefined);
  return known.length > 0 ? known.reduce(pick) : undefined;
}
