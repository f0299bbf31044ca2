import type { RedisStreamsError } from '../../errors.js';
import type { Payload } from './outgoing-entry.js';
import type { AppendRequest } from '../../redis/commands/stream-commands.js';

/** What is stored of a message, and under which id. */
export interface SendContent {
  /** The key of the shard. */
  readonly key: string;
  readonly id: string;
  /** The field of the payload. */
  readonly name: string;
  readonly payload: Payload;
  /** Names and values of other fields, in turn. */
  readonly more: readonly Payload[] | undefined;
  /** What it takes in memory while it waits, in bytes. */
  readonly size: number;
}

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
  readonly name: string;
  readonly payload: Payload;
  readonly more: readonly Payload[] | undefined;
  readonly size: number;
  /** Whether anybody wants to know the entry's id. */
  abstract get wantsId(): boolean;
  /** Until when it is repeated, on the monotonic clock. */
  deadline = 0;
  round: FlushRound | undefined;
  /** An append was sent and its reply was lost, so the message may be in the stream already. */
  isUncertain = false;

  constructor({ key, id, name, payload, more, size }: SendContent) {
    this.streamKey = key;
    this.id = id;
    this.name = name;
    this.payload = payload;
    this.more = more;
    this.size = size;
  }

  /** Made when it is sent: until then, an array for each message that waits is what the garbage collector works on most. */
  get fields(): AppendRequest['fields'] {
    const { name, payload, more } = this;
    return more ? [name, payload, ...more] : [name, payload];
  }

  get fieldCount(): number {
    return 2 + (this.more?.length ?? 0);
  }

  abstract accepted(id: string): void;
  abstract failed(error: RedisStreamsError): void;
}
