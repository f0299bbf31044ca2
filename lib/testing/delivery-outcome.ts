import { failureOf } from '../nest/server/handler-runner.js';
import { RedisStreamsContext } from '../nest/redis-streams.context.js';

/** How the handling of a message ended. */
export interface DeliveryOutcome {
  /** `unsettled`: a handler with manual acknowledgement has not settled its message. */
  readonly settlement: 'ack' | 'retry' | 'dead-letter' | 'pending' | 'unsettled';
  /** Of a retry: milliseconds until the next delivery. */
  readonly delay?: number;
  /** Of a dead letter. */
  readonly reason?: string;
  /** The error that the handler threw, before Nest's exception filters. */
  readonly error?: unknown;
}

/** The outcome of a message that `advanceTime` of a test server gave to its handlers. */
export interface TimedOutcome extends DeliveryOutcome {
  /** Pattern of the handlers. */
  readonly pattern: string;
  /** Key of the stream. */
  readonly stream: string;
  /** Id of the entry. */
  readonly id: string;
  /** Over 1 for a retry. */
  readonly deliveryCount: number;
}

/** Of a message whose handlers have ended. */
export function outcomeOf(context: RedisStreamsContext): DeliveryOutcome {
  const { settlement, failure } = RedisStreamsContext.deliveryOf(context);
  const buried: unknown = settlement?.kind === 'dead-letter' ? settlement.error : undefined;
  const error = buried ?? failureOf(context) ?? failure;
  // None is left in the middle of it: see `TestServerRedisStreams`.
  const kind = settlement?.kind === 'alone' ? undefined : settlement?.kind;
  const outcome = { settlement: kind ?? 'unsettled', ...(error === undefined ? {} : { error }) } as const;
  if (settlement?.kind === 'retry') return { ...outcome, delay: settlement.delay };
  return settlement?.kind === 'dead-letter' ? { ...outcome, reason: settlement.reason } : outcome;
}
