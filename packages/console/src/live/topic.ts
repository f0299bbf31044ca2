import { setTimeout as pause } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { Failure } from '../api.js';
import { failureOf, isOwnFault } from '../failures.js';
import { LookCost } from './look-cost.js';
import type { Pace } from './pace.js';

/** What the viewers of a topic learn. */
export type News<T> = { readonly value: T } | { readonly failure: Failure };

export interface Look<T> {
  /** Redis has answered something: the look is slow, but it continues. */
  progress(): void;
  /** A part of a look that takes long. */
  publish(value: T): void;
  /** Aborted when the last viewer has left. */
  readonly signal: AbortSignal;
}

export interface TopicOptions<T> {
  readonly look: (look: Look<T>) => Promise<T>;
  readonly pace: Pace;
  /** Why Redis does not answer, as far as this process knows; undefined where the look knows better. */
  readonly silence: () => Failure | undefined;
  /** The last viewer has left, and the last look has ended. */
  readonly onIdle: () => void;
}

/** Milliseconds without an answer of Redis after which the viewers learn of it. */
const SILENCE_LIMIT = 5_000;

/**
 * One figure that is looked at repeatedly while it has viewers, once for all of them: `idle` → `looking` ⇄ `waiting` → `idle`. Idle, it
 * asks Redis nothing, and keeps its last value and the time of its next look for the viewer who comes back. The
 * viewers learn of a look that fails, and it is repeated like any other. There is never more than one look under way; one that Redis does not answer is not given up,
 * because its commands would only pile up.
 */
export class Topic<T> {
  readonly #logger = new Logger('RedisStreamsConsole');
  readonly #options: TopicOptions<T>;
  readonly #viewers = new Set<(news: News<T>) => void>();
  readonly #cost = new LookCost();
  #news: News<T> | undefined;
  #isRunning = false;
  /** When the last look ended; undefined if the next one need not wait. */
  #lookedAt: number | undefined;
  #left = new AbortController();
  #waiting = new AbortController();

  constructor(options: TopicOptions<T>) {
    this.#options = options;
  }

  /** Gives the viewer the latest news at once, and all that follow. @returns ends that */
  watch(viewer: (news: News<T>) => void): () => void {
    if (this.#viewers.size === 0) this.#left = new AbortController();
    this.#viewers.add(viewer);
    if (this.#news) viewer(this.#news);
    if (!this.#isRunning) void this.#run();
    return () => {
      this.#viewers.delete(viewer);
      if (this.#viewers.size === 0) this.#left.abort();
    };
  }

  /** Tells the viewers why the next figures are late, until they come. */
  interrupt(failure: Failure): void {
    if (this.#isRunning) this.#tell({ failure });
  }

  /** Looks at once, or at once after the look that is under way if that fails. */
  wake(): void {
    this.#lookedAt = undefined;
    this.#waiting.abort();
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { pace, onIdle } = this.#options;
    this.#isRunning = true;
    while (this.#viewers.size > 0) {
      // For the pace a viewer who comes back is one who never left.
      pace.note(this, this.#cost.value);
      const { signal } = this.#left;
      await this.#wait(signal);
      if (!signal.aborted) await this.#look(signal);
    }
    pace.forget(this);
    // A failure may be over when the next viewer comes.
    if (this.#news && 'failure' in this.#news) this.#news = undefined;
    this.#isRunning = false;
    onIdle();
  }

  /** Until the next look is due, which is later if other topics have come since. Never rejects. */
  async #wait(left: AbortSignal): Promise<void> {
    while (this.#lookedAt !== undefined && !left.aborted) {
      const rest = this.#lookedAt + this.#options.pace.pauseOf(this) - performance.now();
      if (rest <= 0) return;
      this.#waiting = new AbortController();
      const signal = AbortSignal.any([left, this.#waiting.signal]);
      await pause(rest, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Never rejects. */
  async #look(signal: AbortSignal): Promise<void> {
    const silence = setTimeout(() => {
      const failure = this.#options.silence();
      if (failure) this.#tell({ failure });
    }, SILENCE_LIMIT);
    const look: Look<T> = {
      signal,
      progress: () => {
        this.#cost.progress();
        silence.refresh();
      },
      publish: (value) => this.#tell({ value }),
    };
    const started = performance.now();
    this.#lookedAt = started;
    this.#cost.start();
    let hasFailed = false;
    try {
      const value = await this.#options.look(look);
      // Left early, the look has seen a part only.
      if (!signal.aborted) this.#tell({ value });
    } catch (error) {
      hasFailed = true;
      if (!signal.aborted) this.#tellError(error);
    } finally {
      clearTimeout(silence);
      this.#cost.end();
      const isWoken = this.#lookedAt !== started;
      if (!isWoken || !hasFailed) this.#lookedAt = performance.now();
    }
  }

  #tellError(error: unknown): void {
    // Once, and not again with each look that fails like this.
    const isFirst = this.#news === undefined || 'value' in this.#news;
    if (isOwnFault(error) && isFirst) this.#logger.error(error);
    this.#tell({ failure: failureOf(error) });
  }

  #tell(news: News<T>): void {
    this.#news = news;
    for (const viewer of this.#viewers) viewer(news);
  }
}
