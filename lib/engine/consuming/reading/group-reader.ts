import { monotonicNow } from '../../../shared/clock.js';
import { ID_BEFORE_ALL } from '../../../constants.js';
import { StreamMissingError } from '../../../errors.js';
import type { RedisStreamsLogger } from '../../../shared/logger.js';
import { compareEntryIds } from '../../../redis/commands/entry-id.js';
import { classifyRedisError } from '../../../redis/commands/redis-error.js';
import type {
  GroupCommands,
  PendingCommands,
  PendingEntry,
  ReadCommands,
} from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';
import type { Claims } from '../recovery/claims.js';
import type { AutoStreamReset } from '../../options/options.js';
import { ReadRotation } from './read-rotation.js';
import { failWrongTypes } from './stream-reader.js';
import type { ReadBudget, ReadPage, StreamReader } from './stream-reader.js';

export interface GroupReaderOptions {
  /** Over the connection that may block. */
  readonly reading: Pick<ReadCommands, 'readGroup'>;
  /** Over a connection that never blocks. */
  readonly control: Pick<ReadCommands, 'streamInfo'>;
  readonly groups: Pick<GroupCommands, 'createGroup' | 'groups'>;
  readonly pending: Pick<PendingCommands, 'pending' | 'restore'>;
  readonly claims: Claims;
  readonly group: string;
  readonly consumer: string;
  readonly autoStreamReset: AutoStreamReset;
  readonly mkStream: boolean;
  /** With NOACK nothing becomes pending. */
  readonly noAck: boolean;
  /** Epoch of the reading connection. */
  readonly epoch: () => number;
  /** Longest BLOCK of a read, in milliseconds. */
  readonly blockTimeout: number;
  readonly logger: RedisStreamsLogger;
}

/** One page of pending entries that this process does not own. */
interface Orphans {
  readonly partition: Partition;
  readonly generation: number;
  /** Where the page begins, and where the next one does; undefined at the beginning and at the end. */
  readonly after: string | undefined;
  readonly next: string | undefined;
  readonly missing: readonly PendingEntry[];
}

/** Partitions whose pending entries are looked at in one write. */
const RECOVERED_AT_ONCE = 64;
/** Pending entries that are looked at to see whether a group has vanished. */
const HELD_AT_ONCE = 100;
/** How much later than requested the server may end a blocked read, in milliseconds. */
const BLOCK_OVERSHOOT = 200;

/**
 * Reads for a consumer group (XREADGROUP). First the consumer's own pending entries, at the start and after every reconnect,
 * because a reply that was lost has left its entries there; then new ones. Where the group is missing it creates the group
 * at the right position.
 *
 * It never returns an entry that this process owns.
 */
export class GroupReader implements StreamReader {
  readonly #options: GroupReaderOptions;
  readonly #rotation = new ReadRotation();

  constructor(options: GroupReaderOptions) {
    this.#options = options;
  }

  async open(partition: Partition, isAllNew: boolean): Promise<void> {
    const start = await fixGroupStart(partition, isAllNew, this.#options);
    if (partition.failure) return;
    partition.position = start ?? (await this.#groupPosition(partition));
  }

  async read(partitions: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    // No `await` unless it is needed: the read must be sent before the loop hands on the page that it has.
    const mustRecover = !budget.isAhead && this.#mustRecover(partitions);
    const recovered = mustRecover ? await this.recoverOwn(partitions, budget) : [];
    if (recovered.length > 0) return recovered;

    const turn = this.#rotation.plan(partitions, budget);
    const generations = turn.partitions.map((partition) => partition.generation);
    const { group, consumer, noAck, reading } = this.#options;
    const request = {
      group,
      consumer,
      noAck,
      count: turn.count,
      block: turn.block,
      // With NOACK, what the second command finds for a connection that is gone would be lost, not pending.
      expectsSeveral: turn.expectsSeveral && !noAck,
      streamKeys: turn.partitions.map((partition) => partition.key),
      onCount: budget.onCount,
    };
    const pages = await reading.readGroup(request).catch((error: unknown) => {
      // The second of two commands may have found entries when the first has failed.
      if (request.expectsSeveral) for (const partition of turn.partitions) partition.recoveredEpoch = 0;
      throw error;
    });
    const byKey = new Map(pages.map((page) => [page.streamKey, page.entries]));
    this.#rotation.note(turn, byKey);
    return turn.partitions.flatMap((partition, index) => {
      const entries = byKey.get(partition.key);
      const generation = generations[index] as number;
      if (entries && partition.generation === generation) partition.position = entries.at(-1)?.id ?? partition.position;
      return entries ? [{ partition, generation, entries }] : [];
    });
  }

  /** A recovery must wait for the page: its entries are pending, and not owned by this process yet. */
  mayReadAhead(partitions: readonly Partition[]): boolean {
    return partitions.length === 1 && !this.#mustRecover(partitions);
  }

  async heal(partitions: readonly Partition[], error: unknown): Promise<void> {
    const kind = classifyRedisError(error);
    if (kind === 'wrong-type') return failWrongTypes(partitions, error, this.#options.control);
    if (kind !== 'group-missing' && kind !== 'stream-gone') throw error;
    const failures: unknown[] = [];
    // The reply names one stream, in words that differ between servers. Checking each costs one command.
    for (const partition of partitions) {
      try {
        await this.#createAgain(partition);
      } catch (failure) {
        if (classifyRedisError(failure) === 'wrong-type') {
          await failWrongTypes([partition], failure, this.#options.control);
        } else {
          failures.push(failure);
        }
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /**
   * Recovers the consumer's own entries that are pending and not owned by this process: one page of many partitions at a time. A failure
   * loses no entry that was claimed beside it. Entries that were pending before this consumer started are those of an
   * earlier process; {@link Claims} decides how they are counted. Those that a lost connection left behind were never
   * handed out.
   *
   * A second recovery follows when the longest block time is over: the server may not know yet that the old connection is
   * dead, and then delivers the next entries to the read that is still blocked there, after the first recovery.
   */
  async recoverOwn(partitions: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    // The epoch before the recovery: if the connection is lost during it, another recovery must follow.
    const epoch = this.#options.epoch();
    for (;;) {
      const next = partitions.filter((partition) => this.#isUnrecovered(partition, epoch)).slice(0, RECOVERED_AT_ONCE);
      if (next.length === 0) return [];
      const orphans = await Promise.all(next.map((partition) => this.#orphansOf(partition, budget)));
      const pages = await this.#recoverAll(orphans, budget.credit, epoch);
      if (pages.length > 0) return pages;
    }
  }

  /** As many as there are places for; the others are looked at again. */
  async #recoverAll(all: readonly Orphans[], credit: number, epoch: number): Promise<ReadPage[]> {
    let rest = credit;
    const recovered = all.flatMap((orphans) => {
      const places = Math.min(rest, orphans.missing.length);
      rest -= places;
      return places > 0 || orphans.missing.length === 0 ? [this.#recover(orphans, places, epoch)] : [];
    });
    const outcomes = await Promise.allSettled(recovered);
    const pages = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? outcome.value : []));
    // The partition that failed is asked again, and fails again.
    for (const outcome of outcomes) if (outcome.status === 'rejected' && pages.length === 0) throw outcome.reason;
    return pages;
  }

  /** One page of what is pending for this consumer and not owned by this process. */
  async #orphansOf(partition: Partition, { batchSize }: ReadBudget): Promise<Orphans> {
    const { group, consumer, pending } = this.#options;
    const { generation, recoveryCursor: after } = partition;
    const count = Math.max(batchSize, 100);
    const page = await pending.pending(partition.key, group, { after, count, consumer });
    const missing = page.filter(({ id }) => !partition.owned.has(id));
    return { partition, generation, after, missing, next: page.length < count ? undefined : page.at(-1)?.id };
  }

  async #recover(
    { partition, generation, after, missing, next }: Orphans,
    places: number,
    epoch: number,
  ): Promise<ReadPage[]> {
    const wanted = missing.slice(0, places);
    const entries = await this.#options.claims.recover(partition, wanted, !partition.hasRecoveredOnce);
    if (wanted.length < missing.length) {
      partition.recoveryCursor = wanted.at(-1)?.id ?? after;
    } else if (next === undefined) {
      partition.lookAgainAt =
        partition.recoveredEpoch === epoch ? Infinity : monotonicNow() + this.#options.blockTimeout + BLOCK_OVERSHOOT;
      partition.recoveredEpoch = epoch;
      partition.recoveryCursor = undefined;
      partition.hasRecoveredOnce = true;
      if (!partition.isPaused) partition.givenBack.clear();
    } else {
      partition.recoveryCursor = next;
    }
    return entries.length > 0 ? [{ partition, generation, entries }] : [];
  }

  #mustRecover(partitions: readonly Partition[]): boolean {
    const epoch = this.#options.epoch();
    return partitions.some((partition) => this.#isUnrecovered(partition, epoch));
  }

  #isUnrecovered({ hasRecoveredOnce, recoveredEpoch, lookAgainAt }: Partition, epoch: number): boolean {
    // With NOACK only an earlier run with another commit policy can have left pending entries.
    if (this.#options.noAck && hasRecoveredOnce) return false;
    return recoveredEpoch !== epoch || (lookAgainAt < Infinity && monotonicNow() >= lookAgainAt);
  }

  /**
   * Creates a vanished group again: at the beginning when the stream is gone or was replaced, because then all of its entries
   * are new; otherwise after the last entry that this consumer has read.
   */
  async #createAgain(partition: Partition): Promise<void> {
    const { control, groups, group, logger } = this.#options;
    const info = await control.streamInfo(partition.key);
    if (!info && partition.mustExist) {
      partition.failure = new StreamMissingError(partition.key);
      return;
    }
    const isSameStream = info !== undefined && compareEntryIds(info.lastGeneratedId, partition.position) >= 0;
    const start = isSameStream ? partition.position : ID_BEFORE_ALL;
    if (await groups.createGroup(partition.key, group, start, true)) {
      logger.warn(`The group '${group}' on '${partition.key}' had vanished; created again at ${start}`);
      partition.position = start;
    }
    await this.#restorePending(partition);
  }

  /**
   * The pending entries list vanished with its group. Unsettled entries that this process owns, or gave back in a pause, are put
   * into the new one.
   */
  async #restorePending(partition: Partition): Promise<void> {
    const { pending, group, consumer } = this.#options;
    if (entriesToRestore(partition).length === 0) return;
    const known = new Set([...partition.owned.keys(), ...partition.givenBack.keys()]);
    // Another consumer may have created the group; and from a group that never vanished no entry must be taken. What is pending and not
    // known was found by the second command of a read that failed.
    const held = await pending.pending(partition.key, group, { consumer, count: HELD_AT_ONCE });
    if (held.some(({ id }) => known.has(id))) return;
    // Chosen after the reply: what was acknowledged until then would be pending again, and acknowledged no more.
    const entries = entriesToRestore(partition);
    if (entries.length === 0) return;
    await pending.restore(partition.key, group, consumer, entries);
  }

  /** The group was moved by others, or by a read whose reply was lost: continues there, after what is pending for this consumer. */
  async follow(partition: Partition): Promise<void> {
    const groups = await this.#options.groups.groups(partition.key);
    const group = groups.find(({ name }) => name === this.#options.group);
    if (!group) return this.#createAgain(partition);
    partition.position = group.lastDeliveredId;
    partition.recoveredEpoch = 0;
    partition.recoveryCursor = undefined;
  }

  async #groupPosition(partition: Partition): Promise<string> {
    const groups = await this.#options.groups.groups(partition.key);
    return groups.find(({ name }) => name === this.#options.group)?.lastDeliveredId ?? ID_BEFORE_ALL;
  }
}

/** What is pending according to this process: unsettled entries that it owns, and those that it gave back in a pause. */
function entriesToRestore({ owned, givenBack }: Partition): Array<Pick<PendingEntry, 'id' | 'deliveryCount'>> {
  const unsettled = [...owned].filter(([, state]) => state !== 'settled' && state !== 'skipped');
  return [
    ...unsettled.map(([id]) => ({ id, deliveryCount: 1 })),
    ...[...givenBack].map(([id, deliveryCount]) => ({ id, deliveryCount })),
  ];
}

type GroupStart = Pick<GroupReaderOptions, 'control' | 'autoStreamReset' | 'mkStream'> & {
  readonly groups: Pick<GroupCommands, 'createGroup'>;
  readonly group: string | undefined;
};

/** Creates the group of a partition if it is missing; returns where a new one starts. A missing stream fails the partition. */
export async function fixGroupStart(
  partition: Partition,
  isAllNew: boolean,
  { control, groups, group, autoStreamReset, ...options }: GroupStart,
): Promise<string | undefined> {
  const mkStream = options.mkStream && !partition.mustExist;
  const info = await control.streamInfo(partition.key);
  if (!info && !mkStream) {
    partition.failure = new StreamMissingError(partition.key);
    return undefined;
  }
  // A real id, never `$`: if the group vanishes, it is created again at this position.
  const start = autoStreamReset === 'latest' && info && !isAllNew ? info.lastGeneratedId : ID_BEFORE_ALL;
  return (await groups.createGroup(partition.key, group as string, start, mkStream)) ? start : undefined;
}
