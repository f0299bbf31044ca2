import type { ConsumerNameInUseError, RedisStreamsError } from '../errors.js';
import { pause } from '../shared/backoff.js';
import { check, definedOptions, optionNames } from '../shared/option-checks.js';
import { largestOf, sumOf } from '../shared/sums.js';
import type { RedisStreamsStatus } from '../redis/connection/redis-connections.js';
import { entryIdTime, nextEntryId } from '../redis/commands/entry-id.js';
import type { GroupInfo, StreamCommands } from '../redis/commands/stream-commands.js';
import type { Partition, PauseReason } from './consuming/partition.js';
import type { LoopReport } from './consuming/reading/loop-watchdog.js';
import type { ConsumerMode } from './options/consumer-mode.js';

/** One stream, or one shard of it, that a loop reads. The numbers are undefined when the server did not answer in time. */
export interface StreamHealth {
  /** Key of the stream, without the number of a shard. */
  readonly streamKey: string;
  /** Number of the shard; 0 when the stream is not sharded. */
  readonly shardId: number;
  /** Entries in the stream, delivered or not. */
  readonly entries: number | undefined;
  /**
   * Entries that were not delivered to the group yet. Undefined where there are some and the server does not know how many:
   * before Redis 7.0, and after entries were deleted.
   */
  readonly lag: number | undefined;
  /**
   * Age of the oldest entry that was not delivered to the group yet, in seconds by the clock of Redis; 0 when there is none.
   * Known also where {@link lag} is not.
   */
  readonly lagSeconds: number | undefined;
  /** Entries that were delivered to a consumer of the group and not acknowledged. */
  readonly pending: number | undefined;
  /** Idle time of the oldest pending entry, in milliseconds; undefined also when there is none. */
  readonly oldestPendingIdle: number | undefined;
  /**
   * What has paused it: the application, for the consumer or the stream, or `StreamManager.pauseGroup()`, for all instances
   * of the group. Undefined while it is not paused.
   */
  readonly pausedBy: PauseReason | undefined;
  /** Why it is not read any more. */
  readonly failure: RedisStreamsError | undefined;
  /** Why it is not read now, while the other streams of the loop are; it is tried again with a slow back-off. */
  readonly refusal: RedisStreamsError | undefined;
}

/** One read loop, as far as it is known without asking Redis: a consumer has one, in Cluster one for each stream shard. */
export interface LoopStats extends LoopReport {
  /** That it reads, without the numbers of shards. */
  readonly streamKeys: readonly string[];
  /** Mode of the consumer. */
  readonly mode: ConsumerMode;
  /** Undefined in real-time mode. */
  readonly group: string | undefined;
  /** Name of the consumer; undefined in real-time mode. */
  readonly consumer: string | undefined;
  /** Whether it reads the answers to the requests of a client, from a stream that only this client reads. */
  readonly isForReplies: boolean;
  /**
   * Another live process reads under the same consumer name. It does not make the loop unhealthy: a new instance that is not
   * healthy would keep the old one alive. Undefined when none was seen lately, and for names that are generated.
   */
  readonly nameConflict: ConsumerNameInUseError | undefined;
  /** How often its connection was established again after a loss. */
  readonly reconnects: number;
  /** Messages that were read and not handed out yet. */
  readonly buffered: number;
  /** Messages that were handed out and are not settled yet. */
  readonly inFlight: number;
  /**
   * Age of the oldest running handler of its consumer, in milliseconds; undefined when none runs, and for consumers without
   * handlers.
   */
  readonly oldestHandler: number | undefined;
  /**
   * For how long every place for a handler of its consumer has been taken, without a change, in milliseconds; undefined while one
   * is free.
   */
  readonly allBusyFor: number | undefined;
}

/** One read loop, with what Redis knows of its streams. */
export interface LoopHealth extends LoopStats {
  /** Sum over its streams, as `lag` and `pending` are; undefined unless it is known for each of them. */
  readonly entries: number | undefined;
  /** Entries that were not delivered to the group yet. */
  readonly lag: number | undefined;
  /** The largest of its streams; undefined unless it is known for each of them. */
  readonly lagSeconds: number | undefined;
  /** Entries that were delivered and not acknowledged. */
  readonly pending: number | undefined;
  /** The longest idle time of its streams. */
  readonly oldestPendingIdle: number | undefined;
  /** Each stream or shard that the loop reads. */
  readonly streams: readonly StreamHealth[];
}

/** The state of a streamer, or of the server that uses it. */
export interface StreamerHealth {
  /**
   * True when the connections are not closed, every loop is healthy, no stream has failed, and no consumer has all of its
   * handlers hanging.
   */
  readonly isHealthy: boolean;
  /** State of the connections. */
  readonly status: RedisStreamsStatus;
  /** Whether it was disconnected for good; `status` is `disconnected` also before the first connection. */
  readonly isClosed: boolean;
  /** Sum over all connections. */
  readonly reconnects: number;
  /** All read loops, of every consumer. */
  readonly loops: readonly LoopHealth[];
}

/** The state of a streamer, as far as it is known without asking Redis. */
export interface StreamerStats {
  /** State of the connections. */
  readonly status: RedisStreamsStatus;
  /** Whether it was disconnected for good. */
  readonly isClosed: boolean;
  /** Sum over all connections. */
  readonly reconnects: number;
  /** Messages of its producers that Redis has not accepted yet. */
  readonly queued: number;
  /** All read loops, of every consumer. */
  readonly loops: readonly LoopStats[];
}

/** Of what has {@link StreamerStats} and no streamer: a test server. */
export const STATS: unique symbol = Symbol.for('nestjs-redis-streams:stats') as never;

/** The part of a loop's health that is known without asking the server. */
export interface LocalLoopHealth extends Omit<LoopStats, 'streamKeys'> {
  readonly partitions: readonly Partition[];
}

/** What {@link RedisStreamer.health} is asked for. */
export interface HealthOptions {
  /**
   * How long to wait for the server, in milliseconds; what it has not answered by then is undefined. At least 1.
   * @defaultValue `1_000`
   */
  timeout?: number | undefined;
  /**
   * A consumer is unhealthy when all of its handlers have been running for longer than this, in milliseconds: nothing is handled any
   * more. At least 1.
   * @defaultValue `300_000` (5 minutes)
   */
  maxOldestHandler?: number | undefined;
}

const HEALTH_OPTIONS = optionNames<HealthOptions>({ timeout: true, maxOldestHandler: true });
const HEALTH_DEFAULTS = Object.freeze({ timeout: 1_000, maxOldestHandler: 300_000 }) satisfies HealthOptions;

/** @throws InvalidOptionError */
export function resolveHealthOptions(options: HealthOptions): Required<HealthOptions> {
  check.options('', options, HEALTH_OPTIONS);
  const resolved = { ...HEALTH_DEFAULTS, ...definedOptions(options) };
  check.time('timeout', resolved.timeout, 1);
  check.integer('maxOldestHandler', resolved.maxOldestHandler, 1);
  return resolved;
}

export function loopStats({ partitions, ...loop }: LocalLoopHealth): LoopStats {
  return { ...loop, streamKeys: [...new Set(partitions.map(({ streamKey }) => streamKey))] };
}

/** For the numbers that only the server knows. */
type HealthCommands = Pick<StreamCommands, 'groups' | 'pending' | 'reading' | 'clock'>;

type StreamNumbers = Pick<StreamHealth, 'entries' | 'lag' | 'lagSeconds' | 'pending' | 'oldestPendingIdle'>;

const UNKNOWN: StreamNumbers = Object.freeze({
  entries: undefined,
  lag: undefined,
  lagSeconds: undefined,
  pending: undefined,
  oldestPendingIdle: undefined,
});

/** Adds the numbers that only the server knows, and waits for them at most `timeout` milliseconds. */
export async function loopHealth(
  local: LocalLoopHealth,
  commands: HealthCommands,
  { timeout, maxOldestHandler }: Required<HealthOptions>,
): Promise<LoopHealth> {
  const { partitions } = local;
  const limit = new AbortController();
  const late = pause(timeout, limit.signal).then(() => undefined);
  // Undefined when the work fails, or is not done in time: one refused command leaves the other numbers.
  const inTime: Attempt = (work) => Promise.race([work.catch(() => undefined), late]);
  const streams = await Promise.all(
    partitions.map(async (partition) => {
      const { streamKey, shardId, pausedBy, failure, refusal } = partition;
      const known = failure ? UNKNOWN : await streamNumbers(partition.key, local.group, commands, inTime);
      return { ...known, streamKey, shardId, pausedBy, failure, refusal };
    }),
  );
  limit.abort();
  const idle = streams.flatMap(({ oldestPendingIdle }) => oldestPendingIdle ?? []);
  return {
    ...loopStats(local),
    streams,
    isHealthy:
      local.isHealthy &&
      (local.allBusyFor ?? 0) <= maxOldestHandler &&
      streams.every(({ failure, refusal }) => !failure && !refusal),
    entries: sumOf(streams.map(({ entries }) => entries)),
    lag: sumOf(streams.map(({ lag }) => lag)),
    lagSeconds: largestOf(streams.map(({ lagSeconds }) => lagSeconds)),
    pending: sumOf(streams.map(({ pending }) => pending)),
    oldestPendingIdle: idle.length > 0 ? Math.max(...idle) : undefined,
  };
}

/** Undefined for what the server does not tell. */
type Attempt = <T>(work: Promise<T>) => Promise<T | undefined>;

async function streamNumbers(
  key: string,
  group: string | undefined,
  commands: HealthCommands,
  inTime: Attempt,
): Promise<StreamNumbers> {
  const { groups, pending, reading } = commands;
  const length = inTime(reading.length(key));
  if (group === undefined) return { ...UNKNOWN, entries: await length };
  const [entries, all, oldest] = await Promise.all([
    length,
    inTime(groups.groups(key)),
    inTime(pending.pending(key, group, { count: 1 })),
  ]);
  const info = all?.find(({ name }) => name === group);
  if (!info) return { ...UNKNOWN, entries };
  const lag = await lagOf(key, info, commands, inTime);
  return { entries, ...lag, pending: info.pending, oldestPendingIdle: oldest?.[0]?.idle };
}

/**
 * How far a group is behind, in entries and in time. Where nothing is behind its position, nothing is late, whatever the server
 * counts: it does not count before Redis 7.0, and after deletions its count may be unknown or too high.
 */
export async function lagOf(
  key: string,
  { lag, lastDeliveredId }: Pick<GroupInfo, 'lag' | 'lastDeliveredId'>,
  { reading, clock }: Pick<StreamCommands, 'reading' | 'clock'>,
  attempt: Attempt,
): Promise<Pick<StreamNumbers, 'lag' | 'lagSeconds'>> {
  const next = nextEntryId(lastDeliveredId);
  if (lag === 0 || next === undefined) return { lag: 0, lagSeconds: 0 };
  const [waiting] = await Promise.all([
    attempt(reading.range(key, next, '+', 1)),
    clock.isCurrent(key) ? undefined : attempt(clock.ask(key)),
  ]);
  if (!waiting) return { lag, lagSeconds: undefined };
  const [oldest] = waiting;
  if (!oldest) return { lag: 0, lagSeconds: 0 };
  return { lag, lagSeconds: Math.max(0, Math.round(clock.now(key)) - entryIdTime(oldest.id)) / 1_000 };
}
