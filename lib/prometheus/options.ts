import { register } from 'prom-client';
import type { OpenMetricsContentType, Registry } from 'prom-client';

import { InvalidOptionError } from '../errors.js';
import { check, definedOptions, optionNames } from '../shared/option-checks.js';
import { consoleLogger, resolveLogger } from '../shared/logger.js';
import type { RedisStreamsLogger } from '../shared/logger.js';

/** A registry of prom-client, for the text format of Prometheus or for OpenMetrics. */
export type MetricsRegistry = Registry | Registry<OpenMetricsContentType>;

/** Options of {@link prometheus}. */
export interface PrometheusOptions {
  /**
   * Where the metrics are registered.
   * @defaultValue the global registry of prom-client, `register`
   */
  registry?: MetricsRegistry;
  /**
   * Beginning of all names: letters, digits, `_` and `:`, no digit first.
   * @defaultValue `redis_streams_`
   */
  prefix?: string;
  /**
   * How long an answer of Redis (lag, pending, entries) is shown before a scrape asks again, in milliseconds. At least 0 (each scrape
   * asks).
   * @defaultValue `15_000`
   */
  pollInterval?: number;
  /**
   * How long a scrape waits for Redis, in milliseconds; numbers that are not known by then are left out. At least 1. It must be less than
   * `scrape_timeout` of Prometheus.
   * @defaultValue `1_000`
   */
  timeout?: number;
  /**
   * Distinct values of each of the labels `stream`, `group`, `pattern` and `code`. Further ones are counted together as `(other)`, which
   * is logged once. At least 1.
   * @defaultValue `200`
   */
  maxLabelValues?: number;
  /**
   * Upper limits of the buckets of all durations, in seconds and ascending.
   * @defaultValue 15 buckets from 0.001 to 60
   */
  buckets?: readonly number[];
  /**
   * Gets the warning about `maxLabelValues`; false: it is not logged.
   * @defaultValue the console
   */
  logger?: RedisStreamsLogger | false;
}

export interface ResolvedPrometheusOptions extends Required<PrometheusOptions> {
  logger: RedisStreamsLogger;
}

const OPTIONS = optionNames<PrometheusOptions>({
  registry: true,
  prefix: true,
  pollInterval: true,
  timeout: true,
  maxLabelValues: true,
  buckets: true,
  logger: true,
});

const DEFAULTS = Object.freeze({
  prefix: 'redis_streams_',
  pollInterval: 15_000,
  timeout: 1_000,
  maxLabelValues: 200,
  buckets: Object.freeze([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]),
}) satisfies PrometheusOptions;

/** The options that all users of one registry share. */
export const SHARED_OPTIONS = ['pollInterval', 'timeout', 'maxLabelValues', 'buckets'] as const;

/** @throws InvalidOptionError */
export function resolvePrometheusOptions(options: PrometheusOptions): ResolvedPrometheusOptions {
  check.options('', options, OPTIONS);
  const resolved = { registry: register, ...DEFAULTS, ...definedOptions(options) };
  checkRegistry(resolved.registry);
  check.string('prefix', resolved.prefix);
  if (!/^(?:[a-zA-Z_:][\w:]*)?$/.test(resolved.prefix))
    throw new InvalidOptionError('prefix', 'must have letters, digits and _ only, no digit first', resolved.prefix);
  check.time('pollInterval', resolved.pollInterval, 0);
  check.time('timeout', resolved.timeout, 1);
  check.integer('maxLabelValues', resolved.maxLabelValues, 1);
  checkBuckets(resolved.buckets);
  return { ...resolved, logger: resolveLogger(options.logger, () => consoleLogger) };
}

function checkRegistry(registry: Partial<MetricsRegistry>): void {
  const isRegistry = typeof registry?.registerMetric === 'function' && typeof registry.getSingleMetric === 'function';
  if (!isRegistry) throw InvalidOptionError.withoutValue('registry', 'must be a Registry of prom-client');
}

function checkBuckets(buckets: unknown): void {
  const isList =
    Array.isArray(buckets) &&
    buckets.length > 0 &&
    buckets.every((bound, index) => Number.isFinite(bound) && bound > (index === 0 ? 0 : buckets[index - 1]));
  if (!isList) throw new InvalidOptionError('buckets', 'must be a list of ascending numbers above 0', buckets);
}
