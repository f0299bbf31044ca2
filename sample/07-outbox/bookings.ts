import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import type { OnModuleInit } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamsContext, RedisStreamsDeadLetterException, ServerRedisStreams } from '../../lib/index.js';
import { Database, openDatabase } from './database.js';
import { EVENT_ID, events, keyPrefix, log } from './shop.js';
import type { PlacedOrder } from './shop.js';

@Controller()
class BookingsController implements OnModuleInit {
  constructor(private readonly database: Database) {}

  /** In your application a migration does this. */
  async onModuleInit(): Promise<void> {
    await this.database.query(
      'CREATE TABLE IF NOT EXISTS inbox (event_id text PRIMARY KEY, received_at bigint NOT NULL)',
    );
    await this.database.query(`CREATE TABLE IF NOT EXISTS bookings (
      position ${this.database.rowNumber},
      order_id text NOT NULL,
      customer text NOT NULL,
      number integer NOT NULL
    )`);
  }

  /** The booking and the id of its event are stored together: an event that is delivered again books nothing. */
  @events.on('orders.placed', { ordered: true })
  async book(order: PlacedOrder, context: RedisStreamsContext): Promise<void> {
    const eventId = context.getHeader(EVENT_ID);
    if (eventId === undefined) throw new RedisStreamsDeadLetterException('the event has no id');
    await this.database.transaction(async (query) => {
      const isNew = await query(
        'INSERT INTO inbox (event_id, received_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING event_id',
        eventId,
        Date.now(),
      );
      if (isNew.length === 0) return;
      await query(
        'INSERT INTO bookings (order_id, customer, number) VALUES ($1, $2, $3)',
        order.id,
        order.customer,
        order.number,
      );
    });
  }
}

@Module({
  controllers: [BookingsController],
  providers: [{ provide: Database, useFactory: () => openDatabase(process.env['DATABASE_URL'] ?? 'bookings.db') }],
})
class BookingsModule {}

const app = await NestFactory.createMicroservice<MicroserviceOptions>(BookingsModule, {
  // The group has one consumer, because the orders of a customer are booked in their order. Another instance continues where
  // this one ended.
  strategy: new ServerRedisStreams({ keyPrefix, group: 'bookings-service', mode: 'resumable' }),
  logger: ['error', 'warn'],
});
app.enableShutdownHooks();
await app.listen();
log('ready');
