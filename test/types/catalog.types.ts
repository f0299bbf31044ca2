import { Controller } from '@nestjs/common';
import { Ctx, Payload } from '@nestjs/microservices';
import { z } from 'zod';

import {
  RedisStreamsContext,
  RedisStreamsRecordBuilder,
  StreamEventPattern,
  StreamMessagePattern,
  streamCatalog,
} from '../../lib/index.js';
import type { ClientRedisStreams, Receipt } from '../../lib/index.js';
import type { Observable } from 'rxjs';

interface Order {
  readonly item: string;
  readonly count: number;
}

interface Paid {
  readonly amount: number;
}

interface Events {
  orders: Order;
  'orders.paid': Paid;
}

declare const client: ClientRedisStreams;
const events = streamCatalog<Events>();

@Controller()
export class Decorated {
  @StreamEventPattern('orders')
  typedContext(@Payload() order: Order, @Ctx() context: RedisStreamsContext): void {
    context.deadLetter(order.item);
  }

  @StreamEventPattern(() => 'orders', { concurrency: 4, batch: { size: 10 } })
  async batch(@Payload() orders: Order[], @Ctx() contexts: RedisStreamsContext[]): Promise<void> {
    await contexts[orders.length]?.commit();
  }

  @StreamEventPattern(async () => Promise.resolve('orders'), { retry: false })
  payloadOnly(order: Order): string {
    return order.item;
  }

  @StreamEventPattern({ cmd: 'orders' }, { retry: { attempts: 3 } })
  objects(): void {}

  @StreamMessagePattern('sum', { concurrency: 1 })
  sum(@Payload() terms: number[], @Ctx() context: RedisStreamsContext): number {
    return terms.length + context.getDeliveryCount();
  }

  // @ts-expect-error a misspelt setting
  @StreamEventPattern('orders', { concurency: 4 })
  misspelt(): void {}

  // @ts-expect-error a misspelt setting of a request
  @StreamMessagePattern('orders', { orderd: true })
  misspeltRequest(): void {}

  // @ts-expect-error a stream must be named
  @StreamEventPattern()
  unnamed(): void {}
}

@Controller()
export class Catalogued {
  @events.on('orders')
  order(order: Order, context: RedisStreamsContext): void {
    context.deadLetter(order.item);
  }

  @events.on('orders.paid', { retry: false, ordered: true })
  async paid({ amount }: Paid): Promise<number> {
    return Promise.resolve(amount);
  }

  @events.on('orders', { batch: { size: 100 } })
  orders(orders: readonly Order[], contexts: readonly RedisStreamsContext[]): void {
    contexts[orders.length]?.ack();
  }

  /** A parameter may accept more than the payload is. */
  @events.on('orders')
  itemOnly(order: { item: string }): void {
    order.item.trim();
  }

  @events.on('orders')
  none(): void {}

  // @ts-expect-error the payload of another event
  @events.on('orders')
  wrongPayload(paid: Paid): void {
    paid.amount.toFixed();
  }

  // @ts-expect-error the payload has no such property
  @events.on('orders')
  tooMuch(order: Order & { customer: string }): void {
    order.customer.trim();
  }

  // @ts-expect-error a batch is an array
  @events.on('orders', { batch: { size: 100 } })
  noArray(order: Order): void {
    order.item.trim();
  }

  // @ts-expect-error without batch it is none
  @events.on('orders')
  anArray(orders: Order[]): void {
    orders.pop();
  }

  // @ts-expect-error the second parameter is the context
  @events.on('orders')
  wrongContext(_order: Order, context: string): void {
    context.trim();
  }

  // @ts-expect-error there is no such event
  @events.on('order')
  unknownEvent(): void {}

  // @ts-expect-error a misspelt setting
  @events.on('orders', { orderd: true })
  misspelt(order: Order): void {
    order.item.trim();
  }
}

class OwnContext extends RedisStreamsContext {
  readonly tenant = 'a';
}
const own = streamCatalog<Events, OwnContext>();

@Controller()
export class WithOwnContext {
  @own.on('orders')
  order(_order: Order, context: OwnContext): string {
    return context.tenant;
  }

  // @ts-expect-error the context of the catalog is the one of the package
  @events.on('orders')
  otherContext(_order: Order, context: OwnContext): string {
    return context.tenant;
  }
}

export function send(): Observable<Receipt> {
  const typed = events.client(client);
  const receipts: Observable<Receipt[]> = typed.emitBatch('orders.paid', [{ amount: 1 }, { amount: 2 }]);
  receipts.subscribe();
  const record = new RedisStreamsRecordBuilder<Order>({ item: 'tea', count: 1 }).setKey('a').build();
  typed.emit('orders', record);

  // @ts-expect-error there is no such event
  typed.emit('order', { item: 'tea', count: 1 });
  // @ts-expect-error a property is missing
  typed.emit('orders', { item: 'tea' });
  // @ts-expect-error of another type
  typed.emit('orders', { item: 'tea', count: '1' });
  // @ts-expect-error the payload of another event
  typed.emitBatch('orders', [{ amount: 1 }]);
  // @ts-expect-error a record of another payload
  typed.emit('orders', new RedisStreamsRecordBuilder<Paid>({ amount: 1 }).build());
  return typed.emit('orders', { item: 'tea', count: 1 });
}

export function schemas(): void {
  streamCatalog<Events>({ schemas: { orders: z.object({ item: z.string(), count: z.number() }) } });
  // @ts-expect-error the schema of another payload
  streamCatalog<Events>({ schemas: { orders: z.object({ amount: z.number() }) } });
  // @ts-expect-error no event has that name
  streamCatalog<Events>({ schemas: { order: z.object({ item: z.string(), count: z.number() }) } });

  const inferred = streamCatalog({ schemas: { paid: z.object({ at: z.coerce.date() }) } });
  inferred.client(client).emit('paid', { at: new Date() });
  // @ts-expect-error what the schema returns is the payload
  inferred.client(client).emit('paid', { at: 'today' });
}
