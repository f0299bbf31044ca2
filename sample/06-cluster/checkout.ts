import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { firstValueFrom } from 'rxjs';

import {
  ClientRedisStreams,
  InjectRedisStreams,
  KeyHashSharder,
  RedisStreamsError,
  RedisStreamsModule,
  RedisStreamsRecordBuilder,
  ReplicasMissingError,
} from '../../lib/index.js';
import type { Receipt } from '../../lib/index.js';
import { connection, instance, log, SHARDS, STREAM } from './shop.js';
import type { Order } from './shop.js';

const CUSTOMERS = 40;
/** Every so many milliseconds so many orders are placed. */
const [INTERVAL, ORDERS] = [20, 3];
/** Orders that may wait for their confirmation: while Redis does not answer, no more are placed. */
const MOST_OPEN = 300;

/** Customers who place orders without a pause. */
@Injectable()
class Customers implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #open = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #placed = 0;

  constructor(@InjectRedisStreams() private readonly client: ClientRedisStreams) {}

  onApplicationBootstrap(): void {
    this.#timer = setInterval(() => {
      for (let count = 0; count < ORDERS && this.#open.size < MOST_OPEN; count += 1) this.#placeNext();
    }, INTERVAL);
  }

  /** The module closes the client after this. */
  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#open);
  }

  /** The next order of a customer does not wait for the confirmation of the one before: they are stored in this order. */
  #placeNext(): void {
    const customer = `${instance}/${this.#placed % CUSTOMERS}`;
    const number = Math.floor(this.#placed / CUSTOMERS) + 1;
    this.#placed += 1;
    const placing = this.#place({ customer, number }).finally(() => this.#open.delete(placing));
    this.#open.add(placing);
  }

  async #place(order: Order): Promise<void> {
    const record = new RedisStreamsRecordBuilder<Order>(order).setKey(order.customer).build();
    try {
      const { shardId } = await firstValueFrom(this.client.emit<Receipt>(STREAM, record));
      log('confirmed', { ...order, shard: shardId });
    } catch (error) {
      // Not sent again: it is stored, or may be, and would then be charged after the next order of its customer.
      const code = error instanceof RedisStreamsError ? error.code : String(error);
      const shard = error instanceof ReplicasMissingError ? error.receipt.shardId : undefined;
      log('unconfirmed', { ...order, shard, code });
    }
  }
}

@Module({
  imports: [
    RedisStreamsModule.forRoot({
      connection,
      sharder: new KeyHashSharder(SHARDS),
      // A batch whose reply is lost in a failover is repeated, and stored once.
      delivery: 'exactly-once',
      // The master has one replica, so what is confirmed survives the loss of the master.
      waitReplicas: { count: 1, timeout: 1_000 },
    }),
  ],
  providers: [Customers],
})
class CheckoutModule {}

const app = await NestFactory.createApplicationContext(CheckoutModule, { logger: ['error'] });
app.enableShutdownHooks();
log('ready');
