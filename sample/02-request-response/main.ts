import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamsModule, ServerRedisStreams } from '../../lib/index.js';
import { CatalogController, Prices } from './catalog.js';
import { Shop } from './shop.js';

const keyPrefix = process.env['KEY_PREFIX'];

/** The service that answers them. */
@Module({ controllers: [CatalogController], providers: [Prices] })
class CatalogModule {}

/** The application that sends requests; in production another process. */
@Module({ imports: [RedisStreamsModule.forRoot({ keyPrefix, requestTimeout: 500 })], providers: [Shop] })
class ShopModule {}

const catalog = await NestFactory.createMicroservice<MicroserviceOptions>(CatalogModule, {
  // Requests need a group: only one of its instances answers each request.
  strategy: new ServerRedisStreams({ keyPrefix, group: 'catalog', shutdownTimeout: 500 }),
  logger: false,
});
catalog.enableShutdownHooks();
await catalog.listen();
const app = await NestFactory.createApplicationContext(ShopModule, { logger: ['error', 'warn'] });
app.enableShutdownHooks();

const shop = app.get(Shop);
console.log(`price of tea: ${await shop.price('tea')}`);
console.log(`its history: ${(await shop.history('tea')).join(', ')}`);
console.log(`forecast for tea: ${await shop.forecast('tea')}`);
console.log(`forecast for salt: ${(await shop.forecast('salt')) ?? 'no answer within 500 ms'}`);
console.log(`price of gold: ${await shop.price('gold').catch((error: unknown) => JSON.stringify(error))}`);
console.log(`discount: ${await shop.discount('tea').catch((error: { code: string }) => error.code)}`);

await app.close();
await catalog.close();
