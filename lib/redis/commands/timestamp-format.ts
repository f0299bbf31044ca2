import { LAST_POSSIBLE_ID } from '../scripts/shard-layouts.js';
import type { CommandSender } from './command-sender.js';
import { timestampFormatOf } from './entry-id.js';
import type { TimestampFormat } from './entry-id.js';
import { classifyRedisError } from './redis-error.js';
import { parseStreamInfo } from './replies.js';

/** The format where the last id is unknown: a bound in milliseconds finds and deletes no entry that has nanoseconds. */
const UNTOLD: TimestampFormat = 'ms';

/** What the times of a stream are counted in, by its last id. @param key with its prefix */
export async function timestampFormatIn(sender: CommandSender, key: string): Promise<TimestampFormat> {
  try {
    const { lastGeneratedId, lastId } = parseStreamInfo(await sender.text(key, ['XINFO', 'STREAM', key]));
    // The last generated id of a shard that was closed tells nothing about its entries.
    if (lastGeneratedId !== LAST_POSSIBLE_ID) return timestampFormatOf(lastGeneratedId);
    return lastId === undefined ? UNTOLD : timestampFormatOf(lastId);
  } catch (error) {
    if (['stream-gone', 'permission', 'unsupported'].includes(classifyRedisError(error))) return UNTOLD;
    throw error;
  }
}
