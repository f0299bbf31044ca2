import { Controller, Injectable } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';

import { RedisStreamsContext, RedisStreamsDeadLetterException } from '../../lib/index.js';

export interface Payment {
  readonly id: string;
  readonly amount: number;
}

/** Stands for somebody else's service, which is not always there. */
@Injectable()
export class Bank {
  isOpen = false;
  readonly paid: string[] = [];

  async charge({ id }: Payment, attempt: number): Promise<void> {
    if (id === 'slow-line' && attempt < 3) throw new Error('the line is busy');
    if (id === 'big-sum' && !this.isOpen) throw new Error('the bank is closed');
    this.paid.push(id);
  }
}

@Controller()
export class PaymentsController {
  constructor(private readonly bank: Bank) {}

  /** Whatever it throws is tried again, in the pending list of its group, until the attempts are used up. */
  @EventPattern<string>('payments')
  async pay(@Payload() payment: Payment, @Ctx() context: RedisStreamsContext): Promise<void> {
    const attempt = context.getDeliveryCount();
    console.log(`${payment.id}: attempt ${attempt}`);
    // No repetition makes an amount positive.
    if (payment.amount <= 0) throw new RedisStreamsDeadLetterException('nothing to pay');
    await this.bank.charge(payment, attempt);
    console.log(`${payment.id}: paid`);
  }
}
