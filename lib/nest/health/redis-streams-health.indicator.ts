import { STATS, resolveHealthOptions } from '../../engine/health.js';
import type {
  HealthOptions,
  LoopHealth,
  LoopStats,
  StreamHealth,
  StreamerHealth,
  StreamerStats,
} from '../../engine/health.js';
import type { RedisStreamer } from '../../engine/streamer.js';
import type { RedisStreamsStatus } from '../../redis/connection/redis-connections.js';
import { errorText } from '../../shared/error-text.js';
import { listNames, quoted } from '../../shared/list-names.js';
import { check, definedOptions, optionNames } from '../../shared/option-checks.js';
import { largestOf, sumOf } from '../../shared/sums.js';
import type { ClientRedisStreams } from '../client/redis-streams.client.js';
import type { ServerHealth, ServerRedisStreams } from '../server/redis-streams.server.js';

/** A part of an application that has connections of its own. */
export type HealthSource = ServerRedisStreams | ClientRedisStreams | RedisStreamer;

/** The parts of an application, under the names that they have in the result. */
export type HealthSources = Readonly<Record<string, HealthSource>>;

/** When a part of an application counts as up. */
export interface HealthCheckOptions extends HealthOptions {
  /**
   * `readiness`: it can work now. Connected, the server listens, every stream is read, and nothing is beyond the limits below. False in
   * an outage of Redis.
   *
   * `liveness`: a restart would not help. False when a read loop stands still, the connections were closed, or all handlers have been
   * busy for longer than `maxOldestHandler`. An outage of Redis does not matter, and Redis is not asked.
   * @defaultValue `readiness`
   */
  of?: 'readiness' | 'liveness';
  /**
   * Readiness: most entries of a stream, its shards together, that may wait for the group. At least 0. A lag that the
   * server does not know passes; see {@link maxLagSeconds}.
   * @defaultValue no limit
   */
  maxLag?: number;
  /**
   * Readiness: greatest age of the oldest entry that waits for the group, in seconds. At least 0.
   * @defaultValue no limit
   */
  maxLagSeconds?: number;
  /**
   * Readiness: most entries of a stream, its shards together, that may be pending in the group. At least 0.
   * @defaultValue no limit
   */
  maxPending?: number;
}

/** The state of one part. Numbers that are not known are left out. */
export interface HealthDetails {
  /** State of the connections. */
  readonly status: RedisStreamsStatus;
  /** Of a server. */
  readonly isListening?: boolean;
  /** Entries that were not delivered to the group yet. Sum over all streams that it reads, as `pending` is. */
  readonly lag?: number;
  /** Entries that were delivered and not acknowledged. */
  readonly pending?: number;
  /** The largest of all streams that it reads. */
  readonly lagSeconds?: number;
  /** Age of the oldest running handler, in milliseconds. */
  readonly oldestHandler?: number;
}

/** The state of one part, with its {@link HealthDetails}. */
export type HealthCheckState = {
  /** Whether the part is fit for use. */
  readonly status: 'up' | 'down';
  /** Why it is down. */
  readonly message?: string;
} & Readonly<Record<string, unknown>>;

/** The result that Terminus expects of an indicator. */
export type HealthCheckResult<Key extends string = string> = Record<Key, HealthCheckState>;

interface Limits extends Required<HealthOptions> {
  readonly of: 'readiness' | 'liveness';
  readonly maxLag: number;
  readonly maxLagSeconds: number;
  readonly maxPending: number;
}

const OPTIONS = optionNames<HealthCheckOptions>({
  of: true,
  maxLag: true,
  maxLagSeconds: true,
  maxPending: true,
  maxOldestHandler: true,
  timeout: true,
});
/** In the message: a cluster has a loop for each shard. */
const MOST_PROBLEMS = 5;

/**
 * Tells Terminus, or any other health endpoint, about the health of an application's server, client and streamers. It owns none of
 * them. `RedisStreamsModule` provides one for what it provides itself; for others it is created by hand:
 * `new RedisStreamsHealthIndicator({ server: strategy })`.
 * @example
 * ```ts
 * @Get('ready')
 * @HealthCheck()
 * ready() {
 *   return this.health.check([() => this.streams.isHealthy('redis', { maxLagSeconds: 60 })]);
 * }
 * ```
 */
export class RedisStreamsHealthIndicator {
  readonly #sources: () => HealthSources;
  readonly #key: string;

  /** @param key that {@link isHealthy} uses when it is given none */
  constructor(sources: HealthSources | (() => HealthSources), key = 'redis-streams') {
    this.#sources = typeof sources === 'function' ? sources : () => sources;
    this.#key = key;
  }

  /**
   * Answers within `timeout` milliseconds (default 1,000), and never rejects: an option that is refused makes it `down` as well, with
   * a message that names the option.
   */
  async isHealthy<const Key extends string = string>(
    key?: Key,
    options: HealthCheckOptions = {},
  ): Promise<HealthCheckResult<Key>> {
    return { [key ?? this.#key]: await this.#check(options) } as HealthCheckResult<Key>;
  }

  async #check(options: HealthCheckOptions): Promise<HealthCheckState> {
    try {
      const limits = resolveLimits(options);
      const checkPart = limits.of === 'liveness' ? checkLiveness : checkReadiness;
      const parts = Object.entries(this.#sources());
      const checked = await Promise.all(
        parts.map(async ([name, source]) => ({ name, ...(await checkPart(source, limits)) })),
      );
      const problems = checked.flatMap(({ name, problems: found }) => found.map((problem) => `${name} ${problem}`));
      return {
        ...Object.fromEntries(checked.map(({ name, details }) => [name, definedOptions(details)])),
        ...(problems.length === 0 ? { status: 'up' } : { status: 'down', message: shortened(problems) }),
      };
    } catch (error) {
      return { status: 'down', message: errorText(error) };
    }
  }
}

function shortened(problems: readonly string[]): string {
  const left = problems.length - MOST_PROBLEMS;
  return problems.slice(0, MOST_PROBLEMS).join('; ') + (left > 0 ? `; and ${left} more` : '');
}

interface CheckedPart {
  readonly problems: readonly string[];
  readonly details: { readonly [Name in keyof HealthDetails]: HealthDetails[Name] | undefined };
}

/** @throws InvalidOptionError */
function resolveLimits(options: HealthCheckOptions): Limits {
  check.options('', options, OPTIONS);
  const { timeout, maxOldestHandler } = options;
  const { of = 'readiness', maxLag = Infinity, maxLagSeconds = Infinity, maxPending = Infinity } = options;
  const common = resolveHealthOptions({ timeout, maxOldestHandler });
  check.oneOf('of', of, ['readiness', 'liveness']);
  if (maxLag !== Infinity) check.integer('maxLag', maxLag, 0);
  if (maxLagSeconds !== Infinity) check.number('maxLagSeconds', maxLagSeconds, 0, Number.MAX_SAFE_INTEGER);
  if (maxPending !== Infinity) check.integer('maxPending', maxPending, 0);
  return { ...common, of, maxLag, maxLagSeconds, maxPending };
}

/** Without asking Redis: a probe that has to wait in an outage would fail, and every instance would be restarted. */
async function checkLiveness(source: HealthSource, limits: Limits): Promise<CheckedPart> {
  const { status, isClosed, loops } = statsOf(source);
  const problems = loops.flatMap((loop) => livenessProblems(loop, limits));
  return { problems: [...(isClosed ? ['is closed'] : []), ...problems], details: { status } };
}

function statsOf(source: HealthSource & { [STATS]?: () => StreamerStats }): StreamerStats {
  // A test server has no streamer.
  if (source[STATS]) return source[STATS]();
  return 'unwrap' in source ? source.unwrap<RedisStreamer>().stats() : source.stats();
}

async function checkReadiness(source: HealthSource, limits: Limits): Promise<CheckedPart> {
  const { timeout, maxOldestHandler } = limits;
  const health: StreamerHealth & Partial<ServerHealth> = await source.health({ timeout, maxOldestHandler });
  const { status, isListening, loops } = health;
  const ofGroups = loops.filter(({ group }) => group !== undefined);
  const handlers = loops.flatMap(({ oldestHandler }) => oldestHandler ?? []);
  return {
    problems: [
      ...connectionProblems(health),
      ...loops.flatMap((loop) => loopProblems(loop, limits)),
      ...streamProblems(loops, limits),
    ],
    details: {
      status,
      isListening,
      ...(ofGroups.length > 0 && {
        lag: sumOf(ofGroups.map(({ lag }) => lag)),
        lagSeconds: largestOf(ofGroups.map(({ lagSeconds }) => lagSeconds)),
        pending: sumOf(ofGroups.map(({ pending }) => pending)),
      }),
      ...(handlers.length > 0 && { oldestHandler: largestOf(handlers) }),
    },
  };
}

function connectionProblems({ status, isClosed, isListening }: StreamerHealth & Partial<ServerHealth>): string[] {
  if (isClosed) return ['is closed'];
  if (status === 'reconnecting') return ['has lost its connection to Redis'];
  if (isListening === false) return ['does not listen'];
  return status === 'connected' ? [] : ['is not connected to Redis'];
}

function livenessProblems(loop: LoopStats, { maxOldestHandler }: Limits): string[] {
  const of = named(loop.streamKeys);
  if (loop.isStalled) return [`has a read loop that stands still: ${of}`];
  if ((loop.allBusyFor ?? 0) <= maxOldestHandler) return [];
  return [`has had no free handler for ${loop.allBusyFor} ms: ${of}`];
}

function loopProblems(loop: LoopHealth, limits: Limits): string[] {
  const { streamKeys } = loop;
  const ofLiveness = livenessProblems(loop, limits);
  if (ofLiveness.length > 0) return ofLiveness;
  const refused = loop.streams.filter(({ failure, refusal }) => failure ?? refusal);
  if (refused.length > 0) {
    return refused.map(
      ({ streamKey, failure, refusal }) => `cannot read '${streamKey}': ${(failure ?? refusal)?.code}`,
    );
  }
  if (loop.refusal) return [`is refused by Redis: ${named(streamKeys)}: ${loop.refusal.code}`];
  if (!loop.isHealthy) return [`has had no answer to a read for too long: ${named(streamKeys)}`];
  const isUnanswered = loop.group !== undefined && loop.streams.length > 0 && loop.streams.every(isUnknown);
  return isUnanswered ? [`has had no answer from Redis within ${limits.timeout} ms: ${named(streamKeys)}`] : [];
}

function isUnknown({ entries, lag, lagSeconds, pending }: StreamHealth): boolean {
  return (entries ?? lag ?? lagSeconds ?? pending) === undefined;
}

/** The limits hold for a stream as a whole; a number that is not known counts as 0. */
function streamProblems(loops: readonly LoopHealth[], limits: Limits): string[] {
  const parts = new Map<string, StreamHealth[]>();
  for (const { group, streams } of loops) {
    for (const stream of group === undefined ? [] : streams) {
      const name = `'${stream.streamKey}' for the group '${group}'`;
      parts.set(name, [...(parts.get(name) ?? []), stream]);
    }
  }
  return [...parts].flatMap(([name, streams]) => {
    const lag = sumOf(streams.map((stream) => stream.lag ?? 0));
    const lagSeconds = largestOf(streams.map((stream) => stream.lagSeconds ?? 0));
    const pending = sumOf(streams.map((stream) => stream.pending ?? 0));
    return [
      ...(lag > limits.maxLag ? [`has a lag of ${lag} entries in ${name}, more than ${limits.maxLag}`] : []),
      ...(lagSeconds > limits.maxLagSeconds
        ? [`has a lag of ${lagSeconds} s in ${name}, more than ${limits.maxLagSeconds}`]
        : []),
      ...(pending > limits.maxPending
        ? [`has ${pending} pending entries in ${name}, more than ${limits.maxPending}`]
        : []),
    ];
  });
}

const named = (streamKeys: readonly string[]): string => listNames(streamKeys.map(quoted));
