import { outsideContext } from '../../../shared/async-context.js';
import { limited, pause, within } from '../../../shared/backoff.js';
import { monotonicNow } from '../../../shared/clock.js';
import { errorText } from '../../../shared/error-text.js';
import { ConsumerEndedError, ShardLeaseLostError } from '../../../errors.js';
import type { RedisStreamsError } from '../../../errors.js';
import { toPublicError } from '../../../redis/commands/redis-error.js';
import type { GroupShares, OwnershipCommands, ShardOwner } from '../../../redis/commands/shard-owners.js';
import type { RenewalClient } from '../../../redis/connection/renewal-thread.js';
import type { StreamShard } from '../../messages/stream-message.js';
import type { ResolvedConsumerOptions } from '../../options/resolve-options.js';
import type { ConsumerEnvironment } from '../consumer-environment.js';
import type { ConsumerSession } from '../consumer-session.js';
import { Partition, PartitionSet, groupBy } from '../partition.js';
import { fixGroupStart } from '../reading/group-reader.js';
import { RepeatedFailure } from '../repeated-failure.js';
import { lookInterval, smallestShare, wantedShards } from './fair-share.js';
import { ShardAssignment } from './shard-assignment.js';
import type { OwnershipListener } from './shard-assignment.js';
import { ShardLease } from './shard-lease.js';

/** A shard that this consumer owns. */
interface OwnedShard {
  readonly candidate: Partition;
  readonly partition: Partition;
  readonly lease: ShardLease;
  /** The renewal that is under way. */
  renewing: Promise<void> | undefined;
  /** It is being handed over, or was lost. */
  isLeaving: boolean;
  /** It has been assigned to the session. */
  isRead: boolean;
}

/** While the shards are not spread evenly, the longest time between two rounds, in milliseconds. */
const UNSETTLED_INTERVAL = 1_000;
/** Longest wait, in milliseconds, until one round follows for all shards that move at about the same time. */
const ROUND_SOON = 200;
/** Leases, and members that are still there, are renewed so many times in a lease time. */
const RENEWALS = 3;
/** How often in a lease time it is checked whether leases are still valid. */
const CHECKS = 20;
/** How long the end of a consumer waits for Redis to take its leases back, in milliseconds. */
const RELEASE_LIMIT = 1_000;
/** Between two looks whether the handlers of a shard that is handed over have ended, in milliseconds. */
const DRAIN_INTERVAL = 20;

/**
 * Owns the leases of one consumer: decides together with the other members of the group, and without a coordinator, which of
 * the shards its session reads. The rule is {@link wantedShards}.
 *
 * A round reports to the other members and takes what is missing: first shards without an owner, then it asks the owners of
 * others. Leases are renewed beside the rounds. A shard whose renewal says that another member wants it is handed over: stop
 * reading, give back what no handler has, wait for handlers, commit, release. A shard whose lease is lost is dropped.
 *
 * A lease that cannot be renewed ends here earlier than on the server, see {@link ShardLease}.
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
  /** Renews while the event loop of this process is blocked. */
  readonly #thread: RenewalClient | undefined;
  readonly #owned = new Map<string, OwnedShard>();
  /** What the last round of a stream has seen. */
  readonly #shares = new Map<string, GroupShares & { readonly shards: number; readonly lookAt: number | undefined }>();
  /** Keys of shards that this consumer owned when their leases were lost: they come first when it takes some. */
  readonly #former = new Set<string>();
  /** Keys of shards that this consumer has asked others for, and was not given. */
  readonly #asked = new Set<string>();
  readonly #closing = new AbortController();
  /** Changes of what the session reads are made one after the other. */
  #changes: Promise<void> = Promise.resolve();
  #round: Promise<void> | undefined;
  #roundTimer: NodeJS.Timeout | undefined;
  /** Something has changed during a round. */
  #isRoundDue = false;
  #renewTimer: NodeJS.Timeout | undefined;
  #checkTimer: NodeJS.Timeout | undefined;
  readonly #failure: RepeatedFailure;
  #isOpen = false;
  #isSettled = false;

  constructor(session: ConsumerSession, listener: OwnershipListener) {
    const { environment, options } = session;
    this.environment = environment;
    this.options = options;
    this.#session = session;
    this.#listener = listener;
    this.#failure = new RepeatedFailure((error) => listener.onError(error));
    this.#commands = environment.control.ownership;
    this.#group = options.group as string;
    if (options.leaseRenewal === 'thread') {
      const onFailure = (error: RedisStreamsError): void => listener.onError(error);
      const every = options.leaseTime / RENEWALS;
      this.#thread = environment.createRenewalClient({ every, limit: session.maxHandlerTime, onFailure });
    }
    session.acknowledgeBy((partition, ids) => this.ack(partition.key, ids));
  }

  /** Fixes the start position of every shard, takes the first share, then starts to read. */
  async open(partitions: readonly Partition[]): Promise<void> {
    for (const { key, streamKey } of partitions) {
      this.#commands.requireSideKeys({ streamKey: key, group: this.#group });
      this.#commands.requireSideKeys({ streamKey, group: this.#group });
    }
    await this.add(partitions, false);
    if (!this.#isOpen) await this.#session.open([]);
    this.#isOpen = true;
    const { leaseTime } = this.options;
    // Before the first shard is taken: to take many may last longer than a lease.
    this.#renewTimer ??= setInterval(() => this.#renewAll(), leaseTime / RENEWALS);
    this.#checkTimer ??= setInterval(() => this.#checkAll(), leaseTime / CHECKS);
    await this.#balanceAll();
    this.#schedule();
  }

  /** Shares more partitions with the group. */
  async add(partitions: readonly Partition[], isAllNew: boolean): Promise<void> {
    const known = new Set(this.partitions.current.map(({ key }) => key));
    const added = partitions.filter(({ key }) => !known.has(key));
    for (const partition of added) await this.fixStart(partition, isAllNew);
    this.partitions.add(added);
    this.#roundSoon();
  }

  /** Shares these partitions no more: those of them that this consumer owns are handed over. */
  async remove(partitions: readonly Partition[]): Promise<void> {
    this.partitions.remove(partitions);
    const left = new Set(this.partitions.current.map(({ streamKey }) => streamKey));
    await Promise.all(this.#ownedOf(partitions).map((shard) => this.#handOver(shard)));
    const gone = new Set(partitions.map(({ streamKey }) => streamKey).filter((streamKey) => !left.has(streamKey)));
    for (const streamKey of gone) {
      this.#shares.delete(streamKey);
      await this.#attempt(() => this.#commands.leave(streamKey, this.#group, this.options.consumer));
    }
  }

  /** What this consumer owns and reads now. */
  get assignments(): readonly ShardAssignment[] {
    const read = [...this.#owned.values()].filter(({ isLeaving, isRead }) => isRead && !isLeaving);
    return read.map(({ partition, lease }) => new ShardAssignment(partition, lease.generation));
  }

  /** Acknowledges entries of a shard. @throws ShardLeaseLostError when this consumer does not own it any more */
  async ack(key: string, ids: readonly string[]): Promise<number> {
    const shard = this.#owned.get(key);
    const acknowledged = shard && (await this.#commands.ack(shard.lease, ids));
    if (acknowledged !== undefined) return acknowledged;
    if (shard) this.#lose(shard);
    throw new ShardLeaseLostError(key, this.#group, ids.length);
  }

  /** Takes no more shards; those that are owned stay so until {@link release}. Never rejects. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#roundTimer);
    await within(RELEASE_LIMIT, Promise.all([this.#round, this.#changes]));
  }

  /** After the session has left: gives the leases back. Never rejects. */
  async release(): Promise<void> {
    clearInterval(this.#renewTimer);
    clearInterval(this.#checkTimer);
    const owned = [...this.#owned.values()];
    this.#owned.clear();
    const { consumer } = this.options;
    const streamKeys = new Set(this.partitions.current.map(({ streamKey }) => streamKey));
    await within(
      RELEASE_LIMIT,
      Promise.all([
        ...owned.map((shard) => this.#attempt(() => this.#commands.release(shard.lease))),
        ...[...streamKeys].map((key) => this.#attempt(() => this.#commands.leave(key, this.#group, consumer))),
      ]),
    );
    await this.#thread?.close();
    for (const shard of owned) {
      shard.lease.end();
      this.#announceRevoked(shard);
    }
  }

  /** Before the partition is read, or before it is shared with the group. */
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

  #ownedOf(partitions: readonly StreamShard[]): OwnedShard[] {
    return [...this.#owned.values()].filter(({ candidate }) => partitions.includes(candidate));
  }

  #roundSoon(): void {
    if (this.#round) this.#isRoundDue = true;
    else if (this.#roundTimer) this.#schedule(ROUND_SOON * Math.random());
  }

  #schedule(delay = this.#delayOfNextRound): void {
    clearTimeout(this.#roundTimer);
    if (!this.#isClosed) this.#roundTimer = setTimeout(() => void this.#runRound(), delay);
  }

  /** Spread, so that the members of a group that started together do not all begin a round at the same moment. */
  get #delayOfNextRound(): number {
    const settled = this.options.leaseTime / RENEWALS;
    const delay = this.#isSettled ? settled : Math.min(settled, UNSETTLED_INTERVAL);
    return delay * (0.75 + 0.25 * Math.random());
  }

  /** Never rejects. */
  async #runRound(): Promise<void> {
    if (this.#round) return;
    this.#round = this.#balanceAll().then(
      () => this.#failure.succeeded(),
      (error: unknown) => {
        const names = [...new Set(this.partitions.current.map(({ streamKey }) => streamKey))].join("', '");
        const failure = toPublicError(error, names, 'sharing the shards of');
        if (!this.#isClosed) this.#failure.failed(failure);
      },
    );
    await this.#round;
    this.#round = undefined;
    this.#schedule(this.#isRoundDue ? ROUND_SOON * Math.random() : undefined);
    this.#isRoundDue = false;
  }

  /** One round of all streams. @throws the failure of the first stream that has one, after all had their turn */
  async #balanceAll(): Promise<void> {
    const failures: unknown[] = [];
    let isSettled = true;
    const readable = this.partitions.current.filter(({ isReadable }) => isReadable);
    for (const [streamKey, partitions] of groupBy(readable, ({ streamKey }) => streamKey)) {
      if (this.#isClosed) return;
      try {
        isSettled = (await this.#balance(streamKey, partitions)) && isSettled;
      } catch (error) {
        failures.push(error);
      }
    }
    this.#isSettled = isSettled && failures.length === 0;
    if (failures.length > 0) throw failures[0];
  }

  /** One round of one stream. Returns whether this consumer has its share. */
  async #balance(streamKey: string, partitions: readonly Partition[]): Promise<boolean> {
    const { consumer, leaseTime: ttl } = this.options;
    const owned = this.#ownedOf(partitions).filter(({ isLeaving }) => !isLeaving).length;
    const load = this.#owned.size;
    const shards = partitions.length;
    const report = { streamKey, group: this.#group, consumer, ttl, shards, owned, load };
    const shares = await this.#commands.join(report);
    const wanted = wantedShards({ ...shares, shards, owned, load });
    await this.#withdrawRequests(partitions, wanted.fromOthers);
    const isSettled = wanted.free + wanted.fromOthers === 0;
    const now = monotonicNow();
    const interval = lookInterval(shards, shares.members);
    const lookAt = isSettled ? undefined : (this.#shares.get(streamKey)?.lookAt ?? now + interval * Math.random());
    const isDue = lookAt !== undefined && lookAt <= now;
    this.#shares.set(streamKey, { ...shares, shards, lookAt: isDue ? now + interval : lookAt });
    if (!isDue) return isSettled;
    const others = this.#inOrder(partitions.filter(({ key }) => !this.#owned.has(key)));
    const found = await this.#commands.owners(others.map(({ key }) => ({ streamKey: key, group: this.#group })));
    // A node of a cluster that is away holds up the shards of no other.
    const failure = found.find((owner) => owner instanceof Error);
    const known = others.filter((_, index) => !(found[index] instanceof Error));
    const owners = found.filter((owner): owner is ShardOwner | undefined => !(owner instanceof Error));
    let taken = 0;
    for (const [index, candidate] of known.entries()) {
      if (taken === wanted.free || this.#isClosed) break;
      const owner = owners[index];
      if ((owner === undefined || owner.consumer === consumer) && (await this.#take(candidate))) taken += 1;
    }
    const missing = wanted.fromOthers - taken;
    if (missing > 0) await this.#ask(known, owners, missing, smallestShare(shards, shares.members));
    if (failure) throw failure;
    return false;
  }

  /** First the shards that this consumer owned before. Members begin at different places, so that they do not all try the same shard. */
  #inOrder(candidates: readonly Partition[]): readonly Partition[] {
    const start = Math.floor(Math.random() * candidates.length);
    const turned = [...candidates.slice(start), ...candidates.slice(0, start)];
    const isFormer = ({ key }: Partition): boolean => this.#former.has(key);
    return [...turned.filter(isFormer), ...turned.filter((candidate) => !isFormer(candidate))];
  }

  /** Asks the owners, first those with the most, for what is above the smallest share. Requests of earlier rounds count. */
  async #ask(
    candidates: readonly Partition[],
    owners: ReadonlyArray<ShardOwner | undefined>,
    missing: number,
    least: number,
  ): Promise<void> {
    const { consumer, leaseTime } = this.options;
    const wanted = await this.#commands.wanted(candidates.map(({ key }) => ({ streamKey: key, group: this.#group })));
    const asked = wanted.filter((by) => by === consumer).length;
    const byOwner = groupBy(candidates, (_, index) =>
      wanted[index] === undefined ? owners[index]?.consumer : undefined,
    );
    const mostFirst = [...byOwner.values()].sort((one, other) => other.length - one.length);
    const spare = mostFirst.flatMap((shards) => shards.slice(0, Math.max(0, shards.length - least)));
    for (const { key } of spare.slice(0, Math.max(0, missing - asked))) {
      if (await this.#commands.ask({ streamKey: key, group: this.#group }, consumer, leaseTime)) this.#asked.add(key);
    }
  }

  /** Only this member may take a shard that it has asked for. When members join, it needs fewer: the others may have those. */
  async #withdrawRequests(partitions: readonly Partition[], needed: number): Promise<void> {
    const asked = partitions.filter(({ key }) => this.#asked.has(key));
    for (const { key } of asked.slice(needed)) {
      await this.#commands.withdraw({ streamKey: key, group: this.#group }, this.options.consumer);
      this.#asked.delete(key);
    }
  }

  /** Returns whether this consumer owns the shard now. */
  async #take(candidate: Partition): Promise<boolean> {
    const { consumer, leaseTime } = this.options;
    const { key, streamKey, shardId } = candidate;
    const shard = { streamKey: key, group: this.#group };
    const sentAt = monotonicNow();
    const generation = await this.#commands.acquire(shard, consumer, leaseTime);
    if (generation === undefined) return false;
    const held = { ...shard, consumer, generation };
    const { key: leaseKey } = this.#commands.threadLeaseOf(held, leaseTime);
    const renewedByThread = (): number => this.#thread?.renewedAt(leaseKey) ?? -Infinity;
    const lease = new ShardLease(held, sentAt, leaseTime, renewedByThread);
    const partition = new Partition(streamKey, shardId, key, lease);
    partition.mustExist = candidate.mustExist;
    const owned: OwnedShard = { candidate, partition, lease, renewing: undefined, isLeaving: false, isRead: false };
    this.#owned.set(key, owned);
    this.#former.delete(key);
    this.#updateThread();
    this.#asked.delete(key);
    try {
      await this.#change(async () => {
        const isRemoved = !this.partitions.current.includes(candidate);
        if (this.#isClosed || isRemoved) throw new ConsumerEndedError();
        if (!owned.isLeaving) await this.#session.add([partition], false);
      });
    } catch (error) {
      await this.#giveUp(owned);
      if (error instanceof ConsumerEndedError) return false;
      throw error;
    }
    if (owned.isLeaving) return false;
    owned.isRead = true;
    this.#listener.onAssigned(new ShardAssignment(candidate, generation));
    return true;
  }

  async #giveUp(shard: OwnedShard): Promise<void> {
    shard.lease.end();
    if (this.#owned.get(shard.candidate.key) === shard) this.#owned.delete(shard.candidate.key);
    await this.#attempt(() => this.#commands.release(shard.lease));
  }

  #renewAll(): void {
    this.#updateThread();
    for (const shard of this.#owned.values()) void this.#renew(shard);
  }

  #updateThread(): void {
    const { leaseTime } = this.options;
    const owned = [...this.#owned.values()];
    this.#thread?.setLeases(owned.map(({ lease }) => this.#commands.threadLeaseOf(lease, leaseTime)));
  }

  /** Never rejects. */
  #renew(shard: OwnedShard): Promise<void> {
    shard.renewing ??= this.#renewNow(shard)
      .catch((error: unknown) => {
        const { key } = shard.candidate;
        this.environment.logger.debug(`The lease of the shard '${key}' was not renewed: ${errorText(error)}`);
      })
      .finally(() => (shard.renewing = undefined));
    return shard.renewing;
  }

  async #renewNow(shard: OwnedShard): Promise<void> {
    const { leaseTime } = this.options;
    const sentAt = monotonicNow();
    const renewed = await this.#commands.renew(shard.lease, leaseTime);
    if (this.#owned.get(shard.candidate.key) !== shard) return;
    if (!renewed) return this.#lose(shard);
    shard.lease.renewed(sentAt);
    const { wantedBy } = renewed;
    if (wantedBy === undefined || wantedBy === this.options.consumer || shard.isLeaving) return;
    if (this.#isAboveShare(shard)) void this.#handOver(shard);
  }

  #isAboveShare({ partition: { streamKey } }: OwnedShard): boolean {
    const shares = this.#shares.get(streamKey);
    const owned = [...this.#owned.values()].filter(
      ({ partition, isLeaving }) => partition.streamKey === streamKey && !isLeaving,
    );
    return shares !== undefined && owned.length > smallestShare(shares.shards, shares.members);
  }

  /** A lease that is over may not have been lost: a process that stood still for a moment asks once more. */
  #checkAll(): void {
    for (const shard of this.#owned.values()) {
      if (shard.lease.isValid) continue;
      void within(this.options.leaseTime / CHECKS, this.#renew(shard)).then(() => {
        if (!shard.lease.isValid) this.#lose(shard);
      });
    }
  }

  /** Hands nothing of the shard out any more, and aborts the signals of its handlers. */
  #lose(shard: OwnedShard): void {
    const { candidate, lease, partition } = shard;
    if (this.#owned.get(candidate.key) !== shard) return;
    shard.isLeaving = true;
    lease.end();
    this.#owned.delete(candidate.key);
    this.#former.add(candidate.key);
    this.#session.fence(partition);
    this.#listener.onError(new ShardLeaseLostError(candidate.key, this.#group, 0));
    void this.#changeQuietly(() => this.#session.remove([partition]));
    this.#announceRevoked(shard);
    this.#roundSoon();
  }

  /** Never rejects. */
  async #handOver(shard: OwnedShard): Promise<void> {
    if (shard.isLeaving) return;
    shard.isLeaving = true;
    const { candidate, partition } = shard;
    await this.#changeQuietly(() => this.#session.remove([partition]));
    await this.#drain(partition);
    // The end of the consumer waits for its handlers, and gives the lease back.
    if (this.#isClosed) return;
    // Lost in between.
    if (this.#owned.get(candidate.key) !== shard) return;
    this.#session.fence(partition);
    await this.#session.removeName(partition);
    await this.#giveUp(shard);
    this.#announceRevoked(shard);
    this.#roundSoon();
  }

  #announceRevoked({ partition, lease, isRead }: OwnedShard): void {
    if (isRead) this.#listener.onRevoked(new ShardAssignment(partition, lease.generation));
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
