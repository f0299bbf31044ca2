export { REDIS_STREAMS_TRANSPORT } from './constants.js';
export * from './errors.js';
export type { RedisStreamsLogger } from './logger.js';
export type { ClusterConnection, RedisStreamsConnection } from './redis/connection-options.js';
export type { RedisStreamsStatus } from './redis/redis-connections.js';
export type { GroupConsumerInfo, PendingEntry, RedisEffect } from './redis/stream-commands.js';
export type {
  AcknowledgingConsumer,
  BasicConsumer,
  CommittingConsumer,
  ConsumerFor,
  OnlyOptionsOf,
  RewindTarget,
} from './engine/consumer-types.js';
export type {
  AutoCommit,
  AutoStreamReset,
  ConsumerOptions,
  Delivery,
  LoadBalancedOptions,
  ProducerOptions,
  RealTimeOptions,
  ResumableOptions,
  StreamerOptions,
} from './engine/options.js';
export { DEAD_LETTER_HEADERS } from './engine/dead-letter.js';
export type { DeadLetterOptions } from './engine/dead-letter.js';
export type { LoopHealth, StreamHealth, StreamerHealth } from './engine/health.js';
export { Inbox, idempotencyKey } from './engine/inbox.js';
export type { InboxOptions } from './engine/inbox.js';
export type { LoopState } from './engine/loop-watch.js';
export type { RetentionOptions, TrimOptions, TrimResult } from './engine/retention.js';
export type { RetryOptions } from './engine/retry-policy.js';
export { Receipt } from './engine/receipt.js';
export type { RedriveOptions, RedriveResult } from './engine/redrive.js';
export { KeyHashSharder, PseudoRandomSharder, RoundRobinSharder } from './engine/sharder.js';
export type { Sharder } from './engine/sharder.js';
export type { BasicConsumer as StreamConsumer } from './engine/consumer-types.js';
export { StreamManager } from './engine/stream-manager.js';
export type { GroupDetails, PendingQuery, RangeBound } from './engine/stream-manager.js';
export { StreamMessage } from './engine/stream-message.js';
export type { StreamShard } from './engine/stream-message.js';
export { StreamProducer } from './engine/stream-producer.js';
export type { Payload, SendOptions } from './engine/outgoing-entry.js';
export { RedisStreamer } from './engine/streamer.js';
export { ClientRedisStreams } from './nest/redis-streams.client.js';
export { RedisStreamsDeadLetterException, RedisStreamsRetryException } from './nest/redis-streams.exceptions.js';
export { RedisStreamsContext } from './nest/redis-streams.context.js';
export type { DeadLetterEvent, RedisStreamsEvents, RetryEvent } from './nest/redis-streams.events.js';
export type { PatternFactory } from './nest/handler-registry.js';
export { RedisStreamsModule } from './nest/redis-streams.module.js';
export type {
  RedisStreamsModuleAsyncOptions,
  RedisStreamsModuleOptions,
  RedisStreamsModuleScope,
  RedisStreamsOptionsFactory,
} from './nest/redis-streams.module.js';
export type {
  AckMode,
  BatchOptions,
  ClientRedisStreamsOptions,
  HandlerExtras,
  RedisStreamsCommonOptions,
  ServerRedisStreamsOptions,
} from './nest/redis-streams.options.js';
export { RedisStreamsRecord, RedisStreamsRecordBuilder } from './nest/redis-streams.record.js';
export { ServerRedisStreams } from './nest/redis-streams.server.js';
export { InjectRedisStreams, getRedisStreamsToken } from './nest/redis-streams.tokens.js';
