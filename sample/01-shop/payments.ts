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
class Bank {
  /** Represents a call to an external service. The order's id is the idempotency key: two calls charge once. */
  async charge(_order: Order): Promise<{ isPaid: boolean }> {
    await simulateWork(5);
    return { isPaid: true };
  }
}

@Controller()
class PaymentsController {
  constructor(private readonly bank: Bank) {}

  /** Returning is not enough here: the order is acknowledged when the bank accepts it, and retried when it does not. */
  @StreamEventPattern('orders', { ack: 'manual', concurrency: 8 })
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
  // A second group: it gets every order, independently of the orders service.
  strategy: new ServerRedisStreams({ keyPrefix, group: 'payments-service', consumer: instance }),
  logger: ['error', 'warn'],
});
app.enableShutdownHooks();
await app.listen();
log('ready');
