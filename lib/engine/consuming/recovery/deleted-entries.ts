import type { RedisStreamsLogger } from '../../../shared/logger.js';
import type { PendingCommands } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';

/** Entries that were trimmed or deleted while pending can never be handled: acknowledges and counts them, says so once. */
export async function dropDeleted(
  stream: Partition,
  ids: readonly string[],
  group: string,
  pending: Pick<PendingCommands, 'ack'>,
  logger: Pick<RedisStreamsLogger, 'warn'>,
): Promise<void> {
  if (ids.length === 0) return;
  await pending.ack(stream.key, group, ids);
  if (stream.deletedWhilePending === 0) {
    logger.warn(
      `Entries of '${stream.key}' were trimmed or deleted while pending in group '${group}'; they are acknowledged`,
    );
  }
  stream.deletedWhilePending += ids.length;
}
