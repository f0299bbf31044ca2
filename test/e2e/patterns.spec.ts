import { expect, it } from '@jest/globals';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';

import type { PatternFactory } from '../../lib/index.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

it('a pattern may be a function, also an asynchronous one, that reads configuration', async () => {
  const config = { orders: uniqueName('orders'), payments: uniqueName('payments') };
  const seen: unknown[] = [];

  @Controller()
  class ShopController {
    @EventPattern<PatternFactory>(() => config.orders)
    order(@Payload() order: unknown): void {
      seen.push(['order', order]);
    }

    @EventPattern<PatternFactory>(async () => Promise.resolve(config.payments))
    pay(@Payload() payment: unknown): void {
      seen.push(['payment', payment]);
    }
  }

  await nest.serve(ShopController);
  await nest.emit(config.orders, 1);
  await until('the order is handled', () => seen.length === 1);
  await nest.emit(config.payments, 2);
  await until('the payment is handled', () => seen.length === 2);
  expect(seen).toEqual([
    ['order', 1],
    ['payment', 2],
  ]);
  await nest.untilSettled(config.payments);
});

it('a pattern function that returns no pattern fails the start with an error that names it', async () => {
  @Controller()
  class ShopController {
    @EventPattern<PatternFactory>(() => undefined)
    order(): void {}
  }

  await expect(nest.serve(ShopController)).rejects.toMatchObject({
    code: 'ERR_INVALID_OPTION',
    message: expect.stringContaining('pattern must be a string, a number or an object'),
  });
});
