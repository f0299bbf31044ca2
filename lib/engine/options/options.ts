import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { TimestampFormat } from '../../redis/commands/entry-id.js';
import type { RetentionOptions } from '../admin/retention.js';
import type { Telemetry } from '../telemetry/telemetry.js';

/** Options of {@link RedisStreamer}. All times are milliseconds. */
export interface StreamerOptions {
  /**
   * Prefix of every stream key, including those of dead letters and replies.
   * @defaultValue none
   */
  keyPrefix?: string;
  /**
   * Entry field that holds the payload.
   * @defaultValue `msg`
   */
  messageField?: string;
  /**
   * What the times in ids are counted in. `ns` is for streams that programs with sea-streamer's feature `nanosecond-timestamp` read and
   * write: ids have the time of this machine, `1700000000123456789-0`, or that after the last id of the stream, and sequences are `ns <<
   * 16 | seq`. It needs Redis 7.0 and scripts, and costs more than `ms`. A stream has one format: sending to one with milliseconds fails
   * with ERR_TIMESTAMP_FORMAT. Consumers read both.
   * @defaultValue `ms`, by the clock of Redis
   */
  timestampFormat?: TimestampFormat;
  /**
   * Limit of the first connection, and of the repetition of a send through an outage. At least 1.
   * @defaultValue `60_000`
   */
  timeout?: number;
  /**
   * Limit of a send while Redis has never been reached; it fails with ERR_CONNECT_TIMEOUT. The cause is then more often a
   * wrong address than an outage, and the caller may be an HTTP request. At least 1, at most `timeout`.
   * Not the option of ioredis of that name.
   * @defaultValue `10_000`: one whole attempt to connect, and less than the 30 s for which most proxies wait
   */
  connectTimeout?: number;
  /**
   * Longest wait of one blocking read. A dead connection is noticed within about twice this time; a shorter one costs more commands while
   * a stream is quiet. 100 to 60,000.
   *
   * False, for services and proxies that have no blocking reads: consumers look again and again instead, at once after an entry and each
   * second on a quiet stream.
   * @defaultValue `10_000`
   */
  blockTimeout?: number | false;
  /**
   * Longest time for which closing waits for sends to be confirmed, and in a server for handlers. In an outage, a send that is not
   * confirmed by then fails with ERR_CLOSED, or ERR_SEND_UNCERTAIN where Redis may have the message. 0 waits for nothing.
   * @defaultValue `10_000`
   */
  shutdownTimeout?: number;
  /**
   * Gets what happens in the background; false: nothing is logged.
   * @defaultValue warnings and errors go to the console
   */
  logger?: RedisStreamsLogger | false;
  /**
   * Traces and metrics: `openTelemetry()`, `prometheus()`, a {@link Telemetry} of your own, or several.
   * @defaultValue none
   */
  telemetry?: Telemetry | readonly Telemetry[];
}

/**
 * What happens to a send whose reply was lost: it is repeated (`at-least-once`, may append twice); it is reported as
 * uncertain (`at-most-once`); or it is repeated, and the server ignores what it has already appended (`exactly-once`, needs
 * scripts).
 */
export type Delivery = 'at-least-once' | 'at-most-once' | 'exactly-once';

/**
 * The most shards that a stream can have at a time: of a sharder, of `setShards()`, and of the option `shards` of a consumer, which reads
 * all shards with one command where it can. With 65,536 shards a read finds nothing within a minute.
 */
export const MAX_SHARDS = 10_000;

/** Spreads the messages of one stream over shards, the streams `key:0` … `key:n-1`. */
export interface Sharder {
  /** How many shards there are. With the sharders of this package up to 10,000. */
  readonly shards: number;
  /** The shard, 0 to `shards - 1`, of the next message of a stream. */
  shardOf(streamKey: string, key: string | undefined, payload: string | Uint8Array): number;
  /** A sharder of the same kind with a state of its own, for each producer that is given this one. Without it, this one is shared. */
  forProducer?(): Sharder;
}

/** Options of a producer. */
export interface ProducerOptions {
  /**
   * Chooses the shard of each message; or a function that makes the sharder of each producer. The sharders of this package keep a state
   * for each producer either way.
   * @defaultValue the stream is not sharded
   */
  sharder?: Sharder | (() => Sharder);
  /**
   * Trims each stream to about this many entries with every append. At least 1. Excludes `minAge`.
   * @defaultValue no trimming
   */
  maxLen?: number;
  /**
   * Trims entries older than this with every append, in milliseconds by the clock of Redis, whatever the clock of this machine says.
   * Needs the command TIME. At least 1. Excludes `maxLen`.
   * @defaultValue no trimming
   */
  minAge?: number;
  /**
   * Most messages of one write. More raise the throughput and the latency under load. 1 to 10,000.
   * @defaultValue `500`
   */
  maxBatch?: number;
  /**
   * Most messages that may wait to be sent; past it a send is refused with ERR_QUEUE_FULL. Bounds the memory that an outage costs. At
   * least 1.
   * @defaultValue `100_000`
   */
  maxQueued?: number;
  /**
   * The same in bytes of payload and headers. At least 1.
   * @defaultValue `67_108_864` (64 MiB)
   */
  maxQueuedBytes?: number;
  /**
   * Most bytes of payload and headers of one message; a larger one fails at once with ERR_PAYLOAD_TOO_LARGE and is not sent.
   * At least 1. Set it to the limit of a proxy or service between here and Redis.
   * @defaultValue the server's `proto-max-bulk-len` where CONFIG GET is permitted (asked for at the first message or batch over 1 MiB),
   * else `536_870_911`
   */
  maxPayload?: number;
  /**
   * What happens to a send whose reply was lost.
   * @defaultValue `at-least-once`
   */
  delivery?: Delivery;
  /**
   * A send is confirmed when that many replicas have the message (WAIT), so that a failover to one of them does not lose it. If fewer
   * have it in time, the send fails with ERR_REPLICAS_MISSING: the message is stored, and the error has its receipt. Do not send it
   * again. The producer has a connection of its own, on which each batch waits for the one before it.
   * @defaultValue the reply of the master confirms
   * @example
   * waitReplicas: { count: 1, timeout: 500 }
   */
  waitReplicas?: WaitReplicasOptions;
}

/** Which replicas must have a message before its send is confirmed, and how long that may take. */
export interface WaitReplicasOptions {
  /** How many replicas must have it, 1 to 1,000. If it is the number of all replicas, no failover loses a confirmed message. */
  count: number;
  /** Longest wait in milliseconds, for each batch. 1 to 5,000, and at most half of the streamer's `timeout`. */
  timeout: number;
  /**
   * Waits until the master and the replicas have it on disk (WAITAOF): all of them need `appendonly yes`. Needs Redis 7.2.
   * @defaultValue `false`
   */
  fsync?: boolean;
}

/** Start position on a stream, or of a group that does not exist yet: its first entry, or the first one that is appended. */
export type AutoStreamReset = 'earliest' | 'latest';

/**
 * When a message counts as processed: when it is read (`immediate`, NOACK: a crash loses what was not processed); some time
 * after it was handed out (`delayed`); after `ack()`, in the background (`rolling`); or after `ack()`, with the next
 * `commit()` (`disabled`).
 */
export type AutoCommit = 'immediate' | 'delayed' | 'rolling' | 'disabled';

/** Options that every consumer has. */
export interface ReadingOptions {
  /**
   * Where the consumer begins on a stream of which it has no position.
   * @defaultValue `latest`
   */
  autoStreamReset?: AutoStreamReset;
  /**
   * Most entries of one read. More raise the throughput; in load-balanced mode fewer spread the messages more evenly. 1 to 100,000.
   * @defaultValue `100`; in load-balanced mode half of {@link prefetch}, which is 10 until the consumer has shown its speed
   */
  batchSize?: number;
  /**
   * Messages that may be buffered and not handed out yet. More hide the latency of reads; but other consumers of the group
   * cannot get them. In Cluster, where HELLO and CLIENT TRACKING are not permitted, at least twice the number of streams: past
   * that, the consumer looks at some of them every 100 ms only. 1 to 1,000,000.
   * @defaultValue twice `batchSize`. In load-balanced mode without `batchSize`, the number of messages that the application takes in
   * 50 ms, at least 20 and at most 1,000 or 8 MiB, but not less than two for each owned shard
   */
  prefetch?: number;
  /**
   * Interval in milliseconds at which new shards are looked for, or false to look for none. Where no shard was ever seen, the interval
   * doubles after each look, up to 20 times its value. At least 10.
   * @defaultValue `30_000`
   */
  shardDiscoveryInterval?: number | false;
  /**
   * The shards of each stream, if the consumer must not look for them: their numbers, or how many there are, which are 0 to n − 1. They
   * are read from the start, whether they exist yet or not, and the key of the stream itself is not. Two consumers of a group may have
   * different shards, except with `shardOwnership: 'owned'`. Up to 10,000; numbers up to 2⁵³ − 1. Excludes `shardDiscoveryInterval`.
   * @defaultValue the consumer finds them
   */
  shards?: number | readonly number[];
}

/** Every consumer gets every message; nothing is acknowledged. */
export interface RealTimeOptions extends ReadingOptions {
  /** Every consumer gets every message. */
  mode: 'real-time';
}

/** Options of a consumer that belongs to a group. */
export interface GroupOptions extends ReadingOptions {
  /**
   * Name of the consumer group.
   * @defaultValue the host id with `:r` (resumable) or `:s` (load-balanced)
   */
  group?: string;
  /**
   * Name of this consumer, unique among those that run at the same time: two with the same one handle the same messages, and report
   * ERR_CONSUMER_NAME_IN_USE.
   * @defaultValue the group's name (resumable), or one that never repeats (load-balanced)
   */
  consumer?: string;
  /**
   * When a message counts as processed.
   * @defaultValue `delayed`
   */
  autoCommit?: AutoCommit;
  /**
   * `delayed` only: milliseconds between handing a message out and acknowledging it. More leave the application more time to process it,
   * and a crash redelivers more. At least 0.
   * @defaultValue `5_000`
   */
  autoCommitDelay?: number;
  /**
   * Milliseconds during which acknowledgements are collected into one command; 0 sends those of one turn of the event loop. More cost
   * fewer commands, and a crash redelivers more. At least 0.
   * @defaultValue `1_000`
   */
  autoCommitInterval?: number;
  /**
   * Creates a stream that does not exist; otherwise the consumer fails with ERR_STREAM_MISSING.
   * @defaultValue `false`
   */
  mkStream?: boolean;
  /**
   * Idle time, in milliseconds, after which a consumer with no pending entries is removed from the group, or false. At least 1,000.
   * @defaultValue `3_600_000` (an hour)
   */
  consumerExpiry?: number | false;
  /**
   * Deletes the entries that every group of the stream has acknowledged, and no others; true uses the defaults.
   * @defaultValue `false`
   */
  retention?: RetentionOptions | boolean;
}

/** The only consumer of its group; it continues at the group's position. */
export interface ResumableOptions extends GroupOptions {
  /** One consumer continues where its group stopped. */
  mode: 'resumable';
  /**
   * What seek() and rewind() move: the group, so that a later consumer continues from there; or this consumer alone, as sea-streamer
   * does. Then it reads on without the group: what it reads is not pending and not delivered again, and a restart continues at the
   * group's position.
   * @defaultValue `group`
   */
  position?: 'group' | 'consumer';
}

/** What renews the leases of messages. */
export type LeaseRenewalBy = 'loop' | 'thread';

/** Which entries other consumers of the group claim. */
export interface ClaimingOptions {
  /**
   * Interval in milliseconds at which entries of dead consumers are looked for, or false. At least 10.
   * @defaultValue `30_000`
   */
  autoClaimInterval?: number | false;
  /**
   * Idle time, in milliseconds, after which another consumer claims an entry. Less redelivers sooner after a crash, but a process that
   * stands still for this long loses its entries. At least 100.
   * @defaultValue `60_000`
   */
  autoClaimIdle?: number;
  /**
   * Longest time that a message may be in a handler, or handed out and not acknowledged, in milliseconds. Past it the signal of the
   * handler aborts, and the lease of the message is no longer renewed: once it has been idle for `autoClaimIdle`, another consumer claims
   * it. With `shardOwnership: 'owned'` the signal aborts too, but the message stays with its handler. Without effect with `autoCommit:
   * 'immediate'`. At least 1.
   * @defaultValue `300_000` (5 minutes)
   */
  maxHandlerTime?: number;
  /**
   * What renews the leases of messages in this process, and of owned shards. `loop`: the event loop. If a handler blocks it for longer
   * than `autoClaimIdle`, another consumer claims the messages, and they are handled twice. `thread`: while the event loop is blocked,
   * also a thread with a connection of its own, for up to `maxHandlerTime`. All consumers of a process share the thread. Not where
   * `connection` is a function, nor with `autoCommit: 'immediate'`.
   * @defaultValue `loop`
   */
  leaseRenewal?: LeaseRenewalBy;
}

/** Who reads which shards of a group. */
export interface OwnershipOptions {
  /**
   * `shared`: all consumers of the group read every shard, and several of them may handle messages of one shard at once. `owned`: each
   * shard has one owner at a time, so its order is kept over all instances. The shards are spread evenly, and move when consumers start,
   * end or die. Needs scripts. Not with `autoCommit: 'immediate'`. A given `consumer` is then the first part of a name that never
   * repeats. All consumers of a group must have the same value.
   * @defaultValue `shared`
   */
  shardOwnership?: 'shared' | 'owned';
  /**
   * `owned` only: time without a renewal, in milliseconds, after which another consumer may take a shard over. The owner renews its
   * lease three times in it, and starts no more handlers of the shard when 80 % of it have passed since the last renewal. Less means a
   * faster take-over after a crash, but a process that stands still for about half of it may lose its shards. At least 500.
   * @defaultValue `10_000`
   */
  leaseTime?: number;
  /**
   * `owned` only: what handlers of the Nest transport do with a message that failed at every attempt. `dead-letter`: it becomes a dead
   * letter, and the messages behind it are handled. `halt`: nothing more of its shard is handled, ERR_SHARD_HALTED is reported, and each
   * later owner of the shard tries it once more. It has no effect on a consumer of the engine, where no message fails: the application
   * decides what it acknowledges.
   * @defaultValue `dead-letter`
   */
  onPoison?: 'dead-letter' | 'halt';
}

/** The consumers of a group share its messages; if one dies, the others claim its entries. */
export interface LoadBalancedOptions extends GroupOptions, ClaimingOptions, OwnershipOptions {
  /** The consumers of a group share the messages. */
  mode: 'load-balanced';
}

/** Options of a consumer; `mode` decides which there are. */
export type ConsumerOptions = RealTimeOptions | ResumableOptions | LoadBalancedOptions;

/** The only defaults of streamers, producers and consumers. */
export const DEFAULTS = Object.freeze({
  streamer: Object.freeze({
    keyPrefix: '',
    messageField: 'msg',
    timestampFormat: 'ms',
    timeout: 60_000,
    connectTimeout: 10_000,
    blockTimeout: 10_000,
    shutdownTimeout: 10_000,
    telemetry: Object.freeze([]),
  }),
  producer: Object.freeze({
    maxBatch: 500,
    maxQueued: 100_000,
    maxQueuedBytes: 64 * 1024 * 1024,
    delivery: 'at-least-once',
  }),
  consumer: Object.freeze({
    autoStreamReset: 'latest',
    autoCommit: 'delayed',
    autoCommitDelay: 5_000,
    autoCommitInterval: 1_000,
    autoClaimInterval: 30_000,
    autoClaimIdle: 60_000,
    maxHandlerTime: 300_000,
    leaseRenewal: 'loop',
    batchSize: 100,
    loadBalancedBatchSize: 10,
    shardDiscoveryInterval: 30_000,
    mkStream: false,
    position: 'group',
    shardOwnership: 'shared',
    leaseTime: 10_000,
    onPoison: 'dead-letter',
    consumerExpiry: 3_600_000,
  }),
} as const) satisfies {
  streamer: StreamerOptions;
  producer: ProducerOptions;
  consumer: Omit<LoadBalancedOptions, 'mode'> & Omit<ResumableOptions, 'mode'> & { loadBalancedBatchSize: number };
};
