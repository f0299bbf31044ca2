import { entryIdSequence, entryIdTime } from '../../redis/commands/entry-id.js';
import type { StreamShard } from './stream-message.js';

/** Redis has the message: which stream and shard, under which id. */
export class Receipt implements StreamShard {
  readonly streamKey: string;
  readonly shardId: number;
  /** The entry id, `ms-seq`. */
  readonly id: string;

  constructor(streamKey: string, shardId: number, id: string) {
    this.streamKey = streamKey;
    this.shardId = shardId;
    this.id = id;
  }

  /** `ms << 16 | seq`, as sea-streamer has it. @throws SequenceOverflowError past 65,535 messages in one millisecond. */
  get sequence(): bigint {
    return entryIdSequence(this.id);
  }

  /** The time part of the id. */
  get timestamp(): Date {
    return new Date(entryIdTime(this.id));
  }

  /** Safe for JSON.stringify, which refuses a bigint. */
  toJSON(): Record<string, unknown> {
    const { streamKey, shardId, id, timestamp } = this;
    return { streamKey, shardId, id, timestamp };
  }
}
