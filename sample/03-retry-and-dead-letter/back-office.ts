import { Injectable } from '@nestjs/common';
import { lastValueFrom } from 'rxjs';

import { ClientRedisStreams, DEAD_LETTER_HEADERS, InjectRedisStreams, RedisStreamer } from '../../lib/index.js';
import type { RedriveResult } from '../../lib/index.js';
import type { Payment } from './payments.js';

const PAYMENTS = 'payments';
const DEAD_LETTERS = 'payments.dead';

/** Submits payments, and deals with those that failed. */
@Injectable()
export class BackOffice {
  constructor(
    @InjectRedisStreams() private readonly client: ClientRedisStreams,
    private readonly streamer: RedisStreamer,
  ) {}

  async submit(payments: readonly Payment[]): Promise<void> {
    await lastValueFrom(this.client.emitBatch(PAYMENTS, payments));
  }

  /** Number of payments that are not acknowledged: not yet paid, and not yet dead letters. */
  async pending(): Promise<number> {
    const manager = await this.streamer.createManager();
    return (await manager.pending(PAYMENTS, 'payments-service')).length;
  }

  /** A dead letter is the original message, with the reason. */
  async deadLetters(): Promise<string[]> {
    const manager = await this.streamer.createManager();
    const deadLetters = await manager.deadLetters(PAYMENTS);
    return deadLetters.map(({ payload, reason }) => {
      const { id } = JSON.parse(payload.toString()) as Payment;
      return `${id} (${reason})`;
    });
  }

  /** Puts payments back that the bank refused while it was closed, for the group in which they failed and no other. */
  async redriveRefusedPayments(): Promise<RedriveResult> {
    const manager = await this.streamer.createManager();
    return manager.redrive(DEAD_LETTERS, {
      filter: ({ headers }) => headers[DEAD_LETTER_HEADERS.errorMessage] === 'the bank is closed',
    });
  }
}
