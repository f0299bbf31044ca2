import 'reflect-metadata';
import type { AddressInfo } from 'node:net';
import { Controller, Module, Sse } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Payload } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { Subject, map } from 'rxjs';
import type { Observable } from 'rxjs';

import { ServerRedisStreams, StreamEventPattern } from '../../lib/index.js';
import { keyPrefix, log } from './shop.js';
import type { Order } from './shop.js';

/**
 * Streams every order to the browsers that are connected. Nothing is acknowledged; orders placed while it is down are not
 * shown.
 */
@Controller()
class DashboardController {
  readonly #orders = new Subject<Order>();

  @StreamEventPattern('orders')
  show(@Payload() order: Order): void {
    this.#orders.next(order);
    log('handled', { order: order.id, delivery: 1, latency: Date.now() - order.placedAt });
  }

  @Sse('feed')
  feed(): Observable<{ data: Order }> {
    return this.#orders.pipe(map((order) => ({ data: order })));
  }
}

@Module({ controllers: [DashboardController] })
class DashboardModule {}

// One application for both: HTTP for the browsers, the stream for the orders.
const app = await NestFactory.create(DashboardModule, { logger: ['error', 'warn'], forceCloseConnections: true });
app.connectMicroservice<MicroserviceOptions>({ strategy: new ServerRedisStreams({ keyPrefix, mode: 'real-time' }) });
app.enableShutdownHooks();
await app.startAllMicroservices();
await app.listen(Number(process.env['PORT'] ?? 3001), '127.0.0.1');
log('ready', { port: (app.getHttpServer().address() as AddressInfo).port });
