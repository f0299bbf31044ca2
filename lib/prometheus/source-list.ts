import type { TelemetrySource } from '../engine/telemetry/telemetry.js';
import { within } from '../shared/backoff.js';
import { AttachedSource } from './attached-source.js';
import type { SourceReport } from './attached-source.js';
import { gaugesOf } from './gauges.js';
import type { GaugeTable } from './gauges.js';
import { Series } from './series.js';
import type { LabelLimits, Total } from './series.js';

/** What one scrape shows of all streamers. */
export interface Observation {
  readonly reports: readonly SourceReport[];
  readonly gauges: GaugeTable;
}

/**
 * The streamers that use the telemetry. It has no timer and no connection: it looks at them when it is scraped. What a streamer
 * has counted stays when it disconnects; its gauges disappear with it.
 */
export class SourceList {
  readonly restarts: Series<Total>;
  readonly reconnects: Total = { value: 0 };
  readonly #limits: LabelLimits;
  readonly #times: { readonly pollInterval: number; readonly timeout: number };
  readonly #attached = new Map<TelemetrySource, AttachedSource>();
  #observing: Promise<Observation> | undefined;

  constructor(limits: LabelLimits, times: { readonly pollInterval: number; readonly timeout: number }) {
    this.restarts = new Series(['group'], limits, () => ({ value: 0 }));
    this.#limits = limits;
    this.#times = times;
  }

  /** The function that is returned takes it off again; each call counts once. */
  attach(source: TelemetrySource): () => void {
    const attached = this.#attached.get(source) ?? new AttachedSource(source, this.#times);
    this.#attached.set(source, attached);
    attached.attachments += 1;
    return () => {
      attached.attachments -= 1;
      if (attached.attachments > 0) return;
      this.#count(attached);
      this.#attached.delete(source);
    };
  }

  /** A registry asks its metrics all at once, so that they share one look. It takes at most `timeout`. */
  observe(): Promise<Observation> {
    this.#observing ??= this.#observe().finally(() => (this.#observing = undefined));
    return this.#observing;
  }

  async #observe(): Promise<Observation> {
    const asking = Array.from(this.#attached.values(), (attached) => attached.refresh());
    if (asking.length > 0) await within(this.#times.timeout, Promise.all(asking));
    const all = [...this.#attached.values()];
    for (const attached of all) this.#count(attached);
    const reports = all.map((attached) => attached.report());
    return { reports, gauges: gaugesOf(reports, this.#limits) };
  }

  #count(attached: AttachedSource): void {
    const { reconnects, restarts } = attached.takeCounts();
    this.reconnects.value += reconnects;
    for (const [group, count] of restarts) this.restarts.at(group).value += count;
  }
}
