import 'reflect-metadata';
import { setTimeout as simulateWork } from 'node:timers/promises';
import { Controller, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, Payload } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamsContext, ServerRedisStreams, StreamEventPattern } from '../../lib/index.js';
import { instance, keyPrefix, log } from './shop.js';
import type { Order } from './shop.js';

@Injectable()
class Warehouse {
  /**
   * Represents a database. After a crash a message may be delivered twice: use the order's id to make the write
   * idempotent.
   */
  async reserve(_order: Order): Promise<void> {
    await simulateWork(2);
  }
}

@Controller()
class OrdersController {
  constructor(private readonly warehouse: Warehouse) {}

  /** Acknowledged when it returns. An order that is being handled when the process dies stays pending in the group. */
  @StreamEventPattern('orders')
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
    // An instance that restarts with the same name continues with its own pending orders. Other instances claim them
    // only after `autoClaimIdle`.
    consumer: instance,
    // After a crash, orders handled since the last commit are delivered again.
    autoCommitInterval: 100,
  }),
  logger: ['error', 'warn'],
});
app.enableShutdownHooks();
await app.listen();
log('ready');
