import { Controller } from '@nestjs/common';
import type { INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { Payload } from '@nestjs/microservices';
import { Redis } from 'ioredis';
import { firstValueFrom } from 'rxjs';

import {
  ClientRedisStreams,
  KeyHashSharder,
  RedisStreamer,
  RedisStreamsModule,
  RedisStreamsRecordBuilder,
  ServerRedisStreams,
  StreamEventPattern,
  getRedisStreamsToken,
} from '../../lib/index.js';
import { RedisStreamsConsoleModule } from '../../packages/console/src/index.js';
import { Bank, PaymentsController } from '../../sample/03-retry-and-dead-letter/payments.js';
import { moduleOf } from './controllers.js';
import { QUIET } from './nest.js';
import { redisUrl } from './redis.js';
import { until } from './until.js';

/** Of the servers of the shop. */
export const SHOP = 'shop-service';
const MINUTE = 60_000;

@Controller()
class OrdersController {
  /** Orders wait while the shop is closed. */
  isOpen = true;
  handled = 0;

  @StreamEventPattern('orders')
  async reserve(@Payload() _order: unknown): Promise<void> {
    await until('the shop is open', () => this.isOpen, MINUTE);
    this.handled += 1;
  }
}

/**
 * A shop with a console: orders, the payments of sample 03, and shipments in owned shards. Its groups and streams are those that the
 * pages are tested with.
 */
export class ConsoleShop implements AsyncDisposable {
  readonly redis: Redis;
  /** Of the console. */
  readonly url: string;
  /** URL of the Redis of the shop. */
  readonly connection: string;
  readonly bank: Bank;
  readonly orders: OrdersController;
  readonly #app: INestApplication;
  readonly #client: ClientRedisStreams;
  readonly #streamer: RedisStreamer;
  readonly #server: ServerRedisStreams;

  /** @param interval milliseconds between two updates of a page */
  static async open(interval = 250): Promise<ConsoleShop> {
    const url = new URL(redisUrl());
    // Not that of a test file beside, which is the number of its worker.
    url.pathname = `/${8 + (Number(process.env['JEST_WORKER_ID'] ?? '1') % 8)}`;
    const redis = new Redis(url.href, { protocol: 2 });
    await redis.flushdb();
    const connection = url.href;
    const strategy = new ServerRedisStreams({
      connection,
      group: SHOP,
      consumer: 'shop-1',
      retry: { attempts: 2, delay: 10, jitter: 0 },
      autoClaimInterval: 200,
      autoCommitInterval: 10,
      blockTimeout: 1_000,
      logger: { error: () => undefined, warn: () => undefined, log: () => undefined },
    });
    const module = moduleOf({
      imports: [
        RedisStreamsModule.forRoot({ connection }),
        RedisStreamsConsoleModule.forRoot({
          path: 'ops/console',
          guards: [],
          readOnly: false,
          showPayloads: true,
          health: { server: strategy },
          interval,
        }),
      ],
      controllers: [PaymentsController, OrdersController],
      providers: [Bank],
    });
    const app = await NestFactory.create(module, QUIET);
    app.connectMicroservice<MicroserviceOptions>({ strategy });
    await app.startAllMicroservices();
    await app.listen(0, '127.0.0.1');
    const shop = new ConsoleShop(app, redis, strategy, { connection, url: await app.getUrl() });
    await shop.#prepare();
    return shop;
  }

  private constructor(
    app: INestApplication,
    redis: Redis,
    server: ServerRedisStreams,
    { connection, url }: { readonly connection: string; readonly url: string },
  ) {
    this.connection = connection;
    this.#app = app;
    this.#server = server;
    this.redis = redis;
    this.url = `${url}/ops/console/`;
    this.bank = app.get(Bank);
    this.orders = app.get(OrdersController);
    this.#client = app.get<ClientRedisStreams>(getRedisStreamsToken());
    this.#streamer = app.get(RedisStreamer);
  }

  /** Whether the service has seen that its group is paused: what is sent then waits. */
  async hasPausedOrders(): Promise<boolean> {
    const { loops } = await this.#server.health();
    const orders = loops.flatMap(({ streams }) => streams).find(({ streamKey }) => streamKey === 'orders');
    return orders?.pausedBy === 'group';
  }

  /** Three payments that fail, orders of which some are old, shipments, and messages that are due later. */
  async #prepare(): Promise<void> {
    await this.order(60);
    // A group that nothing reads, behind since some minutes.
    const now = Date.now();
    for (let minute = 12; minute > 0; minute -= 1) {
      await this.redis.xadd(
        'invoices',
        `${now - minute * MINUTE}-0`,
        'd',
        JSON.stringify({ invoice: `2026-${minute}` }),
      );
    }
    await this.redis.xgroup('CREATE', 'invoices', 'accounting', `${now - 5 * MINUTE}-0`);
    await this.redis.xgroup('CREATE', 'orders', 'analytics', '0');
    for (const [id, amount] of Object.entries({ 'big-sum': 1_000_000, nothing: 0, refund: -20 }))
      await this.pay(id, amount);
    await this.pay('coffee', 3);
    await this.#client.connect();
    for (let hour = 1; hour <= 3; hour += 1) await this.remind(`order-${hour}`, hour * 60 * MINUTE);
    await this.#ship(24);
  }

  async order(count: number): Promise<void> {
    await firstValueFrom(
      this.#client.emitBatch(
        'orders',
        Array.from({ length: count }, (_, n) =>
          new RedisStreamsRecordBuilder({ id: `order-${n}`, item: 'espresso machine', total: 129.9 })
            .setKey(`customer-${n % 7}`)
            .setHeaders({ tenant: 'eu' })
            .build(),
        ),
      ),
    );
  }

  async pay(id: string, amount: number): Promise<void> {
    await firstValueFrom(this.#client.emit('payments', { id, amount }));
  }

  async remind(id: string, delay: number): Promise<void> {
    await firstValueFrom(
      this.#client.emit('orders', new RedisStreamsRecordBuilder({ id, remind: true }).setDelay(delay).build()),
    );
  }

  /** In four shards, each of which has an owner. */
  async #ship(count: number): Promise<void> {
    const producer = await this.#streamer.createProducer('shipments', { sharder: new KeyHashSharder(4) });
    for (let n = 0; n < count; n += 1) await producer.send(JSON.stringify({ parcel: n }), { key: `street-${n}` });
    const consumer = await this.#streamer.createConsumer('shipments', {
      mode: 'load-balanced',
      group: 'warehouse',
      shards: 4,
      shardOwnership: 'owned',
      autoStreamReset: 'earliest',
      autoCommit: 'rolling',
    });
    for (let n = 0; n < count; n += 1) consumer.ack(await consumer.next());
  }

  /** Whether the server knows how many entries a group has not received. */
  async countsLag(): Promise<boolean> {
    return JSON.stringify(await this.redis.xinfo('GROUPS', 'orders')).includes('"lag"');
  }

  async deadLetters(stream: string): Promise<number> {
    return this.redis.xlen(`${stream}.dead`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#app.close();
    await this.redis.quit();
  }
}
