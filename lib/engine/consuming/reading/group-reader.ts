import { monotonicNow } from '../../../shared/clock.js';
import { ID_BEFORE_ALL } from '../../../constants.js';
import { StreamMissingError } from '../../../errors.js';
import type { RedisStreamsLogger } from '../../../shared/logger.js';
import { compareEntryIds } from '../../../redis/commands/entry-id.js';
import { classifyRedisError } from '../../../redis/commands/redis-error.js';
import type { GroupCommands, PendingCommands, ReadCommands } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';
import { dropDeleted } from '../recovery/deleted-entries.js';
import type { AutoStreamReset } from '../../options/options.js';
import { ReadRotation, failBroken } from './stream-reader.js';
import type { ReadBudget, ReadPage, StreamReader } from './stream-reader.js';

export interface GroupReaderOptions {
  /** Over the connection that may block. */
  readonly reading: Pick<ReadCommands, 'readGroup'>;
  /** Over a connection that never blocks. */
  readonly control: Pick<ReadCommands, 'streamInfo'>;
  readonly groups: Pick<GroupCommands, 'createGroup' | 'groups'>;
  readonly pending: Pick<PendingCommands, 'pending' | 'claimOwn' | 'ack' | 'forcePending'>;
  readonly group: string;
  readonly consumer: string;
  readonly autoStreamReset: AutoStreamReset;
  readonly mkStream: boolean;
  /** NOACK: nothing ever becomes pending. */
  readonly noAck: boolean;
  /** Epoch of the reading connection. */
  readonly epoch: () => number;
  /** Longest BLOCK of a read, in milliseconds. */
  readonly blockTimeout: number;
  readonly logger: RedisStreamsLogger;
}

/** How much later than asked for the server ends a blocked read. */
const BLOCK_OVERSHOOT = 200;

/**
 * Reads for a consumer group: own pending entries first, at the start and after every reconnect, because a reply that was
 * lost has left its entries there; then new ones. It creates the group where it is missing and knows where to.
 */
export class GroupReader implements StreamReader {
  readonly #options: GroupReaderOptions;
  readonly #rotation = new ReadRotation();

  constructor(options: GroupReaderOptions) {
    this.#options = options;
  }

  async open(stream: Partition, isAllNew: boolean): Promise<void> {
    const { control, mkStream, autoStreamReset, groups, group } = this.#options;
    const info = await control.streamInfo(stream.key);
    if (!info && !mkStream) {
      stream.failure = new StreamMissingError(stream.key);
      return;
    }
    // A real id and never `$`: should the group vanish, it is created again at this position.
    const start = autoStreamReset === 'latest' && info && !isAllNew ? info.lastGeneratedId : ID_BEFORE_ALL;
    const isNew = await groups.createGroup(stream.key, group, start, mkStream);
    stream.position = isNew ? start : await this.#groupPosition(stream);
  }

  async read(streams: readonly Partition[], budget: ReadBudget): Promise<ReadPage[]> {
    const recovered = await this.#readOwnPending(streams, budget);
    if (recovered.length > 0) return recovered;

    const turn = this.#rotation.plan(streams, budget);
    const generations = turn.streams.map((stream) => stream.generation);
    const { group, consumer, noAck, reading } = this.#options;
    const pages = await reading.readGroup({
      group,
      consumer,
      noAck,
      count: turn.count,
      block: turn.block,
      streamKeys: turn.streams.map((stream) => stream.key),
    });
    this.#rotation.note(turn.streams.length, pages.length);
    const byKey = new Map(pages.map((page) => [page.streamKey, page.entries]));
    return turn.streams.flatMap((stream, index) => {
      const entries = byKey.get(stream.key);
      const generation = generations[index] as number;
      if (entries && stream.generation === generation) stream.position = entries.at(-1)?.id ?? stream.position;
      return entries ? [{ stream, generation, entries }] : [];
    });
  }

  async heal(streams: readonly Partition[], error: unknown): Promise<void> {
    const kind = classifyRedisError(error);
    if (kind !== 'group-missing' && kind !== 'stream-gone') return failBroken(streams, error, this.#options.control);
    // The reply names one stream in words that differ between servers; looking at each costs one command.
    for (const stream of streams) {
      try {
        await this.#createAgain(stream);
      } catch (failure) {
        if (classifyRedisError(failure) !== 'wrong-type') throw failure;
        await failBroken([stream], failure, this.#options.control);
      }
    }
  }

  /**
   * Our own entries that are pending and not in this process, one page at a time, so that a failure loses nothing that was
   * claimed before it. What was pending before this consumer started was handed out by an earlier one, so its delivery
   * count rises; what a lost connection left there never was, so its count stays.
   *
   * A second look comes when the longest block time is over. The server may not know yet that the old connection is dead:
   * it then gives the next entries to the read that is still blocked there, after the first look.
   */
  async #readOwnPending(streams: readonly Partition[], { credit, batchSize }: ReadBudget): Promise<ReadPage[]> {
    const { group, consumer, noAck, epoch, pending, blockTimeout, logger } = this.#options;
    // The epoch as it is before looking: a connection that is lost meanwhile makes the look void.
    const current = epoch();
    for (const stream of streams) {
      if (noAck && stream.hasRecoveredOnce) continue;
      while (stream.recoveredEpoch !== current || monotonicNow() >= stream.lookAgainAt) {
        const { generation, recoveryCursor: after } = stream;
        const count = Math.max(batchSize, 100);
        const page = await pending.pending(stream.key, group, { after, count, consumer });
        const missing = page.filter(({ id }) => !stream.held.has(id));
        const wanted = missing.slice(0, credit);
        const claimed = await pending.claimOwn(stream.key, group, consumer, wanted, !stream.hasRecoveredOnce);
        await dropDeleted(stream, claimed.deleted, group, pending, logger);
        // An earlier run with another policy left them; with NOACK nobody will acknowledge them later.
        const ids = noAck ? claimed.entries.map(({ id }) => id) : [];
        if (ids.length > 0) await pending.ack(stream.key, group, ids);
        if (wanted.length < missing.length) {
          stream.recoveryCursor = wanted.at(-1)?.id ?? after;
        } else if (page.length < count) {
          stream.lookAgainAt =
            stream.recoveredEpoch === current ? Infinity : monotonicNow() + blockTimeout + BLOCK_OVERSHOOT;
          stream.recoveredEpoch = current;
          stream.recoveryCursor = undefined;
          stream.hasRecoveredOnce = true;
        } else {
          stream.recoveryCursor = page.at(-1)?.id;
        }
        if (claimed.entries.length > 0) return [{ stream, generation, entries: claimed.entries }];
      }
    }
    return [];
  }

  /**
   * Where a vanished group begins again: from the beginning when the stream is gone or another one, because all that is
   * there now is new; else behind the last entry that this consumer was given.
   */
  async #createAgain(stream: Partition): Promise<void> {
    const { control, groups, group, logger } = this.#options;
    const info = await control.streamInfo(stream.key);
    const isSameStream = info !== undefined && compareEntryIds(info.lastGeneratedId, stream.position) >= 0;
    const start = isSameStream ? stream.position : ID_BEFORE_ALL;
    if (await groups.createGroup(stream.key, group, start, true)) {
      logger.warn(`The group '${group}' on '${stream.key}' had vanished; created again at ${start}`);
      stream.position = start;
    }
    await this.#restorePending(stream);
  }

  /** With the group its pending list is gone; what is in this process and not settled yet must not die with it. */
  async #restorePending(stream: Partition): Promise<void> {
    const { pending, group, consumer } = this.#options;
    const ids = [...stream.held].flatMap(([id, state]) => (state === 'settled' || state === 'skipped' ? [] : [id]));
    // Another consumer may have created the group, and of a group that never was gone nothing must be taken.
    if (ids.length === 0 || (await pending.pending(stream.key, group, { consumer, count: 1 })).length > 0) return;
    await pending.forcePending(stream.key, group, consumer, ids, 0);
  }

  async #groupPosition(stream: Partition): Promise<string> {
    const groups = await this.#options.groups.groups(stream.key);
    return groups.find(({ name }) => name === this.#options.group)?.lastDeliveredId ?? ID_BEFORE_ALL;
  }
}
