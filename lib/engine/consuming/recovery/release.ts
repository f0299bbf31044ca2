import type { StreamCommands } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';
import type { ResolvedConsumerOptions } from '../../options/options.js';
import type { StreamMessage } from '../../messages/stream-message.js';

/**
 * Gives messages that were read but never handed out back to the group, as if they had not been read: others may claim
 * them at once, and the delivery count forgets this delivery.
 *
 * With NOACK they are not in the pending entries list. A resumable group, which has one consumer only, is moved back
 * before them; in a load-balanced group they are put into the list, from where any consumer claims them.
 */
export async function handBack(
  stream: Partition,
  messages: readonly StreamMessage[],
  options: ResolvedConsumerOptions,
  commands: Pick<StreamCommands, 'pending' | 'groups'>,
): Promise<void> {
  const { group, consumer, mode, autoCommit, autoClaimIdle } = options;
  if (group === undefined || messages.length === 0) return;
  const ids = messages.map(({ id }) => id);
  if (autoCommit !== 'immediate') {
    const entries = messages.map(({ id, deliveryCount }) => ({ id, deliveryCount: deliveryCount - 1 }));
    await commands.pending.setIdle(stream.key, group, consumer, entries, autoClaimIdle);
  } else if (mode === 'resumable') {
    await commands.groups.setGroupPosition(stream.key, group, stream.handedOut);
  } else {
    await commands.pending.forcePending(stream.key, group, consumer, ids, autoClaimIdle);
  }
  for (const id of ids) stream.held.delete(id);
}
