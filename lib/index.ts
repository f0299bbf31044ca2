/**
 * The transport for Nest: {@link RedisStreamsModule}, {@link ServerRedisStreams} and {@link ClientRedisStreams}, with everything of the
 * engine. Import from `nestjs-redis-streams`.
 * @packageDocumentation
 */

export * from './engine.js';
export { REDIS_STREAMS_TRANSPORT } from './constants.js';
export { ClientRedisStreams } from './nest/client/redis-streams.client.js';
export { StreamEventPattern, StreamMessagePattern } from './nest/redis-streams.decorators.js';
export type { StreamPattern } from './nest/redis-streams.decorators.js';
export { RedisStreamsDeadLetterException, RedisStreamsRetryException } from './nest/redis-streams.exceptions.js';
export { RedisStreamsContext } from './nest/redis-streams.context.js';
export type { ContextScope, MessageDelivery } from './nest/redis-streams.context.js';
export type { DeadLetterEvent, ExpiredEvent, RedisStreamsEvents, RetryEvent } from './nest/redis-streams.events.js';
export type { PatternFactory } from './nest/server/handler-registry.js';
export type { LagAnswer, LagEndpointOptions } from './nest/lag/lag-endpoint.js';
export { RedisStreamsModule } from './nest/redis-streams.module.js';
export type {
  RedisStreamsModuleAsyncOptions,
  RedisStreamsModuleOptions,
  RedisStreamsModuleScope,
  RedisStreamsOptionsFactory,
} from './nest/redis-streams.module.js';
export type {
  AckMode,
  ClientRedisStreamsOptions,
  WildcardOptions,
  RedisStreamsCommonOptions,
  ServerRedisStreamsOptions,
} from './nest/redis-streams.options.js';
export type { BatchOptions, HandlerExtras, RateLimitOptions } from './nest/handler-extras.js';
export { RedisStreamsRecord, RedisStreamsRecordBuilder } from './nest/redis-streams.record.js';
export type { RecordDelivery } from './nest/redis-streams.record.js';
export { ServerRedisStreams } from './nest/server/redis-streams.server.js';
export type { ServerHealth } from './nest/server/redis-streams.server.js';
export { InjectRedisStreams, getRedisStreamsToken } from './nest/redis-streams.tokens.js';
export type { StandardSchemaResult, StandardSchemaV1 } from './nest/standard-schema.js';
export { StreamCatalog, streamCatalog } from './nest/stream-catalog.js';
export type { CatalogClient, CatalogSchemas, HandlerDecorator, StreamCatalogOptions } from './nest/stream-catalog.js';
