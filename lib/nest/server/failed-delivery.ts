import { BadRequestException, UnprocessableEntityException } from '@nestjs/common';

import { retryDelay } from '../../engine/settling/retry-policy.js';
import type { RetryPolicy } from '../../engine/settling/retry-policy.js';
import type { Settlement } from '../../engine/settling/settlement.js';
import { InvalidOptionError, PayloadDecodeError, PayloadInvalidError } from '../../errors.js';
import { isPromise } from '../../shared/callbacks.js';
import { errorText } from '../../shared/error-text.js';
import type { ContextScope, MessageDelivery } from '../redis-streams.context.js';
import {
  RedisStreamsDeadLetterException,
  RedisStreamsRetryException,
  isSettlementRequest,
} from '../redis-streams.exceptions.js';
import { LEFT_PENDING, deadLetter, retryOrDeadLetter } from './failure-policy.js';
import type { FailurePolicy } from './failure-policy.js';
import type { ServerReporter } from './server-reporter.js';

/**
 * Settles a message that failed, and reports it. Where nothing is pending on the server, or the message is settled, a
 * failure can only be reported.
 */
export function settleFailed(
  delivery: MessageDelivery,
  { canRetry, haltsShard, binding, onIgnored }: ContextScope,
  error: unknown,
  reporter: ServerReporter,
): void {
  const { message } = delivery;
  delivery.failure = error;
  const settlement = canRetry ? settlementOf(error, delivery, binding.failurePolicy, reporter) : LEFT_PENDING;
  const isFirst = delivery.settle(settlement);
  const outcome = settlement.kind === 'dead-letter' && haltsShard ? 'its shard is halted' : settlement.kind;
  if (!isSettlementRequest(error)) {
    reporter.handlingFailed(message, error, isFirst ? outcome : `settled before: ${delivery.settlement?.kind}`);
  } else if (isFirst && canRetry) {
    reporter.settledAsAsked(message, error.name, outcome);
  } else {
    onIgnored(message, error.name, isFirst ? 'it is not pending on the server' : 'it was settled before');
  }
  if (isFirst && settlement.kind === 'retry') reporter.retrying({ message, delay: settlement.delay, error });
}

/** By the error and the number of attempts. */
function settlementOf(
  error: unknown,
  delivery: MessageDelivery,
  policy: FailurePolicy,
  reporter: ServerReporter,
): Settlement {
  const attempts = delivery.message.deliveryCount;
  if (error instanceof RedisStreamsDeadLetterException) return deadLetter(error.reason, policy, error);
  const isAskedFor = error instanceof RedisStreamsRetryException;
  if (!isAskedFor && isPermanent(error, policy.retry, reporter)) {
    return deadLetter(`cannot be cured by trying again: ${errorText(error)}`, policy, error);
  }
  const delay = isAskedFor ? error.delay : undefined;
  if (endedForShutdown(delivery))
    return { kind: 'retry', delay: delay ?? retryDelay(policy.retry, attempts), isUncounted: true };
  return retryOrDeadLetter(attempts, policy, delay, error);
}

/**
 * Whether the handler was told to stop because the server closes. That it then failed is no attempt: a message whose handler is
 * slow would become a dead letter by some deployments.
 */
function endedForShutdown({ abortReason }: MessageDelivery): boolean {
  return abortReason === 'shutdown';
}

/**
 * Whether the failure of a batch would be the end of each of its messages, guilty or not: they are dead letters at once, or
 * are not pending and cannot be cured by trying again.
 */
export function isFinal(
  error: unknown,
  { canRetry, binding }: ContextScope,
  delivery: MessageDelivery,
  reporter: ServerReporter,
): boolean {
  const { retry } = binding.failurePolicy;
  if (canRetry && delivery.message.deliveryCount >= retry.attempts && !endedForShutdown(delivery)) return true;
  if (isSettlementRequest(error)) return error instanceof RedisStreamsDeadLetterException;
  return isPermanent(error, retry, reporter);
}

/** A payload that cannot be decoded stays so, and a schema or a validation pipe refuses the same data again. */
function isPermanent(error: unknown, { unless }: RetryPolicy, reporter: ServerReporter): boolean {
  if (error instanceof PayloadDecodeError || error instanceof PayloadInvalidError || isInvalidData(error)) return true;
  try {
    const answer: unknown = unless(error);
    if (!isPromise(answer)) return Boolean(answer);
    // Every promise would count as true, and one that rejects would end the process.
    answer.then(undefined, () => undefined);
    throw new InvalidOptionError('retry.unless', 'must return true or false, not a promise', answer);
  } catch (failure) {
    // It must not cost the message its retry.
    reporter.callbackFailed('retry.unless', failure);
    return false;
  }
}

/** What a validation pipe throws: by default, and with the usual other `errorHttpStatusCode`, 422. */
function isInvalidData(error: unknown): boolean {
  return error instanceof BadRequestException || error instanceof UnprocessableEntityException;
}
