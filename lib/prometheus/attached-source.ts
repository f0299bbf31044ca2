import type { StreamerHealth, StreamerStats } from '../engine/health.js';
import type { TelemetrySource } from '../engine/telemetry/telemetry.js';
import { monotonicNow } from '../shared/clock.js';

/** Of the time of a scrape: an answer in which one number is missing must be there before the scrape gives up. */
const SHARE_OF_REDIS = 0.8;

/** What a streamer has counted since it was last looked at. */
export interface SourceCounts {
  readonly reconnects: number;
  readonly restarts: ReadonlyMap<string, number>;
}

/** One streamer at the moment of a scrape. */
export interface SourceReport {
  readonly server: TelemetrySource['server'];
  readonly stats: StreamerStats;
  /** What Redis answered; undefined when it was not asked yet, or did not answer in time. */
  readonly health: StreamerHealth | undefined;
}

/**
 * One streamer that uses the telemetry. It asks for what only Redis knows when a scrape needs it and the last answer is older
 * than the interval; one question at a time. It never has a timer, and never shows an old answer while a new one is awaited.
 */
export class AttachedSource {
  /** How often the streamer has been attached: to every `prometheus()` of a list, for instance. */
  attachments = 0;
  readonly #source: TelemetrySource;
  readonly #interval: number;
  readonly #timeout: number;
  #askedAt = -Infinity;
  #asking: Promise<void> | undefined;
  #health: StreamerHealth | undefined;
  #reconnects = 0;
  #restarts: ReadonlyMap<string, number> = new Map();

  constructor(source: TelemetrySource, { pollInterval, timeout }: { pollInterval: number; timeout: number }) {
    this.#source = source;
    this.#interval = pollInterval;
    this.#timeout = Math.ceil(timeout * SHARE_OF_REDIS);
  }

  /** Resolves when the answer is there, and never rejects. */
  async refresh(): Promise<void> {
    if (this.#asking === undefined && monotonicNow() - this.#askedAt < this.#interval) return;
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
    await this.#asking;
  }

  report(): SourceReport {
    const { server } = this.#source;
    return { server, stats: this.#source.stats(), health: this.#health };
  }

  /** Loops end with their consumers, and their counts with them. */
  takeCounts(): SourceCounts {
    const { reconnects, loops } = this.#source.stats();
    const restarts = new Map<string, number>();
    for (const { group = '', restarts: count } of loops) restarts.set(group, (restarts.get(group) ?? 0) + count);
    const taken = {
      reconnects: Math.max(0, reconnects - this.#reconnects),
      restarts: new Map(
        [...restarts].map(([group, count]) => [group, Math.max(0, count - (this.#restarts.get(group) ?? 0))]),
      ),
    };
    this.#reconnects = reconnects;
    this.#restarts = restarts;
    return taken;
  }

  async #ask(): Promise<void> {
    this.#askedAt = monotonicNow();
    this.#health = undefined;
    // A streamer that cannot be asked has nothing to show; its log has the reason.
    this.#health = await this.#source.health({ timeout: this.#timeout }).catch(() => undefined);
  }
}
