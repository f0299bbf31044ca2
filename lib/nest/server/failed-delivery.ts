import { BadRequestException, UnprocessableEntityException } from '@nestjs/common';

import type { RetryPolicy } from '../../engine/settling/retry-policy.js';
import type { Settlement } from '../../engine/settling/settlement.js';
import { HandlingAbortedError, InvalidOptionError, PayloadDecodeError, PayloadInvalidError } from '../../errors.js';
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
  if (error instanceof RedisStreamsDeadLetterException) return deadLetter(error.reason, policy, error);
  if (error instanceof RedisStreamsRetryException) return retryOrDeadLetter(delivery, policy, error.delay, error);
  if (!heedsShutdown(error, delivery) && isPermanent(error, policy.retry, reporter)) {
    return deadLetter(`cannot be cured by trying again: ${errorText(error)}`, policy, error);
  }
  return retryOrDeadLetter(delivery, policy, undefined, error);
}

/** Whether the handler threw the reason of its signal when the server closed, which says nothing about the message. */
function heedsShutdown(error: unknown, { abortReason }: MessageDelivery): boolean {
  return abortReason === 'shutdown' && error instanceof HandlingAbortedError;
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
  if (canRetry && delivery.message.deliveryCount >= retry.attempts && delivery.abortReason !== 'shutdown') return true;
  if (isSettlementRequest(error)) return error instanceof RedisStreamsDeadLetterException;
  return !heedsShutdown(error, delivery) && isPermanent(error, retry, reporter);
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
