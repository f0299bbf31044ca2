import { StreamMessage } from '../../engine/messages/stream-message.js';
import type { ClockCommands } from '../../redis/commands/stream-commands.js';

/** Header with the time from which on an event is not handled any more, in milliseconds since the epoch. */
export const EXPIRES_AT_HEADER = 'expires-at';

/** Infinity without the header. */
export function expiryOf({ headers }: StreamMessage): number {
  return momentIn(headers[EXPIRES_AT_HEADER]);
}

/** Text that is no number must not become a moment in the past: Number('') is 0. */
export function momentIn(header: string | undefined): number {
  return header !== undefined && /^\d+$/.test(header) ? Number(header) : Infinity;
}

/** The time of the server of a stream, or what stands for it. */
export type Clock = Pick<ClockCommands, 'isCurrent' | 'now' | 'ask'>;

/**
 * Whether a moment, in milliseconds since the epoch by the clock of Redis, has passed for a message. Undefined while it has
 * not, which is the usual case. Nothing is refused by a time that is not current: the clock of the server may have been set
 * back since it was read.
 */
export function hasPassed(moment: number, message: StreamMessage, clock: Clock): Promise<boolean> | undefined {
  if (moment === Infinity) return undefined;
  const { key } = StreamMessage.shardOf(message);
  if (clock.isCurrent(key) && clock.now(key) < moment) return undefined;
  return clock.ask(key).then(() => clock.now(key) >= moment);
}
