import { ID_BEFORE_ALL } from '../constants.js';
import { StreamMissingError } from '../errors.js';
import type { RedisStreamsLogger } from '../logger.js';
import { compareEntryIds } from '../redis/entry-id.js';
import { classifyRedisError } from '../redis/redis-error.js';
import type { GroupCommands, PendingCommands, ReadCommands } from '../redis/stream-commands.js';
import type { AssignedStream } from './assigned-stream.js';
import type { AutoStreamReset } from './options.js';
import { ReadRotation, failBroken } from './stream-reader.js';
import type { ReadBudget, ReadPage, StreamReader } from './stream-reader.js';

export interface GroupReaderOptions {
  /** Over the connection that may block. */
  readonly reading: Pick<ReadCommands, 'readGroup'>;
  /** Over a connection that never blocks. */
  readonly control: Pick<ReadCommands, 'streamInfo'>;
  readonly groups: Pick<GroupCommands, 'createGroup' | 'groups'>;
  readonly pending: Pick<PendingCommands, 'pending' | 'claimOwn' | 'ack'>;
  readonly group: string;
  readonly consumer: string;
  readonly autoStreamReset: AutoStreamReset;
  readonly mkStream: boolean;
  /** NOACK: nothing ever becomes pending. */
  readonly noAck: boolean;
  /** Epoch of the reading connection. */
  readonly epoch: () => number;
  readonly logger: RedisStreamsLogger;
}

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

  async open(stream: AssignedStream, isAllNew: boolean): Promise<void> {
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

  async read(streams: readonly AssignedStream[], budget: ReadBudget): Promise<ReadPage[]> {
    for (const stream of streams) if (stream.needsGroup) await this.#createAgain(stream);
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
    const byKey = new Map(pages.map((page) => [page.streamKey, page.entries]));
    return turn.streams.flatMap((stream, index) => {
      const entries = byKey.get(stream.key);
      const generation = generations[index] as number;
      if (entries && stream.generation === generation) stream.position = entries.at(-1)?.id ?? stream.position;
      return entries ? [{ stream, generation, entries }] : [];
    });
  }

  async heal(streams: readonly AssignedStream[], error: unknown): Promise<void> {
    switch (classifyRedisError(error)) {
      case 'group-missing':
      case 'stream-gone':
        // The reply names one stream in words that differ between servers; looking at each costs one command.
        for (const stream of streams) stream.needsGroup = true;
        return;
      default:
        await failBroken(streams, error, this.#options.control);
    }
  }

  /**
   * Our own entries that are pending and not in this process. What was pending before this consumer started was handed out
   * by an earlier one, so its delivery count rises; what a lost connection left there never was, so its count stays.
   */
  async #readOwnPending(streams: readonly AssignedStream[], { credit, batchSize }: ReadBudget): Promise<ReadPage[]> {
    const { group, consumer, noAck, epoch, pending } = this.#options;
    // The epoch as it is before looking: a connection that is lost meanwhile makes the look void.
    const current = epoch();
    const pages: ReadPage[] = [];
    let room = credit;
    for (const stream of streams) {
      if (noAck && stream.hasRecoveredOnce) continue;
      while (stream.recoveredEpoch !== current && room > 0) {
        const { generation, recoveryCursor: after } = stream;
        const count = Math.max(batchSize, 100);
        const page = await pending.pending(stream.key, group, { after, count, consumer });
        const missing = page.filter(({ id }) => !stream.held.has(id));
        const wanted = missing.slice(0, room);
        const claimed = await pending.claimOwn(stream.key, group, consumer, wanted, !stream.hasRecoveredOnce);
        await this.#dropDeleted(stream, claimed.deleted);
        room -= claimed.entries.length;
        if (claimed.entries.length > 0) pages.push({ stream, generation, entries: claimed.entries });
        if (wanted.length < missing.length) {
          stream.recoveryCursor = wanted.at(-1)?.id ?? after;
        } else if (page.length < count) {
          stream.recoveredEpoch = current;
          stream.recoveryCursor = undefined;
          stream.hasRecoveredOnce = true;
        } else {
          stream.recoveryCursor = page.at(-1)?.id;
        }
        for (const entry of claimed.entries) stream.held.set(entry.id, 'buffered');
      }
    }
    return pages;
  }

  async #dropDeleted(stream: AssignedStream, ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    const { pending, group, logger } = this.#options;
    await pending.ack(stream.key, group, ids);
    if (stream.deletedWhilePending === 0) {
      logger.warn(
        `Entries of '${stream.key}' were trimmed or deleted while pending in group '${group}'; they are acknowledged`,
      );
    }
    stream.deletedWhilePending += ids.length;
  }

  /**
   * Where a vanished group begins again: from the beginning when the stream is gone or another one, because all that is
   * there now is new; else behind the last entry that this consumer was given.
   */
  async #createAgain(stream: AssignedStream): Promise<void> {
    const { control, groups, group, logger } = this.#options;
    const info = await control.streamInfo(stream.key);
    const isSameStream = info !== undefined && compareEntryIds(info.lastGeneratedId, stream.position) >= 0;
    const start = isSameStream ? stream.position : ID_BEFORE_ALL;
    if (await groups.createGroup(stream.key, group, start, true)) {
      logger.warn(`The group '${group}' on '${stream.key}' had vanished; created again at ${start}`);
      stream.position = start;
    }
    stream.needsGroup = false;
  }

  async #groupPosition(stream: AssignedStream): Promise<string> {
    const groups = await this.#options.groups.groups(stream.key);
    return groups.find(({ name }) => name === this.#options.group)?.lastDeliveredId ?? ID_BEFORE_ALL;
  }
}
