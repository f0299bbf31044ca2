import { StreamMessage } from '../engine/messages/stream-message.js';
import type { ClockCommands } from '../redis/commands/stream-commands.js';

/** Header with the time from which on an event is not handled any more, in milliseconds since the epoch. */
export const EXPIRES_AT_HEADER = 'expires-at';

/** When the event expires; Infinity without the header. */
export function expiryOf(message: StreamMessage): number {
  return deadlineIn(StreamMessage.headerOf(message, EXPIRES_AT_HEADER));
}

/** Text that is no number must not become a time in the past: Number('') is 0. */
export function deadlineIn(header: string | undefined): number {
  return header !== undefined && /^\d+$/.test(header) ? Number(header) : Infinity;
}

/** The time of the server of a stream, or what stands for it. */
export type Clock = Pick<ClockCommands, 'isCurrent' | 'now' | 'ask'>;

/**
 * Whether the deadline of a message, in milliseconds since the epoch by the clock of Redis, has passed. Undefined while it has
 * not, which is the usual case. Nothing is refused by a time that is not current: the clock of the server may have been set
 * back since it was read.
 */
export function hasPassed(deadline: number, message: StreamMessage, clock: Clock): Promise<boolean> | undefined {
  if (deadline === Infinity) return undefined;
  const { key } = StreamMessage.shardOf(message);
  const hasCome = (): boolean => clock.now(key) >= deadline;
  if (clock.isCurrent(key) && !hasCome()) return undefined;
  return clock.ask(key).then(hasCome);
}
