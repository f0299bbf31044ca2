import { types } from 'node:util';

import type { ArgumentsHost } from '@nestjs/common';
import { BaseRpcExceptionFilter } from '@nestjs/microservices';
import type { MessageHandler } from '@nestjs/microservices';
// The package's root does not export it.
import { RpcExceptionsHandler } from '@nestjs/microservices/exceptions/rpc-exceptions-handler.js';
import { isObservable, lastValueFrom } from 'rxjs';
import type { Observable } from 'rxjs';

import { UnsupportedOperationError } from '../../errors.js';
import { promiseOf } from '../../shared/callbacks.js';
import { RedisStreamsContext } from '../redis-streams.context.js';
import { isSettlementRequest } from '../redis-streams.exceptions.js';
import type { ServerReporter } from './server-reporter.js';

/** The second argument of a handler; one for batches is given the contexts of all messages. */
export type HandlerContext = RedisStreamsContext | readonly RedisStreamsContext[];

type Catch = (exception: never, host: ArgumentsHost, ...rest: never[]) => unknown;

/** Errors as handlers threw them, before any exception filter, by the context that the handler was given. */
const failures = new WeakMap<object, unknown>();

/** Runs event handlers, and decides what counts as their failure when exception filters have changed it. */
export class HandlerRunner {
  readonly #reporter: ServerReporter;
  /** Handlers of which an ended failure was reported. */
  readonly #reported = new WeakSet<MessageHandler>();

  constructor(reporter: ServerReporter) {
    this.#reporter = reporter;
    observeExceptions();
  }

  /**
   * Runs the event handlers of a message to their end: until the promise has settled and the Observable that it may have
   * resolved to has completed. All of them are awaited, also when one fails.
   *
   * A filter may end a failure without an error, which makes it a success, or ask for a retry or a dead letter by throwing
   * the exception. It cannot replace the error otherwise, nor the retry or dead letter that the handler itself asked for.
   * @throws the error of the handler that failed first, as it was thrown
   */
  run(handlers: readonly MessageHandler[], data: unknown, context: HandlerContext): Promise<void> {
    const [first] = handlers;
    const ended = (): void => this.#endedWithoutError(first, context);
    const failed = (error: unknown): never => {
      const failure = failureOf(context, error);
      throw isSettlementRequest(error) && !isSettlementRequest(failure) ? error : failure;
    };
    if (!first || handlers.length > 1) return allToEnd(handlers, data, context).then(ended, failed);
    const completed = (last: unknown): void | Promise<void> => {
      if (isOfFilter(last, context)) return completionOf(last).then(completed, failed);
      refuseGenerator(last);
      ended();
    };
    // One promise, not one for each step: fewer objects for each message mean less garbage collection.
    return promiseOf(() => first(data, context)).then(
      (result) => (isObservable(result) ? completionOf(result).then(completed, failed) : completed(result)),
      failed,
    );
  }

  /** A filter may have ended a failure. @throws what the handler itself asked for */
  #endedWithoutError(handler: MessageHandler | undefined, context: HandlerContext): void {
    const failure = failureOf(context);
    if (failure === undefined) return;
    if (isSettlementRequest(failure)) throw failure;
    if (!handler || this.#reported.has(handler) || isSettled(context)) return;
    this.#reported.add(handler);
    this.#reporter.endedByFilter(contextsOf(context)[0] as RedisStreamsContext, failure);
  }
}

/** The error that a handler threw for the message, before any filter; the other one if Nest has seen none. */
export function failureOf(context: HandlerContext, other?: unknown): unknown {
  return failures.has(context) ? failures.get(context) : other;
}

async function allToEnd(handlers: readonly MessageHandler[], data: unknown, context: HandlerContext): Promise<void> {
  const outcomes = await Promise.allSettled(handlers.map((handler) => toEnd(handler, data, context)));
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

async function toEnd(handler: MessageHandler, data: unknown, context: HandlerContext): Promise<void> {
  const result: unknown = await handler(data, context);
  let last = isObservable(result) ? await completionOf(result) : result;
  while (isOfFilter(last, context)) last = await completionOf(last);
  refuseGenerator(last);
}

/** @throws UnsupportedOperationError */
function refuseGenerator(result: unknown): void {
  if (typeof result !== 'object' || result === null || !types.isGeneratorObject(result)) return;
  throw new UnsupportedOperationError('An event handler', 'must not be a generator: its code would not run');
}

/** Whether the value is what an asynchronous filter behind an interceptor has returned: Nest emits it as a value. */
export function isOfFilter(value: unknown, context: HandlerContext): value is Observable<unknown> {
  return isObservable(value) && failures.has(context);
}

/** The last value. An Observable without a value is a success, too. */
function completionOf(result: Observable<unknown>): Promise<unknown> {
  return lastValueFrom(result, { defaultValue: undefined });
}

function contextsOf(context: HandlerContext): readonly RedisStreamsContext[] {
  return context instanceof RedisStreamsContext ? [context] : context;
}

/** A filter may have settled the message by its context. */
function isSettled(context: HandlerContext): boolean {
  return contextsOf(context).every((one) => RedisStreamsContext.deliveryOf(one).settlement !== undefined);
}

let isObserving = false;

/**
 * Exception filters, those of Nest and those of the application, replace an error before a transport sees it. That would
 * make logs and dead letters useless, and an HTTP filter of a hybrid application, which fails here, would have a message
 * retried that no retry can cure. So the error is noted where Nest passes it to the filters, for our contexts only.
 *
 * A bundler may have given the imported class a second copy of its module, through which Nest never comes. Then the error is
 * noted where Nest's own filter gets it, which filters of the application hide.
 */
function observeExceptions(): void {
  if (isObserving) return;
  isObserving = true;
  observe(RpcExceptionsHandler.prototype, 'handle');
  observe(BaseRpcExceptionFilter.prototype, 'catch');
}

function observe<M extends string>(prototype: Record<M, Catch>, method: M): void {
  const original = prototype[method];
  prototype[method] = function (this: unknown, exception, host, ...rest): unknown {
    const context: unknown = host.getArgByIndex(1);
    const isOurs = context instanceof RedisStreamsContext || isBatch(context);
    if (isOurs && !failures.has(context)) failures.set(context, exception);
    return original.call(this, exception, host, ...rest);
  };
}

function isBatch(context: unknown): context is readonly RedisStreamsContext[] {
  return Array.isArray(context) && context[0] instanceof RedisStreamsContext;
}
