import { ID_BEFORE_ALL } from '../constants.js';
import { lastIdOfMillisecond } from '../redis/entry-id.js';
import type { GroupCommands, ReadCommands } from '../redis/stream-commands.js';
import type { ConsumerSession } from './consumer-session.js';
import type { RewindTarget } from './consumer-types.js';

/** Where reading is to go on; both a time and an id name what is *not* read again. */
export type SeekTarget = RewindTarget | { readonly after: Date };

/** The id behind which reading goes on. */
export async function positionOf(
  streamKey: string,
  target: SeekTarget,
  reading: Pick<ReadCommands, 'streamInfo'>,
): Promise<string> {
  if (target === 'beginning') return ID_BEFORE_ALL;
  if (target === 'end') return (await reading.streamInfo(streamKey))?.lastGeneratedId ?? ID_BEFORE_ALL;
  return 'id' in target ? target.id : lastIdOfMillisecond(target.after.getTime());
}

/**
 * Moves a consumer on all of its streams. What was buffered is dropped at once, and once more after the new position is
 * set, because a read that was under way meanwhile belongs to the old one.
 */
export async function moveTo(session: ConsumerSession, target: SeekTarget): Promise<void> {
  const { reading, groups } = session.environment.control;
  for (const stream of session.streams) {
    session.invalidate(stream);
    const position = await positionOf(stream.key, target, reading);
    await moveGroup(stream.key, session.options.group, position, groups);
    session.invalidate(stream);
    stream.position = position;
    stream.handedOut = position;
  }
  await session.restartReading();
}

async function moveGroup(
  streamKey: string,
  group: string | undefined,
  position: string,
  groups: Pick<GroupCommands, 'setGroupPosition'>,
): Promise<void> {
  if (group !== undefined) await groups.setGroupPosition(streamKey, group, position);
}
