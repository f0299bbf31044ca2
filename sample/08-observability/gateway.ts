import { Body, Controller, Get, Header, Module, Post, UseInterceptors } from '@nestjs/common';
import type { Observable } from 'rxjs';

import { ClientRedisStreams, InjectRedisStreams, RedisStreamsModule } from '../../lib/index.js';
import type { Receipt } from '../../lib/index.js';
import type { Order } from './orders.js';
import { HttpSpan, keyPrefix, registry, telemetryOf } from './telemetry.js';

@Controller()
class GatewayController {
  constructor(@InjectRedisStreams() private readonly client: ClientRedisStreams) {}

  @Post('orders')
  @UseInterceptors(HttpSpan)
  create(@Body() order: Order): Observable<Receipt> {
    return this.client.emit('orders', order);
  }

  /** What Prometheus scrapes. */
  @Get('metrics')
  @Header('content-type', registry.contentType)
  metrics(): Promise<string> {
    return registry.metrics();
  }
}

@Module({
  imports: [RedisStreamsModule.forRoot({ keyPrefix, telemetry: telemetryOf('gateway') })],
  controllers: [GatewayController],
})
export class GatewayModule {}
