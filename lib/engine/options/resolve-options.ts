import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

import { CallbackError, InvalidOptionError } from '../../errors.js';
import type { TimestampFormat } from '../../redis/commands/entry-id.js';
import { resolveRetention } from '../admin/retention.js';
import type { ResolvedRetention, RetentionOptions } from '../admin/retention.js';
import { resolveTelemetry } from '../telemetry/guarded-telemetry.js';
import type { Telemetry } from '../telemetry/telemetry.js';

import { check, checkSpelling, definedOptions, optionNames } from '../../shared/option-checks.js';
import { DEFAULTS, MAX_SHARDS } from './options.js';
import type { ConsumerMode } from './consumer-mode.js';
import type {
  AutoCommit,
  AutoStreamReset,
  ConsumerOptions,
  Delivery,
  LeaseRenewalBy,
  LoadBalancedOptions,
  ProducerOptions,
  ResumableOptions,
  StreamerOptions,
  Sharder,
  WaitReplicasOptions,
} from './options.js';

// Options with their defaults, after the only validation of the engine, which comes before any I/O.

export interface ResolvedStreamerOptions {
  readonly keyPrefix: string;
  readonly messageField: string;
  readonly timestampFormat: TimestampFormat;
  readonly timeout: number;
  /** Never more than `timeout`. */
  readonly connectTimeout: number;
  readonly blockTimeout: number;
  /** Reads never block; `blockTimeout` still limits other waits. */
  readonly isPolling: boolean;
  readonly shutdownTimeout: number;
  readonly telemetry: readonly Telemetry[];
}

export interface ResolvedProducerOptions {
  readonly sharder: Sharder | undefined;
  readonly maxLen: number | undefined;
  readonly minAge: number | undefined;
  readonly maxBatch: number;
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
  /** Undefined: the server's limit. */
  readonly maxPayload: number | undefined;
  readonly delivery: Delivery;
  readonly waitReplicas: Required<WaitReplicasOptions> | undefined;
}

export interface ResolvedConsumerOptions {
  readonly mode: ConsumerMode;
  readonly autoStreamReset: AutoStreamReset;
  readonly batchSize: number;
  readonly prefetch: number;
  /** {@link batchSize} and {@link prefetch} are the least, because no option sets them. */
  readonly isPrefetchAdaptive: boolean;
  /** False where {@link shards} are given. */
  readonly shardDiscoveryInterval: number | false;
  /** The numbers of all shards; undefined: they are looked for, or the stream has none. */
  readonly shards: readonly number[] | undefined;
  /** Undefined in real-time mode, which uses none of the options below either. */
  readonly group: string | undefined;
  readonly consumer: string;
  /** The name never repeats; otherwise another process may have it. */
  readonly isNameGenerated: boolean;
  readonly autoCommit: AutoCommit;
  readonly autoCommitDelay: number;
  readonly autoCommitInterval: number;
  readonly autoClaimInterval: number | false;
  readonly autoClaimIdle: number;
  readonly maxHandlerTime: number;
  readonly leaseRenewal: LeaseRenewalBy;
  readonly mkStream: boolean;
  /** What seek() and rewind() move. */
  readonly position: 'group' | 'consumer';
  /** `owned`: each shard has one consumer at a time. */
  readonly shardOwnership: 'shared' | 'owned';
  readonly leaseTime: number;
  readonly onPoison: 'dead-letter' | 'halt';
  readonly consumerExpiry: number | false;
  readonly retention: ResolvedRetention | false;
}

const STREAMER_OPTIONS = optionNames<StreamerOptions>({
  keyPrefix: true,
  messageField: true,
  timestampFormat: true,
  timeout: true,
  connectTimeout: true,
  blockTimeout: true,
  shutdownTimeout: true,
  logger: true,
  telemetry: true,
});

/** For a caller whose options are those of a streamer alone. @throws InvalidOptionError */
export function checkStreamerOptions(options: StreamerOptions): void {
  check.options('', options, STREAMER_OPTIONS);
}

/** A client or server, or a subclass of them, passes all of its options on. @throws InvalidOptionError */
export function resolveStreamerOptions(options: StreamerOptions): ResolvedStreamerOptions {
  checkSpelling(options, STREAMER_OPTIONS);
  const resolved = { ...DEFAULTS.streamer, ...definedOptions(options) };
  const { keyPrefix, messageField, timestampFormat, timeout, connectTimeout, blockTimeout, shutdownTimeout } = resolved;
  check.string('keyPrefix', keyPrefix);
  check.name('messageField', messageField);
  check.oneOf('timestampFormat', timestampFormat, ['ms', 'ns']);
  check.time('timeout', timeout, 1);
  check.time('connectTimeout', connectTimeout, 1);
  check.timeOrFalse('blockTimeout', blockTimeout, 100, 60_000);
  check.time('shutdownTimeout', shutdownTimeout, 0);
  return {
    keyPrefix,
    messageField,
    timestampFormat,
    timeout,
    connectTimeout: Math.min(connectTimeout, timeout),
    blockTimeout: blockTimeout === false ? DEFAULTS.streamer.blockTimeout : blockTimeout,
    isPolling: blockTimeout === false,
    shutdownTimeout,
    telemetry: resolveTelemetry(resolved.telemetry),
  };
}

export const PRODUCER_OPTIONS = optionNames<ProducerOptions>({
  sharder: true,
  maxLen: true,
  minAge: true,
  maxBatch: true,
  maxQueued: true,
  maxQueuedBytes: true,
  maxPayload: true,
  delivery: true,
  waitReplicas: true,
});
const WAIT_OPTIONS = optionNames<WaitReplicasOptions>({ count: true, timeout: true, fsync: true });
/** A wait is a silence of the server, which must stay below that of a dead connection. */
const LONGEST_WAIT = 5_000;

/** @param timeout of the streamer @throws InvalidOptionError */
export function resolveProducerOptions(
  options: ProducerOptions,
  timeout: number = DEFAULTS.streamer.timeout,
): ResolvedProducerOptions {
  check.options('', options, PRODUCER_OPTIONS);
  const resolved = { ...DEFAULTS.producer, ...definedOptions(options) };
  const { sharder, maxLen, minAge, maxBatch, maxQueued, maxQueuedBytes, maxPayload, delivery } = resolved;
  const ownSharder = sharder === undefined ? undefined : sharderOf(sharder);
  if (maxLen !== undefined) check.integer('maxLen', maxLen, 1);
  if (minAge !== undefined) check.integer('minAge', minAge, 1);
  if (maxLen !== undefined && minAge !== undefined) {
    throw new InvalidOptionError('minAge', 'cannot be combined with maxLen', minAge);
  }
  check.integer('maxBatch', maxBatch, 1, 10_000);
  check.integer('maxQueued', maxQueued, 1);
  check.integer('maxQueuedBytes', maxQueuedBytes, 1);
  if (maxPayload !== undefined) check.integer('maxPayload', maxPayload, 1);
  check.oneOf('delivery', delivery, ['at-least-once', 'at-most-once', 'exactly-once']);
  const waitReplicas = resolveWait(options.waitReplicas, timeout);
  return {
    sharder: ownSharder,
    maxLen,
    minAge,
    maxBatch,
    maxQueued,
    maxQueuedBytes,
    maxPayload,
    delivery,
    waitReplicas,
  };
}

/** @throws InvalidOptionError */
function resolveWait(
  wait: WaitReplicasOptions | undefined,
  timeout: number,
): Required<WaitReplicasOptions> | undefined {
  if (wait === undefined) return undefined;
  check.options('waitReplicas', wait, WAIT_OPTIONS);
  const resolved = { fsync: false, ...definedOptions(wait) };
  check.integer('waitReplicas.count', resolved.count, 1, 1_000);
  check.integer('waitReplicas.timeout', resolved.timeout, 1, Math.min(LONGEST_WAIT, Math.floor(timeout / 2)));
  check.boolean('waitReplicas.fsync', resolved.fsync);
  return resolved;
}

/** @throws InvalidOptionError */
function sharderOf(given: Sharder | (() => Sharder)): Sharder {
  const sharder = typeof given === 'function' ? callFactory(given) : given;
  if (typeof sharder?.shardOf !== 'function') {
    throw new InvalidOptionError('sharder', 'must be a Sharder, or a function that returns one', sharder);
  }
  return typeof given === 'function' ? sharder : (callFactory(() => sharder.forProducer?.()) ?? sharder);
}

/** Calls a function that makes a sharder. @throws CallbackError */
function callFactory<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new CallbackError('sharder', error);
  }
}

/** All options that a consumer of some mode has. */
type AnyConsumerOptions = Omit<LoadBalancedOptions, 'mode'> &
  Omit<ResumableOptions, 'mode'> &
  Pick<ConsumerOptions, 'mode'>;

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
const OWNED_ONLY_OPTIONS = ['leaseTime', 'onPoison'] as const;
const CLAIM_OPTIONS = [
  'autoClaimInterval',
  'autoClaimIdle',
  'maxHandlerTime',
  'leaseRenewal',
  'shardOwnership',
  ...OWNED_ONLY_OPTIONS,
] as const;

const CONSUMER_OPTIONS = optionNames<AnyConsumerOptions>({
  mode: true,
  autoStreamReset: true,
  batchSize: true,
  prefetch: true,
  shardDiscoveryInterval: true,
  shards: true,
  group: true,
  consumer: true,
  autoCommit: true,
  autoCommitDelay: true,
  autoCommitInterval: true,
  mkStream: true,
  consumerExpiry: true,
  retention: true,
  autoClaimInterval: true,
  autoClaimIdle: true,
  maxHandlerTime: true,
  leaseRenewal: true,
  shardOwnership: true,
  leaseTime: true,
  onPoison: true,
  position: true,
});

/** @throws InvalidOptionError */
export function resolveConsumerOptions(options: ConsumerOptions): ResolvedConsumerOptions {
  check.oneOf('mode', options?.mode, ['real-time', 'resumable', 'load-balanced']);
  check.options('', options, CONSUMER_OPTIONS);
  const given: Partial<AnyConsumerOptions> = definedOptions(options as AnyConsumerOptions);
  const mode = options.mode;
  if (mode === 'real-time') refuse(given, GROUP_OPTIONS, 'makes no sense in real-time mode, which has no group');
  if (mode !== 'load-balanced') refuse(given, CLAIM_OPTIONS, 'is for load-balanced mode only');
  if (mode !== 'resumable') refuse(given, ['position'], 'is for resumable mode only');

  const batchSize =
    given.batchSize ??
    (mode === 'load-balanced' ? DEFAULTS.consumer.loadBalancedBatchSize : DEFAULTS.consumer.batchSize);
  check.integer('batchSize', batchSize, 1, 100_000);
  const group = mode === 'real-time' ? undefined : (given.group ?? `${hostId()}${mode === 'resumable' ? ':r' : ':s'}`);
  if (given.shards !== undefined && given.shardDiscoveryInterval) {
    const rule = 'cannot be combined with shards, which are not looked for';
    throw new InvalidOptionError('shardDiscoveryInterval', rule, given.shardDiscoveryInterval);
  }
  const isOwned = given.shardOwnership === 'owned';
  if (given.consumer !== undefined) check.name('consumer', given.consumer);
  const resolved = {
    ...DEFAULTS.consumer,
    prefetch: 2 * batchSize,
    ...given,
    ...(given.shards !== undefined && { shardDiscoveryInterval: false as const }),
    shards: given.shards === undefined ? undefined : resolveShards(given.shards),
    mode,
    batchSize,
    isPrefetchAdaptive: mode === 'load-balanced' && given.batchSize === undefined && given.prefetch === undefined,
    group,
    retention: retentionOf(given.retention),
    isNameGenerated: mode === 'load-balanced' && (given.consumer === undefined || isOwned),
    consumer: consumerNameOf(given, mode === 'resumable' ? group : undefined),
  };
  checkConsumerValues(resolved);
  if (!isOwned) refuse(given, OWNED_ONLY_OPTIONS, "is for shardOwnership 'owned' only");
  if (isOwned && resolved.autoCommit === 'immediate') {
    const rule = "cannot be combined with shardOwnership 'owned', which hands over what is not acknowledged";
    throw new InvalidOptionError('autoCommit', rule, resolved.autoCommit);
  }
  if (given.autoCommitDelay !== undefined && resolved.autoCommit !== 'delayed') {
    throw new InvalidOptionError('autoCommitDelay', "is for autoCommit 'delayed' only", given.autoCommitDelay);
  }
  return resolved;
}

/** @param group of a resumable consumer, which has the name of its group */
function consumerNameOf({ consumer, shardOwnership }: Partial<AnyConsumerOptions>, group: string | undefined): string {
  // A lease identifies its owner by name, so the name must never be used again.
  if (shardOwnership === 'owned') return uniqueConsumerName(consumer ?? hostId());
  return consumer ?? group ?? uniqueConsumerName(hostId());
}

/** @throws InvalidOptionError */
function checkConsumerValues(resolved: ResolvedConsumerOptions): void {
  check.oneOf('autoStreamReset', resolved.autoStreamReset, ['earliest', 'latest']);
  check.integer('prefetch', resolved.prefetch, 1, 1_000_000);
  check.timeOrFalse('shardDiscoveryInterval', resolved.shardDiscoveryInterval, 10);
  if (resolved.group !== undefined) check.name('group', resolved.group);
  check.oneOf('autoCommit', resolved.autoCommit, ['immediate', 'delayed', 'rolling', 'disabled']);
  check.time('autoCommitDelay', resolved.autoCommitDelay, 0);
  check.time('autoCommitInterval', resolved.autoCommitInterval, 0);
  check.boolean('mkStream', resolved.mkStream);
  check.oneOf('position', resolved.position, ['group', 'consumer']);
  check.timeOrFalse('autoClaimInterval', resolved.autoClaimInterval, 10);
  if (resolved.consumerExpiry !== false) check.integer('consumerExpiry', resolved.consumerExpiry, 1_000);
  check.time('autoClaimIdle', resolved.autoClaimIdle, 100);
  check.time('maxHandlerTime', resolved.maxHandlerTime, 1);
  checkLeaseRenewal(resolved);
  check.oneOf('shardOwnership', resolved.shardOwnership, ['shared', 'owned']);
  check.time('leaseTime', resolved.leaseTime, 500);
  check.oneOf('onPoison', resolved.onPoison, ['dead-letter', 'halt']);
}

/** @throws InvalidOptionError */
function checkLeaseRenewal({
  leaseRenewal,
  autoCommit,
}: Pick<ResolvedConsumerOptions, 'leaseRenewal' | 'autoCommit'>): void {
  check.oneOf('leaseRenewal', leaseRenewal, ['loop', 'thread']);
  if (leaseRenewal === 'loop') return;
  if (autoCommit === 'immediate') {
    throw new InvalidOptionError(
      'leaseRenewal',
      "must be 'loop' with autoCommit 'immediate', where nothing is pending",
      leaseRenewal,
    );
  }
  if (process.permission?.has('worker') === false) {
    throw new InvalidOptionError(
      'leaseRenewal',
      'needs threads, which this process may not start: run node with --allow-worker',
      leaseRenewal,
    );
  }
}

/** @throws InvalidOptionError */
export function resolveShards(shards: number | readonly number[]): readonly number[] {
  if (!Array.isArray(shards)) {
    check.integer('shards', shards as number, 1, MAX_SHARDS);
    return Array.from({ length: shards as number }, (_, shardId) => shardId);
  }
  const isList = shards.length > 0 && shards.length <= MAX_SHARDS && new Set(shards).size === shards.length;
  if (!isList) {
    throw new InvalidOptionError('shards', `must be 1 to ${MAX_SHARDS} different numbers of shards`, shards);
  }
  for (const shardId of shards as readonly number[]) check.integer('shards', shardId, 0);
  return [...shards];
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

function refuse<T extends object>(given: T, names: ReadonlyArray<keyof T & string>, rule: string): void {
  for (const name of names) {
    if (given[name] !== undefined) throw new InvalidOptionError(name, rule, given[name]);
  }
}

/** `HOST_ID`, otherwise the id of the container that this process runs in, otherwise the host's name. */
export function hostId(): string {
  return process.env['HOST_ID'] || containerId() || hostname();
}

function containerId(): string | undefined {
  try {
    return /(?:docker|containers|kubepods|libpod)[^\n]*?([0-9a-f]{64})/.exec(
      readFileSync('/proc/self/cgroup', 'utf8'),
    )?.[1];
  } catch {
    return undefined;
  }
}

/** A name that no other consumer ever has. */
function uniqueConsumerName(prefix: string): string {
  return `${prefix}:${process.pid}:${Date.now().toString(36)}${randomBytes(4).toString('hex')}`;
}
