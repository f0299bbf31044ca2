export { TestClientRedisStreams } from './testing/test-client.js';
export type { SentMessage } from './testing/test-client.js';
export { TestServerRedisStreams } from './testing/test-server.js';
export type { DeliveryOutcome, TestMessage, TestServerOptions, TimedOutcome } from './testing/test-server.js';
export type { AdvanceTimers } from './testing/virtual-clock.js';
