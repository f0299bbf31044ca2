import { monotonicNow } from '../../../shared/clock.js';
import type { RedisStreamsLogger } from '../../../shared/logger.js';
import type { PendingCommands } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';
import { dropDeleted } from './deleted-entries.js';
import { DutyShare } from '../reading/duty-share.js';
import type { ReadDuty } from '../reading/read-duty.js';
import type { StreamMessage } from '../../messages/stream-message.js';
import type { ReadPage } from '../reading/stream-reader.js';

interface WaitingEntry {
  readonly stream: Partition;
  readonly message: StreamMessage;
  readonly dueAt: number;
  /** Others would claim the entry before it is due, unless it is kept alive. */
  readonly outlastsIdle: boolean;
}

/** Messages that may wait for a retry. They hold no place; past that nothing new is read until some have come again. */
const MAX_WAITING = 10_000;

/**
 * Hands entries out again, on time, that wait in our own pending list. It only makes retries punctual: an entry's idle
 * time on the server is what makes it claimable, so a crash of this process forgets none.
 */
export class RetrySchedule implements ReadDuty {
  readonly isVital = true;
  readonly #pending: Pick<PendingCommands, 'claimOwn' | 'ack'>;
  readonly #group: string;
  readonly #consumer: string;
  readonly #logger: RedisStreamsLogger;
  readonly #onTakenAway: (message: StreamMessage) => void;
  readonly #share = new DutyShare();
  /** By due time, earliest first. */
  #waiting: WaitingEntry[] = [];

  constructor(
    pending: Pick<PendingCommands, 'claimOwn' | 'ack'>,
    group: string,
    consumer: string,
    logger: RedisStreamsLogger,
    onTakenAway: (message: StreamMessage) => void,
  ) {
    this.#pending = pending;
    this.#group = group;
    this.#consumer = consumer;
    this.#logger = logger;
    this.#onTakenAway = onTakenAway;
  }

  get isFull(): boolean {
    return this.#waiting.length >= MAX_WAITING;
  }

  /** True when the entry is due before all others, so that whoever waits has to wait anew. */
  add(stream: Partition, message: StreamMessage, delay: number, outlastsIdle = false): boolean {
    const entry = { stream, message, dueAt: monotonicNow() + delay, outlastsIdle };
    let index = this.#waiting.length;
    while (index > 0 && (this.#waiting[index - 1] as WaitingEntry).dueAt > entry.dueAt) index -= 1;
    this.#waiting.splice(index, 0, entry);
    stream.held.set(message.id, 'waiting');
    return index === 0;
  }

  /**
   * Entries that wait for longer than `claimIdle` and are still to be kept alive. It ends early enough for them to be
   * claimable soon after they are due, should this process die, and late enough for never before: entries are kept alive
   * three times in a claim idle, so the last time is at most that, and at least two thirds of it, ahead.
   */
  tooEarlyFor(stream: Partition, claimIdle: number): string[] {
    const last = monotonicNow() + (2 * claimIdle) / 3;
    return this.#waiting
      .filter((entry) => entry.outlastsIdle && entry.stream === stream && entry.dueAt > last)
      .map(({ message }) => message.id);
  }

  dueIn(): number {
    const first = this.#waiting[0];
    return first ? Math.max(0, first.dueAt - monotonicNow()) : Infinity;
  }

  async run(_streams: readonly Partition[], credit: number): Promise<ReadPage[]> {
    const now = monotonicNow();
    // A stream that is not read any more cannot be claimed from, and must not hold up the others.
    this.#waiting = this.#waiting.filter(({ stream }) => stream.isReadable);
    const due = this.#waiting.filter(({ dueAt }) => dueAt <= now);
    const stream = due[0]?.stream;
    if (!stream) return [];
    // One stream at a time: a failure of the next must not lose what was claimed already.
    const entries = due.filter((entry) => entry.stream === stream).slice(0, this.#share.of(credit));
    if (entries.length === 0) return [];
    const page = await this.#claim(stream, entries);
    const claimed = new Set(entries);
    this.#waiting = this.#waiting.filter((entry) => !claimed.has(entry));
    return [page];
  }

  /** Entries that are no longer ours have been deleted, or taken by another consumer that will handle them. */
  async #claim(stream: Partition, entries: readonly WaitingEntry[]): Promise<ReadPage> {
    const { generation } = stream;
    const page = await this.#pending.claimOwn(
      stream.key,
      this.#group,
      this.#consumer,
      entries.map(({ message: { id, deliveryCount } }) => ({ id, deliveryCount, consumer: this.#consumer, idle: 0 })),
      true,
    );
    const ours = new Set(page.entries.map(({ id }) => id));
    for (const { message } of entries) {
      stream.held.delete(message.id);
      if (!ours.has(message.id)) this.#onTakenAway(message);
    }
    await dropDeleted(stream, page.deleted, this.#group, this.#pending, this.#logger);
    return { stream, generation, entries: page.entries };
  }
}
