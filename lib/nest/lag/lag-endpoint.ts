import {
  BadRequestException,
  Controller,
  Get,
  Header,
  Inject,
  Query,
  ServiceUnavailableException,
  UseGuards,
  VERSION_NEUTRAL,
} from '@nestjs/common';
import type { CanActivate, ModuleMetadata, Type } from '@nestjs/common';

import type { StreamDetails } from '../../engine/admin/stream-details.js';
import type { StreamManager } from '../../engine/admin/stream-manager.js';
import { shardKey } from '../../engine/messages/stream-message.js';
import { resolveShards } from '../../engine/options/resolve-options.js';
import { DEAD_LETTER_SUFFIX } from '../../engine/settling/dead-letter.js';
import { RedisStreamer } from '../../engine/streamer.js';
import { InvalidOptionError, RedisStreamsError } from '../../errors.js';
import { SIDE_KEY_PREFIX } from '../../redis/commands/side-key.js';
import { pause } from '../../shared/backoff.js';
import { check, optionNames } from '../../shared/option-checks.js';
import { largestOf, sumOf } from '../../shared/sums.js';
import { SERVER_DEFAULTS } from '../redis-streams.options.js';
import type { ServerRedisStreamsOptions } from '../redis-streams.options.js';
import { getRedisStreamsToken, optionsToken } from '../redis-streams.tokens.js';
import { streamOfPattern } from '../stream-pattern.js';
import { isObjectRoute, wildcardOf } from '../wildcard.js';
import type { Wildcard } from '../wildcard.js';

/** `GET lag` of `RedisStreamsModule`: how far a group is behind, for autoscalers. */
export interface LagEndpointOptions {
  /**
   * Guards as `@UseGuards()` takes them, beside the global guards of the application. Without a default: `[]` admits every caller
   * that reaches the port. A guard that injects providers needs their module in {@link imports}.
   */
  guards: ReadonlyArray<Type<CanActivate> | CanActivate>;
  /**
   * Modules of the providers that the guards inject.
   * @defaultValue none
   */
  imports?: NonNullable<ModuleMetadata['imports']>;
  /**
   * Path, below the global prefix of the application.
   * @defaultValue `lag`, of a named module `lag/<name>`
   */
  path?: string;
  /**
   * How long to wait for Redis, in milliseconds; then it answers 503. At least 1.
   * @defaultValue `2_000`
   */
  timeout?: number;
}

/** The answer of `GET lag`. */
export interface LagAnswer {
  /** `lag` and `pending` together: messages that are not handled yet. */
  readonly backlog: number;
  /**
   * Entries that were not delivered to the group yet; all entries, where the group does not exist yet. At least that many, where
   * {@link isLagExact} is false.
   */
  readonly lag: number;
  /** False where entries wait and the server does not know how many: before Redis 7.0, and after entries were deleted. */
  readonly isLagExact: boolean;
  /** Age in seconds of the oldest of them, by the clock of Redis; 0 when there is none. Left out where it is not known. */
  readonly lagSeconds?: number;
  /** Entries that were delivered and are not acknowledged. */
  readonly pending: number;
  /** Entries in the streams. */
  readonly entries: number;
  /** Name of the consumer group. */
  readonly group: string;
  /** The streams that were asked for, as far as they exist. */
  readonly streams: readonly string[];
}

const OPTIONS = optionNames<LagEndpointOptions>({ guards: true, imports: true, path: true, timeout: true });
/** Below the limit of KEDA, which is 3 s. */
const DEFAULT_TIMEOUT = 2_000;

type ModuleOptions = Pick<
  ServerRedisStreamsOptions,
  'group' | 'streams' | 'shards' | 'wildcards' | 'replyPrefix' | 'deadLetter'
>;

/** The controller of one module. @throws InvalidOptionError */
export function lagController(name: string | undefined, endpoint: LagEndpointOptions): Type {
  check.options('lagEndpoint', endpoint, OPTIONS);
  const { guards, path = name === undefined ? 'lag' : `lag/${name}`, timeout = DEFAULT_TIMEOUT } = endpoint;
  if (!Array.isArray(guards)) {
    throw new InvalidOptionError('lagEndpoint.guards', 'must be a list of guards; [] admits every caller', guards);
  }
  check.string('lagEndpoint.path', path);
  check.time('lagEndpoint.timeout', timeout, 1);

  @Controller({ path, version: VERSION_NEUTRAL })
  @UseGuards(...(guards as LagEndpointOptions['guards']))
  class RedisStreamsLagController {
    readonly #options: ModuleOptions;
    readonly #streamer: RedisStreamer;

    constructor(
      @Inject(optionsToken(name)) options: ModuleOptions,
      @Inject(getRedisStreamsToken(name, RedisStreamer)) streamer: RedisStreamer,
    ) {
      this.#options = options;
      this.#streamer = streamer;
    }

    @Get()
    @Header('cache-control', 'no-store')
    async lag(@Query() query: unknown): Promise<LagAnswer> {
      const question = questionOf(query, this.#options);
      const limit = new AbortController();
      const late = pause(timeout, limit.signal).then(() => {
        throw unavailable(`Redis did not answer within ${timeout} ms`);
      });
      late.catch(() => undefined);
      try {
        return await Promise.race([answer(question, this.#streamer, limit.signal), late]);
      } catch (error) {
        if (error instanceof RedisStreamsError) throw unavailable(error.message, error.code);
        throw error;
      } finally {
        limit.abort();
      }
    }
  }
  return RedisStreamsLagController;
}

interface Question {
  readonly group: string;
  readonly stream: string;
  /** Keys of the shards that are given, and so not looked for. */
  readonly shards: readonly string[];
  /** Several streams: `stream` is what was asked for. */
  readonly wildcard: Wildcard | undefined;
  /** Whether a stream is one that this package writes itself: wildcards do not match it. */
  readonly isOwn: (streamKey: string) => boolean;
}

/** @throws BadRequestException that names the missing parameter */
function questionOf(query: unknown, options: ModuleOptions): Question {
  const { stream, pattern, group = options.group } = query as Record<string, unknown>;
  if (typeof group !== 'string' || group === '') throw new BadRequestException("'group' must be given once");
  const isOne = (value: unknown): value is string => typeof value === 'string' && value !== '';
  if (isOne(stream) === isOne(pattern)) {
    throw new BadRequestException("Either 'stream', a key, or 'pattern', that of a handler, must be given once");
  }
  const { replyPrefix = SERVER_DEFAULTS.replyPrefix, shards = false } = options;
  const shardsOf = (key: string): string[] =>
    typeof shards === 'boolean' ? [] : resolveShards(shards).map((shardId) => shardKey(key, shardId, true));
  const deadLetterStream = options.deadLetter ? options.deadLetter.stream : undefined;
  const isOwn = (key: string): boolean =>
    key.endsWith(DEAD_LETTER_SUFFIX) ||
    key === deadLetterStream ||
    key.startsWith(replyPrefix) ||
    key.startsWith(SIDE_KEY_PREFIX);
  if (isOne(stream)) return { group, stream, shards: shardsOf(stream), wildcard: undefined, isOwn };
  try {
    const use = options.wildcards ? 'on' : 'off';
    const text = pattern as string;
    const route = isObjectRoute(text) ? text : streamOfPattern(text, use, (same: string) => same);
    const { streams = {} } = options;
    const key = (Object.hasOwn(streams, route) && streams[route]) || route;
    const wildcard = options.wildcards ? wildcardOf(route, key) : undefined;
    return { group, stream: key, shards: wildcard ? [] : shardsOf(key), wildcard, isOwn };
  } catch (error) {
    if (error instanceof InvalidOptionError) throw new BadRequestException(error.message);
    throw error;
  }
}

/** @throws RedisStreamsError */
async function answer(question: Question, streamer: RedisStreamer, signal: AbortSignal): Promise<LagAnswer> {
  const manager = await streamer.createManager();
  const { group, wildcard, stream } = question;
  const given = new Set(question.shards);
  const keys = wildcard ? await keysOf(question, wildcard, manager, signal) : [stream, ...given];
  const details = await Promise.all(keys.map((key) => manager.info(key)));
  const found = details.flatMap(({ streamKey, shards }) => {
    // A wildcard finds each shard by itself.
    const isByItself = wildcard !== undefined || given.has(streamKey);
    const asked = shards.filter(({ key }) => (isByItself ? key === streamKey : !given.has(key)));
    return asked.length > 0 ? [{ streamKey, shards: asked }] : [];
  });
  const parts = found.flatMap((each) => partsOf(each, group));
  const [lag, pending] = [sumOf(parts.map((part) => part.lag)), sumOf(parts.map((part) => part.pending))];
  const lagSeconds = largestOf(parts.map((part) => part.lagSeconds));
  return {
    backlog: lag + pending,
    lag,
    isLagExact: parts.every((part) => part.isExact),
    ...(lagSeconds !== undefined && { lagSeconds }),
    pending,
    entries: sumOf(parts.map(({ entries }) => entries)),
    group,
    streams: [...new Set(found.map(({ streamKey }) => (given.has(streamKey) ? stream : streamKey)))],
  };
}

interface Part {
  readonly entries: number;
  readonly lag: number;
  readonly isExact: boolean;
  readonly lagSeconds: number | undefined;
  readonly pending: number;
}

/** @throws ServiceUnavailableException where nothing is known of a lag: it must not be taken for 0 */
function partsOf({ streamKey, shards }: Pick<StreamDetails, 'streamKey' | 'shards'>, group: string): Part[] {
  const isSharded = shards.every(({ key }) => key !== streamKey);
  return shards.flatMap(({ key, length: entries, groups }): Part[] => {
    const found = groups.find(({ name }) => name === group);
    if (found) {
      const { lag, lagSeconds, pending } = found;
      if (lag !== undefined) return [{ entries, lag, isExact: true, lagSeconds, pending }];
      if (lagSeconds === undefined) throw unavailable(`Redis does not tell the lag of '${group}' on '${key}'`);
      // There is at least one: with none, the lag would be known.
      return [{ entries, lag: 1, isExact: false, lagSeconds, pending }];
    }
    // Beside a stream that is read by its own key, `orders:1` is another stream.
    if (!isSharded && key !== streamKey) return [];
    // A server will create the group at the beginning when it starts, which may wait for an autoscaler.
    return [{ entries, lag: entries, isExact: true, lagSeconds: entries === 0 ? 0 : undefined, pending: 0 }];
  });
}

/**
 * The keys that a wildcard means, by a walk through the keyspace; without those that this package writes itself. The walk ends
 * early when the signal is aborted: an autoscaler asks again, and its walks would add up.
 */
async function keysOf(
  { isOwn }: Question,
  wildcard: Wildcard,
  manager: StreamManager,
  signal: AbortSignal,
): Promise<string[]> {
  const found = new Set<string>();
  let cursor = '0';
  do {
    const page = await manager.scan(cursor);
    signal.throwIfAborted();
    ({ cursor } = page);
    for (const key of page.streams) if (!isOwn(key) && wildcard.matches(key)) found.add(key);
  } while (cursor !== '0');
  return [...found].sort();
}

function unavailable(message: string, code?: string): ServiceUnavailableException {
  return new ServiceUnavailableException({ statusCode: 503, message, ...(code && { error: code }) });
}
