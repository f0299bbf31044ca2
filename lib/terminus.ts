/**
 * Health checks for Terminus. Import from `nestjs-redis-streams/terminus`.
 * @packageDocumentation
 */

export { RedisStreamsHealthIndicator } from './nest/health/redis-streams-health.indicator.js';
export type {
  HealthCheckOptions,
  HealthCheckResult,
  HealthCheckState,
  HealthDetails,
  HealthSource,
  HealthSources,
} from './nest/health/redis-streams-health.indicator.js';
