import 'reflect-metadata';
import type { AddressInfo } from 'node:net';
import { Body, Controller, Injectable, Module, Param, Put } from '@nestjs/common';
import type { OnModuleInit } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';

import { Database, openDatabase } from './database.js';
import { Outbox } from './outbox.js';
import { log } from './shop.js';

@Injectable()
class Orders implements OnModuleInit {
  constructor(
    private readonly database: Database,
    private readonly outbox: Outbox,
  ) {}

  /** In your application a migration does this. */
  async onModuleInit(): Promise<void> {
    await this.database.query('CREATE TABLE IF NOT EXISTS customers (name text PRIMARY KEY, orders integer NOT NULL)');
    await this.database.query(
      'CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, customer text NOT NULL, item text NOT NULL)',
    );
    await this.outbox.createTable();
  }

  /** The order and its event are stored together or not at all. Redis is not needed for it. */
  async place(id: string, customer: string, item: string): Promise<void> {
    await this.database.transaction(async (query) => {
      const placed = await query(
        'INSERT INTO orders (id, customer, item) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING id',
        id,
        customer,
        item,
      );
      if (placed.length === 0) return;
      // Locks the customer until the end of the transaction: the events of one customer get their positions in the order in
      // which they are committed.
      const [counted] = await query<{ orders: number }>(
        `INSERT INTO customers (name, orders) VALUES ($1, 1)
         ON CONFLICT (name) DO UPDATE SET orders = customers.orders + 1 RETURNING orders`,
        customer,
      );
      await this.outbox.add(query, 'orders.placed', customer, { id, customer, number: counted?.orders ?? 1, item });
    });
  }
}

@Controller('orders')
class OrdersController {
  constructor(private readonly orders: Orders) {}

  /** The customer chooses the id, so a request without an answer can be repeated. */
  @Put(':id')
  async place(@Param('id') id: string, @Body() { customer, item }: { customer: string; item: string }): Promise<void> {
    await this.orders.place(id, customer, item);
  }
}

@Module({
  controllers: [OrdersController],
  providers: [
    { provide: Database, useFactory: () => openDatabase(process.env['DATABASE_URL'] ?? 'orders.db') },
    Outbox,
    Orders,
  ],
})
class OrdersModule {}

const app = await NestFactory.create(OrdersModule, { logger: ['error', 'warn'], forceCloseConnections: true });
app.enableShutdownHooks();
await app.listen(Number(process.env['PORT'] ?? 3000), '127.0.0.1');
log('ready', { port: (app.getHttpServer().address() as AddressInfo).port });
