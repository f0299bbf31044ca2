import type { Deserializer, Serializer } from '@nestjs/microservices';

import { resolveDeadLetter } from '../engine/settling/dead-letter.js';
import type { DeadLetterOptions } from '../engine/settling/dead-letter.js';
import { check, definedOptions, optionNames, pickOptions } from '../shared/option-checks.js';
import { DEFAULTS } from '../engine/options/options.js';
import { PRODUCER_OPTIONS, resolveConsumerOptions } from '../engine/options/resolve-options.js';
import type { ConsumerMode } from '../engine/options/consumer-mode.js';
import type {
  AutoCommit,
  AutoStreamReset,
  ClaimingOptions,
  OwnershipOptions,
  ConsumerOptions,
  ProducerOptions,
} from '../engine/options/options.js';
import type { RetentionOptions } from '../engine/admin/retention.js';
import { resolveRetry } from '../engine/settling/retry-policy.js';
import type { Telemetry } from '../engine/telemetry/telemetry.js';
import type { RetryOptions } from '../engine/settling/retry-policy.js';
import { InvalidOptionError } from '../errors.js';
import type { RedisStreamsLogger } from '../shared/logger.js';
import type { TimestampFormat } from '../redis/commands/entry-id.js';
import type { RedisStreamsConnection } from '../redis/connection/connection-target.js';
import type { FailurePolicy } from './server/failure-policy.js';
import type { DeadLetterEvent } from './redis-streams.events.js';

/** Options that server, client and module share. All times are milliseconds. */
export interface RedisStreamsCommonOptions {
  /**
   * How to reach Redis.
   * @defaultValue the environment variable `REDIS_URL`, else `redis://127.0.0.1:6379`
   */
  connection?: RedisStreamsConnection | undefined;
  /**
   * Put before every stream key.
   * @defaultValue none
   */
  keyPrefix?: string;
  /**
   * Streams of patterns that have another name in Redis: `{ orders: 'prod.orders.v2' }`. Handlers and senders name the pattern.
   * @defaultValue the pattern is the key of its stream
   */
  streams?: Readonly<Record<string, string>>;
  /**
   * Entry field that holds the payload.
   * @defaultValue `msg`
   */
  messageField?: string;
  /**
   * What the times in ids are counted in, see the option of the streamer.
   * @defaultValue `ms`
   */
  timestampFormat?: TimestampFormat;
  /**
   * Longest wait for the first connection, and longest time for which a send is repeated during an outage.
   * @defaultValue `60_000`
   */
  timeout?: number;
  /**
   * Longest time for which a message or request waits while Redis has never been reached; then it fails with ERR_CONNECT_TIMEOUT. At most
   * `timeout`. Not the option of ioredis of that name.
   * @defaultValue `10_000`
   */
  connectTimeout?: number;
  /**
   * Longest wait of one blocking read, or false: reads never block, see {@link StreamerOptions}.
   * @defaultValue `10_000`
   */
  blockTimeout?: number | false;
  /**
   * Longest time for which `close()` waits: in a server for running handlers, in a client for events to be confirmed. In an outage, an
   * event that is not confirmed by then fails with ERR_CLOSED, or ERR_SEND_UNCERTAIN where Redis may have it.
   * @defaultValue `10_000`
   */
  shutdownTimeout?: number;
  /**
   * Called with the data alone; a string or Uint8Array is stored as it is, any other result as JSON.
   * @defaultValue JSON
   */
  serializer?: Serializer;
  /**
   * Called with the payload as a Buffer; returns the data.
   * @defaultValue JSON
   */
  deserializer?: Deserializer;
  /**
   * First part of the names of reply streams; servers answer only to streams with this prefix.
   * @defaultValue `reply:`
   */
  replyPrefix?: string;
  /**
   * Gets what happens in the background; false: nothing is logged.
   * @defaultValue Nest's logger
   */
  logger?: RedisStreamsLogger | false;
  /**
   * Traces and metrics: `openTelemetry()`, `prometheus()`, a {@link Telemetry} of your own, or several.
   * @defaultValue none
   */
  telemetry?: Telemetry | readonly Telemetry[];
}

/** Options of {@link ClientRedisStreams}. */
export interface ClientRedisStreamsOptions extends RedisStreamsCommonOptions, ProducerOptions {
  /**
   * Longest time without a reply after which `send()` fails.
   * @defaultValue `60_000`
   */
  requestTimeout?: number;
}

/** When messages are acknowledged: after the handler succeeded, or only by `context.ack()`. */
export type AckMode = 'auto' | 'manual';

/** Options of {@link ServerRedisStreams}. */
export interface ServerRedisStreamsOptions extends RedisStreamsCommonOptions, ClaimingOptions, OwnershipOptions {
  /**
   * The consumer group. Required unless `mode` is `real-time`.
   * @defaultValue none
   */
  group?: string;
  /**
   * This consumer's name in the group, unique among live processes; two that have the same one report ERR_CONSUMER_NAME_IN_USE.
   * @defaultValue a name that never repeats; in resumable mode the group's name
   */
  consumer?: string;
  /**
   * How handlers read their streams.
   * @defaultValue `load-balanced`: the instances of a group share the messages
   */
  mode?: ConsumerMode;
  /**
   * Start position of a new group.
   * @defaultValue `earliest` with a group, so that no message sent before the first start is lost; else `latest`
   */
  autoStreamReset?: AutoStreamReset;
  /**
   * When messages are acknowledged.
   * @defaultValue `auto`: acknowledged when the handler, and the Observable that it returned, completed without error
   */
  ack?: AckMode;
  /**
   * Messages in handlers at once.
   * @defaultValue `16`
   */
  concurrency?: number;
  /**
   * Most bytes of an entry that is decoded: its payload, or all of its fields where it has no payload, and headers over 16
   * KiB. A larger event becomes a dead letter at once, a larger request is answered with an error. At least 1. In the options of a
   * module it is also the limit of what the client sends.
   * @defaultValue no limit
   */
  maxPayload?: number;
  /**
   * When acknowledgements are sent.
   * @defaultValue `rolling`
   */
  autoCommit?: AutoCommit;
  /** Milliseconds during which acknowledgements are collected into one command. @defaultValue 1000 */
  autoCommitInterval?: number;
  /** With `autoCommit: 'delayed'`: milliseconds between the success of the handler and the acknowledgement. @defaultValue 5000 */
  autoCommitDelay?: number;
  /**
   * Maximum number of entries in one read.
   * @defaultValue half of `prefetch`
   */
  batchSize?: number;
  /**
   * Messages read ahead and not yet in a handler.
   * @defaultValue as many as the handlers process in 50 ms, at least 20 (200 in real-time mode), at most 1,000 or 8 MiB; with `batchSize`
   * given, twice `batchSize`
   */
  prefetch?: number;
  /**
   * Idle time after which a consumer with no pending entries is removed from the group, or false.
   * @defaultValue `3_600_000`
   */
  consumerExpiry?: number | false;
  /**
   * Deletes from its streams the entries that every group has acknowledged, and no others; true: with defaults.
   * @defaultValue `false`
   */
  retention?: RetentionOptions | boolean;
  /**
   * Reads `key:0`, `key:1`, … as shards of `key`: true finds them, a number or list names them.
   * @defaultValue `false`
   */
  shards?: boolean | number | readonly number[];
  /**
   * Patterns may be wildcards, in the words of NATS: `orders.*` are all streams of one more word, `orders.>` those of one or more.
   * Streams that exist at the start are read as `autoStreamReset` says, those that appear later from their beginning, as soon as a look
   * has found them: every `interval` milliseconds (from 100, default 1,000) the server goes through up to 10,000 keys of each. Redis must
   * permit SCAN.
   * @defaultValue `false`: a pattern with `*` or `>` is refused
   */
  wildcards?: boolean | WildcardOptions;
  /**
   * How often, and after which delays, a message whose handler failed is handled again; false: never.
   * @defaultValue the defaults of {@link RetryOptions}
   */
  retry?: RetryOptions | false;
  /**
   * Stream of messages that failed at every attempt; with false they are retried without end, never dropped.
   * @defaultValue the defaults of {@link DeadLetterOptions}
   */
  deadLetter?: DeadLetterOptions | false;
  /**
   * Called with each dead letter after it was stored. An error that it throws is logged.
   * @defaultValue none
   */
  onDeadLetter?: (deadLetter: DeadLetterEvent) => void | Promise<void>;
}

/** How streams are found that a wildcard matches. */
export interface WildcardOptions {
  /**
   * Milliseconds between two looks, at least 100.
   * @defaultValue `1_000`
   */
  interval?: number;
}

/** The only defaults of the Nest layer; the engine has its own, and checks the options that it shares. */
export const SERVER_DEFAULTS = Object.freeze({
  mode: 'load-balanced',
  ack: 'auto',
  concurrency: 16,
  autoCommit: 'rolling',
  shutdownTimeout: DEFAULTS.streamer.shutdownTimeout,
  replyPrefix: 'reply:',
} as const) satisfies ServerRedisStreamsOptions;

const CLIENT_DEFAULTS = Object.freeze({ requestTimeout: 60_000, replyPrefix: 'reply:' } as const);

const WILDCARD_DEFAULTS = Object.freeze({ interval: 1_000 });

/** Keys of streams by pattern, where they differ. */
export type StreamNames = ReadonlyMap<string, string>;

export interface ResolvedServerOptions {
  readonly group: string | undefined;
  readonly streams: StreamNames;
  readonly shards: boolean;
  /** Undefined when patterns must not be wildcards. */
  readonly wildcards: Required<WildcardOptions> | undefined;
  readonly ack: AckMode;
  readonly concurrency: number;
  /** Infinity without a limit. */
  readonly maxPayload: number;
  readonly shutdownTimeout: number;
  readonly replyPrefix: string;
  readonly failurePolicy: FailurePolicy;
}

export interface ResolvedClientOptions {
  readonly requestTimeout: number;
  readonly replyPrefix: string;
  readonly streams: StreamNames;
}

export const TRANSPORT_OPTIONS = optionNames<ClientRedisStreamsOptions & ServerRedisStreamsOptions>({
  // Of both.
  connection: true,
  keyPrefix: true,
  streams: true,
  messageField: true,
  timestampFormat: true,
  timeout: true,
  connectTimeout: true,
  blockTimeout: true,
  shutdownTimeout: true,
  serializer: true,
  deserializer: true,
  replyPrefix: true,
  maxPayload: true,
  logger: true,
  telemetry: true,
  // Of the client.
  sharder: true,
  maxLen: true,
  minAge: true,
  maxBatch: true,
  maxQueued: true,
  maxQueuedBytes: true,
  delivery: true,
  waitReplicas: true,
  requestTimeout: true,
  // Of the server.
  group: true,
  consumer: true,
  mode: true,
  autoStreamReset: true,
  ack: true,
  concurrency: true,
  autoCommit: true,
  autoCommitInterval: true,
  autoCommitDelay: true,
  autoClaimInterval: true,
  autoClaimIdle: true,
  maxHandlerTime: true,
  leaseRenewal: true,
  shardOwnership: true,
  leaseTime: true,
  onPoison: true,
  batchSize: true,
  prefetch: true,
  consumerExpiry: true,
  retention: true,
  shards: true,
  wildcards: true,
  retry: true,
  deadLetter: true,
  onDeadLetter: true,
});

/** Names that Nest's Redis transport and ioredis have at this place. */
const CONNECTION_NAMES = ['host', 'port', 'url', 'username', 'password', 'db', 'tls', 'path', 'sentinels', 'cluster'];

const WILDCARD_OPTIONS = optionNames<WildcardOptions>({ interval: true });

/** Options that are passed to the engine's consumer unchanged. */
const CONSUMER_OPTIONS = [
  'consumer',
  'autoCommitInterval',
  'autoCommitDelay',
  'batchSize',
  'prefetch',
  'consumerExpiry',
  'retention',
] as const;
const OWNERSHIP_OPTIONS = ['shardOwnership', 'leaseTime', 'onPoison'] as const;
const CLAIM_OPTIONS = [
  'autoClaimInterval',
  'autoClaimIdle',
  'maxHandlerTime',
  'leaseRenewal',
  ...OWNERSHIP_OPTIONS,
] as const;

/** What the engine's producer takes of the options of a client. */
export function producerOptions(options: ClientRedisStreamsOptions): ProducerOptions {
  return pickOptions<ProducerOptions>(options, PRODUCER_OPTIONS);
}

/**
 * One object may have the options of a client and of a server.
 * @param others names that its owner has taken out of it
 * @throws InvalidOptionError for a name that is none of them
 */
export function checkOptionNames(options: object, others: Iterable<string> = []): void {
  for (const name of CONNECTION_NAMES) {
    if ((options as Record<string, unknown> | undefined)?.[name] === undefined) continue;
    const advice = name === 'url' ? "write connection: 'redis://host:6379'" : `write connection: { ${name}: … }`;
    throw InvalidOptionError.withoutValue(name, `is an option of connection: ${advice}`);
  }
  const names = new Set([...TRANSPORT_OPTIONS, ...others]);
  check.options('', options, names);
}

/** @throws InvalidOptionError */
export function resolveServerOptions(options: ServerRedisStreamsOptions): ResolvedServerOptions {
  checkOptionNames(options);
  const given = { ...SERVER_DEFAULTS, ...definedOptions(options) };
  const { ack, concurrency, shutdownTimeout, replyPrefix, mode, maxPayload = Infinity } = given;
  check.oneOf('ack', ack, ['auto', 'manual']);
  check.integer('concurrency', concurrency, 1, 100_000);
  check.name('replyPrefix', replyPrefix);
  if (options.maxPayload !== undefined) check.integer('maxPayload', maxPayload, 1);
  if (options.onDeadLetter !== undefined) check.function('onDeadLetter', options.onDeadLetter);
  if (mode === 'real-time') refuseGroup(options);
  if (mode !== 'load-balanced') refuseOwnership(options);
  if (mode !== 'real-time' && !options.group) {
    throw new InvalidOptionError('group', "must be given unless mode is 'real-time'", options.group);
  }
  resolveConsumerOptions(consumerOptions(options, mode));
  const failurePolicy = { retry: resolveRetry(options.retry), deadLetter: resolveDeadLetter(options.deadLetter) };
  const { group, shards = false } = options;
  const streams = resolveStreams(options.streams);
  const wildcards = resolveWildcards(options.wildcards);
  if (wildcards && typeof shards !== 'boolean') {
    throw new InvalidOptionError(
      'shards',
      'must be true or false with wildcards, which find streams by their shards',
      shards,
    );
  }
  return {
    group,
    shards: shards !== false,
    wildcards,
    streams,
    ack,
    concurrency,
    maxPayload,
    shutdownTimeout,
    replyPrefix,
    failurePolicy,
  };
}

/** @throws InvalidOptionError */
function resolveWildcards(wildcards: boolean | WildcardOptions = false): Required<WildcardOptions> | undefined {
  if (wildcards === false) return undefined;
  if (wildcards === true) return WILDCARD_DEFAULTS;
  if (typeof wildcards !== 'object' || wildcards === null) {
    throw new InvalidOptionError('wildcards', 'must be true, false or an object such as { interval: 1000 }', wildcards);
  }
  check.options('wildcards', wildcards, WILDCARD_OPTIONS);
  const resolved = { ...WILDCARD_DEFAULTS, ...definedOptions(wildcards) };
  check.time('wildcards.interval', resolved.interval, 100);
  return resolved;
}

/** @throws InvalidOptionError */
function refuseOwnership(options: ServerRedisStreamsOptions): void {
  for (const name of OWNERSHIP_OPTIONS) {
    if (options[name] !== undefined)
      throw new InvalidOptionError(name, 'is for load-balanced mode only', options[name]);
  }
}

/** Each of them asks for something that only a group has. */
function refuseGroup(options: ServerRedisStreamsOptions): void {
  for (const name of ['group', 'consumer', 'retention', 'maxHandlerTime', 'leaseRenewal'] as const) {
    const value = options[name];
    if (value === undefined || value === false) continue;
    const rule =
      "cannot be combined with mode 'real-time', which has no group; set that mode on single handlers instead";
    throw new InvalidOptionError(name, rule, value);
  }
}

/** @throws InvalidOptionError */
export function resolveClientOptions(options: ClientRedisStreamsOptions): ResolvedClientOptions {
  checkOptionNames(options);
  const { requestTimeout, replyPrefix } = { ...CLIENT_DEFAULTS, ...definedOptions(options) };
  check.time('requestTimeout', requestTimeout, 1);
  check.name('replyPrefix', replyPrefix);
  return { requestTimeout, replyPrefix, streams: resolveStreams(options.streams) };
}

/** @throws InvalidOptionError */
function resolveStreams(streams: unknown): StreamNames {
  if (streams === undefined) return new Map();
  if (typeof streams !== 'object' || streams === null || Array.isArray(streams)) {
    throw new InvalidOptionError('streams', "must be an object, such as { orders: 'prod.orders.v2' }", streams);
  }
  const names = Object.entries(streams as Record<string, unknown>);
  for (const [pattern, streamKey] of names) check.name(`streams['${pattern}']`, streamKey);
  return new Map(names as Array<[string, string]>);
}

/** The engine's options for the handlers of one mode. A real-time handler gets none of the options for groups. */
export function consumerOptions(options: ServerRedisStreamsOptions, mode: ConsumerMode): ConsumerOptions {
  const common = { ...pick(options, ['batchSize', 'prefetch']), ...shardOptions(options.shards) };
  if (mode === 'real-time') {
    const own = options.mode === 'real-time' ? pick(options, ['autoStreamReset']) : {};
    return { ...common, autoStreamReset: 'latest', ...own, mode };
  }
  const isSizeOpen = options.batchSize === undefined && options.prefetch === undefined;
  return {
    ...common,
    // Every message that a process held when it crashed is handled alone by its successor, so it must hold few.
    ...(isSizeOpen ? { batchSize: DEFAULTS.consumer.loadBalancedBatchSize } : {}),
    autoStreamReset: options.autoStreamReset ?? 'earliest',
    autoCommit: options.autoCommit ?? SERVER_DEFAULTS.autoCommit,
    ...pick(options, CONSUMER_OPTIONS),
    ...(mode === 'load-balanced' ? pick(options, CLAIM_OPTIONS) : {}),
    group: options.group as string,
    mkStream: true,
    mode,
  } as ConsumerOptions;
}

function shardOptions(shards: ServerRedisStreamsOptions['shards'] = false): Partial<ConsumerOptions> {
  if (typeof shards !== 'boolean') return { shards };
  return shards ? {} : { shardDiscoveryInterval: false };
}

function pick<T extends object, K extends keyof T>(options: T, names: readonly K[]): Pick<T, K> {
  return definedOptions(Object.fromEntries(names.map((name) => [name, options[name]]))) as Pick<T, K>;
}
