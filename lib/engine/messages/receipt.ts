import type { ReceiptDetails } from '../../errors.js';
import { entryIdSequence, entryIdTime } from '../../redis/commands/entry-id.js';
import type { TimestampFormat } from '../../redis/commands/entry-id.js';
import type { StreamShard } from './stream-message.js';

/** Redis has the message: which stream and shard, under which id. A message that was sent with a delay waits beside them. */
export class Receipt implements StreamShard, ReceiptDetails {
  readonly streamKey: string;
  readonly shardId: number;
  /** The entry id, `ms-seq`; of a delayed message the id that {@link StreamManager.cancelDelayed} takes. */
  readonly id: string;
  /** When a delayed message is due; undefined for any other. */
  readonly deliverAt: Date | undefined;
  readonly #timestampFormat: TimestampFormat;

  constructor(
    streamKey: string,
    shardId: number,
    id: string,
    deliverAt?: Date,
    timestampFormat: TimestampFormat = 'ms',
  ) {
    this.streamKey = streamKey;
    this.shardId = shardId;
    this.id = id;
    this.deliverAt = deliverAt;
    this.#timestampFormat = timestampFormat;
  }

  /**
   * `ms << 16 | seq`, as sea-streamer has it, or with nanoseconds `ns << 16 | seq`; 0 while it is delayed.
   * @throws SequenceOverflowError past 65,535 messages in one millisecond, or where `timestampFormat` is not that of the stream
   */
  get sequence(): bigint {
    return this.deliverAt ? 0n : entryIdSequence(this.id, this.#timestampFormat);
  }

  /** The time part of the id; of a delayed message, when it is due. */
  get timestamp(): Date {
    return this.deliverAt ?? new Date(entryIdTime(this.id));
  }

  /** Safe for JSON.stringify, which refuses a bigint. */
  toJSON(): Record<string, unknown> {
    const { streamKey, shardId, id, timestamp, deliverAt } = this;
    return { streamKey, shardId, id, timestamp, ...(deliverAt && { deliverAt }) };
  }
}
