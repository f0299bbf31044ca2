import { outsideContext } from '../../../shared/async-context.js';
import { limited, pause, within } from '../../../shared/backoff.js';
import { errorText } from '../../../shared/error-text.js';
import { ConsumerEndedError, ShardHaltedError, ShardLeaseLostError } from '../../../errors.js';
import type { RedisStreamsError } from '../../../errors.js';
import { toPublicError } from '../../../redis/commands/redis-error.js';
import type { OwnershipCommands } from '../../../redis/commands/shard-owners.js';
import type { RenewalClient } from '../../../redis/connection/renewal-thread.js';
import type { ResolvedConsumerOptions } from '../../options/resolve-options.js';
import type { ConsumerEnvironment } from '../consumer-environment.js';
import type { ConsumerSession } from '../consumer-session.js';
import { PartitionSet } from '../partition.js';
import type { Partition } from '../partition.js';
import { fixGroupStart } from '../reading/group-reader.js';
import { ShardAssignment } from './shard-assignment.js';
import type { OwnershipListener } from './shard-assignment.js';
import { RENEWALS, ShardLeases } from './shard-leases.js';
import type { OwnedShard } from './shard-leases.js';
import { ShareRounds } from './share-rounds.js';

/** How long the end of a consumer waits for Redis to take its leases back, in milliseconds. */
const RELEASE_LIMIT = 1_000;
/** Between two looks whether the handlers of a shard that is handed over have ended, in milliseconds. */
const DRAIN_INTERVAL = 20;

/**
 * Lets the session of one consumer read the shards that the consumer owns, and no others. {@link ShareRounds} decides how many these are,
 * {@link ShardLeases} holds them. This class moves them: it reads a shard whose lease was acquired, hands over one that another
 * member wants, and drops one whose lease is lost.
 *
 * The hand-over: stop reading, give back what no handler has, wait for handlers, commit, release the lease.
 */
export class ShardOwnership {
  readonly environment: ConsumerEnvironment;
  readonly options: ResolvedConsumerOptions;
  /** All shards of the group, those of other members too. */
  readonly partitions = new PartitionSet();
  readonly #session: ConsumerSession;
  readonly #listener: OwnershipListener;
  readonly #commands: OwnershipCommands;
  readonly #group: string;
  readonly #thread: RenewalClient | undefined;
  readonly #leases: ShardLeases;
  readonly #rounds: ShareRounds;
  readonly #closing = new AbortController();
  /** Changes of what the session reads are made one after the other. */
  #changes: Promise<void> = Promise.resolve();
  #isOpen = false;

  constructor(session: ConsumerSession, listener: OwnershipListener) {
    const { environment, options } = session;
    const { group, leaseTime } = options;
    const onError = (error: RedisStreamsError): void => listener.onError(error);
    const commands = environment.control.ownership;
    this.environment = environment;
    this.options = options;
    this.#session = session;
    this.#listener = listener;
    this.#commands = commands;
    this.#group = group as string;
    if (options.leaseRenewal === 'thread') {
      const every = leaseTime / RENEWALS;
      this.#thread = environment.createRenewalClient({ every, limit: session.maxHandlerTime, onFailure: onError });
    }
    const shared = { consumer: options, group: this.#group, commands };
    this.#leases = new ShardLeases({
      ...shared,
      thread: this.#thread,
      logger: environment.logger,
      onWanted: (shard) => {
        if (!shard.isLeaving && this.#rounds.isAboveShare(shard.candidate.streamKey)) void this.#handOver(shard);
      },
      onLost: (shard) => this.#drop(shard),
    });
    this.#rounds = new ShareRounds({
      ...shared,
      leases: this.#leases,
      partitions: this.partitions,
      take: (candidate) => this.#take(candidate),
      closing: this.#closing.signal,
      onError,
    });
    session.acknowledgeBy((partition, ids) => this.ack(partition.key, ids));
  }

  /** Fixes the start position of every shard, takes the first share, then starts to read. @throws as {@link fixStart} */
  async open(partitions: readonly Partition[]): Promise<void> {
    for (const { key, streamKey } of partitions) {
      this.#commands.requireSideKeys({ streamKey: key, group: this.#group });
      this.#commands.requireSideKeys({ streamKey, group: this.#group });
    }
    await this.add(partitions, false);
    if (!this.#isOpen) await this.#session.open([]);
    this.#isOpen = true;
    // Before the first shard is taken: to take many may last longer than a lease.
    this.#leases.start();
    await this.#rounds.start();
  }

  /** Shares more partitions with the group. @throws as {@link fixStart} */
  async add(partitions: readonly Partition[], isAllNew: boolean): Promise<void> {
    const known = new Set(this.partitions.current.map(({ key }) => key));
    const added = partitions.filter(({ key }) => !known.has(key));
    for (const partition of added) await this.fixStart(partition, isAllNew);
    this.partitions.add(added);
    this.#rounds.soon();
  }

  /** Shares these partitions no more: those of them that this consumer owns are handed over. */
  async remove(partitions: readonly Partition[]): Promise<void> {
    this.partitions.remove(partitions);
    const left = new Set(this.partitions.current.map(({ streamKey }) => streamKey));
    await Promise.all(this.#leases.among(partitions).map((shard) => this.#handOver(shard)));
    await this.#attempt(() => this.#rounds.forget(partitions));
    this.#leases.forget(partitions);
    const gone = new Set(partitions.map(({ streamKey }) => streamKey).filter((streamKey) => !left.has(streamKey)));
    for (const streamKey of gone) await this.#leaveStream(streamKey);
  }

  /** What this consumer owns and reads now. */
  get assignments(): readonly ShardAssignment[] {
    const read = this.#leases.held.filter(({ isLeaving, isRead }) => isRead && !isLeaving);
    return read.map(({ partition, lease }) => new ShardAssignment(partition, lease.generation));
  }

  /** Whether an assignment still holds. */
  isOwned({ streamKey, shardId, generation }: ShardAssignment): boolean {
    return this.#leases.held.some(
      ({ partition, lease, isRead, isLeaving }) =>
        lease.generation === generation &&
        partition.shardId === shardId &&
        partition.streamKey === streamKey &&
        isRead &&
        !isLeaving,
    );
  }

  /** Keys of the shards of a stream that are halted, and that this consumer owns. */
  haltedOf(streamKey: string): string[] {
    const partitions = this.#leases.held.map(({ partition }) => partition);
    const halted = partitions.filter(({ failure }) => failure instanceof ShardHaltedError);
    return halted.filter((partition) => partition.streamKey === streamKey).map(({ key }) => key);
  }

  /** Acknowledges entries of a shard. @throws ShardLeaseLostError when this consumer does not own it any more */
  async ack(key: string, ids: readonly string[]): Promise<number> {
    const shard = this.#leases.find(key);
    const acknowledged = shard && (await this.#commands.ack(shard.lease, ids));
    if (acknowledged !== undefined) return acknowledged;
    if (shard) this.#leases.lose(shard);
    throw new ShardLeaseLostError(key, this.#group, ids.length);
  }

  /** Takes no more shards; those that are owned stay so until {@link release}. Never rejects. */
  async close(): Promise<void> {
    this.#closing.abort();
    await within(RELEASE_LIMIT, Promise.all([this.#attempt(() => this.#rounds.end()), this.#changes]));
  }

  /** After the session has left: gives the leases back. Never rejects. */
  async release(): Promise<void> {
    this.#leases.stop();
    const owned = this.#leases.held;
    const lost = this.partitions.current.filter(({ key }) => this.#leases.wasLost(key));
    const streamKeys = new Set(this.partitions.current.map(({ streamKey }) => streamKey));
    await within(
      RELEASE_LIMIT,
      Promise.all([
        ...owned.map((shard) => this.#giveUp(shard)),
        ...lost.map((partition) => this.#attempt(() => this.#session.removeName(partition))),
        ...[...streamKeys].map((streamKey) => this.#leaveStream(streamKey)),
      ]),
    );
    await this.#thread?.close();
    for (const shard of owned) this.#announceRevoked(shard);
  }

  /**
   * Creates the group of the partition, or finds its start position: before it is read or shared. @throws what Redis answered, as an
   * error of this package
   */
  async fixStart(partition: Partition, isAllNew: boolean): Promise<void> {
    const { control } = this.environment;
    try {
      await fixGroupStart(partition, isAllNew, { ...this.options, control: control.reading, groups: control.groups });
    } catch (error) {
      throw toPublicError(error, partition.key, 'opening');
    }
    if (partition.failure) this.#session.onPartitionFailure(partition);
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Acquires the shard and reads it. Returns whether this consumer owns it now. */
  async #take(candidate: Partition): Promise<boolean> {
    const shard = await this.#leases.acquire(candidate);
    if (!shard) return false;
    try {
      await this.#change(async () => {
        const isRemoved = !this.partitions.current.includes(candidate);
        if (this.#isClosed || isRemoved) throw new ConsumerEndedError();
        if (!shard.isLeaving) await this.#session.add([shard.partition], false);
      });
    } catch (error) {
      await this.#giveUp(shard);
      if (error instanceof ConsumerEndedError) return false;
      throw error;
    }
    if (shard.isLeaving) return false;
    shard.isRead = true;
    this.#listener.onAssigned(new ShardAssignment(candidate, shard.lease.generation));
    return true;
  }

  /** Hands nothing of a lost shard out any more, and aborts the signals of its handlers. */
  #drop(shard: OwnedShard): void {
    const { candidate, partition } = shard;
    shard.isLeaving = true;
    this.#session.fence(partition);
    this.#listener.onError(new ShardLeaseLostError(candidate.key, this.#group, 0));
    void this.#changeQuietly(() => this.#session.remove([partition]));
    this.#announceRevoked(shard);
    this.#rounds.soon();
  }

  /** Never rejects. */
  async #handOver(shard: OwnedShard): Promise<void> {
    if (shard.isLeaving) return;
    shard.isLeaving = true;
    const { partition } = shard;
    await this.#changeQuietly(() => this.#session.remove([partition]));
    await this.#drain(partition);
    // The end of the consumer waits for its handlers, and gives the lease back. Or it was lost in between.
    if (this.#isClosed || !this.#leases.holds(shard)) return;
    this.#session.fence(partition);
    await this.#session.removeName(partition);
    await this.#giveUp(shard);
    this.#announceRevoked(shard);
    this.#rounds.soon();
  }

  async #giveUp(shard: OwnedShard): Promise<void> {
    await this.#attempt(() => this.#leases.giveUp(shard));
  }

  async #leaveStream(streamKey: string): Promise<void> {
    await this.#attempt(() => this.#commands.leave(streamKey, this.#group, this.options.consumer));
  }

  /** Once, also if the lease is lost in a hand-over. */
  #announceRevoked(shard: OwnedShard): void {
    if (!shard.isRead) return;
    shard.isRead = false;
    this.#listener.onRevoked(new ShardAssignment(shard.partition, shard.lease.generation));
  }

  /** Waits until nothing of the partition is in a handler, and its acknowledgements are confirmed. */
  async #drain(partition: Partition): Promise<void> {
    const isBusy = (): boolean => [...partition.owned.values()].some((state) => state !== 'skipped');
    await limited(this.environment.shutdownTimeout, this.#closing.signal, async (limit) => {
      while (isBusy() && !partition.isFenced && !limit.aborted) {
        await this.#session.sendAcks(partition, limit);
        if (isBusy()) await pause(DRAIN_INTERVAL, limit);
      }
    });
  }

  #change(change: () => Promise<void>): Promise<void> {
    const done = this.#changes.then(() => outsideContext(change));
    this.#changes = done.catch(() => undefined);
    return done;
  }

  async #changeQuietly(change: () => Promise<void>): Promise<void> {
    await this.#attempt(() => this.#change(change));
  }

  /** For steps that only help the rest of the group. Never rejects. */
  async #attempt(step: () => Promise<unknown>): Promise<void> {
    try {
      await step();
    } catch (error) {
      this.environment.logger.debug(`A step of sharing shards failed: ${errorText(error)}`);
    }
  }
}
