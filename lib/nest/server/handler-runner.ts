import type { ArgumentsHost } from '@nestjs/common';
import { BaseRpcExceptionFilter } from '@nestjs/microservices';
import type { MessageHandler } from '@nestjs/microservices';
import { isObservable, lastValueFrom } from 'rxjs';
import type { Observable } from 'rxjs';

import type { RedisStreamsContext } from '../redis-streams.context.js';

/** The second argument of a handler; one for batches is given the contexts of all messages. */
export type HandlerContext = RedisStreamsContext | readonly RedisStreamsContext[];

type Catch = (this: BaseRpcExceptionFilter, exception: unknown, host: ArgumentsHost) => Observable<unknown>;

/** Errors as handlers threw them, by the context that the handler was given. */
const failures = new WeakMap<object, unknown>();

const OBSERVED = Symbol.for('nestjs-redis-streams:observed');

/**
 * Runs the event handlers of a message to their end: until the promise has settled and the Observable that it may have
 * resolved to has completed. All of them are awaited, also when one fails.
 * @throws the error of the first handler that failed, as it was thrown
 */
export function runHandlers(
  handlers: readonly MessageHandler[],
  data: unknown,
  context: HandlerContext,
): Promise<void> {
  const [only] = handlers;
  return only && handlers.length === 1 ? runHandler(only, data, context) : runAll(handlers, data, context);
}

async function runAll(handlers: readonly MessageHandler[], data: unknown, context: HandlerContext): Promise<void> {
  const outcomes = await Promise.allSettled(handlers.map((handler) => runHandler(handler, data, context)));
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

async function runHandler(handler: MessageHandler, data: unknown, context: HandlerContext): Promise<void> {
  try {
    const result: unknown = await handler(data, context);
    // An Observable without a value is a success, too.
    if (isObservable(result)) await lastValueFrom(result, { defaultValue: undefined });
  } catch (error) {
    throw originalFailure(context, error);
  }
}

/** The error as the handler threw it, if Nest's filter has seen it, else the one given. */
export function originalFailure(context: object, error: unknown): unknown {
  return failures.has(context) ? failures.get(context) : error;
}

/**
 * Nest's exception filter replaces an error by "Internal server error" before a transport sees it, which would make logs
 * and dead letters useless. This notes the error that the filter is given, with the message's context, and changes
 * nothing.
 */
export function observeHandlerFailures(): void {
  const prototype = BaseRpcExceptionFilter.prototype as unknown as { catch: Catch & { [OBSERVED]?: true } };
  if (prototype.catch[OBSERVED]) return;
  const original = prototype.catch;
  const observing: Catch = function (exception, host) {
    const context: unknown = host.getArgByIndex(1);
    if (typeof context === 'object' && context !== null) failures.set(context, exception);
    return original.call(this, exception, host);
  };
  prototype.catch = Object.assign(observing, { [OBSERVED]: true as const });
}
