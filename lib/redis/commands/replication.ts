import { UnsupportedOperationError } from '../../errors.js';
import type { AppendOutcomes } from '../wire/append-reply.js';
import { unexpectedReply } from '../wire/append-reply.js';
import type { CommandChannel } from '../wire/command-channel.js';
import { ConnectionLost, ReplyError } from '../wire/resp-reader.js';
import type { Command } from '../wire/resp-writer.js';
import { classifyRedisError } from './redis-error.js';

/** How many replicas must have an entry before it counts as appended. */
export interface ReplicaWait {
  readonly count: number;
  /** In milliseconds. */
  readonly timeout: number;
  /** Master and replicas must have it on disk. */
  readonly fsync: boolean;
}

/** The entry is stored under the id, and too few replicas have it. */
export class TooFewReplicas extends Error {
  readonly id: string;
  readonly replicas: number;

  constructor(id: string, replicas: number) {
    super(`Only ${replicas} replicas have the entry ${id}`);
    this.id = id;
    this.replicas = replicas;
  }
}

/** Waits for the replicas of a master. It counts what was written over its own connection, so it goes over the same. */
export class Replication {
  readonly #wait: ReplicaWait;
  /** Channels whose server has the command. */
  readonly #known = new WeakSet<CommandChannel>();

  constructor(wait: ReplicaWait) {
    this.#wait = wait;
  }

  isKnown(channel: CommandChannel): boolean {
    return this.#known.has(channel);
  }

  /** Before anything is written that could not be waited for. @throws UnsupportedOperationError, or what ended the connection */
  async ask(channel: CommandChannel): Promise<void> {
    const command: Command = this.#wait.fsync ? ['WAITAOF', 1, 0, 1] : ['WAIT', 0, 1];
    const [reply] = await channel.commands([command], 'utf8');
    if (reply instanceof ReplyError) {
      // A node that is no master any more refuses what is written next, and that is repeated elsewhere.
      if (/with replica instances/.test(reply.message)) return void this.#known.add(channel);
      const [what, rule] = this.#wait.fsync
        ? ['waitReplicas.fsync', 'needs WAITAOF (Redis 7.2), and appendonly yes']
        : ['waitReplicas', 'needs the command WAIT'];
      if (['permission', 'unsupported', 'refused'].includes(classifyRedisError(reply)))
        throw new UnsupportedOperationError(what, `${rule}; the server answered: ${reply.message}`);
    }
    if (reply instanceof Error) throw reply;
    this.#known.add(channel);
  }

  /** Follows the write of a batch. The outcome of each entry that was appended, and that too few replicas have, becomes an error. */
  async confirm(channel: CommandChannel, written: Promise<AppendOutcomes>, size: number): Promise<AppendOutcomes> {
    const { count, timeout, fsync } = this.#wait;
    const command: Command = fsync ? ['WAITAOF', 1, count, timeout] : ['WAIT', count, timeout];
    const [outcomes, [reply]] = await Promise.all([written, channel.commands([command], 'utf8')]);
    const replicas = fsync ? replicasOnDisk(reply) : reply;
    if (typeof replicas === 'number' && replicas >= count) return outcomes;
    return (outcomes ?? Array.from({ length: size }, () => '')).map((outcome) => {
      if (outcome instanceof Error) return outcome;
      return typeof replicas === 'number' ? new TooFewReplicas(outcome, replicas) : lossOf(replicas);
    });
  }
}

/** None where the master itself does not have it on disk. */
function replicasOnDisk(reply: unknown): unknown {
  if (!Array.isArray(reply)) return reply;
  const [local, replicas] = reply as [number, number];
  return local === 0 ? 0 : replicas;
}

/** Without a count an entry is neither confirmed nor refused, as when its own reply is lost. A node that is no master now has no count. */
function lossOf(reply: unknown): Error {
  if (reply instanceof ReplyError) return new ConnectionLost(`the replicas were not counted: ${reply.message}`);
  return reply instanceof Error ? reply : unexpectedReply(reply);
}
