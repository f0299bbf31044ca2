import type { RedisStreamsError } from '../../../errors.js';
import { monotonicNow } from '../../../shared/clock.js';

/**
 * The state of a read loop: it has no stream to read (`idle`); it waits until messages are taken from the buffer (`full`),
 * or until its connection is live (`reconnecting`); it reads, or runs its periodic tasks (`reading`); it repairs the cause
 * of a failure, or waits for the backoff delay (`recovering`).
 */
export type LoopState = 'idle' | 'full' | 'reconnecting' | 'reading' | 'recovering';

export interface LoopWatchdogOptions {
  /** How long any step of the loop may take while the connection is live, in milliseconds. */
  readonly limit: number;
  /** Whether a loop that is `full` could read. */
  readonly hasRoom: () => boolean;
  /** Since when every connection that the loop needs has been live; undefined while one is not. */
  readonly liveSince: () => number | undefined;
  /** A step takes longer than the limit. Called once for each step. */
  readonly onStalled: () => void;
}

/** The state of a loop and of its reads. */
export interface LoopReport {
  /** `stalled`: the current step takes longer than any step may. `paused`: all of its streams are paused. */
  readonly state: LoopState | 'stalled' | 'paused';
  /** False when no read has succeeded for longer than a read may take, though the loop has streams and room. */
  readonly isHealthy: boolean;
  /**
   * True while its current step takes longer than any step may, and after the watchdog has restarted it for that, until a read
   * succeeds. Never because a connection is lost: in an outage it is false, and {@link isHealthy} too, after a while.
   */
  readonly isStalled: boolean;
  /** Milliseconds since the server last answered a read, with entries or without; undefined before the first answer. */
  readonly lastReadAge: number | undefined;
  /** How often the watchdog has restarted the loop. */
  readonly restarts: number;
  /**
   * Why the server refuses the reads or acknowledgements of the loop, which are repeated with a slow back-off; undefined once
   * one succeeds.
   */
  readonly refusal: RedisStreamsError | undefined;
}

/** Checks within the time limit of a step. */
const CHECKS_PER_LIMIT = 4;

/**
 * Knows the state of a read loop and for how long the loop has been in it. A server that answers PING but no XREADGROUP, a
 * promise that never settles, a missed wake-up: all of them show as a step that takes too long, and end with that step.
 *
 * It never touches the loop itself; {@link LoopWatchdogOptions.onStalled} decides what to do.
 */
export class LoopWatchdog {
  readonly #options: LoopWatchdogOptions;
  #state: LoopState = 'idle';
  #since = monotonicNow();
  /** When the server last answered a read, or the loop last had no reason to read. */
  #progressAt = monotonicNow();
  #lastReadAt: number | undefined;
  #restarts = 0;
  /** The watchdog has restarted the loop, and no read has succeeded since. */
  #hasNotReadSince = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LoopWatchdogOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer ??= setInterval(() => {
      if (!this.#isOverdue()) return;
      this.#restarts += 1;
      this.#hasNotReadSince = true;
      this.#since = monotonicNow();
      this.#options.onStalled();
    }, this.#options.limit / CHECKS_PER_LIMIT);
    // The watchdog alone must not keep a process alive; the connection of its loop does.
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  enter(state: LoopState): void {
    const now = monotonicNow();
    if (this.#isWaitingForOthers) this.#progressAt = now;
    this.#state = state;
    this.#since = now;
  }

  readSucceeded(): void {
    this.#lastReadAt = monotonicNow();
    this.#progressAt = this.#lastReadAt;
    this.#hasNotReadSince = false;
  }

  report(): Omit<LoopReport, 'refusal'> & { readonly state: LoopState | 'stalled' } {
    const now = monotonicNow();
    const isStalled = this.#isOverdue();
    return {
      state: isStalled ? 'stalled' : this.#state,
      isStalled: isStalled || (this.#hasNotReadSince && this.#options.liveSince() !== undefined),
      isHealthy: !isStalled && (this.#isWaitingForOthers || now - this.#progressAt <= this.#options.limit),
      lastReadAge: this.#lastReadAt === undefined ? undefined : Math.round(now - this.#lastReadAt),
      restarts: this.#restarts,
    };
  }

  get #isWaitingForOthers(): boolean {
    return this.#state === 'idle' || this.#state === 'full';
  }

  #isOverdue(): boolean {
    const { liveSince, hasRoom, limit } = this.#options;
    if (this.#state === 'idle' || (this.#state === 'full' && !hasRoom())) return false;
    const live = liveSince();
    return live !== undefined && monotonicNow() - Math.max(live, this.#since) > limit;
  }
}
