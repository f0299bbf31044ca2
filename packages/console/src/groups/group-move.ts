import { HttpException } from '@nestjs/common';
import { GroupMissingError, entryId } from 'nestjs-redis-streams';
import type { RangeBound, RewindTarget, StreamManager } from 'nestjs-redis-streams';
import { MESSAGES_SEARCHED } from '../api.js';
import type { Count, GroupMove, GroupMoved, ShardMove } from '../api.js';
import { statusOf } from '../failures.js';
import { inTurns } from '../in-turns.js';
import { entriesOf, sizeOf } from '../messages/entries.js';
import { placesOfGroup } from '../messages/places.js';

const WIDTH = 4;
const FIRST_PAGE = 50;
/** Of the entries that are counted, which are read for that. */
const BYTES_COUNTED = 32 * 1024 * 1024;
const BEGINNING = '0-0';

interface Limit {
  readonly entries: number;
  readonly bytes: number;
}

/**
 * Moves a group on all shards of a stream, or says what that would do.
 * @throws RedisStreamsError; HttpException where it was moved on some of the shards only
 */
export async function moveGroup(manager: StreamManager, move: GroupMove): Promise<GroupMoved> {
  const { stream, group, to, ends, dryRun } = move;
  const details = await manager.info(stream);
  const places = placesOfGroup(details, group);
  if (places.length === 0) throw new GroupMissingError(stream, group);
  const limit = { entries: Math.ceil(MESSAGES_SEARCHED / places.length), bytes: BYTES_COUNTED / places.length };
  const shards = new Map(details.shards.map((shard) => [shard.key, shard]));
  const moves = await inTurns(places, WIDTH, async ({ key, shard, lastDeliveredId: from }): Promise<ShardMove> => {
    const { length = 0, lastId } = shards.get(key) ?? {};
    const end = ends?.[key] ?? lastId ?? BEGINNING;
    return {
      key,
      shard,
      from,
      end,
      messages: await deliveredAfter(manager, key, to, length, limit),
      skipped: await skippedBetween(manager, key, from, to === 'end' ? end : to, limit),
    };
  });
  // A shard that the dry run did not show has only messages that were sent since.
  const wanted = ends ? moves.filter(({ key }) => Object.hasOwn(ends, key)) : moves;
  // One that the group has read to its end since, and behind it, would go back.
  const behind = ends ? wanted.filter(({ from, end }) => entryId.compare(from, end) < 0) : wanted;
  if (!dryRun) await setPositions(manager, move, behind);
  return { moves: wanted };
}

async function setPositions(
  manager: Pick<StreamManager, 'setGroupPosition'>,
  { group, to, ends }: GroupMove,
  moves: readonly ShardMove[],
): Promise<void> {
  const moved: string[] = [];
  for (const { key, end } of moves) {
    try {
      await manager.setGroupPosition(key, group, ends ? { id: end } : positionOf(to));
      moved.push(key);
    } catch (error) {
      if (moved.length === 0) throw error;
      const rest = `'${moved.join("', '")}' was moved, '${key}' and those behind it were not`;
      const message = `${rest}: ${(error as Error).message}. Move the group again when the cause is mended.`;
      throw new HttpException({ message }, statusOf(error), { cause: error });
    }
  }
}

/** A position is the last entry that counts as delivered; messages of the time that was named are to be delivered. */
function positionOf(to: GroupMove['to']): RewindTarget | Date {
  if (typeof to !== 'number') return to;
  return to === 0 ? 'beginning' : new Date(to - 1);
}

async function deliveredAfter(
  manager: StreamManager,
  key: string,
  to: GroupMove['to'],
  length: number,
  limit: Limit,
): Promise<Count> {
  if (to === 'beginning') return { count: length, isMore: false };
  if (to === 'end') return { count: 0, isMore: false };
  return countBetween(manager, key, { from: new Date(to), to: '+' }, limit);
}

/** @param to the id of the last entry that is skipped, or the time of the first that is not */
async function skippedBetween(
  manager: StreamManager,
  key: string,
  from: string,
  to: number | string,
  limit: Limit,
): Promise<Count> {
  const first = entryId.next(from);
  const last = typeof to === 'number' ? (to === 0 ? BEGINNING : new Date(to - 1)) : to === 'beginning' ? BEGINNING : to;
  if (first === undefined || last === BEGINNING) return { count: 0, isMore: false };
  return countBetween(manager, key, { from: first, to: last }, limit);
}

async function countBetween(
  manager: StreamManager,
  key: string,
  bounds: { from: RangeBound; to: RangeBound },
  { entries, bytes }: Limit,
): Promise<Count> {
  let [count, read] = [0, 0];
  for await (const message of entriesOf(manager, key, { ...bounds, newest: false }, FIRST_PAGE)) {
    if (count >= entries || read > bytes) return { count, isMore: true };
    count += 1;
    read += sizeOf(message);
  }
  return { count, isMore: false };
}
