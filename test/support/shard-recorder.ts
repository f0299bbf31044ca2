import { RedisStreamsError, type RedisStreamer, type ShardAssignment, type StreamMessage } from '../../lib/index.js';
import type { LoadBalancedOptions } from '../../lib/index.js';
import type { AcknowledgingConsumer } from '../../lib/engine/consuming/consumer-types.js';

/** One handling of a message, as it was told to the recorder. */
export interface Handling {
  readonly member: string;
  readonly shardId: number;
  readonly id: string;
  readonly token: bigint;
  readonly text: string;
}

/** A consumer with owned shards, and what it owns by its own events. */
export interface Member {
  readonly name: string;
  readonly consumer: AcknowledgingConsumer;
  readonly owned: Set<number>;
  readonly errors: string[];
  /** Resolves when its loop has ended. */
  readonly done: Promise<void>;
}

export const OWNED = {
  mode: 'load-balanced',
  shardOwnership: 'owned',
  group: 'g',
  autoStreamReset: 'earliest',
  mkStream: true,
  autoCommit: 'rolling',
  autoCommitInterval: 20,
  leaseTime: 1_500,
} as const satisfies LoadBalancedOptions;

/** Sees what all members of a group do, in the order in which it happens. */
export class ShardRecorder {
  readonly handled: Handling[] = [];
  readonly events: string[] = [];
  readonly #owners = new Map<string, string>();
  /** Moments in which two members believed to own a shard. */
  readonly sharedShards: string[] = [];

  /** Creates a member that takes messages until it ends. @param handle before the acknowledgement */
  async join(
    streamer: RedisStreamer,
    stream: string,
    options: Partial<LoadBalancedOptions> = {},
    handle: (message: StreamMessage) => unknown = () => undefined,
  ): Promise<Member> {
    const all = { ...OWNED, shards: 12, ...options } as typeof OWNED;
    const consumer = await streamer.createConsumer(stream, all);
    const name = consumer.consumerId as string;
    const owned = new Set<number>();
    const errors: string[] = [];
    consumer.on('error', ({ code }) => errors.push(code));
    consumer.on('assigned', (assignment) => this.#assigned(name, owned, assignment));
    consumer.on('revoked', (assignment) => this.#revoked(name, owned, assignment));
    const done = this.#run(name, consumer, handle);
    return { name, consumer, owned, errors, done };
  }

  /** Ids that were handled more than once. */
  get repeated(): string[] {
    const ids = this.handled.map(({ shardId, id }) => `${shardId}/${id}`);
    return ids.filter((id, index) => ids.indexOf(id) !== index);
  }

  /** Handlings that came after a later entry of their shard, or with a token below one that was seen in it. */
  get disorder(): string[] {
    const last = new Map<number, Handling>();
    return this.handled.flatMap((handling) => {
      const before = last.get(handling.shardId);
      last.set(handling.shardId, handling);
      if (!before) return [];
      const isBehind = compare(handling.id, before.id) <= 0;
      const isOld = handling.token < before.token;
      return isBehind || isOld
        ? [`shard ${handling.shardId}: ${before.id} ${before.token}, ${handling.id} ${handling.token}`]
        : [];
    });
  }

  /** Entries that were handled for the first time after a later one of their shard. After a fault some may be handled again. */
  get overtaken(): string[] {
    const latest = new Map<number, string>();
    const seen = new Set<string>();
    return this.handled.flatMap(({ shardId, id }) => {
      if (seen.has(`${shardId}/${id}`)) return [];
      seen.add(`${shardId}/${id}`);
      const before = latest.get(shardId);
      latest.set(shardId, id);
      return before !== undefined && compare(id, before) < 0 ? [`shard ${shardId}: ${before}, ${id}`] : [];
    });
  }

  async #run(
    name: string,
    consumer: AcknowledgingConsumer,
    handle: (message: StreamMessage) => unknown,
  ): Promise<void> {
    try {
      for await (const message of consumer) {
        const { shardId, id, fencingToken } = message;
        this.handled.push({ member: name, shardId, id, token: fencingToken as bigint, text: message.text() });
        await handle(message);
        consumer.ack(message);
      }
    } catch (error) {
      if (!(error instanceof RedisStreamsError) || error.code !== 'ERR_CONSUMER_ENDED') throw error;
    }
  }

  #assigned(name: string, owned: Set<number>, { shardId, streamKey, generation }: ShardAssignment): void {
    this.events.push(`assigned ${shardId} ${generation}`);
    const other = this.#owners.get(`${streamKey}:${shardId}`);
    if (other !== undefined && other !== name) this.sharedShards.push(`${shardId}: ${other}, ${name}`);
    this.#owners.set(`${streamKey}:${shardId}`, name);
    owned.add(shardId);
  }

  #revoked(name: string, owned: Set<number>, { shardId, streamKey, generation }: ShardAssignment): void {
    this.events.push(`revoked ${shardId} ${generation}`);
    if (this.#owners.get(`${streamKey}:${shardId}`) === name) this.#owners.delete(`${streamKey}:${shardId}`);
    owned.delete(shardId);
  }
}

function compare(one: string, other: string): number {
  const [ms = 0, seq = 0] = one.split('-').map(Number);
  const [otherMs = 0, otherSeq = 0] = other.split('-').map(Number);
  return ms - otherMs || seq - otherSeq;
}
