import type { RedisStreamsError } from '../errors.js';
import type { AppendRequest } from '../redis/stream-commands.js';

/** What was pushed between two flushes. */
export interface FlushRound {
  open: number;
}

/**
 * One message on its way. The producer makes it, the write pipeline keeps its own notes on it, and tells it exactly once
 * what became of it. One object, because at some hundred thousand messages a second collecting garbage is most of the work.
 */
export abstract class QueuedSend implements AppendRequest {
  /** The key of the shard. */
  readonly streamKey: string;
  readonly id: string;
  readonly fields: AppendRequest['fields'];
  /** What it takes in memory while it waits, in bytes. */
  readonly size: number;
  /** Whether anybody wants to know the entry's id. */
  abstract readonly wantsId: boolean;
  /** Until when it is repeated, on the monotonic clock. */
  deadline = 0;
  round: FlushRound | undefined;
  /** An append was sent and its reply was lost, so the message may be in the stream already. */
  isUncertain = false;

  constructor(streamKey: string, id: string, fields: AppendRequest['fields'], size: number) {
    this.streamKey = streamKey;
    this.id = id;
    this.fields = fields;
    this.size = size;
  }

  abstract accepted(id: string): void;
  abstract failed(error: RedisStreamsError): void;
}
