import { Controller, Injectable } from '@nestjs/common';
import { Ctx, Payload } from '@nestjs/microservices';

import { RedisStreamsContext, RedisStreamsDeadLetterException, StreamEventPattern } from '../../lib/index.js';

export interface Payment {
  readonly id: string;
  readonly amount: number;
}

/** Represents an external service that is not always available. */
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

  /** After any error the payment is retried from the pending list of its group, until the last attempt. */
  @StreamEventPattern('payments')
  async pay(@Payload() payment: Payment, @Ctx() context: RedisStreamsContext): Promise<void> {
    const attempt = context.getDeliveryCount();
    console.log(`${payment.id}: attempt ${attempt}`);
    // A retry cannot make the amount positive.
    if (payment.amount <= 0) throw new RedisStreamsDeadLetterException('nothing to pay');
    await this.bank.charge(payment, attempt);
    console.log(`${payment.id}: paid`);
  }
}
