import { ID_BEFORE_ALL } from '../../constants.js';
import type { RedisStreamsError } from '../../errors.js';
import { StreamMessage } from '../messages/stream-message.js';
import type { StreamShard } from '../messages/stream-message.js';

/**
 * What a consumer knows of an entry that is pending for it on the server: `buffered` is not yet handed out, `running` is,
 * `settled` is acknowledged here but maybe not yet on the server, `waiting` is to be handed out again later, `skipped` was
 * read before a seek and is never handed out here.
 */
export type HeldState = 'buffered' | 'running' | 'settled' | 'waiting' | 'skipped';

export { shardKey } from '../messages/stream-message.js';

/**
 * One stream shard that a consumer reads: where it stands, and which of its entries are in this process.
 * It is data with names; the read loop and its readers decide.
 */
export class Partition implements StreamShard {
  readonly streamKey: string;
  readonly shardId: number;
  /** The key in Redis, without our key prefix. */
  readonly key: string;
  /** The last id that was read; where a vanished group is created again, and where real-time reading goes on. */
  position: string = ID_BEFORE_ALL;
  /** The last id that was handed out, or where this consumer began. */
  handedOut: string = ID_BEFORE_ALL;
  /** Moves on with every seek; what was asked for before is dropped when it arrives. */
  generation = 0;
  /** Connection epoch in which the own pending entries were last gone through; 0 is never. */
  recoveredEpoch = 0;
  /** When the own pending entries are to be gone through once more in the same epoch. */
  lookAgainAt = Infinity;
  /** Where going through the own pending entries stands; undefined is at their beginning. */
  recoveryCursor: string | undefined;
  /** Own entries that were pending before this consumer started were handed out by an earlier process: that counts as a delivery. */
  hasRecoveredOnce = false;
  /** Why this stream is not read any more. */
  failure: RedisStreamsError | undefined;
  /** Entries in this process that are pending on the server, by id. A stream that is taken on again has those it had. */
  held = new Map<string, HeldState>();
  /** When the handling of an entry that is still to be handled first failed here, in milliseconds, by id. */
  readonly failedFirst = new Map<string, number>();
  /** Entries that were deleted while pending, acknowledged and counted. */
  deletedWhilePending = 0;

  constructor(streamKey: string, shardId: number, key: string) {
    this.streamKey = streamKey;
    this.shardId = shardId;
    this.key = key;
  }

  get isReadable(): boolean {
    return this.failure === undefined;
  }
}

/** The assignment that a message of a consumer came by. */
export function partitionOf(message: StreamMessage): Partition {
  return StreamMessage.shardOf(message) as Partition;
}
