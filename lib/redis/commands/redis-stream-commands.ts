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
import type { ReplicaWait } from './replication.js';
import { RedisNodeCommands } from './node-commands.js';
import { RedisReadCommands } from './read.js';
import { RedisClockCommands, ServerClock } from './server-clock.js';
import type { ServerFeatures } from './server-features.js';
import { RedisLayoutCommands } from './shard-layouts.js';
import { RedisOwnershipCommands } from './shard-leases.js';
import type { StreamCommands } from './stream-commands.js';

export interface CommandOptions {
  readonly keyPrefix: string;
  /** How long a command waits for a connection before it fails, in milliseconds. */
  readonly timeout: number;
  readonly timestampFormat: TimestampFormat;
  /** What appends wait for; the router must have connections that nothing else uses. */
  readonly waitReplicas?: ReplicaWait | undefined;
}

/** All stream commands over the connections of a router. */
export function redisStreamCommands(
  router: ConnectionRouter,
  features: ServerFeatures,
  { keyPrefix, timeout, timestampFormat, waitReplicas }: CommandOptions,
): StreamCommands {
  const sender = new CommandSender(router, features, keyPrefix, timeout);
  const clock = new ServerClock(features);
  return {
    appending: new RedisAppendCommands(sender, clock, timestampFormat, waitReplicas),
    reading: new RedisReadCommands(sender),
    pending: new RedisPendingCommands(sender),
    groups: new RedisGroupCommands(sender),
    pauses: new RedisPauseCommands(sender),
    inbox: new RedisInboxCommands(sender),
    answers: new RedisAnswerCommands(sender),
    clock: new RedisClockCommands(sender, clock),
    delayed: new RedisDelayedCommands(sender),
    layouts: new RedisLayoutCommands(sender),
    nodes: new RedisNodeCommands(sender),
    ownership: new RedisOwnershipCommands(sender),
  };
}
