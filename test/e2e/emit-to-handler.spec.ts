import { afterEach, expect, it } from '@jest/globals';
import { Controller, Module } from '@nestjs/common';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams, Receipt, RedisStreamsContext, ServerRedisStreams } from '../../lib/index.js';
import type { ServerRedisStreamsOptions } from '../../lib/index.js';
import { redisUrl, uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const closing: Array<() => Promise<unknown>> = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

it('a message emitted by a client reaches the @EventPattern handler and is acknowledged', async () => {
  const pattern = uniqueName('orders');
  const seen: Array<{ order: unknown; id: string; stream: string }> = [];

  @Controller()
  class OrdersController {
    @EventPattern<string>(pattern)
    handle(@Payload() order: unknown, @Ctx() context: RedisStreamsContext): void {
      seen.push({ order, id: context.getMessageId(), stream: context.getStream() });
    }
  }

  const client = new ClientRedisStreams({ connection: redisUrl() });
  closing.push(() => client.close());
  const receipt = await firstValueFrom(client.emit(pattern, { total: 5 }));
  await listen(OrdersController, { group: 'orders-service', autoCommitInterval: 10 });

  await until('the order is handled', () => seen.length === 1);
  expect(receipt).toBeInstanceOf(Receipt);
  expect(seen).toEqual([{ order: { total: 5 }, id: receipt.id, stream: pattern }]);
  const manager = await client.unwrap().createManager();
  await until('the order is acknowledged', async () => (await manager.groups(pattern))[0]?.pending === 0);
});

async function listen(controller: Type, options: ServerRedisStreamsOptions): Promise<INestApplicationContext> {
  @Module({ controllers: [controller] })
  class AppModule {}
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(AppModule, {
    strategy: new ServerRedisStreams({ connection: redisUrl(), ...options }),
    logger: false,
    abortOnError: false,
  });
  closing.push(() => app.close());
  await app.listen();
  return app;
}
