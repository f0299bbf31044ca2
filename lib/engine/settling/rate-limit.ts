import { toPublicError } from '../../redis/commands/redis-error.js';
import type { GroupCommands } from '../../redis/commands/stream-commands.js';
import type { RedisStreamsError } from '../../errors.js';
import { RECONNECT_BACKOFF, backoffDelay } from '../../shared/backoff.js';
import { monotonicNow } from '../../shared/clock.js';
import { MAX_TIME } from '../../shared/option-checks.js';

/** At most so many messages in so many milliseconds. */
export interface Rate {
  readonly max: number;
  readonly per: number;
}

/** How many messages a {@link Dispatcher} may give to its handlers now. */
export interface RateLimit {
  /** @param wanted how many could be started; at least 1. With 0 as result, the listener is called when there may be more. */
  available(wanted: number): number;
  /** So many are started, at most as many as were available. */
  take(count: number): void;
  /** Must be set before the first call. */
  onAvailable(listener: () => void): void;
  close(): void;
}

/**
 * When the last messages were started: in no span of `per` milliseconds more than `max`. It has no clock and no timer; times are
 * milliseconds on the clock of its owner.
 */
export class RateWindow {
  readonly #rate: Rate;
  /** As a ring. */
  readonly #starts: Float64Array;
  #oldest = 0;
  #count = 0;

  constructor(rate: Rate) {
    this.#rate = rate;
    this.#starts = new Float64Array(rate.max);
  }

  available(now: number): number {
    const { max } = this.#rate;
    while (this.#count > 0 && this.opensAt <= now) {
      this.#oldest = (this.#oldest + 1) % max;
      this.#count -= 1;
    }
    return max - this.#count;
  }

  /** When the oldest of the messages that count no longer does. */
  get opensAt(): number {
    return (this.#starts[this.#oldest] as number) + this.#rate.per;
  }

  take(count: number, now: number): void {
    for (let index = 0; index < count; index += 1) {
      this.#starts[(this.#oldest + this.#count + index) % this.#rate.max] = now;
    }
    this.#count += count;
  }
}

/** Counts the messages of this process. */
export class InstanceRateLimit implements RateLimit {
  readonly #window: RateWindow;
  #listener = (): void => undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(rate: Rate) {
    this.#window = new RateWindow(rate);
  }

  onAvailable(listener: () => void): void {
    this.#listener = listener;
  }

  available(): number {
    const now = monotonicNow();
    const available = this.#window.available(now);
    if (available === 0) this.#wakeIn(this.#window.opensAt - now);
    return available;
  }

  take(count: number): void {
    this.#window.take(count, monotonicNow());
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #wakeIn(delay: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#listener, Math.ceil(delay));
  }
}

export interface GroupRateLimitOptions {
  readonly rate: Rate;
  readonly rates: Pick<GroupCommands, 'checkRate' | 'takeOfRate'>;
  readonly streamKey: string;
  readonly group: string;
  readonly onError: (error: RedisStreamsError) => void;
}

/** Waits for the start of the next span a little longer than Redis says, in milliseconds: expiry is not exact. */
const MARGIN = 5;

/**
 * Counts the messages of all instances of a group by a counter in Redis. A span of `per` milliseconds begins with its first
 * message. It takes as many messages from the counter at once as could be started, and what it does not use is lost when
 * the span ends: never more than `max` are started in a span.
 *
 * While Redis does not answer, nothing more is started.
 */
export class GroupRateLimit implements RateLimit {
  readonly #options: GroupRateLimitOptions;
  #granted = 0;
  /** On the monotonic clock. */
  #validUntil = 0;
  #isAsking = false;
  #failures = 0;
  #listener = (): void => undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @throws InvalidOptionError for a stream beside which nothing can be counted */
  constructor(options: GroupRateLimitOptions) {
    options.rates.checkRate(options.streamKey, options.group);
    this.#options = options;
  }

  onAvailable(listener: () => void): void {
    this.#listener = listener;
  }

  available(wanted: number): number {
    if (monotonicNow() >= this.#validUntil) this.#granted = 0;
    if (this.#granted === 0 && !this.#isAsking && !this.#timer) void this.#ask(wanted);
    return this.#granted;
  }

  take(count: number): void {
    this.#granted -= count;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** Never rejects. */
  async #ask(wanted: number): Promise<void> {
    const { rate, rates, streamKey, group, onError } = this.#options;
    this.#isAsking = true;
    const begun = monotonicNow();
    try {
      const { granted, resetIn } = await rates.takeOfRate(streamKey, group, Math.min(wanted, rate.max), rate);
      this.#failures = 0;
      this.#granted = granted;
      // By the time before the command: the span may be over a little sooner, never later.
      this.#validUntil = begun + resetIn;
      if (granted === 0) this.#wakeIn(Math.min(resetIn + MARGIN, MAX_TIME));
    } catch (error) {
      this.#failures += 1;
      if (this.#failures === 1 && !this.#isClosed) onError(toPublicError(error, streamKey, 'asking for the rate of'));
      this.#wakeIn(backoffDelay(RECONNECT_BACKOFF, this.#failures));
    }
    this.#isAsking = false;
    if (this.#granted > 0) this.#listener();
  }

  #wakeIn(delay: number): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#listener();
    }, delay);
  }
}
