export { prometheus } from './prometheus/prometheus.js';
export type { MetricsRegistry, PrometheusOptions } from './prometheus/options.js';
