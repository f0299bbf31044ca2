import { ConsumerEndedError } from '../../../errors.js';
import { toPublicError } from '../../../redis/commands/redis-error.js';
import type { ResolvedConsumerOptions } from '../../options/resolve-options.js';
import type { ConsumerEnvironment, ReaderConnection } from '../consumer-environment.js';
import type { Partition } from '../partition.js';
import { Claims } from '../recovery/claims.js';
import { IdleClaimer } from '../recovery/idle-claimer.js';
import type { IdleClaims } from '../recovery/idle-claimer.js';
import { RetrySchedule, retryMargin } from '../recovery/retry-schedule.js';
import type { RetryListener, RetrySchedules } from '../recovery/retry-schedule.js';
import { TakeOver } from '../recovery/take-over.js';
import { BufferShares } from './buffer-shares.js';
import type { ReservableBuffer } from './buffer-shares.js';
import { RefusedPartitions } from './refused-partitions.js';
import { GroupReader } from './group-reader.js';
import type { LoopReport } from './loop-watchdog.js';
import type { PeriodicTask } from './periodic-task.js';
import { ReadLoop } from './read-loop.js';
import type { ReadLoopListener } from './read-loop-options.js';
import { OwnedReader } from './owned-reader.js';
import { OffGroupReader } from './stream-reader.js';
import type { StreamReader } from './stream-reader.js';
import { TailReader } from './tail-reader.js';

export interface ReadLoopsOptions {
  readonly environment: ConsumerEnvironment;
  readonly consumer: ResolvedConsumerOptions;
  readonly buffer: ReservableBuffer;
  /** The taker counts the deliveries of suspects when their handlers start; see {@link Claims}. */
  readonly countsStarts: boolean;
  readonly listener: ReadLoopListener & RetryListener;
}

export interface ReadLoopReport extends LoopReport {
  readonly partitions: readonly Partition[];
  /** How often the connection was established again after a loss. */
  readonly reconnects: number;
}

/** A read loop and its parts. */
interface Loop {
  readonly loop: ReadLoop;
  readonly reader: StreamReader;
  readonly connection: ReaderConnection;
  readonly retries: RetrySchedule | undefined;
}

/**
 * In Cluster, the number of loops of a consumer that have a blocking read and a connection of their own. Further loops share a
 * connection to each node.
 */
const BLOCKING_LOOPS = 4;

/** Partitions whose start positions are fixed at the same time. */
const OPENED_AT_ONCE = 64;

/** Key of the one loop outside of Cluster; no partition has an empty key. */
const ALL_PARTITIONS = '';

/**
 * Owns the read loops of one consumer and their connections. Outside of Cluster one loop reads all partitions. In Cluster,
 * where one command cannot read streams of different slots, every partition has a loop of its own, from {@link open} until
 * the partition is removed. The first loops have a blocking read each; the others share connections, if the server announces
 * new entries.
 *
 * It starts and stops loops and finds the one of a partition; it never reads.
 */
export class ReadLoops implements RetrySchedules {
  readonly #options: ReadLoopsOptions;
  /** In Cluster by the key of the partition. */
  readonly #loops = new Map<string, Loop>();
  readonly #shares = new BufferShares(() => this.#loops.size);
  #isStopped = false;

  constructor(options: ReadLoopsOptions) {
    this.#options = options;
  }

  /**
   * Fixes the start positions of partitions on the server, many at once.
   * @throws RedisStreamsError when that is impossible for one of them; ConsumerEndedError after {@link stop}
   */
  async open(partitions: readonly Partition[], isAllNew: boolean): Promise<void> {
    const added = new Set(partitions.map((each) => this.#loopKeyOf(each)).filter((key) => !this.#loops.has(key)));
    try {
      for (let begun = 0; begun < partitions.length;) {
        const next = partitions.slice(begun, begun + (this.#mayOpenMany ? OPENED_AT_ONCE : 1));
        begun += next.length;
        const outcomes = await Promise.allSettled(next.map((partition) => this.#open(partition, isAllNew)));
        for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
      }
    } catch (error) {
      await Promise.all([...added].map((key) => this.#remove(key)));
      throw error;
    }
  }

  /** How a loop reads depends on the loops that are there before it, so that the first ones come one by one. */
  get #mayOpenMany(): boolean {
    return this.#loops.size >= (this.#options.environment.isCluster() ? BLOCKING_LOOPS : 1);
  }

  async #open(partition: Partition, isAllNew: boolean): Promise<void> {
    // A consumer can be ended while it opens: stop() has stopped the loops that existed then, and no other may be created.
    this.requireRunning();
    const key = this.#loopKeyOf(partition);
    try {
      const loop = this.#loops.get(key) ?? (await this.#openLoop(key));
      await loop.reader.open(partition, isAllNew);
    } catch (error) {
      throw toPublicError(error, partition.key, 'opening');
    }
  }

  /** Reads these partitions, and no others, from now on. */
  async assign(partitions: readonly Partition[]): Promise<void> {
    this.requireRunning();
    const wanted = new Map<string, Partition[]>();
    if (!this.#options.environment.isCluster()) wanted.set(ALL_PARTITIONS, [...partitions]);
    else for (const partition of partitions) wanted.set(partition.key, [partition]);

    const removed = [...this.#loops.values()]
      .flatMap(({ loop }) => loop.partitions)
      .filter((partition) => !partitions.includes(partition));
    for (const partition of removed) this.retriesOf(partition)?.forget(partition);
    const unused = [...this.#loops.keys()].filter((key) => !wanted.has(key));
    await Promise.all([
      ...unused.map((key) => this.#remove(key)),
      ...[...wanted].map(([key, assigned]) => this.#loopFor(key).loop.read(assigned)),
    ]);
  }

  retriesOf(partition: Partition): RetrySchedule | undefined {
    return this.#loopOf(partition)?.retries;
  }

  /** How each loop is doing, and which partitions it reads. */
  reports(): ReadLoopReport[] {
    return [...this.#loops.values()].map(({ loop, connection }) => {
      return { ...loop.report(), partitions: loop.partitions, reconnects: connection.connection.reconnects };
    });
  }

  async restart(partition: Partition): Promise<void> {
    await this.lookAgain([partition]);
  }

  /** Makes the loops of these partitions look again at which of them they may read; ends the reads that are in flight. */
  async lookAgain(partitions: readonly Partition[]): Promise<void> {
    const loops = new Set(partitions.flatMap((partition) => this.#loopOf(partition)?.loop ?? []));
    await Promise.all([...loops].map((loop) => loop.restart()));
  }

  /** An entry is expected, see {@link ReadLoop.lookSoon}. */
  lookSoon(): void {
    for (const { loop } of this.#loops.values()) loop.lookSoon();
  }

  /** Runs a change while no loop has a read in flight. */
  async betweenReads(change: () => Promise<void>): Promise<void> {
    const run = [...this.#loops.values()].reduceRight(
      (inner, { loop }) =>
        () =>
          loop.betweenReads(inner),
      change,
    );
    await run();
  }

  /** Afterwards no read is in flight, and no loop is created any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all([...this.#loops.values()].map(({ loop }) => loop.stop()));
  }

  /** @throws ConsumerEndedError after {@link stop} */
  requireRunning(): void {
    if (this.#isStopped) throw new ConsumerEndedError();
  }

  /** Closes the connections. */
  async release(): Promise<void> {
    await Promise.all([...this.#loops.values()].map(({ connection }) => connection.release()));
  }

  #loopKeyOf(partition: Partition): string {
    return this.#options.environment.isCluster() ? partition.key : ALL_PARTITIONS;
  }

  #loopOf(partition: Partition): Loop | undefined {
    const found = this.#loops.get(this.#loopKeyOf(partition));
    return found?.loop.partitions.includes(partition) ? found : undefined;
  }

  async #openLoop(key: string): Promise<Loop> {
    const { environment } = this.#options;
    const isShared = !environment.isPolling && key !== ALL_PARTITIONS && this.#loops.size >= BLOCKING_LOOPS;
    const watched = isShared ? await environment.openWatched(key) : undefined;
    if (watched && this.#isStopped) await watched.release();
    this.requireRunning();
    return this.#loopFor(key, watched);
  }

  #loopFor(key: string, connection?: ReaderConnection): Loop {
    const loop = this.#loops.get(key) ?? this.#create(key, connection);
    this.#loops.set(key, loop);
    return loop;
  }

  async #remove(key: string): Promise<void> {
    const removed = this.#loops.get(key);
    this.#loops.delete(key);
    await removed?.loop.stop();
    await removed?.connection.release();
  }

  #create(key: string, watched: ReaderConnection | undefined): Loop {
    const { environment, consumer, buffer, listener, countsStarts } = this.#options;
    const streamKey = key === ALL_PARTITIONS ? undefined : key;
    const connection = watched ?? environment.openReader(streamKey);
    const claims = claimsOf(environment, consumer, countsStarts);
    const isOwner = consumer.shardOwnership === 'owned';
    const takeOver = claims && isOwner ? new TakeOver(environment.control.ownership, claims) : undefined;
    const reader = readerFor(connection, claims, takeOver, environment, consumer);
    const retries = claims && consumer.autoCommit !== 'immediate' ? this.#createRetries(claims) : undefined;
    const refused = new RefusedPartitions(environment.control.reading);
    const loop = new ReadLoop({
      reader,
      refused,
      tasks: [refused, ...(claims ? this.#createTasks(takeOver ?? claims, retries) : [])],
      connection: connection.connection,
      interrupt: connection.interrupt,
      buffer: this.#shares.create(buffer, connection.watch !== undefined),
      listener,
      blockTimeout: environment.blockTimeout,
      isPolling: environment.isPolling,
      watch: connection.watch,
      liveSince: () => laterOf(connection.connection.liveSince, environment.controlLiveSince(streamKey)),
    });
    return { loop, reader, connection, retries };
  }

  #createRetries(claims: Claims): RetrySchedule {
    const { consumer, mode, autoClaimIdle } = this.#options.consumer;
    const margin = mode === 'load-balanced' ? retryMargin(autoClaimIdle) : Infinity;
    return new RetrySchedule(claims, consumer, margin, this.#options.listener);
  }

  /** Retries come first: they are due at a certain time, and idle entries are not. */
  #createTasks(claims: IdleClaims, retries: RetrySchedule | undefined): PeriodicTask[] {
    const { mode, autoClaimInterval, autoClaimIdle } = this.#options.consumer;
    const tasks: PeriodicTask[] = retries ? [retries] : [];
    if (mode === 'load-balanced' && autoClaimInterval !== false) {
      tasks.push(new IdleClaimer({ claims, interval: autoClaimInterval, minIdle: autoClaimIdle }));
    }
    return tasks;
  }
}

/** Undefined in real-time mode, where nothing is pending. */
function claimsOf(
  { control, logger }: ConsumerEnvironment,
  options: ResolvedConsumerOptions,
  countsStarts: boolean,
): Claims | undefined {
  const { group, consumer, autoCommit } = options;
  if (group === undefined) return undefined;
  const noAck = autoCommit === 'immediate';
  return new Claims({ pending: control.pending, group, consumer, noAck, countsStarts: countsStarts && !noAck, logger });
}

/** The reader for the consumer's mode. */
function readerFor(
  { connection, reading }: ReaderConnection,
  claims: Claims | undefined,
  takeOver: TakeOver | undefined,
  { control, logger, blockTimeout }: ConsumerEnvironment,
  options: ResolvedConsumerOptions,
): StreamReader {
  const { group, consumer, autoStreamReset, mkStream, autoCommit, position } = options;
  const tail = new TailReader({ reading, control: control.reading, autoStreamReset });
  if (group === undefined || !claims) return tail;
  const ofGroup = new GroupReader({
    reading,
    control: control.reading,
    groups: control.groups,
    pending: control.pending,
    claims,
    group,
    consumer,
    autoStreamReset,
    mkStream,
    noAck: autoCommit === 'immediate',
    epoch: () => connection.epoch,
    blockTimeout,
    logger,
  });
  if (takeOver) return new OwnedReader({ ofGroup, reading, takeOver });
  return position === 'consumer' ? new OffGroupReader(ofGroup, tail) : ofGroup;
}

/** Undefined when either is. */
function laterOf(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? undefined : Math.max(one, other);
}
