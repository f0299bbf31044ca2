/**
 * The engine without Nest and rxjs: {@link RedisStreamer} with its producers, consumers and managers. Import from
 * `nestjs-redis-streams/engine`; the main entry point exports the same.
 * @packageDocumentation
 */

export * from './errors.js';
export type { RedisStreamsLogger } from './shared/logger.js';
export type { ClusterConnection, RedisClient, RedisStreamsConnection } from './redis/connection/connection-target.js';
export { parseStreamUrl } from './redis/connection/stream-url.js';
export type { StreamUrl } from './redis/connection/stream-url.js';
export type { RedisStreamsStatus } from './redis/connection/redis-connections.js';
export { entryId } from './redis/commands/entry-id.js';
export type { TimestampFormat } from './redis/commands/entry-id.js';
export type { GroupConsumerInfo, GroupInfo, PendingEntry, RedisEffect } from './redis/commands/stream-commands.js';
export type {
  AcknowledgingConsumer,
  BasicConsumer,
  ConsumerEvents,
  ConsumerFor,
  OnlyOptionsOf,
  RewindTarget,
} from './engine/consuming/consumer-types.js';
export type { ConsumerMode } from './engine/options/consumer-mode.js';
export type {
  AutoCommit,
  AutoStreamReset,
  ClaimingOptions,
  ConsumerOptions,
  Delivery,
  GroupOptions,
  LeaseRenewalBy,
  LoadBalancedOptions,
  OwnershipOptions,
  ProducerOptions,
  ReadingOptions,
  RealTimeOptions,
  ResumableOptions,
  Sharder,
  StreamerOptions,
  WaitReplicasOptions,
} from './engine/options/options.js';
export { DEAD_LETTER_HEADERS, DEAD_LETTER_SUFFIX } from './engine/settling/dead-letter.js';
export type { DeadLetterOptions } from './engine/settling/dead-letter.js';
export type {
  HealthOptions,
  LoopHealth,
  LoopStats,
  StreamHealth,
  StreamerHealth,
  StreamerStats,
} from './engine/health.js';
export { Inbox, idempotencyKey } from './engine/admin/inbox.js';
export type { InboxOptions } from './engine/admin/inbox.js';
export { ShardAssignment } from './engine/consuming/ownership/shard-assignment.js';
export type { PauseReason } from './engine/consuming/partition.js';
export type { LoopReport, LoopState } from './engine/consuming/reading/loop-watchdog.js';
export type { RetentionOptions, TrimOptions, TrimResult } from './engine/admin/retention.js';
export type {
  DeadLetteredDetails,
  ProcessDetails,
  ProcessOperation,
  ProcessOutcome,
  ReceiveDetails,
  ReceiveOperation,
  ReceiveOutcome,
  RequestDetails,
  RequestOperation,
  RequestOutcome,
  SendOperation,
  SendOutcome,
  SentMessageDetails,
  SentMessageKind,
  Telemetry,
  TelemetrySource,
} from './engine/telemetry/telemetry.js';
export type { RetryOptions } from './engine/settling/retry-policy.js';
export { Receipt } from './engine/messages/receipt.js';
export type { RedriveOptions, RedriveResult } from './engine/admin/redrive.js';
export { KeyHashSharder, PseudoRandomSharder, RoundRobinSharder } from './engine/producing/sharder.js';
export type { BasicConsumer as StreamConsumer } from './engine/consuming/consumer-types.js';
export { StreamManager } from './engine/admin/stream-manager.js';
export type {
  DelayedMessage,
  DelayedQuery,
  PendingQuery,
  ClusterReadOptions,
  RangeOptions,
  SetShardsOptions,
} from './engine/admin/manager-queries.js';
export type { RangeBound } from './engine/admin/range-bound.js';
export type { LayoutDetails, ShardLayout } from './redis/commands/layouts.js';
export { ShardOwnerDetails } from './engine/admin/shard-owner-details.js';
export type { GroupDetails, ShardDetails, StreamDetails } from './engine/admin/stream-details.js';
export type {
  DeadLetterError,
  DeadLetterMessage,
  DeadLetterOrigin,
  DeadLetterPlace,
  DeadLetterQuery,
} from './engine/admin/dead-letters.js';
export { StreamMessage } from './engine/messages/stream-message.js';
export type { StreamShard } from './engine/messages/stream-message.js';
export { StreamProducer } from './engine/producing/stream-producer.js';
export type { Deduplication, Payload, SendOptions } from './engine/messages/outgoing-message.js';
export { RedisStreamer } from './engine/streamer.js';
