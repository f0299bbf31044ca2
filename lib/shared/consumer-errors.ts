import { RedisStreamsError } from './errors.js';

// Errors of consumers and shards, and of calls after the end; `lib/errors.ts` exports them with all others.

/** The consumer has ended; it hands out nothing any more. */
export class ConsumerEndedError extends RedisStreamsError {
  override readonly name: string = 'ConsumerEndedError';
  constructor() {
    super('ERR_CONSUMER_ENDED', 'The consumer has ended');
  }
}

/** Another live process reads the stream under the same consumer name. It is reported, and both continue. */
export class ConsumerNameInUseError extends RedisStreamsError {
  override readonly name: string = 'ConsumerNameInUseError';
  /** Key of the stream. */
  readonly streamKey: string;
  /** Name of the consumer group. */
  readonly group: string;
  /** Name that both processes use. */
  readonly consumer: string;

  constructor(streamKey: string, group: string, consumer: string, isOnlyConsumer: boolean) {
    const cure = isOnlyConsumer
      ? "run one process of a group in mode 'resumable', or give each process its own group"
      : "give each process a consumer name of its own, or leave out the option 'consumer'";
    super(
      'ERR_CONSUMER_NAME_IN_USE',
      `Another live process reads '${streamKey}' as the consumer '${consumer}' of group '${group}': both take the ` +
        `entries that are pending for the name, so messages are handled twice; ${cure}`,
    );
    this.streamKey = streamKey;
    this.group = group;
    this.consumer = consumer;
  }
}

/**
 * Another consumer may own a shard that this one owned: its lease was not renewed in time. It is reported, and its acknowledgements
 * are refused; the next owner handles their messages again.
 */
export class ShardLeaseLostError extends RedisStreamsError {
  override readonly name: string = 'ShardLeaseLostError';
  /** The key of the shard. */
  readonly streamKey: string;
  /** Name of the consumer group. */
  readonly group: string;

  constructor(streamKey: string, group: string, refusedAcks: number) {
    const acks = refusedAcks === 1 ? '1 acknowledgement is' : `${refusedAcks} acknowledgements are`;
    const consequence =
      refusedAcks === 0 ? 'its handlers should stop' : `${acks} refused, and the messages handled again`;
    super(
      'ERR_SHARD_LEASE_LOST',
      `The lease of the shard '${streamKey}' in group '${group}' is lost: another consumer may own it; ${consequence}`,
    );
    this.streamKey = streamKey;
    this.group = group;
  }
}

/** A message failed at every attempt, and with `onPoison: 'halt'` its shard is not read any more; nothing of it is skipped. */
export class ShardHaltedError extends RedisStreamsError {
  override readonly name: string = 'ShardHaltedError';
  /** The key of the shard. */
  readonly streamKey: string;
  /** Id of the message. */
  readonly id: string;

  constructor(streamKey: string, id: string, reason: string, cause: unknown) {
    super(
      'ERR_SHARD_HALTED',
      `The shard '${streamKey}' is halted at the message ${id}: ${reason}; the next owner of the shard tries it once more`,
      { cause },
    );
    this.streamKey = streamKey;
    this.id = id;
  }
}

/** The number of shards cannot change while delayed messages wait beside them: their keys are not stored. */
export class ShardsBusyError extends RedisStreamsError {
  override readonly name: string = 'ShardsBusyError';
  /** Key of the stream, without the number of a shard. */
  readonly streamKey: string;

  constructor(streamKey: string, shardKeys: readonly string[]) {
    super(
      'ERR_SHARDS_BUSY',
      `The shards of '${streamKey}' cannot change: delayed messages wait beside '${shardKeys.join("', '")}'`,
      { retryable: true },
    );
    this.streamKey = streamKey;
  }
}

/** Messages are sent to shards that a consumer does not read, because of its option `shards`. Only reported. */
export class UnreadShardsError extends RedisStreamsError {
  override readonly name: string = 'UnreadShardsError';
  /** Key of the stream, without the number of a shard. */
  readonly streamKey: string;

  constructor(streamKey: string, first: number, last: number, advice: string) {
    super(
      'ERR_UNREAD_SHARDS',
      `The shards ${first} to ${last} of '${streamKey}' are not all read by this consumer; ${advice}`,
    );
    this.streamKey = streamKey;
  }
}

/** The producer has ended; it accepts nothing any more. */
export class ProducerEndedError extends RedisStreamsError {
  override readonly name: string = 'ProducerEndedError';
  constructor() {
    super('ERR_PRODUCER_ENDED', 'The producer has ended');
  }
}

/** The streamer, client or server has been closed. */
export class ClosedError extends RedisStreamsError {
  override readonly name: string = 'ClosedError';
  constructor(subject: string, consequence?: string) {
    super('ERR_CLOSED', `${subject} is closed${consequence === undefined ? '' : `; ${consequence}`}`);
  }
}

/** The consumer still has pending entries and was therefore not removed. */
export class ConsumerPendingError extends RedisStreamsError {
  override readonly name: string = 'ConsumerPendingError';
  /** Number of pending entries of the consumer. */
  readonly pending: number;

  constructor(streamKey: string, group: string, consumer: string, pending: number) {
    super(
      'ERR_CONSUMER_PENDING',
      `The consumer '${consumer}' of group '${group}' on '${streamKey}' has ${pending} pending entries; ` +
        'acknowledge them, or let another consumer claim them, before removing it',
    );
    this.pending = pending;
  }
}
