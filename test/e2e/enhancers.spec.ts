import { expect, it } from '@jest/globals';
import {
  Catch,
  Controller,
  ForbiddenException,
  Injectable,
  Scope,
  UseFilters,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import type {
  ArgumentsHost,
  CallHandler,
  CanActivate,
  ExceptionFilter,
  ExecutionContext,
  NestInterceptor,
  PipeTransform,
} from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { EMPTY, finalize, map, tap } from 'rxjs';
import type { Observable } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import { RedisStreamsContext } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

/** The retry of a failed message happens only after the end of these tests. */
const NO_RETRY_YET = { retry: { delay: 60_000 } } as const;

it('with an interceptor the handler runs, and the message is acknowledged only when the handler ends', async () => {
  const pattern = uniqueName('intercepted');
  const gate = withResolvers<void>();
  const steps: string[] = [];

  @Injectable()
  class Stopwatch implements NestInterceptor {
    intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
      steps.push('before');
      return next.handle().pipe(
        tap(() => steps.push('value')),
        finalize(() => steps.push('after')),
      );
    }
  }

  @Controller()
  class OrdersController {
    @UseInterceptors(Stopwatch)
    @EventPattern<string>(pattern)
    async handle(@Payload() order: number): Promise<number> {
      steps.push(`handler ${order}`);
      await gate.promise;
      return order;
    }
  }

  await nest.serve(OrdersController);
  await nest.emit(pattern, 7);
  await until('the handler runs', () => steps.length === 2);
  expect(await nest.pending(pattern)).toBe(1);
  gate.resolve();
  await nest.untilSettled(pattern);
  expect(steps).toEqual(['before', 'handler 7', 'value', 'after']);
});

it('guards run before the handler, and a message that a guard refuses is settled by the retry policy', async () => {
  const pattern = uniqueName('guarded');
  const seen: number[] = [];

  @Injectable()
  class OnlyEven implements CanActivate {
    canActivate(context: ExecutionContext): boolean {
      const allowed = context.switchToRpc().getData<number>() % 2 === 0;
      if (!allowed) throw new ForbiddenException('odd');
      return allowed;
    }
  }

  @Controller()
  class OrdersController {
    @UseGuards(OnlyEven)
    @EventPattern<string>(pattern)
    handle(@Payload() order: number): void {
      seen.push(order);
    }
  }

  const { log } = await nest.serve(OrdersController, NO_RETRY_YET);
  for (const order of [1, 2]) await nest.emit(pattern, order);
  await until('the allowed one is handled', () => seen.length === 1);
  await until('the other is reported', () => log.errors.length === 1);
  expect(seen).toEqual([2]);
  expect(log.errors[0]).toMatch(/ForbiddenException: odd/);
  await until('only the refused one is pending', async () => (await nest.pending(pattern)) === 1);
});

it('pipes transform the payload for the handler, and are given the payload alone', async () => {
  const pattern = uniqueName('piped');
  const seen: unknown[] = [];
  class Double implements PipeTransform<number, number> {
    transform(value: number): number {
      return value * 2;
    }
  }

  @Controller()
  class OrdersController {
    @EventPattern<string>(pattern)
    handle(@Payload(Double) order: number, @Ctx() context: RedisStreamsContext): void {
      seen.push(order, context instanceof RedisStreamsContext);
    }
  }

  await nest.serve(OrdersController);
  await nest.emit(pattern, 21);
  await until('it is handled', () => seen.length === 2);
  expect(seen).toEqual([42, true]);
});

it('when a filter swallows the error, the message is acknowledged', async () => {
  const pattern = uniqueName('filtered');
  const caught: unknown[] = [];

  @Catch()
  class Swallow implements ExceptionFilter {
    catch(error: Error, host: ArgumentsHost): Observable<never> {
      caught.push(error.message, host.switchToRpc().getContext() instanceof RedisStreamsContext);
      return EMPTY;
    }
  }

  @Controller()
  class OrdersController {
    @UseFilters(Swallow)
    @EventPattern<string>(pattern)
    handle(): void {
      throw new Error('expected');
    }
  }

  const { log } = await nest.serve(OrdersController, NO_RETRY_YET);
  await nest.emit(pattern, 1);
  await until('the filter has run', () => caught.length === 2);
  await nest.untilSettled(pattern);
  expect(caught).toEqual(['expected', true]);
  expect(log.errors).toEqual([]);
});

it('global pipes, guards, interceptors and filters run for the handlers of a microservice', async () => {
  const pattern = uniqueName('global');
  const steps: string[] = [];
  await nest.serve({
    controllers: [
      onEvent(pattern, (data: string) => {
        steps.push(`handler ${data}`);
        return data;
      }),
    ],
    configure: (app) => {
      app.useGlobalPipes({ transform: (value: unknown) => (typeof value === 'string' ? `${value}!` : value) });
      app.useGlobalGuards({ canActivate: () => steps.push('guard') > 0 });
      app.useGlobalInterceptors({
        intercept: (_context, next) => next.handle().pipe(map(() => steps.push('interceptor'))),
      });
    },
  });
  await nest.emit(pattern, 'hi');
  await until('all have run', () => steps.length === 3);
  expect(steps).toEqual(['guard', 'handler hi!', 'interceptor']);
});

it('a request-scoped controller is created for each message, and its failure does not acknowledge the message', async () => {
  const pattern = uniqueName('scoped');
  const instances = new Set<unknown>();

  @Controller({ scope: Scope.REQUEST })
  class OrdersController {
    @EventPattern<string>(pattern)
    handle(@Payload() order: number): void {
      instances.add(this);
      if (order === 2) throw new Error('scoped failure');
    }
  }

  const { log } = await nest.serve(OrdersController, NO_RETRY_YET);
  for (const order of [1, 2]) await nest.emit(pattern, order);
  await until('the failure is reported', () => log.errors.length === 1);
  expect(log.errors[0]).toMatch(/scoped failure/);
  expect(instances.size).toBe(2);
  await until('only the failed one is pending', async () => (await nest.pending(pattern)) === 1);
});
