import type { ConnectionRouter } from '../connection/connection-router.js';
import { RedisAnswerCommands } from './answers.js';
import { RedisAppendCommands } from './append.js';
import { CommandSender } from './command-sender.js';
import { RedisDelayedCommands } from './delayed.js';
import type { TimestampFormat } from './entry-id.js';
import { RedisGroupCommands } from './groups.js';
import { RedisInboxCommands } from './inbox.js';
import { RedisPauseCommands } from './pauses.js';
import { RedisPendingCommands } from './pending.js';
import { RedisReadCommands } from './read.js';
import { RedisClockCommands, ServerClock } from './server-clock.js';
import type { ServerFeatures } from './server-features.js';
import type { StreamCommands } from './stream-commands.js';

/**
 * All stream commands over the connections of a router.
 * @param timeout how long a command waits for a connection before it fails, in milliseconds
 */
export function redisStreamCommands(
  router: ConnectionRouter,
  features: ServerFeatures,
  keyPrefix: string,
  timeout: number,
  timestampFormat: TimestampFormat,
): StreamCommands {
  const sender = new CommandSender(router, features, keyPrefix, timeout);
  const clock = new ServerClock(features);
  return {
    appending: new RedisAppendCommands(sender, clock, timestampFormat),
    reading: new RedisReadCommands(sender),
    pending: new RedisPendingCommands(sender),
    groups: new RedisGroupCommands(sender),
    pauses: new RedisPauseCommands(sender),
    inbox: new RedisInboxCommands(sender),
    answers: new RedisAnswerCommands(sender),
    clock: new RedisClockCommands(sender, clock),
    delayed: new RedisDelayedCommands(sender),
  };
}
