import { InvalidOptionError } from '../errors.js';
import type { Telemetry } from '../engine/telemetry/telemetry.js';
import { METRICS } from './metrics.js';
import { SHARED_OPTIONS, resolvePrometheusOptions } from './options.js';
import type { PrometheusOptions } from './options.js';
import { PrometheusExporter } from './prometheus-exporter.js';
import { registerMetrics, registeredExporter } from './registered-metric.js';

/**
 * Metrics for Prometheus, for the option `telemetry` of servers, clients, modules and streamers. They are registered in a
 * registry of prom-client at once; the application serves it, as it does for its other metrics.
 *
 * One may be given to any number of servers and clients. A second call for the same registry and prefix returns the first one,
 * so that two applications in one process, or one that is loaded again, have their messages counted together.
 *
 * @throws InvalidOptionError, also when the registry has a metric with one of the names that is not of this package, and when a
 * second call has other options than the first
 * @example
 * const metrics = prometheus();
 * const strategy = new ServerRedisStreams({ group: 'orders-service', telemetry: metrics });
 */
export function prometheus(options: PrometheusOptions = {}): Telemetry {
  const resolved = resolvePrometheusOptions(options);
  const { registry, prefix } = resolved;
  const known = registeredExporter<PrometheusExporter>(registry, prefix + METRICS[0].name);
  if (known) {
    requireSameOptions(options, known);
    return known;
  }
  const exporter = new PrometheusExporter(resolved);
  registerMetrics(registry, prefix, METRICS, exporter);
  return exporter;
}

/** Options that are not given are those of the first call. */
function requireSameOptions(options: PrometheusOptions, { options: first }: PrometheusExporter): void {
  for (const name of SHARED_OPTIONS) {
    const value = options[name];
    if (value === undefined || String(value) === String(first[name])) continue;
    const rule = `must be ${String(first[name])}, as in the first prometheus() for this registry and prefix`;
    throw new InvalidOptionError(name, rule, value);
  }
}
