import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { BadRequestException, Body, Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams, InjectRedisStreams, RedisStreamsModule } from '../../lib/index.js';
import { keyPrefix, log } from './shop.js';
import type { Order } from './shop.js';

/** Accepts orders over HTTP. Answers 201 once Redis has the order, whether or not any service is running. */
@Controller('orders')
class OrdersController {
  constructor(@InjectRedisStreams() private readonly client: ClientRedisStreams) {}

  @Post()
  async create(@Body() body: { item?: unknown; quantity?: unknown }) {
    const placedAt = Date.now();
    const { item, quantity = 1 } = body ?? {};
    if (typeof item !== 'string' || typeof quantity !== 'number') {
      throw new BadRequestException('an order needs an item (text) and may have a quantity (number)');
    }
    const order: Order = { id: randomUUID(), item, quantity, placedAt };
    const receipt = await firstValueFrom(this.client.emit('orders', order));
    return { order: order.id, receipt };
  }
}

@Module({
  // Default of `connection`: REDIS_URL, else redis://127.0.0.1:6379.
  imports: [RedisStreamsModule.forRoot({ keyPrefix })],
  controllers: [OrdersController],
})
class GatewayModule {}

const app = await NestFactory.create(GatewayModule, { logger: ['error', 'warn'], forceCloseConnections: true });
app.enableShutdownHooks();
await app.listen(Number(process.env['PORT'] ?? 3000), '127.0.0.1');
log('ready', { port: (app.getHttpServer().address() as AddressInfo).port });
