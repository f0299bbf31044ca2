import type { ShardOwner } from '../../redis/commands/shard-owners.js';
import type { StoredShard, StreamShard } from '../messages/stream-message.js';

/** The owner of a shard in a group. Safe for JSON.stringify: the generation becomes a string. */
export class ShardOwnerDetails implements StreamShard {
  readonly streamKey: string;
  readonly shardId: number;
  /** The key: `orders`, or `orders:2`. */
  readonly key: string;
  /** Name of the consumer; undefined while the shard has no owner. */
  readonly owner: string | undefined;
  /** Rises with every owner of the shard; undefined without one. */
  readonly generation: bigint | undefined;
  /** Milliseconds until the lease ends, unless it is renewed; undefined without an owner. */
  readonly expiresIn: number | undefined;

  /** @internal */
  constructor({ streamKey, shardId, key }: StoredShard, owner: ShardOwner | undefined) {
    this.streamKey = streamKey;
    this.shardId = shardId;
    this.key = key;
    this.owner = owner?.consumer;
    this.generation = owner?.generation;
    this.expiresIn = owner?.expiresIn;
  }

  /** Plain properties, with the generation as a string. */
  toJSON(): Record<string, unknown> {
    const { streamKey, shardId, key, owner, generation, expiresIn } = this;
    return {
      streamKey,
      shardId,
      key,
      owner,
      generation: generation === undefined ? undefined : String(generation),
      expiresIn,
    };
  }
}
