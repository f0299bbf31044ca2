import type { MessageHandler } from '@nestjs/microservices';
import { isObservable, lastValueFrom } from 'rxjs';

import { originalFailure } from './handler-failure.js';
import type { RedisStreamsContext } from '../redis-streams.context.js';

/** A handler of batches is given all contexts at once. */
type HandlerContext = RedisStreamsContext | readonly RedisStreamsContext[];

/**
 * Runs the handlers of one message to their very end: until the promise has settled and the Observable that it may have
 * brought has completed. All of them are waited for, also when one fails.
 * @throws what the first failing handler threw, as it was thrown
 */
export async function runHandlers(
  handlers: readonly MessageHandler[],
  data: unknown,
  context: HandlerContext,
): Promise<void> {
  const [only] = handlers;
  if (only && handlers.length === 1) {
    try {
      return await runHandler(only, data, context);
    } catch (error) {
      throw originalFailure(context, error);
    }
  }
  const outcomes = await Promise.allSettled(handlers.map((handler) => runHandler(handler, data, context)));
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') throw originalFailure(context, outcome.reason);
  }
}

async function runHandler(handler: MessageHandler, data: unknown, context: HandlerContext): Promise<void> {
  const result: unknown = await handler(data, context);
  // An Observable without a value is a success, too.
  if (isObservable(result)) await lastValueFrom(result, { defaultValue: undefined });
}
