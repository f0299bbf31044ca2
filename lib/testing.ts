export { TestClientRedisStreams } from './testing/test-client.js';
export type { SentMessage } from './testing/test-client.js';
export { TestServerRedisStreams } from './testing/test-server.js';
export type { DeliveryOutcome, TestMessage, TestServerOptions } from './testing/test-server.js';
