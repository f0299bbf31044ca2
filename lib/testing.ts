/**
 * A server and a client for tests, without Redis. Import from `nestjs-redis-streams/testing`.
 * @packageDocumentation
 */

export type { DeliveryOutcome, TimedOutcome } from './testing/delivery-outcome.js';
export { TestClientRedisStreams } from './testing/test-client.js';
export type { SentMessage } from './testing/test-client.js';
export { TestServerRedisStreams } from './testing/test-server.js';
export type { TestMessage } from './testing/test-message.js';
export type { TestServerOptions } from './testing/test-server.js';
export type { AdvanceTimers } from './testing/virtual-clock.js';
