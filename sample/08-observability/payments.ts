import { Controller, Module } from '@nestjs/common';
import { Ctx, Payload } from '@nestjs/microservices';

import {
  RedisStreamsContext,
  RedisStreamsDeadLetterException,
  RedisStreamsModule,
  StreamEventPattern,
} from '../../lib/index.js';
import type { Order } from './orders.js';
import { keyPrefix, telemetryOf } from './telemetry.js';

@Controller()
class PaymentsController {
  /** The bank answers the second time only, and does not give more than 1,000. */
  @StreamEventPattern('payments', { retry: { delay: 200 } })
  pay(@Payload() { sum }: Order, @Ctx() context: RedisStreamsContext): void {
    if (sum > 1_000) throw new RedisStreamsDeadLetterException('over the limit');
    if (context.getDeliveryCount() === 1) throw new Error('the bank does not answer');
  }
}

@Module({
  imports: [RedisStreamsModule.forRoot({ keyPrefix, group: 'payments-service', telemetry: telemetryOf('payments') })],
  controllers: [PaymentsController],
})
export class PaymentsModule {}
