import { monotonicNow } from '../../../shared/clock.js';

/**
 * What a read loop is doing: nothing, because it has no stream to read (`idle`); waiting until messages are taken (`full`),
 * or until the connection is back (`reconnecting`); a read, or what is due besides (`reading`); finding out why a read
 * failed, and waiting before the next (`recovering`).
 */
export type LoopState = 'idle' | 'full' | 'reconnecting' | 'reading' | 'recovering';

export interface LoopWatchdogOptions {
  /** How long any step of the loop may take while the connection is live, in milliseconds. */
  readonly limit: number;
  /** Whether a loop that is `full` could go on. */
  readonly hasRoom: () => boolean;
  /** Since when every connection that the loop needs has been live; undefined while one is not. */
  readonly liveSince: () => number | undefined;
  /** The loop neither reads nor waits as planned. Called once for each step. */
  readonly onStalled: () => void;
}

/** What a watch has to say of its loop. */
export interface LoopReport {
  /** `stalled`: the step under way takes longer than any may. */
  readonly state: LoopState | 'stalled';
  /** False when no read has succeeded for longer than a read may take, though the loop has streams and room. */
  readonly isHealthy: boolean;
  /** Milliseconds since the last read that was answered, if only with nothing; undefined before the first. */
  readonly lastReadAge: number | undefined;
  /** How often the watchdog has started the loop anew. */
  readonly restarts: number;
}

/** How often a watch looks, within the time that a step may take. */
const LOOKS = 4;

/**
 * Knows what a read loop is doing and for how long. A server that answers PING and no XREADGROUP, a promise that never
 * settles, a wake-up that was missed: whatever holds up a loop shows in the time of its step, and ends with it.
 */
export class LoopWatchdog {
  readonly #options: LoopWatchdogOptions;
  #state: LoopState = 'idle';
  #since = monotonicNow();
  /** When the loop last had an answer, or no reason to ask. */
  #progressAt = monotonicNow();
  #lastReadAt: number | undefined;
  #restarts = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LoopWatchdogOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer ??= setInterval(() => {
      if (!this.#isOverdue()) return;
      this.#restarts += 1;
      this.#since = monotonicNow();
      this.#options.onStalled();
    }, this.#options.limit / LOOKS);
    // What it watches keeps a process alive, or nothing does.
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
  }

  report(): LoopReport {
    const now = monotonicNow();
    const isStalled = this.#isOverdue();
    return {
      state: isStalled ? 'stalled' : this.#state,
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
