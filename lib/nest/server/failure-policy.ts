import { BadRequestException } from '@nestjs/common';

import type { DeadLetterOptions } from '../../engine/settling/dead-letter.js';
import type { Settlement } from '../../engine/settling/settlement.js';
import { retryDelay } from '../../engine/settling/retry-policy.js';
import type { RetryPolicy } from '../../engine/settling/retry-policy.js';
import { errorText } from '../../shared/error-text.js';
import { PayloadDecodeError } from '../../errors.js';
import { RedisStreamsDeadLetterException, RedisStreamsRetryException } from '../redis-streams.exceptions.js';

/** What becomes of messages whose handling fails. */
export interface FailurePolicy {
  readonly retry: RetryPolicy;
  readonly deadLetter: DeadLetterOptions | false;
}

/** Settles a message that failed, by what was thrown and by how often it was handled. */
export function settleFailure(error: unknown, attempts: number, policy: FailurePolicy): Settlement {
  if (error instanceof RedisStreamsDeadLetterException) return deadLetter(error.reason, policy, error);
  if (isIncurable(error, policy.retry))
    return deadLetter(`cannot be cured by trying again: ${errorText(error)}`, policy, error);
  return retryOrDeadLetter(
    attempts,
    policy,
    error instanceof RedisStreamsRetryException ? error.delay : undefined,
    error,
  );
}

/** Once more, or the end of it when the attempts are used up. */
export function retryOrDeadLetter(
  attempts: number,
  policy: FailurePolicy,
  delay: number | undefined,
  error?: unknown,
): Settlement {
  if (attempts >= policy.retry.attempts) return deadLetter(`failed ${attempts} times`, policy, error);
  return { kind: 'retry', delay: delay ?? retryDelay(policy.retry, attempts) };
}

/**
 * A message that comes once more although its attempts are used up ended the process each time, or the process ended for
 * another reason before its handlers did. Handing it out again could end every instance in turn.
 */
export function settleExhausted(deliveries: number, policy: FailurePolicy): Settlement | undefined {
  const { attempts } = policy.retry;
  if (policy.deadLetter === false || deliveries <= attempts) return undefined;
  return deadLetter(`handed out ${deliveries - 1} times, and no handling came to its end`, policy);
}

/** Without a place for dead letters a message is never dropped: it is tried again for ever, at the longest delay. */
export function deadLetter(reason: string, policy: FailurePolicy, error?: unknown): Settlement {
  if (policy.deadLetter === false) return { kind: 'retry', delay: policy.retry.maxDelay };
  return { kind: 'dead-letter', reason, error };
}

/** A payload that cannot be decoded stays so, and what a validation pipe refused it will refuse again. */
function isIncurable(error: unknown, retry: RetryPolicy): boolean {
  return error instanceof PayloadDecodeError || error instanceof BadRequestException || retry.unless(error);
}
