export { openTelemetry } from './opentelemetry/open-telemetry.js';
export type { OpenTelemetryOptions } from './opentelemetry/open-telemetry.js';
