import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
// The package's root does not export it.
import { PARAM_ARGS_METADATA } from '@nestjs/microservices/constants.js';

import { REDIS_STREAMS_TRANSPORT } from '../constants.js';
import type { HandlerExtras } from './handler-extras.js';
import type { PatternFactory } from './server/handler-registry.js';

/** A pattern that names a stream: its key, or an object or number from which Nest makes one. */
export type StreamPattern = string | number | object;

/**
 * Makes a method the handler of the events of a stream, as Nest's `@EventPattern` does. It is bound to this transport alone,
 * also in an application with several, and the names of its settings are checked. A function as pattern is called at the
 * start.
 *
 * Parameters need no decorators: without any, the first is the payload and the second the context; with `batch`, arrays of
 * them.
 * @example
 * ```ts
 * @StreamEventPattern('orders', { concurrency: 4 })
 * handle(order: Order, context: RedisStreamsContext) {}
 * ```
 */
export function StreamEventPattern(
  pattern: StreamPattern | PatternFactory,
  extras: HandlerExtras = {},
): MethodDecorator {
  return withParameters(EventPattern<unknown>(pattern, REDIS_STREAMS_TRANSPORT, extras));
}

/**
 * Makes a method the handler of the requests of a stream, as Nest's `@MessagePattern` does; see {@link StreamEventPattern}.
 * @example
 * ```ts
 * @StreamMessagePattern('price')
 * price({ item }: Order): Promise<number> {
 *   return this.prices.of(item);
 * }
 * ```
 */
export function StreamMessagePattern(
  pattern: StreamPattern | PatternFactory,
  extras: HandlerExtras = {},
): MethodDecorator {
  return withParameters(MessagePattern<unknown>(pattern, REDIS_STREAMS_TRANSPORT, extras));
}

/** Nest gives a method without decorated parameters the payload alone. */
function withParameters(bind: MethodDecorator): MethodDecorator {
  return (target, name, descriptor) => {
    if (decoratedParameters(target, name).size === 0) decorateParameters(target, name);
    return bind(target, name, descriptor);
  };
}

/**
 * Decorates the first parameter as the payload and the second as the context, where they have no decorators.
 * @internal
 */
export function decorateParameters(target: object, name: string | symbol): void {
  const decorated = decoratedParameters(target, name);
  if (!decorated.has(0)) Payload()(target, name, 0);
  if (!decorated.has(1)) Ctx()(target, name, 1);
}

function decoratedParameters(target: object, name: string | symbol): Set<number> {
  const metadata = Reflect.getMetadata(PARAM_ARGS_METADATA, target.constructor, name) as unknown;
  return new Set(Object.values((metadata ?? {}) as Record<string, { index: number }>).map(({ index }) => index));
}
