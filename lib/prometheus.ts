/**
 * Metrics for Prometheus. Import from `nestjs-redis-streams/prometheus`; `prom-client` must be installed.
 * @packageDocumentation
 */

export { prometheus } from './prometheus/prometheus.js';
export type { MetricsRegistry, PrometheusOptions } from './prometheus/options.js';
