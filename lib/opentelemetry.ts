/**
 * Traces and metrics by OpenTelemetry. Import from `nestjs-redis-streams/opentelemetry`; `@opentelemetry/api` must be installed.
 * @packageDocumentation
 */

export { openTelemetry } from './opentelemetry/open-telemetry.js';
export type { OpenTelemetryOptions } from './opentelemetry/open-telemetry.js';
