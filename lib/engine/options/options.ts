import { InvalidOptionError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { hostId, uniqueConsumerName } from './consumer-name.js';
import { check } from './option-checks.js';
import { resolveRetention } from '../admin/retention.js';
import type { ResolvedRetention, RetentionOptions } from '../admin/retention.js';
import type { Sharder } from '../producing/sharder.js';

/** Options of {@link RedisStreamer}. All times are milliseconds. */
export interface StreamerOptions {
  /** Put before every stream key, also those of dead letters and replies. Default none. */
  keyPrefix?: string;
  /** Entry field that holds the payload. Default `msg`. */
  messageField?: string;
  /** Bounds the first connection, and how long a send is repeated through an outage. Default 60,000. */
  timeout?: number;
  /** Longest wait of one blocking read; how soon a dead peer is noticed follows from it. 100 to 60,000, default 10,000. */
  blockTimeout?: number;
  /** Default: warnings and errors to the console. */
  logger?: RedisStreamsLogger;
}

/**
 * What happens to a send whose reply was lost: it is repeated (`at-least-once`); it is reported as uncertain
 * (`at-most-once`); or it is repeated, and the server recognises what it has already appended (`exactly-once`).
 */
export type Delivery = 'at-least-once' | 'at-most-once' | 'exactly-once';

/** Options of a producer. */
export interface ProducerOptions {
  /** Chooses the shard of each message. Default: the stream is not sharded. */
  sharder?: Sharder;
  /** Trims each stream to about this many entries as it appends. Excludes `minAge`. */
  maxLen?: number;
  /** Trims entries older than this many milliseconds as it appends. Excludes `maxLen`. */
  minAge?: number;
  /** Most messages of one write. Default 500. */
  maxBatch?: number;
  /** Most messages that wait to be sent; past that, sending is refused with ERR_QUEUE_FULL. Default 100,000. */
  maxQueued?: number;
  /** Most bytes of payload and headers that wait to be sent. Default 64 MiB. */
  maxQueuedBytes?: number;
  /** Default `at-least-once`. */
  delivery?: Delivery;
}

/** Where a consumer starts on a stream, or a group that does not exist yet. */
export type AutoStreamReset = 'earliest' | 'latest';

/**
 * When a message counts as processed: when it is read (`immediate`, NOACK), some time after it was handed out (`delayed`),
 * in the background after `ack()` (`rolling`), or by `commit()` after `ack()` (`disabled`).
 */
export type AutoCommit = 'immediate' | 'delayed' | 'rolling' | 'disabled';

interface ReadingOptions {
  /** Default `latest`. */
  autoStreamReset?: AutoStreamReset;
  /** Most entries of one read. Default 100, in load-balanced mode 10. */
  batchSize?: number;
  /** Messages that may be buffered and not yet handed out. Default twice the batch size. */
  prefetch?: number;
  /** How often to look for new shards, or false. Default 30,000. */
  shardDiscoveryInterval?: number | false;
}

/** Every consumer sees every message; nothing is acknowledged. */
export interface RealTimeOptions extends ReadingOptions {
  mode: 'real-time';
}

interface GroupOptions extends ReadingOptions {
  /** Name of the consumer group. Default: host id and `:r` (resumable) or `:s` (load-balanced). */
  group?: string;
  /** Name of this consumer; must be unique among live ones. Default: the group's name (resumable), or one that never repeats. */
  consumer?: string;
  /** Default `delayed`. */
  autoCommit?: AutoCommit;
  /** `delayed` only: how long after being handed out a message is acknowledged. Default 5,000. */
  autoCommitDelay?: number;
  /** How long acknowledgements are collected before they are sent; 0 sends as soon as possible. Default 1,000. */
  autoCommitInterval?: number;
  /** Creates a stream that does not exist. Default false. */
  mkStream?: boolean;
  /**
   * How long nothing may be heard of a consumer until its name is removed from the group, or false. Never while entries are
   * pending for it. Default 3,600,000, an hour.
   */
  consumerExpiry?: number | false;
  /** Deletes what every group of the stream has acknowledged, and nothing else; true takes the defaults. Default false. */
  retention?: RetentionOptions | boolean;
}

/** One consumer in a group; it goes on where the group is. */
export interface ResumableOptions extends GroupOptions {
  mode: 'resumable';
}

/** Consumers of one group share its messages; the entries of one that dies are claimed by the others. */
export interface LoadBalancedOptions extends GroupOptions {
  mode: 'load-balanced';
  /** How often to look for entries of dead consumers, or false. Default 30,000. */
  autoClaimInterval?: number | false;
  /** How long an entry may lie untouched before another consumer takes it. Default 60,000. */
  autoClaimIdle?: number;
  /** Whether shards are read by all consumers of the group. Only `shared` so far. */
  shardOwnership?: 'shared';
}

export type ConsumerOptions = RealTimeOptions | ResumableOptions | LoadBalancedOptions;
export type ConsumerMode = ConsumerOptions['mode'];

/** The only defaults of the engine. */
export const DEFAULTS = Object.freeze({
  streamer: Object.freeze({ keyPrefix: '', messageField: 'msg', timeout: 60_000, blockTimeout: 10_000 }),
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
    batchSize: 100,
    loadBalancedBatchSize: 10,
    shardDiscoveryInterval: 30_000,
    mkStream: false,
    consumerExpiry: 3_600_000,
  }),
} as const) satisfies { streamer: StreamerOptions; producer: ProducerOptions; consumer: object };

export interface ResolvedStreamerOptions {
  readonly keyPrefix: string;
  readonly messageField: string;
  readonly timeout: number;
  readonly blockTimeout: number;
}

export interface ResolvedProducerOptions {
  readonly sharder: Sharder | undefined;
  readonly maxLen: number | undefined;
  readonly minAge: number | undefined;
  readonly maxBatch: number;
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
  readonly delivery: Delivery;
}

export interface ResolvedConsumerOptions {
  readonly mode: ConsumerMode;
  readonly autoStreamReset: AutoStreamReset;
  readonly batchSize: number;
  readonly prefetch: number;
  readonly shardDiscoveryInterval: number | false;
  /** Undefined in real-time mode, and so is nothing else below of any use there. */
  readonly group: string | undefined;
  readonly consumer: string;
  readonly autoCommit: AutoCommit;
  readonly autoCommitDelay: number;
  readonly autoCommitInterval: number;
  readonly autoClaimInterval: number | false;
  readonly autoClaimIdle: number;
  readonly mkStream: boolean;
  readonly consumerExpiry: number | false;
  readonly retention: ResolvedRetention | false;
}

export function resolveStreamerOptions(options: StreamerOptions): ResolvedStreamerOptions {
  const { keyPrefix, messageField, timeout, blockTimeout } = { ...DEFAULTS.streamer, ...defined(options) };
  check.string('keyPrefix', keyPrefix);
  check.name('messageField', messageField);
  check.integer('timeout', timeout, 1);
  check.integer('blockTimeout', blockTimeout, 100, 60_000);
  return { keyPrefix, messageField, timeout, blockTimeout };
}

export function resolveProducerOptions(options: ProducerOptions): ResolvedProducerOptions {
  const resolved = { ...DEFAULTS.producer, ...defined(options) };
  const { sharder, maxLen, minAge, maxBatch, maxQueued, maxQueuedBytes, delivery } = resolved;
  if (sharder !== undefined && typeof sharder?.shardOf !== 'function') {
    throw new InvalidOptionError('sharder', 'must be a Sharder', sharder);
  }
  if (maxLen !== undefined) check.integer('maxLen', maxLen, 1);
  if (minAge !== undefined) check.integer('minAge', minAge, 1);
  if (maxLen !== undefined && minAge !== undefined) {
    throw new InvalidOptionError('minAge', 'cannot be combined with maxLen', minAge);
  }
  check.integer('maxBatch', maxBatch, 1, 10_000);
  check.integer('maxQueued', maxQueued, 1);
  check.integer('maxQueuedBytes', maxQueuedBytes, 1);
  check.oneOf('delivery', delivery, ['at-least-once', 'at-most-once', 'exactly-once']);
  return { sharder, maxLen, minAge, maxBatch, maxQueued, maxQueuedBytes, delivery };
}

const GROUP_OPTIONS = [
  'group',
  'consumer',
  'autoCommit',
  'autoCommitDelay',
  'autoCommitInterval',
  'mkStream',
  'consumerExpiry',
  'retention',
] as const;
const CLAIM_OPTIONS = ['autoClaimInterval', 'autoClaimIdle', 'shardOwnership'] as const;

export function resolveConsumerOptions(options: ConsumerOptions): ResolvedConsumerOptions {
  check.oneOf('mode', options?.mode, ['real-time', 'resumable', 'load-balanced']);
  const given: Partial<LoadBalancedOptions> = defined(options as LoadBalancedOptions);
  const mode = options.mode;
  if (mode === 'real-time') refuse(given, GROUP_OPTIONS, 'makes no sense in real-time mode, which has no group');
  if (mode !== 'load-balanced') refuse(given, CLAIM_OPTIONS, 'is for load-balanced mode only');

  const batchSize =
    given.batchSize ??
    (mode === 'load-balanced' ? DEFAULTS.consumer.loadBalancedBatchSize : DEFAULTS.consumer.batchSize);
  check.integer('batchSize', batchSize, 1, 100_000);
  const group = mode === 'real-time' ? undefined : (given.group ?? `${hostId()}${mode === 'resumable' ? ':r' : ':s'}`);
  const resolved = {
    ...DEFAULTS.consumer,
    prefetch: 2 * batchSize,
    ...given,
    mode,
    batchSize,
    group,
    retention: retentionOf(given.retention),
    consumer: given.consumer ?? (mode === 'resumable' ? (group as string) : uniqueConsumerName()),
  };
  check.oneOf('autoStreamReset', resolved.autoStreamReset, ['earliest', 'latest']);
  check.integer('prefetch', resolved.prefetch, 1, 1_000_000);
  checkInterval('shardDiscoveryInterval', resolved.shardDiscoveryInterval);
  if (group !== undefined) check.name('group', group);
  check.name('consumer', resolved.consumer);
  check.oneOf('autoCommit', resolved.autoCommit, ['immediate', 'delayed', 'rolling', 'disabled']);
  check.integer('autoCommitDelay', resolved.autoCommitDelay, 0);
  check.integer('autoCommitInterval', resolved.autoCommitInterval, 0);
  check.boolean('mkStream', resolved.mkStream);
  checkInterval('autoClaimInterval', resolved.autoClaimInterval);
  if (resolved.consumerExpiry !== false) check.integer('consumerExpiry', resolved.consumerExpiry, 1_000);
  check.integer('autoClaimIdle', resolved.autoClaimIdle, 100);
  if (given.shardOwnership !== undefined) check.oneOf('shardOwnership', given.shardOwnership, ['shared']);
  if (given.autoCommitDelay !== undefined && resolved.autoCommit !== 'delayed') {
    throw new InvalidOptionError('autoCommitDelay', "is for autoCommit 'delayed' only", given.autoCommitDelay);
  }
  return resolved;
}

/** @throws InvalidOptionError unless there is at least one key and each is a non-empty string. */
export function resolveStreamKeys(streamKeys: string | readonly string[]): string[] {
  const keys = typeof streamKeys === 'string' ? [streamKeys] : streamKeys;
  if (!Array.isArray(keys) || keys.length === 0) {
    throw new InvalidOptionError('streamKeys', 'must name at least one stream', streamKeys);
  }
  for (const key of keys) check.name('streamKeys', key);
  return [...new Set<string>(keys)];
}

function retentionOf(retention: RetentionOptions | boolean | undefined): ResolvedRetention | false {
  if (retention === undefined || retention === false) return false;
  return resolveRetention(retention === true ? {} : retention);
}

function checkInterval(option: string, value: number | false): void {
  if (value !== false) check.integer(option, value, 10);
}

function refuse<T extends object>(given: T, names: ReadonlyArray<keyof T & string>, rule: string): void {
  for (const name of names) {
    if (given[name] !== undefined) throw new InvalidOptionError(name, rule, given[name]);
  }
}

/** An option set to undefined means the default, as everywhere in Nest. */
function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined)) as T;
}
