import { within } from '../../shared/backoff.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { compareEntryIds } from '../../redis/commands/entry-id.js';
import { StreamMessage } from '../messages/stream-message.js';
import type { MessageBuffer } from './message-buffer.js';
import { partitionOf } from './partition.js';
import type { Partition, PartitionSet, PauseReason } from './partition.js';
import type { GroupPauses, PauseWatch } from './group-pauses.js';

export interface PausingOptions {
  /** Undefined in real-time mode. */
  readonly group: string | undefined;
  /** Whether messages go back to the group, because other consumers can claim them. */
  readonly givesBack: boolean;
  readonly groupPauses: GroupPauses;
  readonly partitions: Pick<PartitionSet, 'current'>;
  readonly buffer: Pick<MessageBuffer<StreamMessage>, 'remove' | 'putBack'>;
  /** Removes and returns the messages that the taker has taken and not given to a handler. */
  readonly withdraw: (isPaused: (message: StreamMessage) => boolean) => StreamMessage[];
  /** Ends the reads of these partitions that are in flight; resolves when they have come back. */
  readonly lookAgain: (partitions: readonly Partition[]) => Promise<void>;
  readonly giveBack: (partition: Partition, messages: readonly StreamMessage[]) => Promise<void>;
  readonly logger: Required<RedisStreamsLogger>;
}

/** How long a pause waits until messages are back in the group, in milliseconds; Redis may not answer. */
const GIVE_BACK_LIMIT = 1_000;

/**
 * Which partitions of a session are paused, and the messages that were read from them and not handed out. A partition is
 * paused by the application, for the whole consumer or for one stream, or by its group, or by both.
 *
 * From the first step of a pause on, nothing of the partition is handed out: its messages leave the buffer, where they would
 * take the places of others, and are set aside here. In a load-balanced group they are then given back, because the pause
 * may last for hours and other consumers of the group can handle them; a resumed partition first reads those that are left.
 * Where no other consumer could claim them, and where Redis does not answer, they stay here with their leases, and are
 * handed out first when the partition is resumed.
 *
 * It neither stops nor awaits a handler, and never touches what waits for a retry.
 */
export class Pausing {
  readonly #options: PausingOptions;
  readonly #watches = new Map<string, PauseWatch>();
  readonly #setAside = new Map<Partition, StreamMessage[]>();
  /** Reads that are being ended, and messages that are being given back, by partition. It is not resumed before that is over. */
  readonly #underWay = new Map<Partition, Set<Promise<void>>>();
  /** What the application has paused. */
  #paused: 'all' | ReadonlySet<string> = new Set<string>();
  #isClosed = false;

  constructor(options: PausingOptions) {
    this.#options = options;
  }

  /** Whether the application has paused all streams, also those that are added later. */
  get isPaused(): boolean {
    return this.#paused === 'all';
  }

  /**
   * The application has paused these streams, and no others. Resolves when no read of them is in flight, and their messages
   * are back in the group, or a second later. Never rejects.
   */
  async set(paused: 'all' | readonly string[]): Promise<void> {
    this.#paused = paused === 'all' ? paused : new Set(paused);
    await this.#apply();
  }

  /** Must be called before partitions are read: finds out whether they are paused. */
  async prepare(partitions: readonly Partition[]): Promise<void> {
    const { group, groupPauses } = this.#options;
    // A consumer can be ended while it opens.
    if (group !== undefined && !this.#isClosed) {
      for (const { streamKey } of partitions) {
        if (this.#watches.has(streamKey)) continue;
        this.#watches.set(
          streamKey,
          groupPauses.watch(streamKey, group, () => void this.#apply()),
        );
      }
    }
    await Promise.all([...this.#watches.values()].map((watch) => watch.known()));
  }

  /** After {@link prepare}, in the same step in which the partitions become current: a pause in between would miss them. */
  mark(partitions: readonly Partition[]): void {
    for (const partition of partitions) partition.pausedBy = this.#reasonOf(partition.streamKey);
  }

  /** For partitions that are removed: nothing of them is handed out any more. {@link take} returns what was set aside. */
  dismiss(partitions: readonly Partition[]): void {
    for (const partition of partitions) partition.pausedBy = 'consumer';
    this.#withdraw(partitions);
    const left = new Set(this.#options.partitions.current.map(({ streamKey }) => streamKey));
    for (const [streamKey, watch] of this.#watches) {
      if (left.has(streamKey)) continue;
      watch.end();
      this.#watches.delete(streamKey);
    }
  }

  /** Sets messages of a paused partition aside that a read has returned. */
  hold(partition: Partition, messages: readonly StreamMessage[]): void {
    if (messages.length === 0) return;
    for (const message of messages) StreamMessage.detach(message);
    this.#setAside.set(partition, inOrder([...this.take([partition]), ...messages]));
    this.#giveBack(partition);
  }

  /** Sets those of the messages aside whose partition is paused, though a taker has taken them. Returns the others. */
  holdBack(messages: readonly StreamMessage[]): readonly StreamMessage[] {
    const { partitions } = this.#options;
    if (this.#isClosed) return messages;
    const isHeld = (message: StreamMessage): boolean => {
      const partition = partitionOf(message);
      return partition.isPaused && partitions.current.includes(partition);
    };
    for (const message of messages.filter(isHeld)) {
      const partition = partitionOf(message);
      markBuffered(message);
      this.hold(partition, [message]);
    }
    return messages.filter((message) => !isHeld(message));
  }

  /** Removes and returns what was set aside. */
  take(partitions: readonly Partition[], isWanted: (message: StreamMessage) => boolean = () => true): StreamMessage[] {
    return partitions.flatMap((partition) => {
      const held = this.#setAside.get(partition) ?? [];
      const rest = held.filter((message) => !isWanted(message));
      if (rest.length > 0) this.#setAside.set(partition, rest);
      else this.#setAside.delete(partition);
      return held.filter(isWanted);
    });
  }

  /** How many messages of these partitions are set aside. */
  count(partitions: readonly Partition[]): number {
    return partitions.reduce((sum, partition) => sum + (this.#setAside.get(partition)?.length ?? 0), 0);
  }

  /** Ends the watches; from now on nothing is set aside. */
  close(): void {
    this.#isClosed = true;
    for (const watch of this.#watches.values()) watch.end();
    this.#watches.clear();
  }

  #reasonOf(streamKey: string): PauseReason | undefined {
    if (this.#paused === 'all' || this.#paused.has(streamKey)) return 'consumer';
    return this.#watches.get(streamKey)?.isPaused ? 'group' : undefined;
  }

  /** Never rejects. */
  async #apply(): Promise<void> {
    const { partitions, buffer, lookAgain, logger } = this.#options;
    if (this.#isClosed) return;
    const paused: Partition[] = [];
    const resumed: Partition[] = [];
    for (const partition of partitions.current) {
      const reason = this.#reasonOf(partition.streamKey);
      // Messages that a read still returns are newer than those that go back, and must not be handed out before them.
      if (!reason && this.#underWay.has(partition)) continue;
      if (reason && !partition.isPaused) paused.push(partition);
      if (!reason && partition.isPaused) resumed.push(partition);
      partition.pausedBy = reason;
    }
    this.#withdraw(paused);
    for (const partition of resumed) if (partition.givenBack.size > 0) partition.recoverAgain();
    buffer.putBack(this.take(resumed));
    const changed = [...paused, ...resumed];
    if (changed.length > 0) {
      const ended = lookAgain(changed).catch((error: unknown) => {
        logger.debug(`A read of a paused stream was not ended: ${errorText(error)}`);
      });
      for (const partition of paused) this.#track(partition, ended);
      await ended;
    }
    await within(GIVE_BACK_LIMIT, Promise.all([...this.#underWay.values()].flatMap((works) => [...works])));
  }

  #withdraw(partitions: readonly Partition[]): void {
    if (partitions.length === 0) return;
    const { buffer, withdraw } = this.#options;
    const isOfThese = (message: StreamMessage): boolean => partitions.includes(partitionOf(message));
    const messages = [...withdraw(isOfThese), ...buffer.remove(isOfThese)];
    for (const message of messages) markBuffered(message);
    for (const partition of partitions) {
      this.hold(
        partition,
        messages.filter((message) => partitionOf(message) === partition),
      );
    }
  }

  #giveBack(partition: Partition): void {
    if (!this.#options.givesBack || !this.#options.partitions.current.includes(partition)) return;
    this.#track(partition, this.#giveBackNow(partition, this.take([partition])));
  }

  #track(partition: Partition, work: Promise<void>): void {
    const works = this.#underWay.get(partition) ?? new Set();
    this.#underWay.set(partition, works.add(work));
    void work.finally(() => {
      works.delete(work);
      if (works.size > 0) return;
      this.#underWay.delete(partition);
      // It may have been resumed in between.
      void this.#apply();
    });
  }

  /** Never rejects. */
  async #giveBackNow(partition: Partition, messages: readonly StreamMessage[]): Promise<void> {
    const { giveBack, logger } = this.#options;
    try {
      await giveBack(partition, messages);
      for (const { id, deliveryCount } of messages) partition.givenBack.set(id, deliveryCount - 1);
    } catch (error) {
      logger.debug(`Messages of '${partition.key}' could not go back to the group and stay here: ${errorText(error)}`);
      const own = messages.filter(({ id }) => partition.owned.get(id) === 'buffered');
      this.#setAside.set(partition, inOrder([...this.take([partition]), ...own]));
    }
  }
}

function inOrder(messages: StreamMessage[]): StreamMessage[] {
  return messages.sort((a, b) => compareEntryIds(a.id, b.id));
}

/** A taker that keeps a message has taken it, but no handler has it. */
function markBuffered(message: StreamMessage): void {
  const { owned } = partitionOf(message);
  if (owned.has(message.id)) owned.set(message.id, 'buffered');
}
