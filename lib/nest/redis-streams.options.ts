import type { Deserializer, Serializer } from '@nestjs/microservices';

import { check } from '../engine/option-checks.js';
import { resolveConsumerOptions } from '../engine/options.js';
import type {
  AutoCommit,
  AutoStreamReset,
  ConsumerMode,
  ConsumerOptions,
  ProducerOptions,
  ResolvedConsumerOptions,
} from '../engine/options.js';
import { InvalidOptionError } from '../errors.js';
import type { RedisStreamsLogger } from '../logger.js';
import type { RedisStreamsConnection } from '../redis/connection-options.js';

/** Options that server, client and module share. All times are milliseconds. */
export interface RedisStreamsCommonOptions {
  /** Where Redis is. Default: the environment variable `REDIS_URL`, else `redis://127.0.0.1:6379`. */
  connection?: RedisStreamsConnection;
  /** Put before every stream key. Default none. */
  keyPrefix?: string;
  /** Entry field that holds the payload. Default `msg`. */
  messageField?: string;
  /** Bounds the first connection, and how long a send is repeated through an outage. Default 60,000. */
  timeout?: number;
  /** Longest wait of one blocking read. Default 10,000. */
  blockTimeout?: number;
  /** Given the data alone; a string or Uint8Array is stored as it is, anything else as JSON. Default: JSON. */
  serializer?: Serializer;
  /** Given the payload as a Buffer; returns the data. Default: JSON. */
  deserializer?: Deserializer;
  /** Default: Nest's logger. */
  logger?: RedisStreamsLogger;
}

/** Options of {@link ClientRedisStreams}. */
export interface ClientRedisStreamsOptions extends RedisStreamsCommonOptions, ProducerOptions {}

/** How messages are acknowledged: after the handler succeeded, or by `context.ack()` only. */
export type AckMode = 'auto' | 'manual';

/** Options of {@link ServerRedisStreams}. */
export interface ServerRedisStreamsOptions extends RedisStreamsCommonOptions {
  /** The consumer group. Required unless `mode` is `real-time`. */
  group?: string;
  /** This consumer's name in the group. Default: one that never repeats; in resumable mode the group's name. */
  consumer?: string;
  /** Default `load-balanced`: the instances of a group share the messages. */
  mode?: ConsumerMode;
  /** Where a new group begins. Default `earliest` with a group, so that nothing sent before the first start is lost; else `latest`. */
  autoStreamReset?: AutoStreamReset;
  /** Default `auto`: acknowledged when the handler, and the Observable that it returned, completed without error. */
  ack?: AckMode;
  /** Messages in handlers at once. Default 16. */
  concurrency?: number;
  /** When acknowledgements are sent. Default `rolling`. */
  autoCommit?: AutoCommit;
  autoCommitInterval?: number;
  autoCommitDelay?: number;
  autoClaimInterval?: number | false;
  autoClaimIdle?: number;
  batchSize?: number;
  prefetch?: number;
  /** Reads `key:0`, `key:1`, … as shards of the stream `key`. Default false. */
  shards?: boolean;
  /** How long `close()` waits for handlers that are running. Default 10,000. */
  shutdownTimeout?: number;
}

/** Second argument of `@EventPattern`: settings of one handler. */
export interface HandlerExtras {
  ack?: AckMode;
  concurrency?: number;
  mode?: ConsumerMode;
}

/** The only defaults of the Nest layer; the engine has its own. */
export const SERVER_DEFAULTS = Object.freeze({
  mode: 'load-balanced',
  ack: 'auto',
  concurrency: 16,
  autoCommit: 'rolling',
  shutdownTimeout: 10_000,
} as const) satisfies ServerRedisStreamsOptions;

export interface ResolvedServerOptions {
  readonly ack: AckMode;
  readonly concurrency: number;
  readonly shutdownTimeout: number;
}

/** Names of the options that the engine's consumer takes as they are. */
const CONSUMER_OPTIONS = ['consumer', 'autoCommitInterval', 'autoCommitDelay', 'batchSize', 'prefetch'] as const;
const CLAIM_OPTIONS = ['autoClaimInterval', 'autoClaimIdle'] as const;

/** @throws InvalidOptionError */
export function resolveServerOptions(options: ServerRedisStreamsOptions): ResolvedServerOptions {
  const { ack, concurrency, shutdownTimeout } = { ...SERVER_DEFAULTS, ...defined(options) };
  check.oneOf('ack', ack, ['auto', 'manual']);
  check.integer('concurrency', concurrency, 1, 100_000);
  check.integer('shutdownTimeout', shutdownTimeout, 0);
  if (options.shards !== undefined) check.boolean('shards', options.shards);
  if ((options.mode ?? SERVER_DEFAULTS.mode) !== 'real-time' && !options.group) {
    throw new InvalidOptionError('group', "must be given unless mode is 'real-time'", options.group);
  }
  resolveConsumerOptions(consumerOptions(options, options.mode ?? SERVER_DEFAULTS.mode));
  return { ack, concurrency, shutdownTimeout };
}

/** The engine's options for the handlers of one mode. A real-time handler beside others shares what makes sense for it. */
export function consumerOptions(options: ServerRedisStreamsOptions, mode: ConsumerMode): ConsumerOptions {
  const common = {
    ...pick(options, ['batchSize', 'prefetch']),
    shardDiscoveryInterval: options.shards ? undefined : false,
  } as const;
  if (mode === 'real-time') {
    const own = options.mode === 'real-time' ? pick(options, ['autoStreamReset']) : {};
    return { ...common, autoStreamReset: 'latest', ...own, mode };
  }
  return {
    ...common,
    autoStreamReset: options.autoStreamReset ?? 'earliest',
    autoCommit: options.autoCommit ?? SERVER_DEFAULTS.autoCommit,
    ...pick(options, CONSUMER_OPTIONS),
    ...(mode === 'load-balanced' ? pick(options, CLAIM_OPTIONS) : {}),
    group: options.group as string,
    mkStream: true,
    mode,
  } as ConsumerOptions;
}

/** @throws InvalidOptionError */
export function resolveHandlerExtras(extras: HandlerExtras | undefined, pattern: string): HandlerExtras {
  const given = defined(extras ?? {});
  const at = (option: string): string => `@EventPattern('${pattern}').${option}`;
  if (given.ack !== undefined) check.oneOf(at('ack'), given.ack, ['auto', 'manual']);
  if (given.concurrency !== undefined) check.integer(at('concurrency'), given.concurrency, 1, 100_000);
  if (given.mode !== undefined) check.oneOf(at('mode'), given.mode, ['real-time', 'resumable', 'load-balanced']);
  return given;
}

export type { ResolvedConsumerOptions };

export function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}

function pick<T extends object, K extends keyof T>(options: T, names: readonly K[]): Pick<T, K> {
  return defined(Object.fromEntries(names.map((name) => [name, options[name]]))) as Pick<T, K>;
}
