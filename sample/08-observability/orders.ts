import { Controller, Module } from '@nestjs/common';
import { Payload } from '@nestjs/microservices';
import { map } from 'rxjs';
import type { Observable } from 'rxjs';

import { ClientRedisStreams, InjectRedisStreams, RedisStreamsModule, StreamEventPattern } from '../../lib/index.js';
import { keyPrefix, telemetryOf } from './telemetry.js';

export interface Order {
  readonly id: string;
  readonly sum: number;
}

@Controller()
class OrdersController {
  constructor(@InjectRedisStreams() private readonly client: ClientRedisStreams) {}

  /** Sends an event itself: it belongs to the same trace, because the handler runs in the context of its span. */
  @StreamEventPattern('orders')
  accept(@Payload() order: Order): Observable<string> {
    return this.client.emit('payments', order).pipe(map(({ id }) => id));
  }
}

@Module({
  imports: [RedisStreamsModule.forRoot({ keyPrefix, group: 'orders-service', telemetry: telemetryOf('orders') })],
  controllers: [OrdersController],
})
export class OrdersModule {}
