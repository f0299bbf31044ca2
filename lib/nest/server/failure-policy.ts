import type { ResolvedDeadLetter } from '../../engine/settling/dead-letter.js';
import { StreamMessage } from '../../engine/messages/stream-message.js';
import type { Delivery, Settlement } from '../../engine/settling/settlement.js';
import { retryDelay } from '../../engine/settling/retry-policy.js';
import type { RetryPolicy } from '../../engine/settling/retry-policy.js';

/** How often a message is handled, and where it goes when every attempt failed. */
export interface FailurePolicy {
  readonly retry: RetryPolicy;
  readonly deadLetter: ResolvedDeadLetter | false;
}

/** The settlements without parameters, one object each for all messages. */
export const ACKNOWLEDGED = Object.freeze({ kind: 'ack' }) satisfies Settlement;
export const LEFT_PENDING = Object.freeze({ kind: 'pending' }) satisfies Settlement;
/** Of a message whose batch failed for good, because of one of its messages. */
export const HANDLED_ALONE = Object.freeze({ kind: 'alone' }) satisfies Settlement;

/**
 * A retry, or a dead letter after the last attempt. A handler that was told to stop because the server closes has made no
 * attempt: a message that takes long would become a dead letter after a few deployments.
 */
export function retryOrDeadLetter(
  { message, abortReason }: Pick<Delivery, 'message' | 'abortReason'>,
  policy: FailurePolicy,
  delay: number | undefined,
  error?: unknown,
): Settlement {
  const { deliveryCount: attempts } = message;
  const isUncounted = abortReason === 'shutdown';
  if (attempts >= policy.retry.attempts && !isUncounted) return deadLetter(`failed ${times(attempts)}`, policy, error);
  return { kind: 'retry', delay: delay ?? retryDelay(policy.retry, attempts), ...(isUncounted && { isUncounted }) };
}

/**
 * A dead letter for a message that is delivered again although its attempts are used up: the last of its processes ended
 * before its handlers did, because of the message or for another reason. A further delivery could end every instance in
 * turn.
 */
export function settleExhausted(message: StreamMessage, policy: FailurePolicy): Settlement | undefined {
  const { deliveryCount: deliveries } = message;
  const { attempts } = policy.retry;
  if (policy.deadLetter === false || deliveries <= attempts) return undefined;
  // Its first delivery was counted when it was read: its handler may never have started.
  if (StreamMessage.isSuspect(message) && deliveries === 2) return undefined;
  return deadLetter(
    `delivered ${times(deliveries - 1)}, the last time to a process that ended or stood still before it was settled`,
    policy,
  );
}

/** Where dead letters are off, a message is never dropped: it is retried without end, at the longest delay. */
export function deadLetter(reason: string, policy: FailurePolicy, error?: unknown): Settlement {
  if (policy.deadLetter === false) return { kind: 'retry', delay: policy.retry.maxDelay };
  return { kind: 'dead-letter', reason, error };
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}
