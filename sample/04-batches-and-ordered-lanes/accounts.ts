import { setTimeout as simulateWork } from 'node:timers/promises';
import { Controller } from '@nestjs/common';
import { Ctx, Payload } from '@nestjs/microservices';

import { RedisStreamsContext, StreamEventPattern } from '../../lib/index.js';

export interface Booking {
  readonly account: string;
  readonly number: number;
}

/** Handles the bookings of each account in order, and those of different accounts concurrently. */
@Controller()
export class AccountsController {
  /** `account-number`, in the order in which they were booked. */
  readonly booked: string[] = [];
  mostAtOnce = 0;
  #now = 0;

  /** One queue for each key that the sender set; the handler runs for up to eight keys at once. */
  @StreamEventPattern('bookings', { ordered: true, concurrency: 8, retry: { delay: 300 } })
  async book(@Payload() booking: Booking, @Ctx() context: RedisStreamsContext): Promise<void> {
    this.#now += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#now);
    try {
      await simulateWork(5);
      // A failing booking delays only its own account, until it succeeds or becomes a dead letter.
      if (booking.account === 'eve' && context.getDeliveryCount() === 1) throw new Error('eve is not at home');
      this.booked.push(`${booking.account}-${booking.number}`);
    } finally {
      this.#now -= 1;
    }
  }
}
