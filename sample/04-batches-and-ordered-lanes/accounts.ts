import { setTimeout as simulateWork } from 'node:timers/promises';
import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';

import { RedisStreamsContext } from '../../lib/index.js';
import type { HandlerExtras } from '../../lib/index.js';

export interface Booking {
  readonly account: string;
  readonly number: number;
}

/** Books in the order of each account, and for many accounts at the same time. */
@Controller()
export class AccountsController {
  /** `account-number`, in the order in which they were booked. */
  readonly booked: string[] = [];
  mostAtOnce = 0;
  #now = 0;

  /** The lane is the key that the sender set. Up to eight lanes move at once. */
  @EventPattern<string>('bookings', { ordered: true, concurrency: 8, retry: { delay: 300 } } satisfies HandlerExtras)
  async book(@Payload() booking: Booking, @Ctx() context: RedisStreamsContext): Promise<void> {
    this.#now += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#now);
    try {
      await simulateWork(5);
      // A failing booking holds back its own account until it succeeds or is a dead letter; the others go on.
      if (booking.account === 'eve' && context.getDeliveryCount() === 1) throw new Error('eve is not at home');
      this.booked.push(`${booking.account}-${booking.number}`);
    } finally {
      this.#now -= 1;
    }
  }
}
