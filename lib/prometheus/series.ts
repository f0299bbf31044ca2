import type { LabelName } from './metrics.js';
import type { LabelValues } from './label-values.js';

export type Labels = Partial<Record<LabelName | 'le', string | number>>;

/** One line of the text that is scraped. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  /** Where it is not the name of the metric, as `…_bucket` of a histogram. */
  readonly metricName?: string;
}

/** The value of a counter. */
export interface Total {
  value: number;
}

/** Of the labels whose values come from the application. */
export type LabelLimits = Readonly<Partial<Record<LabelName, LabelValues>>>;

/**
 * The series of one metric by at most three label values. Messages pass here, so that a series that exists is found by one look
 * in a map for each label, without a key that would first have to be put together.
 */
export class Series<T> {
  readonly #labels: readonly LabelName[];
  readonly #limits: LabelLimits;
  readonly #create: () => T;
  readonly #tree = new Map<string, Map<string, Map<string, T>>>();

  constructor(labels: readonly LabelName[], limits: LabelLimits, create: () => T) {
    this.#labels = labels;
    this.#limits = limits;
    this.#create = create;
  }

  /** Creates what does not exist. */
  at(first: string, second = '', third = ''): T {
    return this.#tree.get(first)?.get(second)?.get(third) ?? this.#add([first, second, third]);
  }

  *entries(): Generator<[labels: Labels, series: T]> {
    for (const [first, seconds] of this.#tree)
      for (const [second, thirds] of seconds)
        for (const [third, series] of thirds) yield [this.#labelled([first, second, third]), series];
  }

  clear(): void {
    this.#tree.clear();
  }

  #add(values: readonly string[]): T {
    const [first = '', second = '', third = ''] = values.map((value, index) => {
      const label = this.#labels[index];
      return label === undefined ? value : limited(this.#limits, label, value);
    });
    const seconds = getOrAdd(this.#tree, first, () => new Map<string, Map<string, T>>());
    const thirds = getOrAdd(seconds, second, () => new Map<string, T>());
    return getOrAdd(thirds, third, this.#create);
  }

  #labelled(values: readonly string[]): Labels {
    return Object.fromEntries(this.#labels.map((label, index) => [label, values[index]]));
  }
}

/** The distribution of durations, with a count for each range between two bounds. */
export class Durations {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  /** @param bounds upper limits of the ranges, in seconds and ascending */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = bounds.map(() => 0);
  }

  observe(seconds: number): void {
    this.#sum += seconds;
    this.#count += 1;
    for (let index = 0; index < this.#bounds.length; index += 1) {
      if (seconds > (this.#bounds[index] as number)) continue;
      this.#counts[index] = (this.#counts[index] as number) + 1;
      return;
    }
  }

  /** As Prometheus has it: each bucket counts the shorter ones, too. */
  samples(name: string, labels: Labels): Sample[] {
    let below = 0;
    const buckets = this.#bounds.map((le, index) => {
      below += this.#counts[index] as number;
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below };
    });
    return [
      ...buckets,
      { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: this.#count },
      { metricName: `${name}_sum`, labels, value: this.#sum },
      { metricName: `${name}_count`, labels, value: this.#count },
    ];
  }
}

/** The value that a label may have. */
export function limited(limits: LabelLimits, label: LabelName, value: string): string {
  return limits[label]?.of(value) ?? value;
}

function getOrAdd<T>(map: Map<string, T>, key: string, create: () => T): T {
  const known = map.get(key);
  if (known !== undefined) return known;
  const added = create();
  map.set(key, added);
  return added;
}
