import 'reflect-metadata';
import { setTimeout as simulateWork } from 'node:timers/promises';
import { Controller, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamsContext, ServerRedisStreams } from '../../lib/index.js';
import { instance, keyPrefix, log } from './shop.js';
import type { Order } from './shop.js';

@Injectable()
class Warehouse {
  /** Stands for a database. A message may come twice, after a crash for instance, so the order's id must make it idempotent. */
  async reserve(_order: Order): Promise<void> {
    await simulateWork(2);
  }
}

@Controller()
class OrdersController {
  constructor(private readonly warehouse: Warehouse) {}

  /** Acknowledged when it returns; an order during which the process dies stays pending in the group. */
  @EventPattern<string>('orders')
  async reserve(@Payload() order: Order, @Ctx() context: RedisStreamsContext): Promise<void> {
    const latency = Date.now() - order.placedAt;
    await this.warehouse.reserve(order);
    log('handled', { order: order.id, delivery: context.getDeliveryCount(), latency });
  }
}

@Module({ controllers: [OrdersController], providers: [Warehouse] })
class OrdersModule {}

const app = await NestFactory.createMicroservice<MicroserviceOptions>(OrdersModule, {
  strategy: new ServerRedisStreams({
    keyPrefix,
    // All instances have the same group, so they share the orders.
    group: 'orders-service',
    // Under its old name, an instance that comes back goes on with what was pending for it. Others would wait for
    // `autoClaimIdle` before they took that over.
    consumer: instance,
    // A crash repeats what was handled since the last commit.
    autoCommitInterval: 100,
  }),
  logger: ['error', 'warn'],
});
app.enableShutdownHooks();
await app.listen();
log('ready');
