/** A metric with all of its lines, as a scrape shows it. */
export interface MetricFamily {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: readonly ExposedSample[];
}

export interface ExposedSample {
  /** That of the family, or with a suffix for the parts of a histogram. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const COMMENT = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/;
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)/y;
const NUMBER = /^[+-]?(?:Inf|\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/;

/**
 * Reads the text format of Prometheus, and refuses what a scraper accepts and cannot use: a metric without HELP and TYPE or in
 * two places, a series twice, series of one metric with other labels, counters without `_total` and histograms that are not
 * cumulative.
 */
export function parseExposition(text: string): Exposition {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const families = new Map<string, MetricFamily & { samples: ExposedSample[] }>();
  let help: { name: string; text: string } | undefined;
  let current: (MetricFamily & { samples: ExposedSample[] }) | undefined;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, kind, name = '', rest = ''] = COMMENT.exec(line) ?? [];
    if (kind === 'HELP') {
      help = { name, text: rest };
      current = undefined;
    } else if (kind === 'TYPE') {
      if (help?.name !== name) throw new Error(`TYPE without HELP: ${line}`);
      if (families.has(name)) throw new Error(`a metric in two places: ${name}`);
      current = { name, type: rest, help: help.text, samples: [] };
      families.set(name, current);
    } else {
      if (!current) throw new Error(`a sample outside of its metric: ${line}`);
      current.samples.push(parseSample(line, current));
    }
  }
  for (const family of families.values()) checkFamily(family);
  return new Exposition([...families.values()]);
}

/** What one scrape has shown. */
export class Exposition {
  readonly families: readonly MetricFamily[];

  constructor(families: readonly MetricFamily[]) {
    this.families = families;
  }

  /** All lines of a metric, or of a part of a histogram, that have these labels among others. */
  samples(name: string, labels: Readonly<Record<string, string>> = {}): ExposedSample[] {
    return this.families
      .flatMap((family) => family.samples)
      .filter((sample) => sample.name === name)
      .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value));
  }

  /** The value of the only series with these labels; undefined when there is none. */
  value(name: string, labels?: Readonly<Record<string, string>>): number | undefined {
    const found = this.samples(name, labels);
    if (found.length > 1)
      throw new Error(`${found.length} series of ${name} have the labels ${JSON.stringify(labels)}`);
    return found[0]?.value;
  }
}

function parseSample(line: string, { name: family, type }: MetricFamily): ExposedSample {
  const [, name = '', list, number = ''] = SAMPLE.exec(line) ?? [];
  if (name === '' || !NUMBER.test(number)) throw new Error(`not a sample: ${line}`);
  const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
  if (!suffixes.some((suffix) => name === family + suffix))
    throw new Error(`${name} is no part of the ${type} ${family}`);
  return { name, labels: parseLabels(list, line), value: Number(number.replace('Inf', 'Infinity')) };
}

function parseLabels(list: string | undefined, line: string): Record<string, string> {
  const labels: Record<string, string> = {};
  let end = 0;
  while (list !== undefined && end < list.length) {
    LABEL.lastIndex = end;
    const [whole, name, value] = LABEL.exec(list) ?? [];
    if (whole === undefined || name === undefined || value === undefined) throw new Error(`bad labels: ${line}`);
    if (name in labels) throw new Error(`the label ${name} twice: ${line}`);
    labels[name] = value.replace(/\\([\\"n])/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
    end += whole.length;
  }
  return labels;
}

function checkFamily({ name, type, samples }: MetricFamily): void {
  if (!['counter', 'gauge', 'histogram', 'summary'].includes(type)) throw new Error(`${name} has no type: ${type}`);
  if ((type === 'counter') !== name.endsWith('_total')) throw new Error(`the name of a ${type}: ${name}`);
  const series = samples.map((sample) => `${sample.name} ${seriesOf(sample.labels)}`);
  if (new Set(series).size !== series.length) throw new Error(`${name} has a series twice`);
  const labels = new Set(samples.map((sample) => Object.keys(withoutBound(sample.labels)).sort().join()));
  if (labels.size > 1) throw new Error(`${name} has series with different labels: ${[...labels].join(' and ')}`);
  if (type !== 'gauge' && samples.some(({ value }) => !(value >= 0))) throw new Error(`${name} counts below 0`);
  if (type === 'histogram') checkHistogram(name, samples);
}

function checkHistogram(name: string, samples: readonly ExposedSample[]): void {
  for (const [labels, parts] of groupBy(samples, (sample) => seriesOf(withoutBound(sample.labels)))) {
    const of = (suffix: string): ExposedSample[] => parts.filter((part) => part.name === name + suffix);
    const buckets = of('_bucket').map((part) => ({
      bound: Number(part.labels['le']?.replace('Inf', 'Infinity')),
      count: part.value,
    }));
    const isCumulative = buckets.every(({ bound, count }, index) => {
      const before = buckets[index - 1];
      return !before || (bound > before.bound && count >= before.count);
    });
    const last = buckets.at(-1);
    if (!isCumulative || last?.bound !== Infinity || of('_sum').length !== 1 || of('_count')[0]?.value !== last.count)
      throw new Error(`${name}${labels} is no histogram`);
  }
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups;
}

function withoutBound({ le: _, ...labels }: Readonly<Record<string, string>>): Record<string, string> {
  return labels;
}

function seriesOf(labels: Readonly<Record<string, string>>): string {
  return JSON.stringify(
    Object.keys(labels)
      .sort()
      .map((label) => [label, labels[label]]),
  );
}
