import { ID_BEFORE_ALL } from '../../constants.js';
import { lastIdOfMillisecond } from '../../redis/commands/entry-id.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import type { ReadCommands } from '../../redis/commands/stream-commands.js';
import type { Partition } from './partition.js';
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

/** Moves a consumer on all of its streams, and drops what was buffered from where it stood before. */
export async function moveTo(session: ConsumerSession, target: SeekTarget): Promise<void> {
  await session.betweenReads(async () => {
    for (const stream of session.streams) await moveStream(session, stream, target);
  });
}

async function moveStream(session: ConsumerSession, stream: Partition, target: SeekTarget): Promise<void> {
  const { group } = session.options;
  const { reading, groups } = session.environment.control;
  try {
    const position = await positionOf(stream.key, target, reading);
    if (group !== undefined) await groups.setGroupPosition(stream.key, group, position);
    session.invalidate(stream);
    stream.position = position;
    stream.handedOut = position;
  } catch (error) {
    throw toPublicError(error, stream.key, 'seeking in');
  }
}
