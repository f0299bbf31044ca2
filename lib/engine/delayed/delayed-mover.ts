import { SendFailedError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { outsideContext } from '../../shared/async-context.js';
import { monotonicNow } from '../../shared/clock.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { RECONNECT_BACKOFF, backoffDelay, within } from '../../shared/backoff.js';
import { classifyRedisError, isTransient, toPublicError } from '../../redis/commands/redis-error.js';
import type { DelayedCommands } from '../../redis/commands/stream-commands.js';

type OnError = (error: RedisStreamsError) => void;

/** Time between two looks at a stream for what others have scheduled, in milliseconds. */
const LOOK_INTERVAL = 1_000;
/** Most of these looks in a second, at all streams together: a service may read hundreds of streams. */
const LOOKS_PER_SECOND = 20;
/** Shortest time between two steps for one stream. */
const SHORTEST_SLEEP = 5;
/** Longest time by which a mover lets others go first. */
const LONGEST_YIELD = 250;
/** Least wait after a refusal of Redis, which only its administrator ends. */
const REFUSED_SLEEP = 5_000;
/** Longest wait for the step that runs at the end; it may be left undone. */
const STOP_LIMIT = 1_000;

export interface DelayedMoverOptions {
  readonly delayed: Pick<DelayedCommands, 'isWaiting' | 'move'>;
  readonly logger: Required<RedisStreamsLogger>;
}

/** What a mover knows about one stream or shard. */
interface Watch {
  readonly streamKey: string;
  /** Of the consumers that read it: they look for messages that others have scheduled. */
  readonly readers: Set<OnError>;
  /** Of the producer that has scheduled a message last. */
  sender: OnError | undefined;
  timer: NodeJS.Timeout | undefined;
  /** When the timer fires, on the monotonic clock. */
  wakesAt: number;
  /** Whether a message may wait, so that the next step is worth its script call. */
  isWaiting: boolean;
  isRunning: boolean;
  /** The earliest message that was scheduled here during the step that runs. */
  expectedAt: number;
  /** When the next message is due, as far as it is known. */
  dueAt: number;
  /** How long it lets others go first. */
  yield: number;
  failures: number;
  /** The last refusal, which is reported once. */
  refusal: string | undefined;
}

/**
 * Moves delayed messages to their streams when they are due. It owns one timer for each stream that a consumer of its streamer
 * reads, or to which a producer has scheduled a message that may wait still:
 *
 * - nothing waits: a consumer looks once a second, with one small command; a producer does nothing
 * - something waits: it sleeps until the next message is due, or for the time between two looks, and then moves what is due
 *
 * With more than 20 streams the looks are less often; what was scheduled here is moved on time all the same.
 *
 * Any number of movers may work on one stream, because each step is one script. A mover that finds its work done lets the
 * others go first from then on, by a quarter of a second at most. What cannot be moved stays where it is and is reported once.
 */
export class DelayedMover {
  readonly #options: DelayedMoverOptions;
  readonly #watches = new Map<string, Watch>();
  readonly #running = new Set<Promise<void>>();
  #isStopped = false;

  constructor(options: DelayedMoverOptions) {
    this.#options = options;
  }

  /** Looks for messages that wait for the stream until the returned function is called. */
  attach(streamKey: string, onError: OnError): () => void {
    const watch = this.#watch(streamKey);
    // A function of its own: two consumers may have the same one.
    const reader: OnError = (error) => onError(error);
    watch.readers.add(reader);
    this.#wakeWithin(watch, 0);
    return () => {
      watch.readers.delete(reader);
      this.#dropUnused(watch);
    };
  }

  /** A message was scheduled here that is due in so many milliseconds, about. */
  expect(streamKey: string, due: number, onError: OnError): void {
    if (this.#isStopped) return;
    const watch = this.#watch(streamKey);
    watch.sender = onError;
    watch.isWaiting = true;
    watch.expectedAt = Math.min(watch.expectedAt, monotonicNow() + due);
    this.#wakeWithin(watch, due);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const { timer } of this.#watches.values()) clearTimeout(timer);
    this.#watches.clear();
    await within(STOP_LIMIT, Promise.all(this.#running));
  }

  #watch(streamKey: string): Watch {
    let watch = this.#watches.get(streamKey);
    if (!watch) {
      watch = {
        streamKey,
        readers: new Set(),
        sender: undefined,
        timer: undefined,
        wakesAt: Infinity,
        isWaiting: false,
        isRunning: false,
        expectedAt: Infinity,
        dueAt: Infinity,
        yield: 0,
        failures: 0,
        refusal: undefined,
      };
      this.#watches.set(streamKey, watch);
    }
    return watch;
  }

  #dropUnused(watch: Watch): void {
    if (watch.readers.size > 0 || watch.isWaiting || watch.isRunning) return;
    clearTimeout(watch.timer);
    if (this.#watches.get(watch.streamKey) === watch) this.#watches.delete(watch.streamKey);
  }

  /** A step that runs plans the next one itself. */
  #wakeWithin(watch: Watch, wait: number): void {
    if (this.#isStopped || watch.isRunning) return;
    const delay = Math.min(Math.max(0, wait), this.#lookInterval);
    // After a failure the pause is kept.
    const isPaused = watch.failures > 0 && watch.timer !== undefined;
    if (isPaused || watch.wakesAt <= monotonicNow() + delay) return;
    this.#plan(watch, delay);
  }

  #plan(watch: Watch, delay: number): void {
    if (this.#isStopped) return;
    clearTimeout(watch.timer);
    watch.wakesAt = monotonicNow() + delay;
    watch.timer = outsideContext(() =>
      setTimeout(() => {
        const step = this.#step(watch).finally(() => this.#running.delete(step));
        this.#running.add(step);
      }, delay),
    );
  }

  /** Never rejects. */
  async #step(watch: Watch): Promise<void> {
    watch.timer = undefined;
    watch.wakesAt = Infinity;
    watch.expectedAt = Infinity;
    watch.isRunning = true;
    let wait: number | undefined;
    try {
      wait = await this.#move(watch);
      watch.failures = 0;
    } catch (error) {
      wait = this.#pauseAfter(watch, error);
    }
    watch.isRunning = false;
    // One that was scheduled during the step may not have been seen by it. After a failure the pause is kept.
    if (watch.expectedAt !== Infinity) {
      watch.isWaiting = true;
      const due = Math.max(SHORTEST_SLEEP, watch.expectedAt - monotonicNow());
      if (watch.failures === 0) wait = Math.min(wait ?? this.#lookInterval, due);
    }
    if (wait === undefined) this.#dropUnused(watch);
    else this.#plan(watch, wait);
  }

  get #lookInterval(): number {
    return Math.max(LOOK_INTERVAL, (this.#watches.size * 1_000) / LOOKS_PER_SECOND);
  }

  /** Returns how long to wait for the next step; undefined when there is none. */
  async #move(watch: Watch): Promise<number | undefined> {
    const { delayed } = this.#options;
    const { streamKey } = watch;
    if (!watch.isWaiting && !(await delayed.isWaiting(streamKey))) {
      watch.refusal = undefined;
      return watch.readers.size > 0 ? this.#lookInterval : undefined;
    }
    watch.isWaiting = true;
    const wasDue = monotonicNow() >= watch.dueAt;
    const { moved, next, lost, failure } = await delayed.move(streamKey);
    if (lost > 0) this.#report(watch, contentsLost(streamKey, lost));
    if (failure) throw failure;
    watch.refusal = undefined;
    watch.isWaiting = next !== undefined;
    watch.dueAt = next === undefined ? Infinity : monotonicNow() + next;
    // What was due has been moved by another process.
    if (moved > 0) watch.yield = 0;
    else if (wasDue) watch.yield = Math.min(LONGEST_YIELD, Math.max(SHORTEST_SLEEP, 2 * watch.yield));
    if (next === undefined) return watch.readers.size > 0 ? this.#lookInterval : undefined;
    if (next === 0) return 0;
    // Rounded up: a timer that fires a moment early finds nothing.
    return Math.min(this.#lookInterval, Math.max(SHORTEST_SLEEP, Math.ceil(next) + 1) + watch.yield);
  }

  #pauseAfter(watch: Watch, error: unknown): number {
    watch.failures += 1;
    const { streamKey, refusal } = watch;
    const isRefusal = !isTransient(classifyRedisError(error)) && !isOutage(error);
    if (!isRefusal || this.#isStopped) return backoffDelay(RECONNECT_BACKOFF, watch.failures);
    const text = errorText(error);
    watch.refusal = text;
    const wait = Math.max(REFUSED_SLEEP, this.#lookInterval);
    if (text === refusal) return wait;
    // Whether anything waits is unknown then, and most streams have no delayed messages.
    if (!watch.isWaiting) this.#options.logger.debug(`Delayed messages of '${streamKey}' are not looked for: ${text}`);
    else this.#report(watch, toPublicError(error, streamKey, 'moving delayed messages to'));
    return wait;
  }

  #report({ readers, sender }: Watch, error: RedisStreamsError): void {
    const [reader] = readers;
    (reader ?? sender)?.(error);
  }
}

function isOutage(error: unknown): boolean {
  return (error as Partial<RedisStreamsError>).retryable === true;
}

function contentsLost(streamKey: string, lost: number): SendFailedError {
  const what = lost === 1 ? 'the content of 1 delayed message' : `the contents of ${lost} delayed messages`;
  return new SendFailedError(streamKey, `Redis no longer has ${what}; it was evicted or deleted`);
}
