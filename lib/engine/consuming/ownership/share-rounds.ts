import { REFUSAL_BACKOFF, backoffDelay, within } from '../../../shared/backoff.js';
import { monotonicNow } from '../../../shared/clock.js';
import type { RedisStreamsError } from '../../../errors.js';
import { toPublicError } from '../../../redis/commands/redis-error.js';
import type { GroupShares, OwnershipCommands, ShardOwner } from '../../../redis/commands/shard-owners.js';
import type { ResolvedConsumerOptions } from '../../options/resolve-options.js';
import { sumOf } from '../../../shared/sums.js';
import { groupBy } from '../partition.js';
import type { Partition, PartitionSet } from '../partition.js';
import { leaseScanInterval, smallestShare, wantedShards } from './fair-share.js';
import { RENEWALS } from './shard-leases.js';
import type { OwnedShard, ShardLeases } from './shard-leases.js';
import { ShardRequests } from './shard-requests.js';

export interface ShareRoundsOptions {
  readonly consumer: Pick<ResolvedConsumerOptions, 'consumer' | 'leaseTime'>;
  readonly group: string;
  readonly commands: OwnershipCommands;
  readonly leases: Pick<ShardLeases, 'size' | 'among' | 'find' | 'held' | 'wasLost'>;
  /** All shards of the group. */
  readonly partitions: Pick<PartitionSet, 'current'>;
  /** Acquires the shard and reads it. Returns whether this consumer owns it now. */
  readonly take: (candidate: Partition) => Promise<boolean>;
  readonly closing: AbortSignal;
  readonly onError: (error: RedisStreamsError) => void;
}

/** What the rounds know of one stream. */
interface StreamShare {
  /** What the last round has seen. */
  seen: (GroupShares & { readonly shards: number }) | undefined;
  /** When the leases of all shards are read next, while this consumer does not have its share. */
  scanAt: number | undefined;
  /** Whether this consumer has its share. */
  isSettled: boolean;
  /** How many shards it is about to take, or has asked for. */
  coming: number;
  /** The round that is under way. Resolves to its failure. */
  round: Promise<RedisStreamsError | undefined> | undefined;
  /** How many rounds have failed one after the other, with which code, since when, and when the next one may begin. */
  failures: number;
  failureCode: string | undefined;
  failedAt: number;
  retryAt: number;
}

/** A stream that has a round, with its shards that can be read. */
interface SharedStream {
  readonly streamKey: string;
  readonly partitions: readonly Partition[];
  readonly share: StreamShare;
}

/** While the shards are not spread evenly, the longest time between two rounds, in milliseconds. */
const UNSETTLED_INTERVAL = 1_000;
/** Longest wait, in milliseconds, until one round follows for all shards that move at about the same time. */
const ROUND_SOON = 200;
/** Streams that begin to fail within this time, with the same code, are reported as one, in milliseconds. */
const SAME_OUTAGE = 5_000;
/** How long the next rounds wait for one that does not end, because a node does not answer, in milliseconds. */
const ROUND_LIMIT = 1_000;

/**
 * Decides together with the other members of the group, and without a coordinator, how many shards of each stream this consumer owns. The
 * rule is {@link wantedShards}.
 *
 * A round of a stream reports to the other members and takes what is missing: first shards without an owner. Then it asks
 * owners for shards. The streams have their rounds at the same time: one whose node is away holds up no other, and is tried again
 * with a back-off.
 */
export class ShareRounds {
  readonly #options: ShareRoundsOptions;
  readonly #requests: ShardRequests;
  readonly #streams = new Map<string, StreamShare>();
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  /** Something has changed during a round. */
  #isDue = false;

  constructor(options: ShareRoundsOptions) {
    const { group, commands, consumer } = options;
    this.#options = options;
    this.#requests = new ShardRequests({ group, commands, ...consumer });
  }

  /** The first round of every stream; others follow by time. May be repeated after a failure. @throws the first failure */
  async start(): Promise<void> {
    const failures = await Promise.all(this.#streamsNow().map((stream) => stream.share.round ?? this.#begin(stream)));
    const failure = failures.find((each) => each !== undefined);
    if (failure) throw failure;
    this.#schedule();
  }

  /** Something has changed that the other members, or this one, should react to. Without effect before {@link start}. */
  soon(): void {
    if (this.#isRunning) this.#isDue = true;
    else if (this.#timer) this.#schedule(ROUND_SOON * Math.random());
  }

  /** Waits for the rounds that are under way, and asks the other members for nothing more. */
  async end(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#withdraw(this.#options.partitions.current);
  }

  /** These partitions are not shared any more. */
  async forget(partitions: readonly Partition[]): Promise<void> {
    await within(ROUND_LIMIT, this.#withdraw(partitions));
    const left = new Set(this.#options.partitions.current.map(({ streamKey }) => streamKey));
    for (const { streamKey } of partitions) if (!left.has(streamKey)) this.#streams.delete(streamKey);
  }

  /** A stream whose node does not answer keeps no request for another one. */
  async #withdraw(partitions: readonly Partition[]): Promise<void> {
    await Promise.all(
      [...groupBy(partitions, ({ streamKey }) => streamKey)].map(async ([streamKey, ofStream]) => {
        await this.#streams.get(streamKey)?.round;
        await this.#requests.withdraw(ofStream);
      }),
    );
  }

  /** Whether an owner may hand over one shard of the stream. */
  isAboveShare(streamKey: string): boolean {
    const seen = this.#streams.get(streamKey)?.seen;
    const owned = this.#options.leases.held.filter((shard) => shard.partition.streamKey === streamKey && isKept(shard));
    return seen !== undefined && owned.length > smallestShare(seen.shards, seen.members);
  }

  #streamsNow(): SharedStream[] {
    const readable = this.#options.partitions.current.filter(({ isReadable }) => isReadable);
    return [...groupBy(readable, ({ streamKey }) => streamKey)].map(([streamKey, partitions]) => {
      const share = this.#streams.get(streamKey) ?? newShare();
      this.#streams.set(streamKey, share);
      return { streamKey, partitions, share };
    });
  }

  #schedule(delay = this.#delay): void {
    clearTimeout(this.#timer);
    if (!this.#options.closing.aborted) this.#timer = setTimeout(() => void this.#runDue(), delay);
  }

  get #renewalInterval(): number {
    return this.#options.consumer.leaseTime / RENEWALS;
  }

  /** Spread, so that the members of a group that started together do not all begin a round at the same moment. */
  get #delay(): number {
    const settled = this.#renewalInterval;
    const isSettled = this.#streamsNow().every(({ share }) => share.isSettled);
    const delay = isSettled ? settled : Math.min(settled, UNSETTLED_INTERVAL);
    return delay * (0.75 + 0.25 * Math.random());
  }

  /** Never rejects. */
  async #runDue(): Promise<void> {
    this.#isRunning = true;
    const now = monotonicNow();
    const due = this.#streamsNow().filter(({ share }) => !share.round && share.retryAt <= now);
    await within(ROUND_LIMIT, Promise.all(due.map((stream) => this.#begin(stream))));
    this.#isRunning = false;
    this.#schedule(this.#isDue ? ROUND_SOON * Math.random() : undefined);
    this.#isDue = false;
  }

  /** Never rejects. */
  #begin(stream: SharedStream): Promise<RedisStreamsError | undefined> {
    const { share } = stream;
    const round = this.#balance(stream).then(
      (isSettled) => {
        Object.assign(share, { isSettled, failures: 0, failureCode: undefined } satisfies Partial<StreamShare>);
        return undefined;
      },
      (error: unknown) => this.#failed(stream, error),
    );
    share.round = round.finally(() => {
      share.round = undefined;
      share.coming = this.#requests.countOf(stream.partitions);
      // Others did not wait for it.
      if (!this.#isRunning) this.soon();
    });
    return share.round;
  }

  /** A failure that many streams have, such as an outage, is reported once. */
  #failed({ share, streamKey }: SharedStream, error: unknown): RedisStreamsError {
    const failure = toPublicError(error, streamKey, 'sharing the shards of');
    const now = monotonicNow();
    const isKnown = [...this.#streams.values()].some(
      (other) => other.failureCode === failure.code && (other === share || now - other.failedAt < SAME_OUTAGE),
    );
    share.isSettled = false;
    share.failures += 1;
    if (share.failureCode !== failure.code) share.failedAt = now;
    share.failureCode = failure.code;
    // A member that does not report for a lease time counts no more.
    share.retryAt = now + Math.min(backoffDelay(REFUSAL_BACKOFF, share.failures), this.#renewalInterval);
    if (!isKnown && this.#timer && !this.#options.closing.aborted) this.#options.onError(failure);
    return failure;
  }

  /** One round of one stream. Returns whether this consumer has its share. */
  async #balance({ share, streamKey, partitions }: SharedStream): Promise<boolean> {
    const { commands, group, leases, closing } = this.#options;
    const { consumer, leaseTime: ttl } = this.#options.consumer;
    const owned = leases.among(partitions).filter(isKept).length;
    const shards = partitions.length;
    const shares = await commands.join({ streamKey, group, consumer, ttl, shards, owned, load: leases.size });
    // The streams decide at the same time. What comes from one counts for the others, as if it had been moved already.
    const coming = sumOf([...this.#streams.values()].map((other) => (other === share ? 0 : other.coming)));
    const load = leases.size + coming;
    const wanted = wantedShards({ ...shares, shards, owned, load, loadOfMost: shares.loadOfMost - coming });
    share.coming = Math.max(wanted.free, wanted.fromOthers);
    share.seen = { ...shares, shards };
    await this.#requests.keep(partitions, wanted.fromOthers);
    if (wanted.free + wanted.fromOthers === 0) {
      share.scanAt = undefined;
      return true;
    }
    if (!isScanDue(share, leaseScanInterval(shards, shares.members))) return false;
    const others = this.#inOrder(partitions.filter(({ key }) => !leases.find(key)));
    const found = await commands.owners(others.map(({ key }) => ({ streamKey: key, group })));
    // A node of a cluster that is away holds up the shards of no other.
    const failure = found.find((owner) => owner instanceof Error);
    const candidates = others.filter((_, index) => !(found[index] instanceof Error));
    const owners = found.filter((owner): owner is ShardOwner | undefined => !(owner instanceof Error));
    const free = candidates.filter((_, index) => [undefined, consumer].includes(owners[index]?.consumer));
    const missing = wanted.fromOthers - (await this.#takeFree(free, wanted.free));
    const least = smallestShare(shards, shares.members);
    const isStillShared = partitions.every((partition) => this.#options.partitions.current.includes(partition));
    if (missing > 0 && isStillShared && !closing.aborted)
      await this.#requests.ask({ candidates, owners, missing, least });
    if (failure) throw failure;
    return false;
  }

  /** Takes as many at a time as are missing. Returns how many were taken. @throws the first failure, after the others */
  async #takeFree(candidates: readonly Partition[], count: number): Promise<number> {
    let taken = 0;
    for (let at = 0; at < candidates.length && taken < count && !this.#options.closing.aborted;) {
      const tried = candidates.slice(at, at + count - taken);
      at += tried.length;
      const results = await Promise.allSettled(tried.map((candidate) => this.#take(candidate)));
      taken += results.filter((result) => result.status === 'fulfilled' && result.value).length;
      const failed = results.find((result) => result.status === 'rejected');
      if (failed) throw failed.reason;
    }
    return taken;
  }

  async #take(candidate: Partition): Promise<boolean> {
    const isTaken = await this.#options.take(candidate);
    if (isTaken) this.#requests.forget(candidate);
    return isTaken;
  }

  /** First the shards that this consumer owned before. Members begin at different places, so that they do not all try the same shard. */
  #inOrder(candidates: readonly Partition[]): readonly Partition[] {
    const start = Math.floor(Math.random() * candidates.length);
    const turned = [...candidates.slice(start), ...candidates.slice(0, start)];
    const wasLost = ({ key }: Partition): boolean => this.#options.leases.wasLost(key);
    return [...turned.filter(wasLost), ...turned.filter((candidate) => !wasLost(candidate))];
  }
}

function newShare(): StreamShare {
  return {
    seen: undefined,
    scanAt: undefined,
    isSettled: false,
    coming: 0,
    round: undefined,
    failures: 0,
    failureCode: undefined,
    failedAt: 0,
    retryAt: 0,
  };
}

function isKept({ isLeaving }: OwnedShard): boolean {
  return !isLeaving;
}

/** Whether all leases may be read now. Members that want shards at the same time do not read them all at the same time. */
function isScanDue(share: StreamShare, interval: number): boolean {
  const now = monotonicNow();
  share.scanAt ??= now + interval * Math.random();
  if (share.scanAt > now) return false;
  share.scanAt = now + interval;
  return true;
}
