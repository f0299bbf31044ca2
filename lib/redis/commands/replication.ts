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

/** WAIT and WAITAOF have no word of their own for a node that is no master. */
const OF_REPLICA = /with replica instances/;

/** The entry is stored under the id, and too few replicas have it. */
export class TooFewReplicas extends Error {
  readonly id: string;
  readonly replicas: number;
  /** How many replicas should have it. */
  readonly wanted: number;

  constructor(id: string, replicas: number, wanted: number) {
    super(`Only ${replicas} of ${wanted} replicas have the entry ${id}`);
    this.id = id;
    this.replicas = replicas;
    this.wanted = wanted;
  }
}

/**
 * Waits for the replicas of a master. The server counts the replicas that have what was last written over the connection of the
 * question, so that batch and WAIT go over the same one.
 */
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

  /**
   * Asks whether the server counts, before anything is written.
   * @throws UnsupportedOperationError where it does not; what ended the connection
   */
  async ask(channel: CommandChannel): Promise<void> {
    const command: Command = this.#wait.fsync ? ['WAITAOF', 1, 0, 1] : ['WAIT', 0, 1];
    const [reply] = await channel.commands([command], 'utf8');
    if (reply instanceof ReplyError) {
      // A node that is no master any more refuses what is written next, and that is repeated elsewhere.
      if (OF_REPLICA.test(reply.message)) return void this.#known.add(channel);
      const [what, rule] = this.#wait.fsync
        ? ['waitReplicas.fsync', 'needs WAITAOF (Redis 7.2), and appendonly yes']
        : ['waitReplicas', 'needs the command WAIT'];
      if (isRefused(reply)) throw new UnsupportedOperationError(what, `${rule}; the server answered: ${reply.message}`);
    }
    if (reply instanceof Error) throw reply;
    this.#known.add(channel);
  }

  /**
   * Follows the write of a batch. The outcome of each entry that was appended, and that too few replicas have, becomes an error.
   * @param marked the reply to a write that the replicas must have too; without it, they would not be waited for
   */
  async confirm(
    channel: CommandChannel,
    written: Promise<AppendOutcomes>,
    size: number,
    marked?: Promise<unknown[]>,
  ): Promise<AppendOutcomes> {
    const { count } = this.#wait;
    const [outcomes, counted, [marker] = []] = await Promise.all([written, this.#count(channel), marked]);
    const replicas = marker instanceof Error ? this.#uncounted(channel, marker) : counted;
    if (typeof replicas === 'number' && replicas >= count) return outcomes;
    return (outcomes ?? Array.from({ length: size }, () => '')).map((outcome) => {
      if (outcome instanceof Error) return outcome;
      return typeof replicas === 'number' ? new TooFewReplicas(outcome, replicas, count) : replicas;
    });
  }

  async #count(channel: CommandChannel): Promise<number | Error> {
    const { count, timeout, fsync } = this.#wait;
    const command: Command = fsync ? ['WAITAOF', 1, count, timeout] : ['WAIT', count, timeout];
    const [reply] = await channel.commands([command], 'utf8');
    if (reply instanceof Error) return this.#uncounted(channel, reply);
    const replicas = fsync ? replicasOnDisk(reply) : reply;
    return typeof replicas === 'number' ? replicas : unexpectedReply(reply);
  }

  /**
   * Without a count an entry is neither confirmed nor refused, as when its own reply is lost. Where the server refuses to count,
   * which a repetition does not change, no replica counts, and the server is asked again before the next write.
   */
  #uncounted(channel: CommandChannel, error: Error): number | Error {
    if (!(error instanceof ReplyError)) return error;
    if (!isRefused(error)) return new ConnectionLost(`the replicas were not counted: ${error.message}`);
    this.#known.delete(channel);
    return 0;
  }
}

/** Whether the server does not count for this user, or at all. A node that is no master any more does not either, but its successor does. */
function isRefused(error: ReplyError): boolean {
  return (
    !OF_REPLICA.test(error.message) && ['permission', 'unsupported', 'refused'].includes(classifyRedisError(error))
  );
}

/** None where the master itself does not have it on disk. */
function replicasOnDisk(reply: unknown): unknown {
  if (!Array.isArray(reply)) return reply;
  const [local, replicas] = reply as [number, number];
  return local === 0 ? 0 : replicas;
}
