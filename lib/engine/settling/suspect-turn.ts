import { RECONNECT_BACKOFF, backoffDelay } from '../../shared/backoff.js';
import type { Partition } from '../consuming/partition.js';

/**
 * How long a suspect keeps the turn, in milliseconds: one that has not ended its process by then, or hangs, must not hold up the
 * others.
 */
const LONGEST_TURN = 10_000;
/** The same for one that ran alone when an earlier process ended. */
const LONGEST_TURN_AGAIN = 300_000;

/** The turn of one suspect. */
export interface Turn {
  /** Its handler starts. @param isAgain whether it ran when an earlier process ended */
  begin(isAgain: boolean): void;
  /** Gives the turn back. */
  end(): void;
}

const SHARED = Symbol.for('nestjs-redis-streams:suspect-turn');

/**
 * Lets one suspect at a time run, of all consumers of a process, so that a process that ends blames one message only.
 * It owns the turn; the suspects that wait stay with their dispatchers.
 */
export class SuspectTurn {
  /** The turn of this process, whichever copies of the package are loaded. */
  static ofProcess(): SuspectTurn {
    const shared = globalThis as { [SHARED]?: SuspectTurn };
    return (shared[SHARED] ??= new SuspectTurn());
  }

  #holder: object | undefined;
  readonly #waiting = new Set<() => void>();

  /** Returns undefined while another suspect has the turn; then `onFree` is called, once, when it is free. */
  enter(onFree: () => void): Turn | undefined {
    if (this.#holder) {
      this.#waiting.add(onFree);
      return undefined;
    }
    this.#waiting.delete(onFree);
    let timer: NodeJS.Timeout | undefined;
    const end = (): void => {
      clearTimeout(timer);
      if (this.#holder !== turn) return;
      this.#holder = undefined;
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      for (const listener of waiting) listener();
    };
    const begin = (isAgain: boolean): void => {
      timer = setTimeout(end, isAgain ? LONGEST_TURN_AGAIN : LONGEST_TURN);
    };
    const turn = { begin, end };
    this.#holder = turn;
    return turn;
  }

  /** The listener does not wait any more. */
  forget(onFree: () => void): void {
    this.#waiting.delete(onFree);
  }
}

/** Partitions whose suspects could not be counted: how often, and the wait for the next attempt while there is one. */
export class UncountedPartitions {
  readonly #partitions = new Map<Partition, { attempts: number; timer: NodeJS.Timeout | undefined }>();

  /** Whether the next attempt is not due yet. */
  waits(partition: Partition): boolean {
    return this.#partitions.get(partition)?.timer !== undefined;
  }

  /** Calls back when the next attempt is due. Returns whether the one that failed was the first. */
  failed(partition: Partition, onDue: () => void): boolean {
    const uncounted = this.#partitions.get(partition) ?? { attempts: 0, timer: undefined };
    this.#partitions.set(partition, uncounted);
    uncounted.attempts += 1;
    uncounted.timer = setTimeout(
      () => {
        uncounted.timer = undefined;
        onDue();
      },
      backoffDelay(RECONNECT_BACKOFF, uncounted.attempts),
    );
    return uncounted.attempts === 1;
  }

  delete(partition: Partition): void {
    this.#partitions.delete(partition);
  }

  close(): void {
    for (const { timer } of this.#partitions.values()) clearTimeout(timer);
  }
}
