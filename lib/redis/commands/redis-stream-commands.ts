import { RedisAppendCommands } from './append-commands.js';
import { CommandSender } from './command-sender.js';
import { RedisGroupCommands } from './group-commands.js';
import { RedisInboxCommands } from './inbox-commands.js';
import { RedisPendingCommands } from './pending-commands.js';
import { RedisReadCommands } from './read-commands.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { StreamCommands } from './stream-commands.js';

/**
 * All stream commands over one connection.
 * @param timeout how long a command waits for the connection to come back before it fails, in milliseconds
 * @param onMissing told of each thing that this server does not have or permit, once for all connections of a streamer
 */
export function redisStreamCommands(
  connection: RedisConnection,
  keyPrefix: string,
  timeout: number,
  onMissing: (what: string) => void,
): StreamCommands {
  const sender = new CommandSender(connection, keyPrefix, timeout);
  sender.onMissing = (what) => {
    if (connection.isNews(what)) onMissing(what);
  };
  return {
    appending: new RedisAppendCommands(sender),
    reading: new RedisReadCommands(sender),
    pending: new RedisPendingCommands(sender),
    groups: new RedisGroupCommands(sender),
    inbox: new RedisInboxCommands(sender),
  };
}
