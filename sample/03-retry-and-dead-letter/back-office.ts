import { Injectable } from '@nestjs/common';
import { lastValueFrom } from 'rxjs';

import { ClientRedisStreams, DEAD_LETTER_HEADERS, InjectRedisStreams, RedisStreamer } from '../../lib/index.js';
import type { RedriveResult } from '../../lib/index.js';
import type { Payment } from './payments.js';

const PAYMENTS = 'payments';
const DEAD_LETTERS = 'payments:dead';

/** Hands payments in, and looks after those that could not be made. */
@Injectable()
export class BackOffice {
  constructor(
    @InjectRedisStreams() private readonly client: ClientRedisStreams,
    private readonly streamer: RedisStreamer,
  ) {}

  async hand(payments: readonly Payment[]): Promise<void> {
    await lastValueFrom(this.client.emitBatch(PAYMENTS, payments));
  }

  /** Payments that are neither made nor dead letters, or not yet acknowledged as such. */
  async pending(): Promise<number> {
    const manager = await this.streamer.createManager();
    return (await manager.pending(PAYMENTS, 'payments-service')).length;
  }

  /** A dead letter is the message as it was, and headers that tell why it is here. */
  async deadLetters(): Promise<string[]> {
    const manager = await this.streamer.createManager();
    const messages = await manager.range(DEAD_LETTERS, '-', '+');
    return messages.map((message) => {
      const { id } = message.json<Payment>();
      return `${id} (${message.headers[DEAD_LETTER_HEADERS.reason]})`;
    });
  }

  /** Back to the group that they came from, and to no other. */
  async redriveWhatTheBankRefused(): Promise<RedriveResult> {
    const manager = await this.streamer.createManager();
    return manager.redrive(DEAD_LETTERS, {
      filter: ({ headers }) => headers[DEAD_LETTER_HEADERS.errorMessage] === 'the bank is closed',
    });
  }
}
