import {
  GroupMissingError,
  InvalidOptionError,
  PermissionError,
  UnsupportedOperationError,
} from 'nestjs-redis-streams';
import type { ShardOwnerDetails, StreamManager } from 'nestjs-redis-streams';
import { PENDING_SHOWN } from '../api.js';
import type { ConsumerRow, GroupUpdate, OwnerRow, PendingRow } from '../api.js';
import type { ConsoleSource } from '../console-source.js';
import { inTurns } from '../in-turns.js';
import { placesOfGroup } from '../messages/places.js';
import type { GroupPlace } from '../messages/places.js';
import type { LagHistory } from './lag-history.js';
import { groupRow } from './rows.js';
import type { Look } from './topic.js';

/** Shards whose pending entries are looked at, those with the most of them. */
const SHARDS_WITH_PENDING = 32;
const WIDTH = 8;

/** Everything about one group of one stream. @throws RedisStreamsError */
export async function lookAtGroup(
  stream: string,
  name: string,
  source: Pick<ConsoleSource, 'manager' | 'streams'>,
  history: LagHistory,
  { progress }: Pick<Look<GroupUpdate>, 'progress'>,
): Promise<GroupUpdate> {
  const details = await source.streams.info(stream);
  progress();
  const group = details.groups.find((each) => each.name === name);
  if (!group) return { ...NOTHING, at: Date.now() };
  const manager = await source.manager();
  // These are asked for on all nodes.
  const canAsk = !details.unreachable?.length;
  const owners = canAsk ? await unlessMissing(manager.owners(stream, name), []) : [];
  progress();
  const places = placesOfGroup(details, name);
  const pending = await pendingRows(places, name, manager);
  const at = Date.now();
  const row = groupRow(group);
  history.keep(stream, row, at);
  return {
    group: row,
    positions: places.map(({ shard, lastDeliveredId }) => ({ shard, lastDeliveredId })),
    consumers: group.consumers.map(({ name: consumer, pending: count, idle, inactive }): ConsumerRow => ({
      name: consumer,
      pending: count,
      idle,
      inactive: inactive ?? null,
    })),
    owners: ownerRows(owners),
    pending,
    history: history.of(stream, name),
    at,
  };
}

const NOTHING: Omit<GroupUpdate, 'at'> = Object.freeze({
  group: null,
  positions: [],
  consumers: [],
  owners: [],
  pending: [],
  history: [],
});

async function pendingRows(
  places: readonly GroupPlace[],
  group: string,
  manager: StreamManager,
): Promise<PendingRow[]> {
  const fullest = places
    .filter(({ pending }) => pending > 0)
    .sort((one, other) => other.pending - one.pending)
    .slice(0, SHARDS_WITH_PENDING);
  const pages = await inTurns(fullest, WIDTH, async ({ key, shard }) => {
    const page = await unlessMissing(manager.pending(key, group, { count: PENDING_SHOWN }), []);
    return page.map(({ id, consumer, idle, deliveryCount: deliveries }) => ({ shard, id, consumer, idle, deliveries }));
  });
  return pages
    .flat()
    .sort((one, other) => other.idle - one.idle)
    .slice(0, PENDING_SHOWN);
}

/** None where shards are shared. */
function ownerRows(owners: readonly ShardOwnerDetails[]): OwnerRow[] {
  if (owners.every(({ owner }) => owner === undefined)) return [];
  return owners.map(({ shardId: shard, owner, generation, expiresIn }) => ({
    shard,
    owner: owner ?? null,
    generation: generation === undefined ? null : String(generation),
    expiresIn: expiresIn ?? null,
  }));
}

/** The last is for names of streams beside which nothing can be kept. */
const MISSING = [GroupMissingError, PermissionError, UnsupportedOperationError, InvalidOptionError] as const;

/** The other answer where the group has been removed since it was seen, or the server or its permissions do not offer that. */
async function unlessMissing<T>(answer: Promise<T>, other: T): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const isMissing = MISSING.some((kind) => error instanceof kind);
    if (isMissing) return other;
    throw error;
  }
}
