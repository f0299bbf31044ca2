import type { ConsumerOptions, LoadBalancedOptions, ResumableOptions } from '../options/options.js';
import type { RedisStreamsError } from '../../errors.js';
import type { ShardAssignment } from './ownership/shard-assignment.js';
import type { StreamMessage, StreamShard } from '../messages/stream-message.js';

/** A position in a stream: its beginning, its end, or right after an entry, which its id or its sequence names. */
export type RewindTarget =
  | 'beginning'
  | 'end'
  | {
      /** Id of an entry, `ms-seq`. */
      readonly id: string;
    }
  | {
      /** Sequence of an entry, `ms << 16 | seq`. */
      readonly sequence: bigint;
    };

/** The events of a consumer, with the arguments of their listeners. A type and no interface: EventEmitter asks for one. */
export type ConsumerEvents = {
  /** Something failed in the background; without a listener it is logged. */
  error: [error: RedisStreamsError];
  /** With `shardOwnership: 'owned'`: the consumer owns a shard, and reads it. */
  assigned: [assignment: ShardAssignment];
  /** The consumer does not own the shard any more. */
  revoked: [assignment: ShardAssignment];
};

/** The methods of every consumer. */
export interface BasicConsumer extends AsyncIterable<StreamMessage>, AsyncDisposable {
  /** The group; undefined in real-time mode. */
  readonly groupId: string | undefined;
  /** This consumer's name in the group; undefined in real-time mode. */
  readonly consumerId: string | undefined;
  /** The streams and shards that are read, including those that were discovered. */
  readonly streamShards: readonly StreamShard[];
  /**
   * The next message; waits for it, through outages too.
   * @throws ConsumerEndedError after {@link end}; the signal's reason when it aborts; and the error because of which a stream
   * is not read any more, once for each of these streams, and in every call when no stream is left
   */
  next(options?: { signal?: AbortSignal }): Promise<StreamMessage>;
  /**
   * Continues with the first message after the time; past the last message, with all that come from now on. Refused in
   * load-balanced mode, where a group has many readers.
   * @throws InvalidOptionError, UnsupportedOperationError where it is refused, ConsumerEndedError
   */
  seek(timestamp: Date): Promise<void>;
  /**
   * Continues at the beginning, at the end, or right after an entry; an id past the last entry means the end. Refused in
   * load-balanced mode.
   * @throws InvalidOptionError, UnsupportedOperationError where it is refused, ConsumerEndedError
   * @example
   * ```ts
   * await consumer.rewind('beginning');
   * ```
   */
  rewind(to: RewindTarget): Promise<void>;
  /** True from {@link pause} until {@link resume}. A pause of the whole group, by `StreamManager.pauseGroup()`, does not count. */
  readonly isPaused: boolean;
  /**
   * Stops reading all streams; from the call on, {@link next} returns no message. Acknowledgements are still sent, and messages
   * that were handed out stay with this consumer. In a load-balanced group, messages that were read and not handed out go
   * back to the group, where other consumers claim them; otherwise they stay here. Resolves when no read is in flight.
   * Idempotent.
   * @throws ConsumerEndedError
   */
  pause(): Promise<void>;
  /** Continues where {@link pause} stopped. Idempotent. @throws ConsumerEndedError */
  resume(): Promise<void>;
  /** Reads another stream, or one shard of it. @throws InvalidOptionError, ConsumerEndedError, or what Redis answered when it refused the stream */
  assign(streamKey: string, shardId?: number): Promise<void>;
  /** Stops reading a stream, or one shard of it; pending entries stay pending. @throws InvalidOptionError, ConsumerEndedError */
  unassign(streamKey: string, shardId?: number): Promise<void>;
  /**
   * Commits the acknowledgements, gives back the messages that were not handed out, leaves the group. `for await` loops
   * complete. Idempotent.
   */
  end(): Promise<void>;
  /** Failures in the background; without a listener they are logged. */
  on(event: 'error', listener: (error: RedisStreamsError) => void): this;
  /**
   * With `shardOwnership: 'owned'`: this consumer owns a shard (`assigned`), or does not own it any more (`revoked`). A new listener
   * of `assigned` is also called for each shard that the consumer owns already, once() for one of them.
   */
  on(event: 'assigned' | 'revoked', listener: (assignment: ShardAssignment) => void): this;
  /** As {@link on}, for one event. */
  once(event: 'error', listener: (error: RedisStreamsError) => void): this;
  /** As {@link on}, for one event. */
  once(event: 'assigned' | 'revoked', listener: (assignment: ShardAssignment) => void): this;
  /** Removes a listener. */
  off(event: 'error', listener: (error: RedisStreamsError) => void): this;
  /** Removes a listener. */
  off(event: 'assigned' | 'revoked', listener: (assignment: ShardAssignment) => void): this;
}

/** A consumer whose messages the application acknowledges. */
export interface AcknowledgingConsumer extends BasicConsumer {
  /**
   * Queues an acknowledgement; a commit sends it.
   * @throws InvalidOptionError, ConsumerEndedError
   * @example
   * ```ts
   * for await (const message of consumer) {
   *   await handle(message.json());
   *   consumer.ack(message);
   * }
   * ```
   */
  ack(message: StreamMessage): void;
  /** The same for a message of which only the id is known. @throws InvalidOptionError for a shard that is not read, or no id; ConsumerEndedError */
  ackWith(streamKey: string, shardId: number, id: string): void;
  /**
   * Sends the acknowledgements that are queued, with `rolling` before their interval is over. Resolves when the server has
   * confirmed every one that was queued before.
   * @throws ConsumerEndedError; ShardLeaseLostError when acknowledgements of an owned shard were refused; or what Redis answered
   */
  commit(): Promise<void>;
}

/** The methods of a consumer with these options. */
export type ConsumerFor<O extends ConsumerOptions> = O extends ResumableOptions | LoadBalancedOptions
  ? O extends Record<'autoCommit', 'rolling' | 'disabled'>
    ? AcknowledgingConsumer
    : BasicConsumer
  : BasicConsumer;

/** Refuses options that the mode does not have, misspelt ones included: TypeScript accepts them where a type is inferred. */
export type OnlyOptionsOf<O extends ConsumerOptions> = O extends unknown
  ? { readonly [Name in Exclude<keyof O, keyof Extract<ConsumerOptions, Pick<O, 'mode'>>>]?: undefined }
  : never;
