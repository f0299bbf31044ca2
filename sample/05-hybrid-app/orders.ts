import { Body, Controller, Injectable, Post } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload, Transport } from '@nestjs/microservices';
import type { TcpContext } from '@nestjs/microservices';
import type { Observable } from 'rxjs';

import {
  ClientRedisStreams,
  InjectRedisStreams,
  RedisStreamsContext,
  StreamEventPattern,
  StreamMessagePattern,
} from '../../lib/index.js';
import type { Receipt } from '../../lib/index.js';

export interface Order {
  readonly item: string;
}

/** State that the handlers of both transports share. */
@Injectable()
export class Stock {
  readonly reserved: string[] = [];
}

@Controller('orders')
export class OrdersController {
  constructor(
    private readonly stock: Stock,
    @InjectRedisStreams() private readonly client: ClientRedisStreams,
  ) {}

  /** Emits an event for each HTTP request. Answers once Redis has the order. */
  @Post()
  create(@Body() order: Order): Observable<Receipt> {
    return this.client.emit('orders', order);
  }

  /** The same pattern on both transports: this decorator binds to streams alone, that of Nest to the transport it is given. */
  @StreamEventPattern('orders')
  reserve(@Payload() order: Order, @Ctx() context: RedisStreamsContext): void {
    this.stock.reserved.push(order.item);
    console.log(`stream ${context.getStream()}: ${order.item} reserved`);
  }

  @EventPattern<string>('orders', Transport.TCP)
  refuse(@Payload() order: Order, @Ctx() _context: TcpContext): void {
    console.log(`tcp: the order of ${order.item} is refused, because TCP does not store it`);
  }

  @MessagePattern('reserved', Transport.TCP)
  overTcp(): string {
    return `over TCP: ${this.stock.reserved.join(', ')}`;
  }

  @StreamMessagePattern('reserved')
  overStreams(): string {
    return `over streams: ${this.stock.reserved.join(', ')}`;
  }
}
