import type { Metric } from 'prom-client';

import { InvalidOptionError } from '../errors.js';
import type { MetricDefinition } from './metrics.js';
import type { MetricsRegistry } from './options.js';
import type { Sample } from './series.js';

/** Marks our metrics for other copies of this package, as in Jest. */
const EXPORTER = Symbol.for('nestjs-redis-streams:prometheus');

/** What keeps the values of a metric. */
export interface MetricValues {
  collect(): Promise<readonly Sample[]>;
  reset(): void;
}

/**
 * A metric as a registry of prom-client knows it, whose values are kept elsewhere: a registry asks a metric for nothing but
 * this when it is scraped, and histograms of prom-client take single observations only.
 */
class RegisteredMetric<E> {
  /** A registry for OpenMetrics takes `_total` away. */
  name: string;
  readonly help: string;
  readonly type: MetricDefinition['type'];
  readonly aggregator: MetricDefinition['aggregator'];
  readonly [EXPORTER]: E;
  readonly #values: MetricValues;

  constructor(name: string, { help, type, aggregator }: MetricDefinition, values: MetricValues, exporter: E) {
    this.name = name;
    this.help = help;
    this.type = type;
    this.aggregator = aggregator;
    this[EXPORTER] = exporter;
    this.#values = values;
  }

  async get(): Promise<object> {
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values: [...(await this.#values.collect())] };
  }

  reset(): void {
    this.#values.reset();
  }
}

/** The exporter whose metrics are in the registry already. */
export function registeredExporter<E>(registry: MetricsRegistry, name: string): E | undefined {
  const metric = registry.getSingleMetric(name) as (Metric & { readonly [EXPORTER]?: E }) | undefined;
  return metric?.[EXPORTER];
}

/** All of them or none. @throws InvalidOptionError when the registry has another metric with one of the names */
export function registerMetrics<D extends MetricDefinition>(
  registry: MetricsRegistry,
  prefix: string,
  definitions: readonly D[],
  exporter: { values(): Readonly<Record<D['name'], MetricValues>> },
): void {
  const taken = definitions.find(({ name }) => registry.getSingleMetric(prefix + name));
  if (taken) {
    const rule = `must be another one: the registry has a metric ${prefix}${taken.name} already`;
    throw new InvalidOptionError('prefix', rule, prefix);
  }
  const values = exporter.values();
  for (const definition of definitions) {
    const metric = new RegisteredMetric(
      prefix + definition.name,
      definition,
      values[definition.name as D['name']],
      exporter,
    );
    registry.registerMetric(metric as unknown as Metric);
  }
}
