import { SpanKind } from '@opentelemetry/api';

/** Name of the tracer and of the meter: the instrumentation scope. */
export const SCOPE = 'nestjs-redis-streams';

/** Kinds of spans. The name of a span is the operation and the stream, as `send orders`. */
export const SPANS = Object.freeze({
  send: { operation: 'send', type: 'send', kind: SpanKind.PRODUCER },
  process: { operation: 'process', type: 'process', kind: SpanKind.CONSUMER },
  receive: { operation: 'receive', type: 'receive', kind: SpanKind.CLIENT },
  /** The conventions have no type for it: it is the time from the question to the last answer. */
  request: { operation: 'request', type: undefined, kind: SpanKind.CLIENT },
});

export type SpanDescription = (typeof SPANS)[keyof typeof SPANS];

/** Attributes of spans, links, events and metrics: those of the conventions for messaging, and our own below `messaging.redis.`. */
export const ATTRIBUTES = Object.freeze({
  system: 'messaging.system',
  operation: 'messaging.operation.name',
  operationType: 'messaging.operation.type',
  destination: 'messaging.destination.name',
  template: 'messaging.destination.template',
  partition: 'messaging.destination.partition.id',
  group: 'messaging.consumer.group.name',
  client: 'messaging.client.id',
  messageId: 'messaging.message.id',
  bodySize: 'messaging.message.body.size',
  batchCount: 'messaging.batch.message_count',
  serverAddress: 'server.address',
  serverPort: 'server.port',
  errorType: 'error.type',
  deliveryCount: 'messaging.redis.delivery_count',
  delayed: 'messaging.redis.delayed',
  cancelled: 'messaging.redis.cancelled',
  retryDelay: 'messaging.redis.retry.delay',
  deadLetterReason: 'messaging.redis.dead_letter.reason',
});

/** Events of spans. An exception is recorded beside them, by the name that OpenTelemetry gives it. */
export const EVENTS = Object.freeze({
  redelivery: 'messaging.redis.redelivery',
  retry: 'messaging.redis.retry',
  deadLetter: 'messaging.redis.dead_letter',
  pending: 'messaging.redis.left_pending',
  expired: 'messaging.redis.expired',
});

/** The metrics of the conventions for messaging. */
export const METRICS = Object.freeze({
  operationDuration: {
    name: 'messaging.client.operation.duration',
    unit: 's',
    description: 'Duration of messaging operation initiated by a producer or consumer client.',
  },
  processDuration: {
    name: 'messaging.process.duration',
    unit: 's',
    description: 'Duration of processing operation.',
  },
  sentMessages: {
    name: 'messaging.client.sent.messages',
    unit: '{message}',
    description: 'Number of messages producer attempted to send to the broker.',
  },
  consumedMessages: {
    name: 'messaging.client.consumed.messages',
    unit: '{message}',
    description: 'Number of messages that were delivered to the application.',
  },
});

/** Seconds; the advice of the conventions. */
export const DURATION_BUCKETS = Object.freeze([
  0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
]);

/** The `error.type` of a thrown value that is no Error, and of every name beyond the limit. */
export const OTHER_ERROR = '_OTHER';
