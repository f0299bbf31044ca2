import { describe, expect, it } from '@jest/globals';
import { Controller, HttpStatus, ParseArrayPipe, ValidationPipe } from '@nestjs/common';
import type { Type, ValidationPipeOptions } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import { Type as Nested } from 'class-transformer';
import { IsInt, IsPositive, IsString, ValidateNested } from 'class-validator';
import { firstValueFrom } from 'rxjs';

import type { HandlerExtras } from '../../lib/index.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

class Item {
  @IsString()
  sku!: string;

  @IsInt()
  @IsPositive()
  amount!: number;
}

class Order {
  @IsInt()
  id!: number;

  @ValidateNested({ each: true })
  @Nested(() => Item)
  items!: Item[];
}

const VALID = { id: 1, items: [{ sku: 'a', amount: 2 }] };
const INVALID = { id: 2, items: [{ sku: 'b', amount: -1 }] };

/** Payloads and reasons of the dead letters of a pattern. */
async function deadLetters(pattern: string): Promise<Array<{ data: unknown; reason: string; count: string }>> {
  return (await nest.entries(`${pattern}.dead`)).map(({ fields }) => ({
    data: JSON.parse(fields['msg'] as string) as unknown,
    reason: fields['h:dead-letter-reason'] as string,
    count: fields['h:dead-letter-delivery-count'] as string,
  }));
}

function onOrder(pattern: string, handle: (order: Order) => unknown): Type {
  @Controller()
  class OrdersController {
    @EventPattern<string>(pattern)
    created(@Payload() order: Order): unknown {
      return handle(order);
    }

    @MessagePattern(`${pattern}.check`)
    check(@Payload() order: Order): number {
      return order.items.length;
    }
  }
  return OrdersController;
}

function onOrders(pattern: string, handle: (orders: Order[]) => unknown, extras: HandlerExtras): Type {
  @Controller()
  class OrdersController {
    @EventPattern<string>(pattern, { ...extras })
    created(@Payload(new ParseArrayPipe({ items: Order })) orders: Order[]): unknown {
      return handle(orders);
    }
  }
  return OrdersController;
}

const validating = (options: ValidationPipeOptions = {}) => ({
  configure: (app: { useGlobalPipes(pipe: ValidationPipe): unknown }): void => {
    app.useGlobalPipes(new ValidationPipe({ transform: true, whitelist: true, ...options }));
  },
});

describe('ValidationPipe with class-validator', () => {
  it.each<[name: string, options: ValidationPipeOptions]>([
    ['by default', {}],
    ['with the status 422', { errorHttpStatusCode: HttpStatus.UNPROCESSABLE_ENTITY }],
  ])('%s: an invalid event is a dead letter at once, whose reason names what was invalid', async (_, options) => {
    const pattern = uniqueName('orders');
    const seen: Order[] = [];
    const controllers = [onOrder(pattern, (order) => seen.push(order))];
    await nest.serve({ controllers, ...validating(options) }, { retry: { delay: 60_000 } });
    for (const order of [VALID, INVALID, { ...VALID, id: 3, unknown: true }]) await nest.emit(pattern, order);

    await until('the invalid one is dead', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    await nest.untilSettled(pattern);
    expect(seen.every((order) => order instanceof Order && order.items[0] instanceof Item)).toBe(true);
    expect(seen.map(({ id, items }) => ({ id, items }))).toEqual([VALID, { ...VALID, id: 3 }]);
    expect(await deadLetters(pattern)).toEqual([
      { data: INVALID, reason: expect.stringContaining('items.0.amount must be a positive number'), count: '1' },
    ]);
  });

  it('an exception of an exceptionFactory is retried, and the dead letter names what was invalid', async () => {
    const pattern = uniqueName('orders');
    const exceptionFactory = (errors: unknown[]): RpcException => new RpcException({ errors });
    const controllers = [onOrder(pattern, () => undefined)];
    await nest.serve({ controllers, ...validating({ exceptionFactory }) }, { retry: { attempts: 2, delay: 10 } });
    await nest.emit(pattern, INVALID);

    await until('it is dead', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    const [dead] = await nest.entries(`${pattern}.dead`);
    expect(dead?.fields).toMatchObject({ 'h:dead-letter-delivery-count': '2' });
    expect(dead?.fields['h:dead-letter-error-message']).toContain('amount must be a positive number');
  });

  it('an invalid request is answered without details, unless the pipe throws an RpcException', async () => {
    const [hiding, telling] = [uniqueName('orders'), uniqueName('orders')];
    const exceptionFactory = (): RpcException => new RpcException({ code: 'INVALID' });
    await nest.serve({ controllers: [onOrder(hiding, () => undefined)], ...validating() });
    await nest.serve({ controllers: [onOrder(telling, () => undefined)], ...validating({ exceptionFactory }) });
    const client = nest.client();
    expect(await firstValueFrom(client.send(`${hiding}.check`, VALID))).toBe(1);
    const answers = [hiding, telling].map((pattern) => firstValueFrom(client.send(`${pattern}.check`, INVALID)));
    await expect(answers[0]).rejects.toEqual({ status: 'error', message: 'Internal server error' });
    await expect(answers[1]).rejects.toEqual({ code: 'INVALID' });
  });

  it('an event for which `unless` knows the exception of the pipe is a dead letter at once', async () => {
    const pattern = uniqueName('orders');
    class Invalid extends RpcException {}
    const exceptionFactory = (): RpcException => new Invalid({ message: 'amount must be positive' });
    const controllers = [onOrder(pattern, () => undefined)];
    const retry = { delay: 60_000, unless: (error: unknown) => error instanceof Invalid };
    await nest.serve({ controllers, ...validating({ exceptionFactory }) }, { retry });
    await nest.emit(pattern, INVALID);

    await until('it is dead', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    expect(await deadLetters(pattern)).toMatchObject([{ count: '1' }]);
  });
});

describe('ParseArrayPipe with class-validator, in a batch', () => {
  it('an invalid item is a dead letter at once, one that fails is retried, and the others are handled once', async () => {
    const pattern = uniqueName('orders');
    const handled: number[] = [];
    const failed = new Set<number>();
    const handle = (orders: Order[]): void => {
      for (const order of orders) {
        expect(order).toBeInstanceOf(Order);
        if (order.id !== 4 || failed.has(4)) continue;
        failed.add(4);
        throw new Error('not yet');
      }
      handled.push(...orders.map(({ id }) => id));
    };
    const orders = [VALID, INVALID, { ...VALID, id: 3 }, { ...VALID, id: 4 }, { ...VALID, id: 5 }, 'no order', 7];
    for (const order of orders) await nest.emit(pattern, order);
    const extras = { batch: { size: orders.length, timeout: 1_000 } };
    await nest.serve(onOrders(pattern, handle, extras), { retry: { delay: 50 } });

    await until('three are dead', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 3);
    await nest.untilSettled(pattern);
    expect(handled).toEqual([1, 3, 5, 4]);
    const dead = await deadLetters(pattern);
    expect(dead.map(({ data, count }) => [data, count])).toEqual([INVALID, 'no order', 7].map((data) => [data, '1']));
    expect(dead[0]?.reason).toContain('amount must be a positive number');
  });
});
