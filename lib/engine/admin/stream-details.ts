import { GroupMissingError } from '../../errors.js';
import { compareEntryIds } from '../../redis/commands/entry-id.js';
import { classifyRedisError } from '../../redis/commands/redis-error.js';
import type { GroupConsumerInfo, GroupInfo, StreamCommands } from '../../redis/commands/stream-commands.js';
import type { ShardOwner } from '../../redis/commands/shard-owners.js';
import { largestOf, sumOf } from '../../shared/sums.js';
import { lagOf } from '../health.js';
import { probeShards } from '../consuming/shard-discovery.js';
import { shardKey, streamOfShard } from '../messages/stream-message.js';
import type { StoredShard } from '../messages/stream-message.js';
import { ShardOwnerDetails } from './shard-owner-details.js';

/**
 * A consumer group, with its consumers. Of a stream with shards: sums over the shards that have the group, of `lagSeconds` the
 * largest, and of `lastDeliveredId` the lowest.
 */
export interface GroupDetails extends Omit<GroupInfo, 'consumers'> {
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
  /** Ids of the oldest and the newest entry; undefined without entries. */
  readonly firstId: string | undefined;
  readonly lastId: string | undefined;
  readonly groups: readonly GroupDetails[];
}

/** A stream as a whole; of a stream with shards, all of them together. */
export interface StreamDetails extends Omit<ShardDetails, 'key' | 'shardId'> {
  readonly streamKey: string;
  /** The same for each of its keys: one, or one for each shard; none when the stream does not exist. */
  readonly shards: readonly ShardDetails[];
}

type DetailCommands = Pick<StreamCommands, 'reading' | 'groups' | 'pauses' | 'clock'>;

/** @throws what Redis answered, for instance for a key that is no stream */
export async function streamDetails(streamKey: string, commands: DetailCommands): Promise<StreamDetails> {
  const keys = await keysOf(streamKey, commands);
  const found = await Promise.all(keys.map((shard) => shardDetails(shard, commands)));
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
    groups: groupsTogether(shards),
    shards,
  };
}

/** The groups of a stream and its shards; none when it does not exist. */
export async function groupDetails(streamKey: string, commands: DetailCommands): Promise<GroupDetails[]> {
  const keys = await keysOf(streamKey, commands);
  const groups = await Promise.all(keys.map((shard) => groupsOf(shard, commands)));
  return groupsTogether(groups.map((each) => ({ groups: each })));
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
 * The owners of all shards of a stream in a group, or of the stream itself where it has no shards. The details of a shard without
 * an owner have `undefined` in its place.
 */
export async function ownersOf(
  streamKey: string,
  group: string,
  commands: Pick<DetailCommands, 'reading'> & Pick<StreamCommands, 'ownership'>,
): Promise<ShardOwnerDetails[]> {
  const [own, ...shards] = (await keysOf(streamKey, commands)) as [StoredShard, ...StoredShard[]];
  const all = shards.length > 0 ? shards : [own];
  const owners = await commands.ownership.owners(all.map(({ key }) => ({ streamKey: key, group })));
  const failure = owners.find((owner) => owner instanceof Error);
  if (failure) throw failure;
  return all.map(({ shardId }, index) => {
    return new ShardOwnerDetails({ streamKey, shardId }, owners[index] as ShardOwner | undefined);
  });
}

/** The stream and its shards, whether it exists or not. */
async function keysOf(streamKey: string, { reading }: Pick<DetailCommands, 'reading'>): Promise<StoredShard[]> {
  // A user who may read the stream alone sees the stream alone.
  const isStream = async (key: string): Promise<boolean> => (await unlessRefused(reading.isStream(key))) ?? false;
  const shards = await probeShards(streamKey, { isStream });
  const own: StoredShard = { streamKey, shardId: 0, key: streamKey };
  return [own, ...shards.map((shardId) => ({ streamKey, shardId, key: shardKey(streamKey, shardId, true) }))];
}

async function shardDetails(shard: StoredShard, commands: DetailCommands): Promise<ShardDetails | undefined> {
  const { key, shardId } = shard;
  const info = await commands.reading.streamInfo(key);
  if (!info) return undefined;
  const [memory, groups] = await Promise.all([
    unlessRefused(commands.reading.memoryUsage(key)),
    groupsOf(shard, commands),
  ]);
  const { length, firstId, lastId } = info;
  return { key, shardId, length, memory, firstId, lastId, groups };
}

async function groupsOf({ streamKey, key }: StoredShard, commands: DetailCommands): Promise<GroupDetails[]> {
  const groups = (await unlessGone(commands.groups.groups(key))) ?? [];
  const names = groups.map(({ name }) => name);
  // Who reads `orders:2` by its own name heeds a pause of `orders:2`; who reads it as a shard, one of `orders`.
  const pausedUnder = [...new Set([streamKey, streamOfShard(streamKey)])];
  const [consumers, lags, ...pauses] = await Promise.all([
    Promise.all(names.map((name) => unlessGone(commands.groups.consumers(key, name)))),
    Promise.all(groups.map((group) => lagOf(key, group, commands, unlessRefused))),
    ...pausedUnder.map((stream) => commands.pauses.arePaused(names.map((group) => ({ streamKey: stream, group })))),
  ]);
  return groups.map((group, index) => {
    const answers = pauses.map((answer) => answer[index]);
    const isRead = answers.every((answer) => answer === false);
    const isPaused = answers.includes(true) || (isRead ? false : undefined);
    // Without consumers: a group that was removed after it was listed, or whose name is no UTF-8, so that it cannot be asked for.
    return { ...group, ...lags[index], consumers: consumers[index] ?? [], isPaused };
  });
}

/** Undefined where the server or the permissions do not offer it. */
async function unlessRefused<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (['permission', 'unsupported', 'refused'].includes(classifyRedisError(error))) return undefined;
    throw error;
  }
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

function groupsTogether(shards: ReadonlyArray<Pick<ShardDetails, 'groups'>>): GroupDetails[] {
  const parts = byName(shards.flatMap(({ groups }) => groups));
  return parts.map(([first, ...others]) => {
    if (others.length === 0) return first;
    const all = [first, ...others];
    return {
      ...first,
      pending: sumOf(all.map(({ pending }) => pending)),
      lag: sumOf(all.map(({ lag }) => lag)),
      lagSeconds: largestOf(all.map(({ lagSeconds }) => lagSeconds)),
      lastDeliveredId: all.map(({ lastDeliveredId }) => lastDeliveredId).reduce(lowerId),
      consumers: consumersTogether(all.map(({ consumers }) => consumers)),
      // One pause holds for all shards.
      isPaused: first.isPaused,
    };
  });
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
