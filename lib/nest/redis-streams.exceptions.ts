import { RpcException } from '@nestjs/microservices';

import { check } from '../shared/option-checks.js';

/**
 * Thrown by a handler to get the message again, after `delay` milliseconds if given, at most 2,147,483,647, else after the
 * delay of the retry policy.
 * @example
 * if (response.status === 429) throw new RedisStreamsRetryException(30_000);
 */
export class RedisStreamsRetryException extends RpcException {
  /** Name of the class. */
  override readonly name: string = 'RedisStreamsRetryException';
  /** Milliseconds until the message is handled again; undefined: the delay of the retry policy. */
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

/**
 * Thrown by a handler that cannot succeed with the message: it becomes a dead letter at once.
 * @example
 * if (!order) throw new RedisStreamsDeadLetterException(`there is no order ${id}`);
 */
export class RedisStreamsDeadLetterException extends RpcException {
  /** Name of the class. */
  override readonly name: string = 'RedisStreamsDeadLetterException';
  /** The header `dead-letter-reason` of the dead letter. */
  readonly reason: string;

  constructor(reason: string) {
    super(reason);
    this.reason = reason;
  }

  /** Nest's filter passes on the result; the exception has to arrive as itself. */
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
