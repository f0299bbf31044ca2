import { RpcException } from '@nestjs/microservices';

/** Thrown by a handler that wants the message again, after `delay` milliseconds if given, else as the retry policy says. */
export class RedisStreamsRetryException extends RpcException {
  readonly delay: number | undefined;

  constructor(delay?: number) {
    super('The handler asked for the message again');
    this.delay = delay;
  }

  /** Nest's filter hands on what this returns; the exception has to arrive as itself. */
  override getError(): this {
    return this;
  }
}

/** Thrown by a handler that knows that repeating is useless: the message becomes a dead letter at once. */
export class RedisStreamsDeadLetterException extends RpcException {
  readonly reason: string;

  constructor(reason: string) {
    super(reason);
    this.reason = reason;
  }

  override getError(): this {
    return this;
  }
}
