import { Controller, Module } from '@nestjs/common';
import type { ModuleMetadata, Type } from '@nestjs/common';
import type { Transport } from '@nestjs/microservices';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';

import type { HandlerExtras, RedisStreamsContext } from '../../lib/index.js';

type Handle<C> = (data: never, context: C) => unknown;
type Pattern = string | object | number;

/** A controller with one `@EventPattern` method, for tests in which only this method matters. */
export function onEvent(
  pattern: Pattern | Pattern[],
  handle: Handle<RedisStreamsContext>,
  extras: HandlerExtras = {},
  transport?: Transport | symbol,
): Type {
  return controller(EventPattern<unknown>(pattern, transport, { ...extras }), handle);
}

/** The same for a handler that takes batches. */
export function onBatch(
  pattern: string,
  handle: (payloads: never[], contexts: RedisStreamsContext[]) => unknown,
  extras: HandlerExtras,
): Type {
  return controller(EventPattern<unknown>(pattern, { ...extras }), handle as unknown as Handle<RedisStreamsContext>);
}

/** A controller with one `@MessagePattern` method. */
export function onRequest(pattern: Pattern, handle: Handle<RedisStreamsContext>, extras: HandlerExtras = {}): Type {
  return controller(MessagePattern<unknown>(pattern, { ...extras }), handle);
}

/** A module made of the given parts. */
export function moduleOf(metadata: ModuleMetadata): Type {
  class TestModule {}
  Module(metadata)(TestModule);
  return TestModule;
}

/** Applies the decorators of a hand-written controller class as function calls. */
function controller(bind: MethodDecorator, handle: Handle<RedisStreamsContext>): Type {
  class TestController {
    handle(data: unknown, context: RedisStreamsContext): unknown {
      return handle(data as never, context);
    }
  }
  const { prototype } = TestController;
  Payload()(prototype, 'handle', 0);
  Ctx()(prototype, 'handle', 1);
  bind(prototype, 'handle', Object.getOwnPropertyDescriptor(prototype, 'handle') as PropertyDescriptor);
  Controller()(TestController);
  return TestController;
}
