import { RateWindow } from '../engine/settling/rate-limit.js';
import type { HandlerBinding } from '../nest/server/handler-binding.js';
import type { RuntimeControl } from '../nest/server/runtime-control.js';
import type { WildcardOwners } from '../nest/server/wildcard-owners.js';
import type { TestEntry, TestStreams } from './test-streams.js';

/** A message that a handler is given. */
export interface TestDelivery {
  readonly streamKey: string;
  readonly entry: TestEntry;
  readonly deliveryCount: number;
  /** By the clock of this process, as in dead letters. Undefined when it has not failed before. */
  readonly firstFailure?: Date | undefined;
}

/** A message that failed. */
interface Retry {
  readonly delivery: TestDelivery;
  /** Of `VirtualClock.elapsed`. */
  readonly due: number;
}

export interface TestReaderParts {
  readonly owners: WildcardOwners;
  readonly control: RuntimeControl;
  readonly streams: TestStreams;
}

/**
 * What the group of a binding has on the server, in memory: its positions in the streams that it reads, and the messages that
 * wait for a retry. It hands out messages when it is asked, within the rate of the handler, none while the pattern is paused.
 */
export class TestReader {
  readonly #streams: TestStreams;
  readonly #owners: WildcardOwners;
  readonly #control: RuntimeControl;
  readonly #binding: HandlerBinding;
  readonly #window: RateWindow | undefined;
  /** How many entries of each stream were handed out. */
  readonly #positions = new Map<string, number>();
  /** In the order of their times. */
  #retries: Retry[] = [];

  constructor(binding: HandlerBinding, { owners, control, streams }: TestReaderParts) {
    this.#binding = binding;
    this.#owners = owners;
    this.#control = control;
    this.#streams = streams;
    this.#window = binding.rateLimit && new RateWindow(binding.rateLimit);
  }

  get binding(): HandlerBinding {
    return this.#binding;
  }

  /** Whether the messages of a stream are for this binding: the one place that knows which streams a pattern has. */
  reads(streamKey: string): boolean {
    const { pattern, streamKey: own, wildcard, mode } = this.#binding;
    if (this.#control.addedTo(pattern).includes(streamKey)) return true;
    return wildcard ? this.#owners.ownerOf(streamKey, mode === 'real-time') === this.#binding : streamKey === own;
  }

  /** The place of the message that it would hand out now, among those of all streams; undefined when there is none. */
  get nextOrder(): number | undefined {
    if (this.#isPaused || this.#available === 0) return undefined;
    return this.#dueRetry?.delivery.entry.order ?? this.#nextEntry?.entry.order;
  }

  /** When it has something to hand out, of `VirtualClock.elapsed`; Infinity when nothing but the test can change that. */
  get readyAt(): number {
    if (this.#isPaused) return Infinity;
    const next = this.#nextEntry ? 0 : (this.#retries[0]?.due ?? Infinity);
    return next === Infinity || this.#available > 0 ? next : Math.max(next, (this.#window as RateWindow).opensAt);
  }

  /** Hands out the next message, or the next batch. Must not be called without {@link nextOrder}. */
  take(): readonly TestDelivery[] {
    const retry = this.#dueRetry;
    if (retry) this.#retries = this.#retries.filter((each) => each !== retry);
    const messages = retry ? [retry.delivery] : this.#takeEntries();
    this.#window?.take(messages.length, this.#streams.clock.elapsed);
    return messages;
  }

  retryLater(failed: TestDelivery, delay: number): void {
    const { deliveryCount, firstFailure = new Date() } = failed;
    const delivery = { ...failed, deliveryCount: deliveryCount + 1, firstFailure };
    this.#retries.push({ delivery, due: this.#streams.clock.elapsed + delay });
    this.#retries.sort((one, other) => one.due - other.due);
  }

  #takeEntries(): TestDelivery[] {
    const limit = Math.min(this.#binding.batch?.size ?? 1, this.#available);
    const taken: TestDelivery[] = [];
    for (let next = this.#nextEntry; next && taken.length < limit; next = this.#nextEntry) {
      const { streamKey } = next;
      this.#positions.set(streamKey, (this.#positions.get(streamKey) ?? 0) + 1);
      taken.push(next);
    }
    return taken;
  }

  /** The oldest entry that was not handed out. */
  get #nextEntry(): TestDelivery | undefined {
    let first: TestDelivery | undefined;
    for (const streamKey of this.#streams.streamKeys) {
      if (!this.reads(streamKey)) continue;
      const entry = this.#streams.entriesOf(streamKey)[this.#positions.get(streamKey) ?? 0];
      if (entry && (!first || entry.order < first.entry.order)) first = { streamKey, entry, deliveryCount: 1 };
    }
    return first;
  }

  get #dueRetry(): Retry | undefined {
    const [first] = this.#retries;
    return first && first.due <= this.#streams.clock.elapsed ? first : undefined;
  }

  get #available(): number {
    return this.#window?.available(this.#streams.clock.elapsed) ?? Infinity;
  }

  get #isPaused(): boolean {
    return this.#control.isPaused(this.#binding.pattern);
  }
}

/** The one with the smallest number; undefined when none has one. */
export function firstBy<T>(items: readonly T[], numberOf: (item: T) => number | undefined): T | undefined {
  let first: { item: T; number: number } | undefined;
  for (const item of items) {
    const number = numberOf(item);
    if (number !== undefined && (!first || number < first.number)) first = { item, number };
  }
  return first?.item;
}
