import { ID_BEFORE_ALL } from '../../constants.js';
import { InvalidOptionError } from '../../errors.js';
import {
  compareEntryIds,
  entryIdOfSequence,
  isEntryId,
  lastIdOfMillisecond,
  timestampFormatOf,
} from '../../redis/commands/entry-id.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import type { ReadCommands } from '../../redis/commands/stream-commands.js';
import type { Partition } from './partition.js';
import type { ConsumerSession } from './consumer-session.js';
import type { RewindTarget } from './consumer-types.js';

/** Where reading continues. With a time or an id it continues after that one, which is not read again. */
export type SeekTarget = 'beginning' | 'end' | { readonly id: string } | { readonly after: Date };

/** @throws InvalidOptionError with what else may be given in its place, if anything */
export function resolveRewindTarget(to: RewindTarget, others = ''): SeekTarget {
  if (to === 'beginning' || to === 'end') return to;
  if (typeof to === 'object' && to !== null) {
    if ('id' in to && typeof to.id === 'string' && isEntryId(to.id)) return { id: to.id };
    if ('sequence' in to) return { id: entryIdOfSequence(to.sequence) };
  }
  const rule = `must be ${others}'beginning', 'end', { id: 'ms-seq' } or { sequence }`;
  throw new InvalidOptionError('to', rule, to);
}

/**
 * The id after which reading continues: at most that of the last entry. A time or an id past it, as the present time is on a
 * quiet stream, means "from there on". No entry has it, so an entry that comes later could have a lower id and would be
 * skipped; and a reader takes a stream whose last id is below its position for another stream.
 */
export async function positionOf(
  streamKey: string,
  target: SeekTarget,
  reading: Pick<ReadCommands, 'streamInfo'>,
): Promise<string> {
  if (target === 'beginning') return ID_BEFORE_ALL;
  const info = await reading.streamInfo(streamKey);
  const last = info?.lastGeneratedId ?? ID_BEFORE_ALL;
  if (target === 'end') return last;
  // The last generated id of a shard that was closed tells nothing about its entries.
  const format = timestampFormatOf(info?.lastId ?? last);
  const wanted = 'id' in target ? target.id : lastIdOfMillisecond(target.after.getTime(), format);
  return compareEntryIds(wanted, last) < 0 ? wanted : last;
}

/** Moves a consumer on all of its partitions, and drops the messages that were buffered at the old position. */
export async function moveTo(session: ConsumerSession, target: SeekTarget): Promise<void> {
  await session.betweenReads(async () => {
    for (const partition of session.partitions.current) await movePartition(session, partition, target);
  });
}

async function movePartition(session: ConsumerSession, partition: Partition, target: SeekTarget): Promise<void> {
  const { group, position: moves } = session.options;
  const { reading, groups } = session.environment.control;
  try {
    const position = await positionOf(partition.key, target, reading);
    if (group !== undefined && moves === 'group') await groups.setGroupPosition(partition.key, group, position);
    session.invalidate(partition);
    partition.isOffGroup = group !== undefined && moves === 'consumer';
    partition.position = position;
    partition.handedOut = position;
  } catch (error) {
    throw toPublicError(error, partition.key, 'seeking in');
  }
}
