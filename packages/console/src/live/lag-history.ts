import type { GroupRow, LagSample } from '../api.js';

/** Of each group. With the shortest interval these are some minutes. */
const SAMPLES = 180;
/** Memory: some 10 MB with all samples of all of them. */
const MOST_GROUPS = 1_000;

/** The lag of groups in the last minutes, as far as pages had viewers. */
export class LagHistory {
  readonly #groups = new Map<string, LagSample[]>();
  readonly #spacing: number;

  /** @param spacing milliseconds between two samples, at least: a group may be part of several views that are looked at */
  constructor(spacing: number) {
    this.#spacing = spacing;
  }

  /** For a group whose page has viewers: without room, it replaces the group that was added first. */
  keep(stream: string, group: GroupRow, at: number): void {
    const key = JSON.stringify([stream, group.name]);
    if (!this.#groups.has(key) && this.#groups.size >= MOST_GROUPS) {
      const [oldest] = this.#groups.keys();
      if (oldest !== undefined) this.#groups.delete(oldest);
    }
    this.add(stream, group, at);
  }

  /** For a group in a list: without room, a new group is left out. */
  add(stream: string, { name, lag, lagSeconds, pending }: GroupRow, at: number): void {
    const key = JSON.stringify([stream, name]);
    let samples = this.#groups.get(key);
    if (!samples) {
      if (this.#groups.size >= MOST_GROUPS) return;
      this.#groups.set(key, (samples = []));
    }
    this.#append(samples, { at, lag, lagSeconds, pending });
  }

  /** The samples stay in order. The last one is replaced while it is too close to the one before it. */
  #append(samples: LagSample[], sample: LagSample): void {
    const last = samples.at(-1);
    if (last && sample.at <= last.at && last.at - sample.at < this.#spacing) return;
    // Later ones are of a clock that was set back since.
    while ((samples.at(-1)?.at ?? -Infinity) >= sample.at) samples.pop();
    const [before, latest] = samples.slice(-2);
    if (before && latest && latest.at - before.at < this.#spacing) samples.pop();
    samples.push(sample);
    if (samples.length > SAMPLES) samples.shift();
  }

  of(stream: string, group: string): readonly LagSample[] {
    return [...(this.#groups.get(JSON.stringify([stream, group])) ?? [])];
  }

  clear(): void {
    this.#groups.clear();
  }
}
