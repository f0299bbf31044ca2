import type { ConsumerOptions, LoadBalancedOptions, ResumableOptions } from '../options/options.js';
import type { RedisStreamsError } from '../../errors.js';
import type { StreamMessage, StreamShard } from '../messages/stream-message.js';

/** Where to go in a stream: to its beginning, its end, or right behind an entry. */
export type RewindTarget = 'beginning' | 'end' | { readonly id: string };

/** What every consumer can do. */
export interface BasicConsumer extends AsyncIterable<StreamMessage>, AsyncDisposable {
  /** The group; undefined in real-time mode. */
  readonly groupId: string | undefined;
  /** This consumer's name in the group; undefined in real-time mode. */
  readonly consumerId: string | undefined;
  /** What is read at the moment, discovered shards included. */
  readonly streamShards: readonly StreamShard[];
  /**
   * The next message; waits for it, through outages too.
   * @throws ConsumerEndedError after {@link end}, the signal's reason when it aborts, and whatever ends the reading of a
   * stream for good, once for each such stream; when no stream is left, every call.
   */
  next(options?: { signal?: AbortSignal }): Promise<StreamMessage>;
  /** Goes on with the first message after that time. Refused in load-balanced mode, where a group has many readers. */
  seek(timestamp: Date): Promise<void>;
  /** Goes on at the beginning, behind everything there is, or right after an entry. Refused in load-balanced mode. */
  rewind(to: RewindTarget): Promise<void>;
  /** Reads one more stream, or one shard of it. */
  assign(streamKey: string, shardId?: number): Promise<void>;
  /** Stops reading a stream, or one shard of it; what is pending stays pending. */
  unassign(streamKey: string, shardId?: number): Promise<void>;
  /** Commits what was acknowledged, gives back what was not handed out, leaves. `for await` loops complete. Idempotent. */
  end(): Promise<void>;
  /** Background failures; nobody listens: they go to the logger. */
  on(event: 'error', listener: (error: RedisStreamsError) => void): this;
  off(event: 'error', listener: (error: RedisStreamsError) => void): this;
}

/** A consumer that says itself what it has processed. */
export interface AcknowledgingConsumer extends BasicConsumer {
  /** Queues an acknowledgement; a commit sends it. */
  ack(message: StreamMessage): void;
  /** The same by name, for a message that is no longer at hand. */
  ackWith(streamKey: string, shardId: number, id: string): void;
}

/** A consumer whose acknowledgements are sent by {@link commit} only. */
export interface CommittingConsumer extends AcknowledgingConsumer {
  /** Resolves when every acknowledgement queued before is settled on the server. */
  commit(): Promise<void>;
}

/** What a consumer can do follows from its options. */
export type ConsumerFor<O extends ConsumerOptions> = O extends ResumableOptions | LoadBalancedOptions
  ? O extends { autoCommit: 'disabled' }
    ? CommittingConsumer
    : O extends { autoCommit: 'rolling' | 'disabled' }
      ? AcknowledgingConsumer
      : BasicConsumer
  : BasicConsumer;

/** Refuses options that the mode does not have, misspelt ones included: where a type is inferred, TypeScript lets them pass. */
export type OnlyOptionsOf<O extends ConsumerOptions> = O extends unknown
  ? { readonly [Name in Exclude<keyof O, keyof Extract<ConsumerOptions, { mode: O['mode'] }>>]?: undefined }
  : never;
