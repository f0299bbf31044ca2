import 'reflect-metadata';
import { setTimeout as simulateWork } from 'node:timers/promises';
import { Controller, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamsContext, ServerRedisStreams, StreamEventPattern } from '../../lib/index.js';
import { connection, instance, log, SHARDS, STREAM } from './shop.js';
import type { Order } from './shop.js';

@Injectable()
class Bank {
  /**
   * Represents a database. Store the token with the row and refuse lower ones, and a former owner that was suspended in the
   * middle of a charge writes nothing.
   */
  async charge(_order: Order, _token: bigint | undefined): Promise<void> {
    await simulateWork(2);
  }
}

@Controller()
class BillingController {
  constructor(private readonly bank: Bank) {}

  /** One order of a customer at a time, over all instances. */
  @StreamEventPattern(STREAM)
  async charge(order: Order, context: RedisStreamsContext): Promise<void> {
    // One clock for all processes of a machine, so that the driver can tell what was handled before what.
    const at = Number(process.hrtime.bigint() / 1_000n);
    const token = context.getFencingToken();
    await this.bank.charge(order, token);
    // Reported before it is acknowledged: the driver knows of each charge, also of those that are repeated.
    log('handled', { ...order, shard: context.getShard(), token: Number(token), at });
  }
}

@Module({ controllers: [BillingController], providers: [Bank] })
class BillingModule {}

const app = await NestFactory.createMicroservice<MicroserviceOptions>(BillingModule, {
  strategy: new ServerRedisStreams({
    connection,
    group: 'billing',
    consumer: instance,
    shards: SHARDS,
    shardOwnership: 'owned',
    // After a crash, orders handled since the last commit are delivered again.
    autoCommitInterval: 100,
  }),
  logger: ['error'],
});
app.enableShutdownHooks();
await app.listen();
log('ready');
