import 'reflect-metadata';
import { setTimeout as simulateWork } from 'node:timers/promises';
import { Controller, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamsContext, ServerRedisStreams } from '../../lib/index.js';
import type { HandlerExtras } from '../../lib/index.js';
import { instance, keyPrefix, log } from './shop.js';
import type { Order } from './shop.js';

@Injectable()
class Bank {
  /** Stands for a call to somebody else. The order's id is the idempotency key: asking twice charges once. */
  async charge(_order: Order): Promise<{ isPaid: boolean }> {
    await simulateWork(5);
    return { isPaid: true };
  }
}

@Controller()
class PaymentsController {
  constructor(private readonly bank: Bank) {}

  /** Returning is not enough here: an order is done when the bank says so, and is tried again when it does not. */
  @EventPattern<string>('orders', { ack: 'manual', concurrency: 8 } satisfies HandlerExtras)
  async charge(@Payload() order: Order, @Ctx() context: RedisStreamsContext): Promise<void> {
    const latency = Date.now() - order.placedAt;
    const { isPaid } = await this.bank.charge(order);
    if (!isPaid) return context.retry();
    context.ack();
    log('handled', { order: order.id, delivery: context.getDeliveryCount(), latency });
  }
}

@Module({ controllers: [PaymentsController], providers: [Bank] })
class PaymentsModule {}

const app = await NestFactory.createMicroservice<MicroserviceOptions>(PaymentsModule, {
  // A group of its own: it gets every order, independently of the orders service.
  strategy: new ServerRedisStreams({ keyPrefix, group: 'payments-service', consumer: instance }),
  logger: ['error', 'warn'],
});
app.enableShutdownHooks();
await app.listen();
log('ready');
