import type { RedisStreamsError } from '../../../errors.js';
import type { StreamShard } from '../../messages/stream-message.js';

/** A shard that a consumer of a group owns, or has owned. Safe for JSON.stringify: the generation becomes a string. */
export class ShardAssignment implements StreamShard {
  readonly streamKey: string;
  readonly shardId: number;
  /** Rises with every owner of the shard in its group; the fencing token of its messages. */
  readonly generation: bigint;

  /** @internal */
  constructor({ streamKey, shardId }: StreamShard, generation: bigint) {
    this.streamKey = streamKey;
    this.shardId = shardId;
    this.generation = generation;
  }

  /** Plain properties, with the generation as a string. */
  toJSON(): Record<string, unknown> {
    return { streamKey: this.streamKey, shardId: this.shardId, generation: String(this.generation) };
  }
}

export interface OwnershipListener {
  /** The consumer owns the shard, and reads it. */
  onAssigned(assignment: ShardAssignment): void;
  /** It does not own it any more. */
  onRevoked(assignment: ShardAssignment): void;
  onError(error: RedisStreamsError): void;
}
