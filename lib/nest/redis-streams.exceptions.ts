import { RpcException } from '@nestjs/microservices';

import { check } from '../shared/option-checks.js';

/**
 * Thrown by a handler to get the message again, after `delay` milliseconds if given, at most 2,147,483,647, else after the
 * delay of the retry policy.
 */
export class RedisStreamsRetryException extends RpcException {
  override readonly name: string = 'RedisStreamsRetryException';
  readonly delay: number | undefined;

  /** @throws InvalidOptionError */
  constructor(delay?: number) {
    if (delay !== undefined) check.time('delay', delay, 0);
    super('The handler asked for the message again');
    this.delay = delay;
  }

  /** Nest's filter passes on the result; the exception has to arrive as itself. */
  override getError(): this {
    return this;
  }
}

/** Thrown by a handler that cannot succeed with the message: it becomes a dead letter at once. */
export class RedisStreamsDeadLetterException extends RpcException {
  override readonly name: string = 'RedisStreamsDeadLetterException';
  readonly reason: string;

  constructor(reason: string) {
    super(reason);
    this.reason = reason;
  }

  override getError(): this {
    return this;
  }
}

/** Whether a handler asked by an exception for a retry or a dead letter: that is no failure. @internal */
export function isSettlementRequest(
  error: unknown,
): error is RedisStreamsRetryException | RedisStreamsDeadLetterException {
  return error instanceof RedisStreamsRetryException || error instanceof RedisStreamsDeadLetterException;
}
